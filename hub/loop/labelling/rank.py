"""What is asked first: ranking rules. A rule gives each picture that waits a number; the largest comes first."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

FAILED = frozenset({"miss", "drop", "wrong_item", "multi_pick"})
_GAIN_FIRST = 10.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that waits. `doubt` is 0 (sure) to 1; `gain` is what labelling it is expected to bring, if known."""

    id: str
    doubt: float
    look_alike: str
    gain: float | None = None


class Ranker(Protocol):
    """One number per candidate, in their order."""

    def __call__(self, candidates: Sequence[Candidate]) -> list[float]: ...


def doubt_of(scores: Sequence[float], outcome: str | None = None) -> float:
    """How unsure an answer is, 0 to 1: the mean doubt of its instances (score .5 is 1, scores 0 and 1 are 0).

    An answer without any instance is as unsure as can be, and so is one whose pick failed.
    """
    if outcome in FAILED or not scores:
        return 1.0
    return sum(1 - abs(2 * min(max(score, 0.0), 1.0) - 1) for score in scores) / len(scores)


def by_doubt(candidates: Sequence[Candidate]) -> list[float]:
    """Doubt, and of pictures that look alike each further one counts less: 1, 1/2, 1/3, ..."""
    ranks = [0.0] * len(candidates)
    seen: Counter[str] = Counter()
    for k in sorted(range(len(candidates)), key=lambda k: (-candidates[k].doubt, candidates[k].id)):
        one = candidates[k]
        seen[one.look_alike] += 1
        # A small floor, so that among sure pictures the different ones still come first.
        ranks[k] = (0.05 + one.doubt) / (seen[one.look_alike] if one.look_alike else 1)
    return ranks


def by_gain(candidates: Sequence[Candidate]) -> list[float]:
    """Expected gain where it is known, all others behind by doubt."""
    others = by_doubt(candidates)
    return [
        other if one.gain is None or not math.isfinite(one.gain) else _GAIN_FIRST + one.gain
        for one, other in zip(candidates, others, strict=True)
    ]


def at_random(candidates: Sequence[Candidate]) -> list[float]:
    """By a hash of the id: the same each time. What other rules are compared with."""
    return [int.from_bytes(hashlib.sha256(one.id.encode()).digest()[:6], "big") / 2**48 for one in candidates]


RANKERS: Mapping[str, Ranker] = {"gain": by_gain, "doubt": by_doubt, "random": at_random}
