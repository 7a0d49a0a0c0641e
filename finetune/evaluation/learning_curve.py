"""What are more images worth? Short trainings on nested subsets, judged on the same holdout.

AP grows about linearly in the logarithm of the number of images, over the few doublings that a team can look ahead
(Hestness et al., "Deep Learning Scaling is Predictable, Empirically", arXiv 1712.00409, find power laws; over one
doubling both say the same). The interval comes from drawing the holdout again; what another seed would change is not
in it, and the report says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetune.evaluation.evaluate import interval

MIN_IMAGES = 16
MIN_SECONDS = 20.0
"""A training shorter than this says more about its start than about its images."""
SHARES = (0.25, 0.5, 1.0)
LOOK_AHEAD = 100


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """AP50 of a short training on `images` images, with the 95 % interval over the holdout."""

    images: int
    ap50: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The points, and what `more` images on top of the last point are worth in AP50 (a difference, with interval)."""

    points: tuple[CurvePoint, ...]
    more: int
    gain: float
    low: float
    high: float
    seconds_each: float


def subset_sizes(images: int) -> list[int]:
    """Sizes of the nested subsets, the smallest first."""
    return sorted({max(4, round(images * share)) for share in SHARES})


def nested(images: int, size: int) -> list[int]:
    """Which `size` of `images` frames: evenly spaced, and every smaller power-of-two subset is inside the larger one.

    Frames are ordered by time, so that an even spread is a fair sample; the bit-reversed order makes prefixes nest.
    """
    bits = max(1, math.ceil(math.log2(images)))
    order = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)]
    spread = [k for k in order if k < images]
    return sorted(spread[:size])


def budget(max_seconds: float, images: int, *, share: float) -> float | None:
    """Seconds for each short training, out of a `share` of the whole budget; None where it is not worth doing."""
    each = share * max_seconds / len(SHARES)
    return each if images >= MIN_IMAGES and each >= MIN_SECONDS else None


def measure_curve(
    images: int,
    seconds_each: float,
    train: Callable[[Sequence[int], float], tuple[float, npt.NDArray[np.float64]]],
    *,
    keep: Path | None = None,
) -> LearningCurve:
    """Train on each subset and fit the line.

    `train` takes positions of train images and seconds, and gives AP50 and float64 [resamples] of it on drawn holdouts
    (the same draws each time). With `keep`, a folder, points survive an interruption.
    """
    points: list[CurvePoint] = []
    draws: list[npt.NDArray[np.float64]] = []
    for size in subset_sizes(images):
        ap50, drawn = _kept(keep, size, seconds_each) or train(nested(images, size), seconds_each)
        _keep(keep, size, seconds_each, ap50, drawn)
        points.append(CurvePoint(size, ap50, *interval(drawn)))
        draws.append(drawn)
    logs = np.log2([point.images for point in points])
    ahead = math.log2((images + LOOK_AHEAD) / images)
    slope = float(np.polyfit(logs, [point.ap50 for point in points], 1)[0])
    slopes = np.polyfit(logs, np.stack(draws), 1)[0]
    low, high = interval(slopes * ahead)
    # More images than all are worth at most what is missing to perfection.
    room = 1.0 - points[-1].ap50
    gain, low, high = (min(value, room) for value in (slope * ahead, low, high))
    return LearningCurve(tuple(points), LOOK_AHEAD, gain, low, high, seconds_each)


def in_words(curve: LearningCurve) -> str:
    """One sentence for people."""
    gain, low, high = (round(100 * value, 1) for value in (curve.gain, curve.low, curve.high))
    if low > 0.5:
        return f"{curve.more} more labelled images are worth about {gain:+g} points of AP50 ({low:+g} to {high:+g})."
    if high < 1.0:
        return f"{curve.more} more images of the same kind will hardly help: {gain:+g} points of AP50 expected."
    return (
        f"{curve.more} more labelled images may be worth about {gain:+g} points of AP50, but the holdout is too small "
        f"to be sure ({low:+g} to {high:+g})."
    )


def _file(keep: Path, size: int, seconds: float) -> Path:
    return keep / f"curve-{size}-{seconds:g}.json"


def _kept(keep: Path | None, size: int, seconds: float) -> tuple[float, npt.NDArray[np.float64]] | None:
    if keep is None or not _file(keep, size, seconds).is_file():
        return None
    try:
        document = json.loads(_file(keep, size, seconds).read_text())
        return float(document["ap50"]), np.asarray(document["drawn"], np.float64)
    except (ValueError, KeyError, TypeError):  # the process died while it wrote
        return None


def _keep(keep: Path | None, size: int, seconds: float, ap50: float, drawn: npt.NDArray[np.float64]) -> None:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        _file(keep, size, seconds).write_text(json.dumps({"ap50": ap50, "drawn": drawn.tolist()}))


def curve_facts(curve: LearningCurve) -> dict[str, object]:
    """As JSON values, with the sentence."""
    return {**asdict(curve), "sentence": in_words(curve)}
