"""COCO instances JSON, written piece by piece. Compressed RLE keeps every pixel; `iscrowd` is always 0."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from finetune.datasets.attributes import is_box_only
from finetune.datasets.rle import parse_counts
from finetune.datasets.types import Dataset, Sample

Segment = Callable[[Sample, bytes], object]
"""A sample and one of its masks to the value of `segmentation`."""


def compressed(sample: Sample, counts: bytes) -> object:
    """An instance's mask as COCO's compressed RLE: `size` is [height, width], `counts` ASCII text."""
    return {"size": [sample.height, sample.width], "counts": counts.decode("ascii")}


def uncompressed(sample: Sample, counts: bytes) -> object:
    """An instance's mask as COCO's uncompressed RLE: `counts` are the lengths of runs, column by column."""
    return {"size": [sample.height, sample.width], "counts": parse_counts(counts).tolist()}


def coco_text(dataset: Dataset, names: Mapping[str, str], segment: Segment = compressed) -> Iterator[str]:
    """Pieces of the text of `dataset` as a COCO document; `names` gives each sample's `file_name`.

    Ids are 1, 2, ... in the dataset's order.
    """
    numbers = {name: number for number, name in enumerate(dataset.classes, 1)}
    yield '{"images":['
    for image_id, sample in enumerate(dataset.samples, 1):
        record: dict[str, Any] = {"id": image_id, "file_name": names[sample.name]}
        record |= {"width": sample.width, "height": sample.height}
        record |= {"split": sample.split} if sample.split is not None else {}
        record |= {"sequence": sample.sequence} if sample.sequence is not None else {}
        yield ("," if image_id > 1 else "") + dump(record)
    yield '],"annotations":['
    number = 0
    for image_id, sample in enumerate(dataset.samples, 1):
        for record in _annotations(sample, numbers, segment):
            number += 1
            yield ("," if number > 1 else "") + dump({"id": number, "image_id": image_id} | record)
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    yield f'],"categories":{dump(categories)}}}\n'


def _annotations(sample: Sample, numbers: Mapping[str, int], segment: Segment) -> Iterator[dict[str, Any]]:
    truth = sample.truth()
    for (label, counts, attributes), box, area in zip(
        sample.instances(), truth.boxes.tolist(), truth.areas().tolist(), strict=True
    ):
        record = {
            "category_id": numbers[label],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "area": area,
            "iscrowd": 0,
            # Of a box, nobody may read an outline.
            "segmentation": [] if is_box_only(attributes) else segment(sample, counts),
        }
        yield record | ({"attributes": dict(attributes)} if attributes else {})


def dump(value: object) -> str:
    """Compact JSON; UTF-8 as it is, and never NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
