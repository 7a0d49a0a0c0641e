"""`Sample` and `Dataset`: labelled images as every part of this floor passes them around."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets.attributes import Attributes, is_box_only
from finetune.errors import DatasetError
from serving.errors import ImageError
from serving.instances import Instances

if TYPE_CHECKING:
    from serving.inference.preprocess import Image

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image. Masks are in memory as RLE (a few hundred bytes each), pixels stay on disk.

    Attributes:
        image: the JPEG or PNG file.
        width, height: its size in pixels.
        labels: the class of each instance, N of them; none for a background image.
        masks: N COCO compressed RLE `counts` of size height x width, in canonical form: equal masks, equal bytes.
        split: one of `SPLITS`, or None where the dataset has no split of its own.
        sequence: the video or shift that the frame comes from, where known.
        name: unique within the dataset; the file's name unless told otherwise.
        attributes: N tuples of what the source says of each instance besides its class, or () where it says nothing.

    Raises ValueError for lists of unlike lengths, and for an unknown split.
    """

    image: Path
    width: int
    height: int
    labels: tuple[str, ...]
    masks: tuple[bytes, ...]
    split: str | None = None
    sequence: str | None = None
    name: str = ""
    attributes: tuple[Attributes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.masks):
            raise ValueError(f"{len(self.labels)} labels for {len(self.masks)} masks")
        if self.attributes and len(self.attributes) != len(self.masks):
            raise ValueError(f"{len(self.attributes)} attributes for {len(self.masks)} masks")
        if not any(self.attributes):  # one form for "nothing said", so that equal samples are equal
            object.__setattr__(self, "attributes", ())
        if self.split is not None and self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)} or None, got {self.split!r}")
        if not self.name:
            object.__setattr__(self, "name", self.image.name)

    def instances(self) -> Iterator[tuple[str, bytes, Attributes]]:
        """(label, mask, attributes) of each instance."""
        return zip(self.labels, self.masks, self.attributes or ((),) * len(self.masks), strict=True)

    @property
    def box_only(self) -> tuple[bool, ...]:
        """For each instance, whether it came as a box: then its mask is the box, filled, and no outline."""
        return tuple(is_box_only(attributes) for _, _, attributes in self.instances())

    def truth(self) -> Instances:
        """The annotations as `Instances`, every score 1.0."""
        rles = [{"size": [self.height, self.width], "counts": counts} for counts in self.masks]
        boxes = np.asarray(coco_mask.toBbox(rles), np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores = np.ones(len(self.masks), np.float32)
        return Instances(self.height, self.width, boxes, scores, self.labels, self.masks)

    def read_image(self) -> Image:
        """The pixels, uint8 [height, width, 3] RGB. Raises DatasetError if the file is gone, damaged or resized."""
        from serving.inference.preprocess import decode_image  # here: it brings torch along, masks and names do not

        try:
            pixels = decode_image(self.image.read_bytes())
        except (OSError, ImageError) as error:
            raise DatasetError(str(error), path=self.image) from error
        if pixels.shape[:2] != (self.height, self.width):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise DatasetError(f"is {size} pixels, was {self.width}x{self.height}", path=self.image)
        return pixels


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images of one source. `samples` keep the order of the annotation files, or else of the images' paths;
    `warnings` are sentences, `format` is the name of the format it was read from ("" where it was made here)."""

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
    format: str = ""

    def counts(self) -> dict[str, int]:
        """Number of instances per class, in the order of `classes`, zeros included."""
        seen = Counter(label for sample in self.samples for label in sample.labels)
        return {name: seen[name] for name in self.classes}
