"""What is measured of one frame: by itself, and against the camera's reference. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from serving.observed.tearing import seam
from serving.observed.views import LOG, TILES, Float, View

NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_BLACK, _BELOW_WHITE = (0, 0, 0), (249, 249, 249)
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
        seam: see `tearing.seam`.
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
    seam: float


def plain(view: View) -> Plain:
    """Measure a frame by itself."""
    grey = cv2.cvtColor(view.small, cv2.COLOR_RGB2GRAY)
    log = np.asarray(cv2.LUT(grey, LOG), np.float32)
    red, green, blue = cv2.split(cv2.LUT(view.small, LOG))
    windows = view.windows
    flat = windows.reshape(-1, windows.shape[2]).astype(np.float32)
    fine = flat.reshape(windows.shape)
    second = np.abs(cv2.filter2D(flat, -1, NOISE_KERNEL)).reshape(len(windows), -1)
    calm = np.sort(second @ _inner(windows.shape[2]))
    return Plain(
        log,
        cv2.Sobel(log, -1, 1, 0, ksize=3, scale=0.25),
        cv2.Sobel(log, -1, 0, 1, ksize=3, scale=0.25),
        fine,
        red - green,
        blue - green,
        cv2.mean(grey)[0],
        white_share(view),
        float(calm[: max(len(calm) // 4, 1)].mean()) * _NOISE_SCALE,
        _crisp(fine),
        _dead(windows),
        seam(log),
    )


def white_share(view: View) -> float:
    """The share of pixels of 250 and more in a channel."""
    below = cv2.countNonZero(cv2.inRange(view.small, _BLACK, _BELOW_WHITE))
    return 1.0 - below / (view.small.shape[0] * view.small.shape[1])


@cache
def _inner(side: int) -> Float:
    """Weights [side * side] whose product with a window's pixels is the mean without its border."""
    weights = np.zeros((side, side), np.float32)
    weights[1:-1, 1:-1] = 1.0 / (side - 2) ** 2
    return weights.ravel()


def median(values: Float) -> float:
    """The median of a one-dimensional array, which is put into another order: what numpy's gives, in a tenth of its
    time for the few hundred numbers of a tile. NaN of none."""
    count = len(values)
    if not count:
        return float("nan")
    low, high = (count - 1) // 2, count // 2
    values.partition((low, high) if low != high else low)
    return (float(values[low]) + float(values[high])) / 2


def _dead(windows: npt.NDArray[np.uint8]) -> float:
    same = (windows[:, 1:] == windows[:, :-1]).all(axis=2)
    if not same.any():
        return 0.0
    # Black and white rows repeat each other in a healthy picture too.
    grey = (windows[:, 1:].max(axis=2) > 2) & (windows[:, 1:].min(axis=2) < 253)
    return float((same & grey).mean())


def _crisp(fine: Float) -> float:
    """How crisp the four crispest windows' edges are: detail between 1 and 2 pixels beside that between 4 and 8. A
    step gives 0.25 whatever its height, a soft slope a tenth of that; noise leaves no trace."""
    total = []
    rows, columns = np.ascontiguousarray(fine[:, ::2]), np.ascontiguousarray(fine[:, :, ::2])
    for step in (1, 2, 4, 8):
        total.append(_square(rows[:, :, step:] - rows[:, :, :-step]) + _square(columns[:, step:] - columns[:, :-step]))
    one, two, four, eight = total
    most = np.argsort(two - one)[-4:]
    return float((two - one)[most].sum() / max(float((eight - four)[most].sum()), 20.0))


def _square(values: Float) -> Float:
    """Mean of the squares of each window's numbers [16, n, m]: float32 [16]."""
    flat = values.reshape(len(values), -1)
    return _dot(flat, flat) / np.float32(flat.shape[1])


def _dot(one: Float, other: Float) -> Float:
    """Row by row, float32 [16]: as products of matrices, which are quicker than einsum's sums."""
    return np.matmul(one[:, None, :], other[:, :, None])[:, 0, 0]


def detail(fine: Float, mask: Float | None = None) -> Float:
    """Fine detail of each window, float32 [16]: E2 - E1, where Ek is the mean squared difference of pixels k apart.

    Noise adds the same to E1 and E2, so it leaves no trace; blur takes most of it away. `mask` (float32 [16, s, s])
    says which pixels count.
    """
    total = np.zeros(len(fine), np.float32)
    for before, here, after, inner in (
        (fine[:, :, :-2], fine[:, :, 1:-1], fine[:, :, 2:], np.s_[:, :, 1:-1]),
        (fine[:, :-2], fine[:, 1:-1], fine[:, 2:], np.s_[:, 1:-1]),
    ):
        # (after - before)^2 - (here - before)^2, as one product
        left, right = (after - here).reshape(len(fine), -1), (after + here - 2 * before).reshape(len(fine), -1)
        if mask is not None:
            left *= mask[inner].reshape(len(fine), -1)
        total += _dot(left, right)
    return total


def tiles(values: Float) -> Float:
    """Mean over each tile of float32 [h, w]: float32 [TILES * TILES], row by row."""
    return np.asarray(cv2.resize(values, (TILES, TILES), interpolation=cv2.INTER_AREA), np.float32).ravel()


def change(view: View, before: View | None) -> tuple[float, float]:
    """Mean absolute difference of the windows of two frames, grey levels: of the calm windows (lower quarter), and of
    the liveliest one; NaN without a frame before."""
    if before is None or before.windows.shape != view.windows.shape:
        return float("nan"), float("nan")
    apart = cv2.absdiff(view.windows, before.windows).reshape(len(view.windows), -1)
    off = np.sort(apart.astype(np.float32) @ np.full(apart.shape[1], 1.0 / apart.shape[1], np.float32))
    return float(off[len(off) // 4]), float(off[-1])
