"""Labels that lie in one another are found; slips and neighbours are not taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from finetune.datasets.nesting import labels_nest
from finetune.datasets.types import Sample

CLASSES = {"tote": "box", "parcel": "box", "bag": "poly_bag"}
TOTE, INSIDE, BESIDE = (0, 30, 0, 30), (5, 15, 5, 15), (30, 38, 30, 38)


def sample(number: int, *labelled: tuple[str, tuple[int, int, int, int]]) -> Sample:
    masks = []
    for _, (y0, y1, x0, x1) in labelled:
        mask = np.zeros((40, 40), np.uint8, order="F")
        mask[y0:y1, x0:x1] = 1
        masks.append(coco_mask.encode(mask)["counts"])
    return Sample(Path(f"{number}.png"), 40, 40, tuple(name for name, _ in labelled), tuple(masks))


@pytest.mark.parametrize(
    ("labelled", "count", "nest"),
    [
        ([("tote", TOTE), ("parcel", INSIDE)], 3, True),
        ([("tote", TOTE), ("parcel", INSIDE)], 1, False),
        ([("tote", TOTE), ("bag", INSIDE)], 3, False),
        ([("tote", TOTE), ("unknown", INSIDE)], 3, False),
        ([("tote", TOTE), ("parcel", BESIDE)], 3, False),
        ([("tote", TOTE), ("tote", TOTE)], 3, False),
        ([], 3, False),
    ],
    ids=["nested", "a slip", "another class", "left out", "beside", "twice the same", "empty"],
)
def test_labels_that_nest(labelled: list[tuple[str, tuple[int, int, int, int]]], count: int, nest: bool) -> None:
    assert labels_nest([sample(k, *labelled) for k in range(count)], CLASSES) is nest


def test_slips_in_many_labels_do_not_count() -> None:
    many = [sample(k, ("parcel", INSIDE), ("parcel", BESIDE)) for k in range(100)]
    slips = [sample(200 + k, ("tote", TOTE), ("parcel", INSIDE)) for k in range(3)]
    assert not labels_nest([*many, *slips], CLASSES)
    assert labels_nest([*many[:20], *slips], CLASSES)
