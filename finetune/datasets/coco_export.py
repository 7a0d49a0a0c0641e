"""COCO, written: `images` and `annotations.json`, with the masks as RLE or as polygons."""

from __future__ import annotations

from functools import partial

from finetune.datasets.coco_write import Segment, coco_text, compressed, uncompressed
from finetune.datasets.contours import single_ring, trace
from finetune.datasets.export import Draft
from finetune.datasets.kinds import Format, register_writer
from finetune.datasets.types import Dataset, Sample


def write_coco(dataset: Dataset, draft: Draft, *, segment: Segment | None) -> None:
    """`images` and `annotations.json`; polygons where there is no `segment`."""

    def polygons(sample: Sample, counts: bytes) -> object:
        rings = trace(counts, sample.height, sample.width)
        if not rings.holes:
            return [part.ravel().tolist() for part in rings.parts]
        draft.lose("instance with holes, cut open by lines of no width that other tools may draw or fill", sample)
        return [single_ring(rings).ravel().tolist()]

    names = {sample.name: draft.copy_image(sample, "images").split("/", 1)[1] for sample in draft.samples()}
    draft.write_text("annotations.json", coco_text(dataset, names, segment or polygons))


for _name, _title, _segment in (
    ("coco", "COCO, compressed RLE", compressed),
    ("coco-uncompressed", "COCO, uncompressed RLE", uncompressed),
    ("coco-polygons", "COCO, polygons", None),
):
    register_writer(
        Format(
            _name,
            _title,
            partial(write_coco, segment=_segment),
            whole=_segment is not None,
            overlaps=True,
            attributes=True,
            sequences=True,
        )
    )
