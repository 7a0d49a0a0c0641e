"""May a refreshed variant take the place of what it went on from? The rule about the cell's history.

A refresh measures both on every earlier holdout of the cell. Each is a *slice* with a noise band: half the width of the
95 % interval of the difference in AP50, images drawn in pairs. A slice is

- *worse* if it lost more than its tolerance, which is the declared one or the noise band, whichever is more,
- *unsure* if it has too few images or packages, or its interval is wide and holds zero: it can veto nothing,
- *better* if the whole interval lies above zero, and *same* otherwise.

These are pure functions of the document, so that a decision can be replayed from its evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

SliceVerdict = Literal["better", "same", "worse", "unsure"]

MIN_IMAGES: Final = 5
MIN_PACKAGES: Final = 20
SURE_BAND: Final = 0.15
"""A slice whose noise band is wider than this tells nothing, unless its whole interval lies on one side of zero."""
MOST_TOLERANCE: Final = 0.05
"""What a cell may allow itself to lose under the first policy, in AP50."""
_FIGURES: Final = ("images", "packages", "difference", "low", "high")


@dataclass(frozen=True, slots=True)
class HistoryVerdict:
    """The names of the slices by what became of them; `told` is one sentence."""

    worse: tuple[str, ...]
    unsure: tuple[str, ...]
    better: tuple[str, ...]
    same: tuple[str, ...]
    told: str

    @property
    def passed(self) -> bool:
        """Whether no slice vetoes."""
        return not self.worse


def band_of(low: float, high: float) -> float:
    """The noise band of a difference whose 95 % interval is `low` to `high`."""
    return (high - low) / 2


def judge_slice(one: Mapping[str, Any], tolerance: float) -> SliceVerdict:
    """What became of a slice; `tolerance` is in AP50. Raises ValueError for a slice without its figures."""
    values = [one.get(name) for name in _FIGURES]
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in values):
        raise ValueError(f"a slice must say its {', '.join(_FIGURES)} as numbers")
    images, packages, difference, low, high = (float(v) for v in values if v is not None)
    band = band_of(low, high)
    if not low <= high:
        raise ValueError("the interval of a slice is the wrong way round")
    if images < MIN_IMAGES or packages < MIN_PACKAGES or (band > SURE_BAND and low <= 0 <= high):
        return "unsure"
    if difference < -max(tolerance, band):
        return "worse"
    return "better" if low > 0 else "same"


def judge_history(document: Mapping[str, Any], most: float = MOST_TOLERANCE) -> HistoryVerdict:
    """The verdict on a history document: the tolerance is the document's own, and `most` at the most.

    Raises ValueError where the document is none.
    """
    slices, own = document.get("slices"), document.get("tolerance")
    if isinstance(own, bool) or not isinstance(own, int | float) or not math.isfinite(own) or own < 0:
        raise ValueError("the history does not say its tolerance")
    if not isinstance(slices, Sequence) or isinstance(slices, str):
        raise ValueError("the history has no list of slices")  # noqa: TRY004  # a document from outside
    found: dict[SliceVerdict, list[str]] = {"better": [], "same": [], "worse": [], "unsure": []}
    losses = []
    for one in slices:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise ValueError("a slice of the history has no name")  # noqa: TRY004
        verdict = judge_slice(one, min(float(own), most))
        found[verdict].append(one["name"])
        if verdict == "worse":
            losses.append(
                f"{one['name']!r} lost {-one['difference']:.2f} AP50 ({one['low']:+.2f} to {one['high']:+.2f})"
            )
    parts = [f"worse on the cell's history: {'; '.join(losses)}"] if losses else []
    if not losses:
        sure = len(slices) - len(found["unsure"])
        parts.append(
            f"none of {sure} slices of the cell's history is worse" if slices else "the cell has no history yet"
        )
    if found["unsure"]:
        parts.append(f"too small to tell: {', '.join(found['unsure'])}")
    return HistoryVerdict(
        tuple(found["worse"]), tuple(found["unsure"]), tuple(found["better"]), tuple(found["same"]), "; ".join(parts)
    )
