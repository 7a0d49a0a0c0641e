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
    look: str = ""
    """How it looks: 64 bits in hexadecimal (`fill.look_of`); "" where nobody knows."""
    novelty: float = 0.0
    """How unlike the cell's known packages the strangest one is; 0 where nobody knows."""


class Ranker(Protocol):
    """One number per candidate, in their order."""

    def __call__(self, candidates: Sequence[Candidate]) -> list[float]:
        """As many numbers as candidates; the highest are labelled first."""


def doubt_of(scores: Sequence[float], outcome: str | None = None) -> float:
    """How unsure an answer is, 0 to 1: the mean doubt of its instances (score .5 is 1, scores 0 and 1 are 0).

    An answer without any instance is as unsure as can be, and so is one whose pick failed.
    """
    if outcome in FAILED or not scores:
        return 1.0
    return sum(1 - abs(2 * min(max(score, 0.0), 1.0) - 1) for score in scores) / len(scores)


def doubt_of_looks(observed: object) -> float:
    """How unsure an answer is by what the site's second looks said of it (`serving.observed.doubt`), 0 to 1: its most
    doubted instance, or what is missing. 0 where nobody looked again, and of a document that is none."""
    if not isinstance(observed, Mapping):
        return 0.0
    found = [0.0]
    for name in ("unstable", "disagreed", "missing"):
        values = observed.get(name, ())
        for value in values if isinstance(values, list) else (values,):
            if isinstance(value, float | int) and math.isfinite(value):
                found.append(min(max(float(value), 0.0), 1.0))
    return max(found)


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


def by_novelty(candidates: Sequence[Candidate]) -> list[float]:
    """The strangest first, and of pictures that look alike each further one counts less; those of which nothing is
    known come behind, by doubt."""
    doubts = by_doubt(candidates)
    seen: Counter[str] = Counter()
    ranks = list(doubts)
    for k in sorted(range(len(candidates)), key=lambda k: (-candidates[k].novelty, candidates[k].id)):
        one = candidates[k]
        if one.novelty > 0 and math.isfinite(one.novelty):
            seen[one.look_alike] += 1
            ranks[k] = _GAIN_FIRST + one.novelty / (seen[one.look_alike] if one.look_alike else 1)
    return ranks


def by_diversity(candidates: Sequence[Candidate]) -> list[float]:
    """Each next picture is the one that looks least like all before it; the first is the most doubtful one.

    A rank is the share of bits in which it differs from the nearest one before it, so that near duplicates end last.
    """
    looks = [int(one.look, 16) if one.look else 0 for one in candidates]
    left = sorted(range(len(candidates)), key=lambda k: (-candidates[k].doubt, candidates[k].id))
    ranks = [0.0] * len(candidates)
    if not left:
        return ranks
    ranks[left[0]] = 1.0
    apart = {k: (looks[k] ^ looks[left[0]]).bit_count() for k in left[1:]}
    last = 1.0
    while apart:
        k = max(apart, key=lambda k: (apart[k], candidates[k].doubt, candidates[k].id))
        last = min(last, apart.pop(k) / 64) - 1e-9  # of equals, the one that was chosen first stays first
        ranks[k] = last
        for other in apart:
            apart[other] = min(apart[other], (looks[other] ^ looks[k]).bit_count())
    return ranks


def at_random(candidates: Sequence[Candidate]) -> list[float]:
    """By a hash of the id: the same each time. What other rules are compared with."""
    return [int.from_bytes(hashlib.sha256(one.id.encode()).digest()[:6], "big") / 2**48 for one in candidates]


RANKERS: Mapping[str, Ranker] = {
    "gain": by_gain, "doubt": by_doubt, "novelty": by_novelty, "diversity": by_diversity, "random": at_random,
}  # fmt: skip
