"""What one frame looks like by itself: rules over what was measured, each with a limit that a person can read.

A rule needs both: a change that a technician would call a fault, and one that this camera does not show by itself.
The rules exclude each other: what explains the others comes first, since a dark picture is also without detail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from serving.observed.camera_kinds import Kind
from serving.observed.measures import Plain
from serving.observed.reference import Compared, Reference
from serving.observed.views import TILES, Float

DARK: Final = -0.85
"""Log-luminance beside the ordinary: the view has 40 % of its light."""
BRIGHT: Final = 0.6
"""It has twice its light."""
SATURATED: Final = 0.2
"""Share of the view that is white beyond the ordinary."""
PART: Final = 0.35
"""Difference in log-luminance between two parts of the view beyond the ordinary."""
BLUR: Final = -0.8
"""Log of fine detail: less than half is left."""
CRISP, MIN_CRISP = 0.62, 0.02
"""Share of the ordinary crispness of edges; a camera whose edges are never crisper than the latter cannot be told."""
CAST: Final = 0.10
"""Log of a colour's share."""
NOISE: Final = 2.0
"""Times the ordinary noise, and two grey levels more."""
DEAD: Final = 0.04
"""Share of rows that repeat the row above."""
LOST: Final = 0.75
"""Share of a tile's edges that are where they were: less is lost."""
INTACT: Final = 0.85
"""A tile with so much of its edges where they were is as it was."""
STANDING: Final = 0.3
"""With fewer changing frames than this the belt stands, and what hides a part of the view may be what lies there."""
BLANK: Final = -0.5
"""Log of a tile's gradient beside that of its fixed edges alone: less than this, and they are hidden."""
EMPTIER: Final = 0.5
"""Log of a tile's mean squared gradient: so much less than its belt has when it is empty."""
FROZEN: Final = 0.3
"""Share of the smallest change that the sensor's noise alone makes."""
STEADY, FIRM = 0.35, 0.5
"""A window whose sharpness varies more than the one (standard deviation of the log), and a tile whose edges are to less
than the other where they were in healthy frames, tell nothing."""
_SIGMAS: Final = 5.0
_LATELY: Final = 0.2
_TILES: Final = TILES * TILES
Tuple16 = tuple[float, ...]


@dataclass(slots=True, eq=False)
class Lately:
    """Means over the last few frames, by tile, float32 [16]: packages come and go, and a fault stays."""

    structure: Float = field(default_factory=lambda: np.full(_TILES, np.nan, np.float32))
    gains: Float = field(default_factory=lambda: np.full(_TILES, np.nan, np.float32))
    texture: Float = field(default_factory=lambda: np.full(_TILES, np.nan, np.float32))
    left: Float = field(default_factory=lambda: np.full(_TILES, np.nan, np.float32))
    lost: Float = field(default_factory=lambda: np.zeros(_TILES, np.float32))
    busy: float = 0.0
    """Share of frames that differed from the one before by more than noise."""

    def add(self, found: Compared) -> None:
        """Take a frame in."""
        means = (
            (self.structure, np.clip(found.structure, -1, 1.5)),
            (self.gains, found.gains),
            (self.left, found.left),
            (self.texture, found.texture),
        )
        for mean, now in means:
            fresh = ~np.isfinite(mean)
            mean[fresh] = now[fresh]
            mean += (now - mean) * np.float32(_LATELY)


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What the camera shows when all is well: mean and standard deviation of each number, learnt from frames.

    `gain`, `red`, `blue`, `saturated`, `noise` follow the day; the others stay. `crisp` is a low quantile, and so is
    `still`: the change from frame to frame when nothing moves, grey levels. By tile: `structure` (what is lately where
    it was), 0 where it tells nothing; `steady`, 1 where the window's sharpness tells something.
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
    spread: float
    spread_sd: float
    sharpness: float
    crisp: float
    still: float
    structure: Tuple16
    structure_sd: Tuple16
    steady: Tuple16


def summary(frames: Sequence[tuple[Plain, Compared, tuple[float, float]]]) -> Ordinary:
    """What some forty healthy frames have in common; each with its change from the one before (NaN for none)."""

    def of(values: list[float]) -> tuple[float, float]:
        known = np.array([value for value in values if np.isfinite(value)])
        return (float(np.median(known)), float(known.std())) if len(known) else (float("nan"), float("nan"))

    lately, structures, spreads = Lately(), [], []
    for _, one, _ in frames:
        lately.add(one)
        structures.append(lately.structure.copy())
        spreads.append(spread_of(lately.gains))
    settled = len(frames) // 5
    structure, structure_sd = np.mean(structures[settled:], axis=0), np.std(structures[settled:], axis=0)
    structure = np.where((structure > FIRM) & (structure_sd < 0.2 * structure), structure, 0.0)
    spread, spread_sd = of(spreads[settled:])
    steady = np.stack([one.sharpness for _, one, _ in frames]).std(axis=0) < STEADY
    gain, gain_sd = of([one.gain for _, one, _ in frames])
    red, red_sd = of([one.red for _, one, _ in frames])
    blue, blue_sd = of([one.blue for _, one, _ in frames])
    noise, noise_sd = of([one.noise for one, _, _ in frames])
    changes = np.array([value for _, _, (value, _) in frames if np.isfinite(value)])
    return Ordinary(
        gain=gain,
        gain_sd=gain_sd,
        red=red,
        red_sd=red_sd,
        blue=blue,
        blue_sd=blue_sd,
        saturated=of([one.saturated for one, _, _ in frames])[0],
        noise=noise,
        noise_sd=noise_sd,
        dead=of([one.dead for one, _, _ in frames])[0],
        spread=spread,
        spread_sd=spread_sd,
        sharpness=of([_median(one.sharpness, steady) for _, one, _ in frames])[0],
        crisp=float(np.quantile([one.crisp for one, _, _ in frames], 0.1)),
        still=float(np.quantile(changes, 0.05)) if len(changes) else float("nan"),
        structure=tuple(float(value) for value in structure),
        structure_sd=tuple(float(value) for value in np.nan_to_num(structure_sd)),
        steady=tuple(float(value) for value in steady),
    )


def spread_of(gains: Float) -> float:
    """How much more light the bright tiles have than the dark ones, beside the reference; NaN with few tiles known."""
    known = np.sort(gains[np.isfinite(gains)])
    if len(known) < 4:
        return float("nan")
    part = max(len(known) // 5, 1)  # single tiles do not count: a package may cover them
    return float(known[-part - 1] - known[part])


def _median(values: Float, where: npt.NDArray[np.bool_]) -> float:
    known = values[np.isfinite(values) & where]
    return float(np.median(known)) if len(known) else float("nan")


def blind(reference: Reference, ordinary: Ordinary) -> tuple[Kind, ...]:
    """The kinds that cannot be told for this camera."""
    found: list[Kind] = []
    firm = int((np.isfinite(reference.edges) & (np.array(ordinary.structure) > 0)).sum())
    if not np.isfinite(ordinary.spread):
        found.append("light_part")
    if not ordinary.crisp > MIN_CRISP:
        found.append("out_of_focus")
    if firm < 2:
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
    lately: Lately,
) -> Kind | None:
    """What this frame looks like by itself and with the last few, None where it looks well.

    Args:
        changed: from the frame before, see `measures.change`.
        hour_gain: the ordinary gain at this hour of earlier days; NaN where it is not known.
        lately: takes this frame in.
    """
    lately.add(found)
    lately.busy += (float(changed[1] > 4 * ordinary.still) - lately.busy) * _LATELY
    if changed[1] < FROZEN * ordinary.still and ordinary.still > 0.25:
        return "frozen"
    light = found.gain - ordinary.gain
    if np.isfinite(hour_gain) and abs(found.gain - hour_gain) < abs(light):
        light = found.gain - hour_gain
    known = np.sort(found.gains[np.isfinite(found.gains)])
    darkest, brightest = (
        (float(known[len(known) // 8]), float(known[-1 - len(known) // 8])) if len(known) else (0.0,) * 2
    )
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
    if spread_of(lately.gains) > ordinary.spread + max(PART, _SIGMAS * ordinary.spread_sd):
        return "light_part"
    red, blue = abs(found.red - ordinary.red), abs(found.blue - ordinary.blue)
    if red > max(CAST, _SIGMAS * ordinary.red_sd) or blue > max(CAST, _SIGMAS * ordinary.blue_sd):
        return "colour_cast"
    return None


def _structure(frame: Plain, found: Compared, reference: Reference, ordinary: Ordinary, lately: Lately) -> Kind | None:
    """What is wrong with where the edges are, and how sharp: moved, torn, hidden in part, or blurred."""
    usual, varies = np.array(ordinary.structure), np.array(ordinary.structure_sd)
    firm = np.isfinite(reference.edges) & (usual > 0)
    # Where a belt's texture is the sensor's noise alone, more light makes less of it.
    empty = lately.texture < reference.lowest - EMPTIER - 2 * max(found.gain, 0.0)
    some = 0 < empty.sum() <= len(empty) // 2 and lately.busy > 0.6
    fine = np.isfinite(found.sharpness) & (np.array(ordinary.steady) > 0)
    soft = fine & (found.sharpness < ordinary.sharpness + BLUR)
    blurred = frame.crisp < CRISP * ordinary.crisp and soft.sum() >= 0.7 * fine.sum()
    lost_now = firm & (found.structure < 0.5 * usual)
    stays = float(np.abs(lost_now - lately.lost)[firm].mean()) < 0.2 if firm.any() else True
    lately.lost += (lost_now - lately.lost) * np.float32(0.25)
    if blurred:
        return "out_of_focus"
    lost = firm & (lately.structure < np.minimum(LOST * usual, usual - 4 * varies))
    blank = lost & (lately.left < BLANK)
    if firm.sum() >= 4 and not stays and not blank.any() and _torn(lost_now, firm):
        return "damaged"  # each frame is torn at another row; what stays lost was moved or is hidden
    # A camera that moves leaves next to nothing where it was; packages that stand on a belt leave some tiles so.
    intact = firm & (lately.structure > INTACT * usual)
    if lost.sum() > 0.4 * firm.sum() and intact.sum() <= 0.2 * firm.sum() and blank.sum() < 0.5 * lost.sum():
        return "damaged" if _torn_lately(lately.structure, usual, firm) else "moved"
    if lately.busy < STANDING:
        return None  # a smooth package that stands hides what is behind it, like a thing before the lens
    if blank.any() and blank.sum() < firm.sum():
        return "blocked"
    smeared, sharp = fine & (found.sharpness < -1.5), fine & (found.sharpness > -0.5)
    if some and sharp.sum() * 2 >= fine.sum():
        return "blocked"
    return "blocked" if smeared.any() and sharp.sum() >= 2 and sharp.sum() >= smeared.sum() / 3 else None


def _torn_lately(structure: Float, usual: npt.NDArray[np.float64], firm: npt.NDArray[np.bool_]) -> bool:
    """Whether the edges were lately lost from row to row more, from nothing at one end to nearly all at the other: of
    frames that are torn at another row each time, the first rows are always whole and the last never."""
    grid, known = (
        np.where(firm, structure / np.maximum(usual, 1e-6), 0.0).reshape(TILES, TILES),
        firm.reshape(TILES, TILES),
    )
    rows = [float(row[seen].mean()) for row, seen in zip(grid, known, strict=True) if seen.any()]
    if len(rows) < 3:
        return False
    whole, least = (rows[0], rows[-1]) if rows[0] > rows[-1] else (rows[-1], rows[0])
    steps = np.diff(rows if rows[0] > rows[-1] else rows[::-1])
    return whole > 0.85 and least < 0.45 and bool((steps < 0.1).all())


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
