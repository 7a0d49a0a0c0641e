"""What labelled images say, in the form that answers are judged by: the classes that are judged as one, and labels that
are boxes.

A box is no outline. Where a holdout has outlines, its boxes are set aside: they need not be found, and an answer in one
is neither right nor wrong, as COCO treats regions that it ignores. A holdout of boxes alone is judged by boxes: each
answer counts by the box around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from serving.instances import Instances, encode_windows

if TYPE_CHECKING:  # it brings torch along, which the hub's pages do without
    from finetune.datasets import Sample

FOUND_IOU = 0.5
"""What counts as found: a robot acts on answers that are roughly right."""
INSIDE = 0.5
"""The share of an answer that must lie in a box which is set aside for the answer to go with it."""


@dataclass(frozen=True, slots=True)
class Truths:
    """The annotations of labelled images, in the classes that are judged.

    Attributes:
        judged: per image what is to be found.
        aside: per image the boxes that are neither asked for nor held against an answer.
        by_box: every label is a box, and so are the answers taken.
    """

    judged: tuple[Instances, ...]
    aside: tuple[Instances, ...]
    by_box: bool

    @classmethod
    def of(cls, samples: Sequence[Sample], names: Mapping[str, str]) -> Truths:
        """The annotations of `samples` whose class is in `names`, under the name that it is judged by there."""
        judged, aside = [], []
        for sample in samples:
            truth, boxed = sample.truth(), np.array(sample.box_only, np.bool_)
            judged.append(relabelled(truth.take(np.flatnonzero(~boxed)), names))
            aside.append(relabelled(truth.take(np.flatnonzero(boxed)), names))
        by_box = not any(map(len, judged)) and any(map(len, aside))
        return cls(tuple(aside), tuple(judged), True) if by_box else cls(tuple(judged), tuple(aside), False)

    @property
    def set_aside(self) -> int:
        """The number of boxes that are not judged."""
        return sum(map(len, self.aside))

    def fit(self, k: int, answer: Instances) -> Instances:
        """What is judged of the answer to image `k`, in the judged classes."""
        if self.by_box:
            return as_boxes(answer)
        return _outside(answer, self.judged[k], self.aside[k]) if len(self.aside[k]) else answer


def relabelled(instances: Instances, names: Mapping[str, str]) -> Instances:
    """The instances whose label is in `names`, under their new label."""
    kept = instances.take([k for k, label in enumerate(instances.labels) if label in names])
    labels = tuple(names[label] for label in kept.labels)
    return Instances(kept.height, kept.width, kept.boxes, kept.scores, labels, kept.masks)


def as_boxes(instances: Instances) -> Instances:
    """The same instances, each mask the box around it, filled: then the IoU of masks is the IoU of boxes."""
    windows = []
    for x, y, width, height in _boxes(instances):
        windows.append((np.ones((height, width), np.bool_), x, y))
    masks = encode_windows(windows, instances.height, instances.width) if windows else ()
    return Instances(
        instances.height, instances.width, instances.boxes, instances.scores, instances.labels, tuple(masks)
    )


def _boxes(instances: Instances) -> Iterator[tuple[int, int, int, int]]:
    """(x, y, width, height) of each mask; of an empty one, nothing: 0 pixels at the corner."""
    for rle in instances.rles():
        x, y, width, height = (int(value) for value in coco_mask.toBbox(rle))
        yield x, y, width, height


def _outside(answer: Instances, truth: Instances, aside: Instances) -> Instances:
    """The answers that found something, or that do not lie in a box of their class which is set aside."""
    if not len(answer):
        return answer
    # IoU with a "crowd" is the share of the answer that lies inside.
    inside = np.asarray(coco_mask.iou(answer.rles(), aside.rles(), [1] * len(aside))).reshape(len(answer), len(aside))
    same = np.asarray(answer.labels)[:, None] == np.asarray(aside.labels)[None]
    right = {mine for _, mine in match(truth, answer)}
    drop = ((inside >= INSIDE) & same).any(1)
    return answer.take([k for k in range(len(answer)) if k in right or not drop[k]])


def match(truth: Instances, answer: Instances, min_iou: float = FOUND_IOU) -> Iterator[tuple[int, int]]:
    """Pairs (index in `truth`, index in `answer`) of equal labels and IoU >= `min_iou`, the surest answers first."""
    if not (len(truth) and len(answer)):
        return
    iou = np.asarray(coco_mask.iou(answer.rles(), truth.rles(), [0] * len(truth)))
    iou[np.asarray(answer.labels)[:, None] != np.asarray(truth.labels)[None]] = 0
    for mine in np.argsort(-answer.scores, kind="stable"):
        theirs = int(iou[mine].argmax())
        if iou[mine, theirs] >= min_iou:
            iou[:, theirs] = 0
            yield theirs, int(mine)
