"""What one frame looks like by itself: rules over what was measured, each with a limit that a person can read.

A rule needs both: a change that a technician would call a fault, and one that this camera does not show by itself.
The rules exclude each other: what explains the others comes first, since a dark picture is also without detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.observed.camera_kinds import Kind
from serving.observed.measures import Plain
from serving.observed.reference import MIN_FIXED, Compared, Reference
from serving.observed.views import TILES, Float

DARK: Final = -0.85
"""Log-luminance beside the ordinary: the view has 40 % of its light."""
BRIGHT: Final = 0.6
"""It has twice its light."""
SATURATED: Final = 0.2
"""Share of the view that is white beyond the ordinary."""
PART: Final = 0.45
"""Difference in log-luminance between two parts of the view beyond the ordinary."""
BLUR: Final = -0.8
"""Log of fine detail: less than half is left."""
CAST: Final = 0.10
"""Log of a colour's share."""
NOISE: Final = 2.0
"""Times the ordinary noise, and two grey levels more."""
DEAD: Final = 0.04
"""Share of rows that repeat the row above."""
LOST: Final = 0.55
"""Share of the edges that are where they were: less is lost structure."""
MIN_CRISP: Final = 0.02
"""A camera whose edges are no crisper than this when all is well cannot be told to be out of focus."""
CRISP: Final = 0.62
"""Share of the ordinary crispness of edges."""
EMPTIER: Final = 1.0
"""Log of a tile's mean squared gradient: so much less than its belt has when it is empty."""
FROZEN: Final = 0.3
"""Share of the smallest change that the sensor's noise alone makes."""
STEADY: Final = 0.35
"""A window whose sharpness varies more than this (standard deviation of the log) tells nothing."""
_SIGMAS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What the camera shows when all is well: mean and standard deviation of each number, learnt from frames.

    `gain`, `red`, `blue`, `saturated`, `noise` follow the day; the others stay.
    """

    gain: float
    gain_sd: float
    red: float
    red_sd: float
    blue: float
    blue_sd: float
    saturated: float
    noise: float
    noise_sd: float
    dead: float
    agreement: float
    spread: float
    spread_sd: float
    sharpness: float
    sharpness_sd: float
    crisp: float
    """A low quantile of it."""
    steady: int
    """Of the windows, bit by bit: whether their sharpness is the same in all frames, so that it tells something."""
    firm: int
    """Of the tiles, bit by bit: whether their edges are where they were in nearly all frames."""
    still: float
    """The change from frame to frame when nothing moves, grey levels: a low quantile."""


def summary(frames: Sequence[tuple[Plain, Compared, tuple[float, float]]]) -> Ordinary:
    """What some forty healthy frames have in common; each with its change from the one before (NaN for none)."""

    def of(values: list[float]) -> tuple[float, float]:
        known = np.array([value for value in values if np.isfinite(value)])
        return (float(np.median(known)), float(known.std())) if len(known) else (float("nan"), float("nan"))

    gain, gain_sd = of([one.gain for _, one, _ in frames])
    red, red_sd = of([one.red for _, one, _ in frames])
    blue, blue_sd = of([one.blue for _, one, _ in frames])
    noise, noise_sd = of([one.noise for one, _, _ in frames])
    spread, spread_sd = of([spread_of(one) for _, one, _ in frames])
    off = np.stack([one.sharpness for _, one, _ in frames]).std(axis=0)
    steady = off < STEADY
    firm = np.quantile(np.stack([one.structure for _, one, _ in frames]), 0.1, axis=0) > LOST + 0.1
    sharp, sharp_sd = of([sharpness_of(one, steady) for _, one, _ in frames])
    changes = np.array([value for _, _, (value, _) in frames if np.isfinite(value)])
    return Ordinary(
        gain,
        gain_sd,
        red,
        red_sd,
        blue,
        blue_sd,
        of([one.saturated for one, _, _ in frames])[0],
        noise,
        noise_sd,
        of([one.dead for one, _, _ in frames])[0],
        of([one.agreement for _, one, _ in frames])[0],
        spread,
        spread_sd,
        sharp,
        sharp_sd,
        float(np.quantile([one.crisp for one, _, _ in frames], 0.1)),
        _bits(steady),
        _bits(firm),
        float(np.quantile(changes, 0.05)) if len(changes) else float("nan"),
    )


def spread_of(found: Compared) -> float:
    """How much more light the brightest tiles have than the darkest, beside the reference; NaN with two tiles."""
    known = np.sort(found.gains[np.isfinite(found.gains)])
    return float(known[-2:].mean() - known[:2].mean()) if len(known) >= 4 else float("nan")


def _bits(values: npt.NDArray[np.bool_]) -> int:
    return int((values * (1 << np.arange(len(values)))).sum())


def _of_bits(bits: int) -> npt.NDArray[np.bool_]:
    return (bits >> np.arange(TILES * TILES)) & 1 > 0


def steady_of(ordinary: Ordinary) -> npt.NDArray[np.bool_]:
    """The windows whose sharpness tells something: bool [16]."""
    return _of_bits(ordinary.steady)


def sharpness_of(found: Compared, steady: npt.NDArray[np.bool_]) -> float:
    """The median sharpness of these windows; NaN where none is known."""
    known = found.sharpness[np.isfinite(found.sharpness) & steady]
    return float(np.median(known)) if len(known) else float("nan")


def blind(reference: Reference, ordinary: Ordinary) -> tuple[Kind, ...]:
    """The kinds that cannot be told for this camera."""
    found: list[Kind] = []
    edges = int((np.isfinite(reference.edges) & _of_bits(ordinary.firm)).sum())
    if not np.isfinite(ordinary.spread):
        found.append("light_part")
    if not ordinary.crisp > MIN_CRISP:
        found.append("out_of_focus")
    if edges < 2 or reference.share < MIN_FIXED:
        found += ["blocked", "moved"]
    if not ordinary.still > 0.25:
        found.append("frozen")
    return tuple(found)


def looks_like(
    frame: Plain,
    found: Compared,
    changed: tuple[float, float],
    reference: Reference,
    ordinary: Ordinary,
    hour_gain: float,
    lately: Float,
) -> Kind | None:
    """What this frame looks like by itself, None where it looks well.

    Args:
        changed: from the frame before, see `measures.change`.
        lately: float32 [16], how often each tile's edges were lost lately; it is brought up to date here.
        hour_gain: the ordinary gain at this hour of earlier days; NaN where it is not known.
    """
    if changed[1] < FROZEN * ordinary.still and ordinary.still > 0.25:
        return "frozen"
    light = found.gain - ordinary.gain
    if np.isfinite(hour_gain) and abs(found.gain - hour_gain) < abs(light):
        light = found.gain - hour_gain
    known = found.gains[np.isfinite(found.gains)]
    brightest, darkest = (float(known.max()), float(known.min())) if len(known) else (0.0, 0.0)
    # All of the view, or it is a part of it that has another light or is hidden.
    if frame.mean < 5.0 or (light < min(DARK, -_SIGMAS * ordinary.gain_sd) and light + brightest < 0.6 * DARK):
        return "dark"
    white = frame.saturated - ordinary.saturated
    if light + darkest > 0.2 and (
        light > max(BRIGHT, _SIGMAS * ordinary.gain_sd) or (white > SATURATED and light > 0.25)
    ):
        return "over_exposed"
    if frame.noise > max(NOISE * ordinary.noise, ordinary.noise + 2.0, ordinary.noise + _SIGMAS * ordinary.noise_sd):
        return "damaged"
    if frame.dead > ordinary.dead + DEAD:
        return "damaged"
    structural = _structure(frame, found, reference, ordinary, lately)
    if structural is not None:
        return structural
    if spread_of(found) > ordinary.spread + max(PART, _SIGMAS * ordinary.spread_sd):
        return "light_part"
    red, blue = abs(found.red - ordinary.red), abs(found.blue - ordinary.blue)
    if red > max(CAST, _SIGMAS * ordinary.red_sd) or blue > max(CAST, _SIGMAS * ordinary.blue_sd):
        return "colour_cast"
    return None


def _structure(frame: Plain, found: Compared, reference: Reference, ordinary: Ordinary, lately: Float) -> Kind | None:
    """What is wrong with where the edges are: moved, torn, or hidden in part."""
    edges = np.isfinite(found.structure) & _of_bits(ordinary.firm)
    empty = found.texture < reference.lowest - EMPTIER
    some = 0 < empty.sum() <= len(empty) // 2
    fine = np.isfinite(found.sharpness) & steady_of(ordinary)
    soft = fine & (found.sharpness < ordinary.sharpness + BLUR)
    blurred = frame.crisp < CRISP * ordinary.crisp and soft.sum() >= 0.7 * fine.sum()
    lost = edges & (found.structure < LOST)
    before = lately.copy()
    lately += (lost - lately) * np.float32(0.25)
    if edges.sum() >= 2 and found.agreement < LOST * ordinary.agreement and lost.sum() > 0.6 * edges.sum():
        # A blurred view has lost its edges too, but with them its texture.
        if float(np.median(found.texture[edges])) > -0.9 and not blurred:
            return "moved"
        return "out_of_focus" if blurred else None
    if blurred:
        return "out_of_focus"
    if (lost & (found.texture < -0.8)).any() and (found.structure[edges] > 0.7).any():
        return "blocked"
    if _torn(lost, edges):
        # Each frame is torn at another row; what stays lost was moved.
        stays = float(np.abs(lost - before)[edges].mean()) < 0.25
        return "moved" if stays and found.agreement < 0.7 * ordinary.agreement else "damaged"
    smeared, sharp = fine & (found.sharpness < -1.5), fine & (found.sharpness > -0.5)
    if some and sharp.sum() * 2 >= fine.sum():
        return "blocked"
    return "blocked" if smeared.any() and sharp.sum() >= 2 and sharp.sum() >= smeared.sum() / 3 else None


def _torn(lost: npt.NDArray[np.bool_], edges: npt.NDArray[np.bool_]) -> bool:
    """Whether all that is lost lies below a row (or above it), and all that is not on the other side of it."""
    if lost.sum() < 2 or (edges & ~lost).sum() < 2:
        return False
    losses, known = lost.reshape(TILES, TILES), edges.reshape(TILES, TILES)
    for rows, seen in ((losses, known), (losses[::-1], known[::-1])):
        for row in range(TILES):  # rows before it are whole, those after it lost; in the row itself both may be
            before, after = rows[:row], rows[row + 1 :] | ~seen[row + 1 :]
            if not before.any() and after.all() and rows[row:].sum() >= 2:
                return True
    return False
