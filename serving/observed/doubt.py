"""How much an answer is in doubt, by other looks at the same frame: mirrored and moved, and what the base says of it.

A mask that is another one when the picture is mirrored hangs on a thread, whatever its score. What a number means is
not said here: each camera's own numbers are ranked (`serving.observed.change`), so a threshold is a rate of false
alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from serving.instances import Instances
from serving.observed.failure_measures import SURE, Masks
from serving.observed.second_looks import Look

OTHER_CLASS: Final = 0.5
"""A mask that is found again under another class agrees by this share of its overlap."""
CERTAIN: Final = 0.6
"""An instance answered below this score is doubted more the lower it is."""
FOUND: Final = 0.5
"""An instance from this score on, in a look, is a package that the answer should have."""


@dataclass(frozen=True, slots=True)
class Again:
    """What other looks say of one answer; all from 0 (they agree) to 1.

    Attributes:
        unstable: of each of N instances, by looks of the same model. disagreed: by the base; empty where it answered.
        missing: the share of looks that find a package where the answer has none.
        frame: of the frame as a whole: its most doubted instance of score SURE or more, or what is missing.
    """

    unstable: tuple[float, ...]
    disagreed: tuple[float, ...]
    missing: float
    frame: float

    def document(self) -> dict[str, Any]:
        """As JSON, to be kept beside the frame."""
        return {
            "unstable": [round(one, 4) for one in self.unstable],
            "disagreed": [round(one, 4) for one in self.disagreed],
            "missing": round(self.missing, 4),
        }


def by_scores(scores: Sequence[float] | npt.NDArray[np.float32]) -> float:
    """How much a network doubts a frame by its own scores: of its most doubted instance, 0 to CERTAIN; nothing answered
    is doubt as well, 1."""
    return 1.0 if not len(scores) else max(CERTAIN - float(min(scores)), 0.0)


def doubt_of(answer: Instances, looks: Sequence[Look]) -> Again:
    """Compare an answer with other looks at its frame. Without looks nothing is in doubt."""
    masks = Masks.of(answer)
    own, others = [one for one in looks if one.again], [one for one in looks if not one.again]
    unstable = _apart(masks, answer, own) if own else np.zeros(len(masks))
    disagreed = _apart(masks, answer, others) if others else np.zeros(0)
    missing = float(np.mean([_missing(masks, one) for one in looks])) if looks else 0.0
    sure = answer.scores >= SURE
    most = [float(each[sure].max(initial=0.0)) for each in (unstable, disagreed) if len(each)]
    return Again(tuple(map(float, unstable)), tuple(map(float, disagreed)), missing, max([*most, missing]))


def _apart(masks: Masks, answer: Instances, looks: Sequence[Look]) -> npt.NDArray[np.float64]:
    """1 less the mean agreement of each instance with its best match: float64 [N]."""
    agreed = np.zeros(len(masks))
    for look in looks:
        theirs, labels = masks.alike(look.instances)
        if not len(theirs):
            continue
        for k, mask in enumerate(masks.small):
            shared = (theirs & mask).sum((1, 2)).astype(float)
            iou = shared / np.maximum(masks.areas[k] + theirs.sum((1, 2)) - shared, 1.0)
            same = np.array([label == answer.labels[k] for label in labels])
            agreed[k] += float((iou * np.where(same, 1.0, OTHER_CLASS)).max())
    return 1.0 - agreed / len(looks)


def _missing(masks: Masks, look: Look) -> bool:
    """Whether a look surely finds a package that the answer has next to nothing of."""
    theirs, _ = masks.alike(look.instances, FOUND)
    union = masks.small.any(axis=0) if len(masks) else np.zeros(masks.small.shape[1:], np.bool_)
    return any(float((one & union).sum()) < 0.3 * float(one.sum()) for one in theirs)
