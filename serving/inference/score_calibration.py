"""Scores that mean the same whoever answers: a half is where a model does best.

A network's scores are products of small numbers; the score at which it finds most with least false alarm (the best F1)
may be 0.15 for one variant and 0.4 for another. That score is its *pivot*, measured on its holdout and stored with it.
Scores are answered with the pivot at one half: the odds of a score, divided by the odds of the pivot. Their order and
so every AP stay as they were, and "0.5 and above" is a sensible start for every variant.
"""

from __future__ import annotations

import numpy as np

from serving.inference.postprocess import Choice
from serving.instances import FloatArray

EVEN = 0.5
"""The pivot that changes nothing, and the answered score of every pivot."""


LEAST = Choice().min_score
"""The score below which a network says nothing unless it is asked to."""


def checked(value: object) -> float:
    """A pivot from outside. Raises ValueError if it is no number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"score_pivot must be a number between 0 and 1, not {value!r}")
    return float(value)


def answered(scores: FloatArray, pivot: float) -> FloatArray:
    """The network's scores float32 [N] in [0, 1] as they are answered."""
    if pivot == EVEN:
        return scores
    wide = scores.astype(np.float64)
    share = wide * (1 - pivot)
    return np.asarray(share / (share + (1 - wide) * pivot), np.float32)


def network_floor(min_score: float, pivot: float, least: float = LEAST) -> float:
    """The network's score below which nothing is answered where `min_score` is asked for.

    Nothing below the network's own `least` is, however low its pivot, unless still less is asked for.
    """
    if pivot == EVEN:
        return min_score
    share = min_score * pivot
    return max(share / (share + (1 - min_score) * (1 - pivot)), min(min_score, least))
