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
MANY: Final = 5
"""So many tiles that tell how sharp the view is are enough without packages' edges."""
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
BARE: Final = 0.5
"""Share of a tile's edges that are where they were: with more of them nothing hides the tile."""
BLANK: Final = -0.5
"""Log of a tile's gradient beside that of its fixed edges alone: less than this, and they are hidden."""
EMPTIER: Final = 0.5
"""Log of a tile's mean squared gradient: so much less than its belt has when it is empty."""
FROZEN: Final = 0.3
"""Share of the smallest change that the sensor's noise alone makes."""
STEADY, FIRM = 0.35, 0.5
"""A window whose sharpness varies more than the one (standard deviation of the log), and a tile whose edges are to less
than the other where they were in healthy frames, tell nothing."""
RECENT: Final = 5
"""So many of the last frames are judged together."""
TORN, SEAM = 0.12, 0.15
"""Share of the fixed edges that are shifted in a part of the frame; agreement of two rows that is better when one is
shifted. Both beyond what the camera's healthy frames reach."""
ALIKE: Final = 0.75
"""Share of the tiles that must have a cast, or a light, together."""
_SIGMAS: Final = 5.0
_LATELY: Final = 0.2
_TILES: Final = TILES * TILES
Tuple16 = tuple[float, ...]


@dataclass(slots=True, eq=False)
class Recent:
    """The last RECENT values of each tile, NaN where not known."""

    values: Float = field(default_factory=lambda: np.full((RECENT, _TILES), np.nan, np.float32))
    place: int = 0

    def add(self, now: Float) -> None:
        """Take a frame's values in, float32 [16]."""
        self.values[self.place] = now
        self.place = (self.place + 1) % RECENT

    @property
    def most(self) -> Float:
        """The largest known value of each tile."""
        return np.asarray(np.fmax.reduce(self.values), np.float32)

    @property
    def middle(self) -> Float:
        """The median of each tile; NaN where a frame did not tell."""
        return np.asarray(np.sort(self.values, axis=0)[RECENT // 2], np.float32)

    @property
    def least(self) -> Float:
        """The smallest known value of each tile."""
        return np.asarray(np.fmin.reduce(self.values), np.float32)


@dataclass(slots=True, eq=False)
class Lately:
    """The last few frames by tile, float32 [16]: packages come and go, and a fault stays. What is seen in one of a few
    frames is there, so edges and light are judged by the best of RECENT."""

    structures: Recent = field(default_factory=Recent)
    lefts: Recent = field(default_factory=Recent)
    gains: Recent = field(default_factory=Recent)
    reds: Recent = field(default_factory=Recent)
    blues: Recent = field(default_factory=Recent)
    texture: Float = field(default_factory=lambda: np.full(_TILES, np.nan, np.float32))
    busy: float = 0.0
    """Share of frames that differed from the one before by more than noise."""

    def add(self, found: Compared) -> None:
        """Take a frame in."""
        self.structures.add(np.clip(found.structure, -1, 1.5))
        self.lefts.add(found.left)
        self.gains.add(found.gains + np.float32(found.gain))
        self.reds.add(found.reds)
        self.blues.add(found.blues)
        fresh = ~np.isfinite(self.texture)
        self.texture[fresh] = found.texture[fresh]
        self.texture += (found.texture - self.texture) * np.float32(_LATELY)

    @property
    def structure(self) -> Float:
        """The most of each tile's edges that a frame had where they were."""
        return self.structures.most

    @property
    def light(self) -> tuple[float, float]:
        """Log of the light of the bright tiles and of the dark ones; NaN with few tiles known. A package darkens the
        tiles that it lies in, a lamp that failed its tiles in every frame: the dark ones count by their brightest
        frame, the bright ones by their darkest."""
        dark, bright = self.gains.most, self.gains.least
        known = np.isfinite(dark) & np.isfinite(bright)
        count = int(known.sum())
        if count < 4:
            return float("nan"), float("nan")
        part = max(count // 5, 1)  # single tiles do not count: a package may stand there
        return float(np.sort(bright[known])[-part - 1]), float(np.sort(dark[known])[part])

    @property
    def spread(self) -> float:
        """How much more light the bright tiles have than the dark ones; NaN with few tiles known."""
        bright, dark = self.light
        return bright - dark


@dataclass(frozen=True, slots=True)
class Ordinary:
    """What the camera shows when all is well: mean and standard deviation of each number, learnt from frames.

    `gain`, `red`, `blue`, `saturated`, `noise` follow the day; the others stay. `dead`, `torn` and `seam` are high
    quantiles, `crisp` is a low one, and so is `still`: the change from frame to frame when nothing moves, grey levels.
    By tile: `structure` (what is lately where it was), 0 where it tells nothing; `steady`, 1 where the window's
    sharpness tells something.
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
    torn: float
    seam: float
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
    lately, structures, spreads = Lately(), [], []
    for _, one, _ in frames:
        lately.add(one)
        structures.append(lately.structure)
        spreads.append(lately.spread)
    settled = len(frames) // 5
    structure, structure_sd = np.mean(structures[settled:], axis=0), np.std(structures[settled:], axis=0)
    structure = np.where((structure > FIRM) & (structure_sd < 0.2 * structure), structure, 0.0)
    spread, spread_sd = _middle(spreads[settled:])
    steady = np.stack([one.sharpness for _, one, _ in frames]).std(axis=0) < STEADY
    gain, gain_sd = _middle([one.gain for _, one, _ in frames])
    red, red_sd = _middle([one.red for _, one, _ in frames])
    blue, blue_sd = _middle([one.blue for _, one, _ in frames])
    noise, noise_sd = _middle([one.noise for one, _, _ in frames])
    changes = np.array([value for _, _, (value, _) in frames if np.isfinite(value)])
    return Ordinary(
        gain=gain,
        gain_sd=gain_sd,
        red=red,
        red_sd=red_sd,
        blue=blue,
        blue_sd=blue_sd,
        saturated=_middle([one.saturated for one, _, _ in frames])[0],
        noise=noise,
        noise_sd=noise_sd,
        dead=float(np.quantile([one.dead for one, _, _ in frames], 0.9)),
        torn=float(np.quantile([one.torn for _, one, _ in frames], 0.9)),
        seam=float(np.quantile([one.seam for one, _, _ in frames], 0.9)),
        spread=spread,
        spread_sd=spread_sd,
        sharpness=_middle([_median(one.sharpness, steady) for _, one, _ in frames])[0],
        crisp=float(np.quantile([one.crisp for one, _, _ in frames], 0.1)),
        still=float(np.quantile(changes, 0.05)) if len(changes) else float("nan"),
        structure=tuple(float(value) for value in structure),
        structure_sd=tuple(float(value) for value in np.nan_to_num(structure_sd)),
        steady=tuple(float(value) for value in steady),
    )


def _middle(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the standard deviation that the distances from it tell: one frame in forty that is covered by one
    large package must not widen a limit. NaN of none."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return float("nan"), float("nan")
    middle = float(np.median(known))
    return middle, 1.48 * float(np.median(np.abs(known - middle)))


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
    differs = bool(changed[1] > 4 * ordinary.still)
    lately.busy += (float(differs) - lately.busy) * _LATELY
    if changed[1] < FROZEN * ordinary.still and ordinary.still > 0.25:
        return "frozen"
    light, most = found.gain - ordinary.gain, found.brightest - ordinary.gain
    if np.isfinite(hour_gain) and abs(found.gain - hour_gain) < abs(light):
        light, most = found.gain - hour_gain, found.brightest - hour_gain
    darkest, brightest = _eighth(found.highest, darkest=True), _eighth(found.gains, darkest=False)
    # All of the view, or it is a part of it that has another light or is hidden.
    if frame.mean < 5.0 or (light < min(DARK, -_SIGMAS * ordinary.gain_sd) and light + brightest < 0.6 * DARK):
        return "dark"
    white = frame.saturated - ordinary.saturated
    if light + darkest > 0.2 and (
        most > max(BRIGHT, _SIGMAS * ordinary.gain_sd) or (white > SATURATED and light > 0.25)
    ):
        return "over_exposed"
    if frame.noise > max(NOISE * ordinary.noise, ordinary.noise + 2.0, ordinary.noise + _SIGMAS * ordinary.noise_sd):
        return "damaged"
    if frame.dead > ordinary.dead + DEAD:
        return "damaged"
    usual = np.array(ordinary.structure)
    firm = np.isfinite(reference.edges) & (usual > 0)
    if _bare(lately, usual, firm) and (
        _cast(found.red - ordinary.red, lately.reds.middle - ordinary.red, ordinary.red_sd)
        or _cast(found.blue - ordinary.blue, lately.blues.middle - ordinary.blue, ordinary.blue_sd)
    ):
        return "colour_cast"
    # A torn frame's other part is where it was, and so are all parts within a few frames.
    intact = firm & (lately.structure > INTACT * usual)
    # A tear runs through another row each time: what stays as it is, such as a package on a belt that stands, is none.
    torn = found.torn > max(TORN, ordinary.torn + TORN) and intact.sum() > 0.2 * firm.sum()
    if differs and (torn or frame.seam > ordinary.seam + SEAM):
        return "damaged"
    if _partly_dark(lately, ordinary, usual, firm):
        return "light_part"
    return _structure(frame, found, reference, ordinary, lately, firm)


def _eighth(gains: Float, *, darkest: bool) -> float:
    """The gain that an eighth of the tiles is beyond, at the dark end or at the bright one; 0 where none is known."""
    known = np.sort(gains[~np.isnan(gains)])
    if not len(known):
        return 0.0
    return float(known[len(known) // 8] if darkest else known[-1 - len(known) // 8])


def _cast(now: float, lately: Float, varies: float) -> bool:
    """Whether the view is off in its colour, and nearly all tiles lately to the same side: packages and what hides a
    part of the view are not everywhere."""
    limit = max(CAST, _SIGMAS * varies)
    known = np.isfinite(lately)
    if abs(now) < limit or not known.any():
        return False
    return float((np.sign(now) * lately[known] > limit / 2).mean()) >= ALIKE


def _partly_dark(
    lately: Lately, ordinary: Ordinary, usual: npt.NDArray[np.float64], firm: npt.NDArray[np.bool_]
) -> bool:
    """Whether a part of the view has lost light, and its edges are there: nothing hides them."""
    bright, dark = lately.light
    if not bright - dark > ordinary.spread + max(PART, _SIGMAS * ordinary.spread_sd):
        return False
    if dark > ordinary.gain - PART / 2:
        return False  # the bright tiles are brighter, the others as ever: no lamp does that by failing
    return _bare(lately, usual, firm & (np.nan_to_num(lately.gains.most, nan=np.inf) <= dark + (bright - dark) / 4))


def _bare(lately: Lately, usual: npt.NDArray[np.float64], firm: npt.NDArray[np.bool_]) -> bool:
    """Whether most of these tiles have lately shown their edges, so that what changed is their light. Where they have
    none, and the belt stands, what lies there may hide them."""
    if not firm.any():
        return lately.busy >= STANDING
    return bool((lately.structure[firm] > BARE * usual[firm]).mean() > 0.5)


def _structure(
    frame: Plain,
    found: Compared,
    reference: Reference,
    ordinary: Ordinary,
    lately: Lately,
    firm: npt.NDArray[np.bool_],
) -> Kind | None:
    """What is wrong with where the edges are, and how sharp: moved, hidden in part, or blurred."""
    usual, varies = np.array(ordinary.structure), np.array(ordinary.structure_sd)
    # Where a belt's texture is the sensor's noise alone, more light makes less of it.
    empty = lately.texture < reference.lowest - EMPTIER - 2 * max(found.gain, 0.0)
    some = 0 < empty.sum() <= len(empty) // 2 and lately.busy > 0.6
    fine = np.isfinite(found.sharpness) & (np.array(ordinary.steady) > 0)
    soft = fine & (found.sharpness < ordinary.sharpness + BLUR)
    softer = frame.crisp < CRISP * ordinary.crisp and soft.sum() >= 0.7 * fine.sum()
    # Where edges are never crisp, or packages are crisper than the view, all of the view must be soft.
    if softer or (frame.crisp < ordinary.crisp and fine.sum() >= MANY and bool(soft[fine].all())):
        return "out_of_focus"
    structure, left = lately.structure, lately.lefts.most
    lost = firm & (structure < np.minimum(LOST * usual, usual - 4 * varies))
    blank = lost & (left < BLANK)
    # A camera that moves leaves next to nothing where it was; packages that stand on a belt leave some tiles so.
    intact = firm & (structure > INTACT * usual)
    if lost.sum() > 0.4 * firm.sum() and intact.sum() <= 0.2 * firm.sum() and blank.sum() < 0.5 * lost.sum():
        return "moved"
    if lately.busy < STANDING:
        return None  # a smooth package that stands hides what is behind it, like a thing before the lens
    if blank.any() and blank.sum() < firm.sum():
        return "blocked"
    smeared, sharp = fine & (found.sharpness < -1.5), fine & (found.sharpness > -0.5)
    if some and sharp.sum() * 2 >= fine.sum():
        return "blocked"
    return "blocked" if smeared.any() and sharp.sum() >= 2 and sharp.sum() >= smeared.sum() / 3 else None
