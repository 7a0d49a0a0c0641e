"""Do scores mean what they say? Reliability of scores, and the score to cut at for a wanted precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetune.evaluation.evaluate import FOUND_IOU, match
from serving.instances import Instances

BINS = 10
_NEXT_TO = 0.98  # of the best F1
_PIVOTS = (0.02, 0.98)
_LEAST = 10  # answers above a threshold; with fewer, a precision is luck


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers whose score lies in [low, high): how many, their mean score, and the share that found a package."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """Answers of at least `score` are right in `precision` of all cases and find `recall` of the packages."""

    wanted: float
    score: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores can be trusted.

    Attributes:
        bins: the reliability diagram; bins without an answer are left out.
        error: expected calibration error, the mean distance of score and share right (Guo et al., "On Calibration of
            Modern Neural Networks", arXiv 1706.04599), in [0, 1].
        thresholds: for a wanted precision, the lowest score that reaches it, with the recall that is left; precisions
            that no score reaches are left out.
    """

    bins: tuple[ReliabilityBin, ...]
    error: float
    thresholds: tuple[Threshold, ...]


def calibrate(
    truths: Sequence[Instances],
    answers: Sequence[Instances],
    *,
    wanted: Sequence[float] = (0.8, 0.9, 0.95, 0.99),
    min_iou: float = FOUND_IOU,
) -> Calibration:
    """Calibration of `answers` at an IoU of at least `min_iou`, classes included."""
    scores, right = hits(truths, answers, min_iou)
    total = sum(len(truth) for truth in truths)
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(scores, edges[1:-1]), 0, BINS - 1)
    bins = []
    for k in range(BINS):
        inside = place == k
        if inside.any():
            means = float(scores[inside].mean()), float(right[inside].mean())
            bins.append(ReliabilityBin(float(edges[k]), float(edges[k + 1]), int(inside.sum()), *means))
    error = sum(b.count * abs(b.score - b.right) for b in bins) / max(1, len(scores))
    found = [_threshold(scores, right, total, share) for share in wanted]
    return Calibration(tuple(bins), float(error), tuple(t for t in found if t is not None))


def hits(
    truths: Sequence[Instances], answers: Sequence[Instances], min_iou: float = FOUND_IOU
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores float64 [K] of all answers, the highest first, and bool [K] whether each found a package of its own."""
    scores: list[float] = []
    right: list[bool] = []
    for truth, answer in zip(truths, answers, strict=True):
        found = {mine for _, mine in match(truth, answer, min_iou)}
        scores += answer.scores.tolist()
        right += [k in found for k in range(len(answer))]
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    return np.asarray(scores, np.float64)[order], np.asarray(right, np.bool_)[order]


def best_pivot(truths: Sequence[Instances], answers: Sequence[Instances], min_iou: float = FOUND_IOU) -> float | None:
    """The score of best F1: the middle of the scores at which F1 is next to its best, since on few images the best
    itself is luck. None where no answer is right.

    A network's own scores are wanted, not ones that a pivot has moved.
    """
    scores, right = hits(truths, answers, min_iou)
    total = sum(len(truth) for truth in truths)
    if not right.any():
        return None
    f1 = 2 * np.cumsum(right) / (np.arange(1, len(scores) + 1) + total)
    last = np.append(scores[1:] < scores[:-1], True)
    near = scores[last & (f1 >= _NEXT_TO * f1[last].max())]
    low, high = _PIVOTS
    return round(min(max(float(near[len(near) // 2]), low), high), 4)


def store_pivot(document: Path, pivot: float) -> None:
    """Write a pivot into a variant's `variant.json` or a base's `config.json`, where `serving` reads it."""
    fields = json.loads(document.read_text(encoding="utf-8"))
    fields["score_pivot"] = pivot
    document.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _threshold(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], total: int, wanted: float
) -> Threshold | None:
    if not len(scores) or not total:
        return None
    found = np.cumsum(right)
    precision = found / np.arange(1, len(scores) + 1)
    # A cut falls between different scores only.
    last = np.append(scores[1:] < scores[:-1], True)
    good = np.flatnonzero(last & (precision >= wanted) & (np.arange(1, len(scores) + 1) >= min(_LEAST, total)))
    if not len(good):
        return None
    k = int(good[-1])
    return Threshold(wanted, float(scores[k]), float(precision[k]), float(found[k] / total))
