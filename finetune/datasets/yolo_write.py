"""YOLO-seg folders, written: `images` and `labels` in a folder per split, one ring per instance."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import yaml
from pycocotools import mask as coco_mask

from finetune.datasets.attributes import BOX_ONLY, is_box_only
from finetune.datasets.contours import trace
from finetune.datasets.export import Draft
from finetune.datasets.kinds import Format, register_writer
from finetune.datasets.types import SPLITS, Dataset, Sample


def write_yolo(dataset: Dataset, draft: Draft) -> None:
    """`SPLIT/images`, `SPLIT/labels` and `data.yaml`; samples without a split go into `images` and `labels`."""
    numbers = {name: number for number, name in enumerate(dataset.classes)}
    used = [split for split in SPLITS if any(sample.split == split for sample in dataset.samples)]
    config: dict[str, object] = {{"valid": "val"}.get(split, split): f"{split}/images" for split in used}
    config |= {"nc": len(dataset.classes), "names": dict(enumerate(dataset.classes))}
    draft.write_text("data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    for sample in draft.samples():
        image = draft.copy_image(sample, f"{sample.split}/images" if sample.split else "images")
        lines = [
            _box(sample, numbers[label], counts)
            if is_box_only(attributes)
            else _line(sample, draft, numbers[label], counts)
            for label, counts, attributes in sample.instances()
        ]
        for attributes in sample.attributes:
            if all(name == BOX_ONLY for name, _ in attributes):
                continue  # a line of five fields says that
            draft.lose(f"instance with attributes ({attributes[0][0]}, ...), which YOLO has no room for", sample)
        label_file = PurePosixPath(sample.split or "", "labels", PurePosixPath(image).name).with_suffix(".txt")
        draft.write_text(str(label_file), "".join(lines))


def _box(sample: Sample, number: int, counts: bytes) -> str:
    """A line of YOLO detection: the middle and the sides."""
    size = {"size": [sample.height, sample.width], "counts": counts}
    x, y, width, height = (float(value) for value in coco_mask.toBbox(size))
    shares = (x + width / 2) / sample.width, (y + height / 2) / sample.height
    return f"{number} {' '.join(f'{value:.9g}' for value in (*shares, width / sample.width, height / sample.height))}\n"


def _line(sample: Sample, draft: Draft, number: int, counts: bytes) -> str:
    ring = draft.one_ring(sample, trace(counts, sample.height, sample.width))
    shares = ring / np.array([sample.width, sample.height])
    # Nine digits: a hundredth of a rasteriser's step on the largest image there is.
    return f"{number} {' '.join(f'{value:.9g}' for value in shares.ravel().tolist())}\n"


register_writer(Format("yolo", "YOLO segmentation", write_yolo, whole=False, overlaps=True, attributes=False))
