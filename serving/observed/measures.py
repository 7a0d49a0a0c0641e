"""What is measured of one frame: by itself, and against the camera's reference. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from serving.observed.views import LOG, TILES, Float, View

NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_NOISE_SCALE = float(np.sqrt(np.pi / 2) / 6)


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """One frame by itself.

    Attributes:
        log: float32 [h, w], logarithm of the small picture's luminance (+ 2).
        slope_x, slope_y: float32 [h, w], its gradient.
        fine: float32 [16, s, s], luminance of the windows, grey levels.
        red, blue: float32 [h, w], log(red / green) and log(blue / green).
        mean: mean luminance, 0 to 255. saturated: share of pixels of 250 and more in a channel.
        noise: standard deviation of the noise, grey levels (Immerkaer, 1996; of the calmest windows).
        crisp: see `_crisp`. dead: share of the windows' rows that repeat the row above pixel by pixel.
    """

    log: Float
    slope_x: Float
    slope_y: Float
    fine: Float
    red: Float
    blue: Float
    mean: float
    saturated: float
    noise: float
    crisp: float
    dead: float


def plain(view: View) -> Plain:
    """Measure a frame by itself."""
    grey = cv2.cvtColor(view.small, cv2.COLOR_RGB2GRAY)
    log = LOG[grey]
    channels = LOG[view.small]
    windows = view.windows
    flat = windows.reshape(-1, windows.shape[2]).astype(np.float32)
    second = np.abs(cv2.filter2D(flat, -1, NOISE_KERNEL)).reshape(windows.shape)[:, 1:-1, 1:-1]
    calm = np.sort(second.mean(axis=(1, 2)))
    saturated = (view.small >= 250).any(axis=2)
    return Plain(
        log,
        cv2.Sobel(log, -1, 1, 0, ksize=3, scale=0.25),
        cv2.Sobel(log, -1, 0, 1, ksize=3, scale=0.25),
        flat.reshape(windows.shape),
        channels[..., 0] - channels[..., 1],
        channels[..., 2] - channels[..., 1],
        float(grey.mean()),
        float(saturated.mean()),
        float(calm[: max(len(calm) // 4, 1)].mean()) * _NOISE_SCALE,
        _crisp(flat.reshape(windows.shape)),
        _dead(windows),
    )


def _dead(windows: npt.NDArray[np.uint8]) -> float:
    same = (windows[:, 1:] == windows[:, :-1]).all(axis=2)
    # Black and white rows repeat each other in a healthy picture too.
    grey = (windows[:, 1:].max(axis=2) > 2) & (windows[:, 1:].min(axis=2) < 253)
    return float((same & grey).mean())


def _crisp(fine: Float) -> float:
    """How crisp the four crispest windows' edges are: detail between 1 and 2 pixels beside that between 4 and 8. A
    step gives 0.25 whatever its height, a soft slope a tenth of that; noise leaves no trace."""
    total = []
    for step in (1, 2, 4, 8):
        off = fine[:, ::2, step:] - fine[:, ::2, :-step]
        down = fine[:, step:, ::2] - fine[:, :-step, ::2]
        total.append((off * off).mean(axis=(1, 2)) + (down * down).mean(axis=(1, 2)))
    one, two, four, eight = total
    most = np.argsort(two - one)[-4:]
    return float((two - one)[most].sum() / max(float((eight - four)[most].sum()), 20.0))


def detail(fine: Float, mask: Float | None = None) -> Float:
    """Fine detail of each window, float32 [16]: E2 - E1, where Ek is the mean squared difference of pixels k apart.

    Noise adds the same to E1 and E2, so it leaves no trace; blur takes most of it away. `mask` (float32 [16, s, s])
    says which pixels count.
    """
    across = fine[:, :, 1:-1] - fine[:, :, :-2], fine[:, :, 2:] - fine[:, :, :-2]
    down = fine[:, 1:-1] - fine[:, :-2], fine[:, 2:] - fine[:, :-2]
    total = np.zeros(len(fine), np.float32)
    for (one, two), inner in ((across, np.s_[:, :, 1:-1]), (down, np.s_[:, 1:-1])):
        part = (two - one) * (two + one)
        if mask is not None:
            part *= mask[inner]
        total += part.sum(axis=(1, 2))
    return total


def tiles(values: Float) -> Float:
    """Mean over each tile of float32 [h, w]: float32 [TILES * TILES], row by row."""
    return np.asarray(cv2.resize(values, (TILES, TILES), interpolation=cv2.INTER_AREA), np.float32).ravel()


def change(view: View, before: View | None) -> tuple[float, float]:
    """Mean absolute difference of the windows of two frames, grey levels: of the calm windows (lower quarter), and of
    the liveliest one; NaN without a frame before."""
    if before is None or before.windows.shape != view.windows.shape:
        return float("nan"), float("nan")
    off = np.sort(cv2.absdiff(view.windows, before.windows).mean(axis=(1, 2)))
    return float(off[len(off) // 4]), float(off[-1])
