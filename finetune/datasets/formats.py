"""The formats that a dataset can be written in, what each has room for, and `export_dataset`, which writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune.datasets.coco_write import Segment, coco_text, compressed, uncompressed
from finetune.datasets.contours import single_ring, trace
from finetune.datasets.cvat_write import write_cvat
from finetune.datasets.export import Draft, Progress, drafted
from finetune.datasets.idpng import write_ids
from finetune.datasets.labelme import write_labelme
from finetune.datasets.labelstudio_write import write_labelstudio
from finetune.datasets.types import Dataset, Sample
from finetune.datasets.voc import write_voc
from finetune.datasets.voc_boxes import write_voc_boxes
from finetune.datasets.yolo_write import write_yolo
from finetune.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write a dataset.

    Attributes:
        name: as on the command line.
        title: as people call it.
        write: writes into a draft.
        whole: parts and holes stay what they are, for every tool that reads the format.
        overlaps: a pixel may belong to several instances.
        attributes, splits, sequences: whether there is room for them.
        outlines: there is room for more than boxes.
    """

    name: str
    title: str
    write: Callable[[Dataset, Draft], None]
    whole: bool
    overlaps: bool
    attributes: bool
    splits: bool = True
    sequences: bool = False
    outlines: bool = True


def _write_coco(dataset: Dataset, draft: Draft, *, segment: Segment | None) -> None:
    """`images` and `annotations.json`; polygons where there is no `segment`."""

    def polygons(sample: Sample, counts: bytes) -> object:
        rings = trace(counts, sample.height, sample.width)
        if not rings.holes:
            return [part.ravel().tolist() for part in rings.parts]
        draft.lose("instance with holes, cut open by lines of no width that other tools may draw or fill", sample)
        return [single_ring(rings).ravel().tolist()]

    names = {sample.name: draft.copy_image(sample, "images").split("/", 1)[1] for sample in draft.samples()}
    draft.write_text("annotations.json", coco_text(dataset, names, segment or polygons))


FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            "coco", "COCO, compressed RLE", partial(_write_coco, segment=compressed), True, True, True, sequences=True
        ),
        Format(
            "coco-uncompressed",
            "COCO, uncompressed RLE",
            partial(_write_coco, segment=uncompressed),
            whole=True,
            overlaps=True,
            attributes=True,
            sequences=True,
        ),
        Format(
            "coco-polygons", "COCO, polygons", partial(_write_coco, segment=None), False, True, True, sequences=True
        ),
        Format("yolo", "YOLO segmentation", write_yolo, whole=False, overlaps=True, attributes=False),
        Format("labelme", "LabelMe, polygons", partial(write_labelme, masks=False), False, True, True),
        Format("labelme-masks", "LabelMe, mask shapes", partial(write_labelme, masks=True), True, True, True),
        Format("voc-masks", "Pascal-style class and instance PNGs", write_voc, True, overlaps=False, attributes=False),
        Format("voc-boxes", "Pascal VOC's boxes", write_voc_boxes, False, True, False, outlines=False),
        Format("id-masks", "id PNGs and instances.json", write_ids, True, False, True, sequences=True),
        Format("cvat", "CVAT XML 1.1, masks", partial(write_cvat, polygons=False), True, True, True),
        Format("cvat-polygons", "CVAT XML 1.1, polygons", partial(write_cvat, polygons=True), False, True, True),
        Format(
            "labelstudio",
            "Label Studio, brush",
            partial(write_labelstudio, polygons=False),
            True,
            True,
            True,
            sequences=True,
        ),
        Format(
            "labelstudio-polygons",
            "Label Studio, polygons",
            partial(write_labelstudio, polygons=True),
            whole=False,
            overlaps=True,
            attributes=True,
            sequences=True,
        ),
    )
}


def export_dataset(dataset: Dataset, folder: Path, name: str, *, progress: Progress | None = None) -> tuple[str, ...]:
    """Write `dataset` to `folder` in the format `name`, one of `FORMATS`, and answer what the format could not hold.

    Images are copied byte for byte; the same dataset gives the same bytes; `folder` appears complete or not at all.
    Each answer is a sentence that counts the instances concerned. Polygons run along the edges of pixels, so the
    readers here get the same pixels back from every format, overlaps in masks of one instance per pixel and formats of
    boxes alone excepted.

    Raises DatasetError if `folder` exists and is not an empty folder, an image cannot be copied, there is no such
    format, or a name cannot be written in it.
    """
    if name not in FORMATS:
        raise DatasetError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    wanted = FORMATS[name]
    with drafted(folder) as root:
        draft = Draft(root, dataset, progress)
        wanted.write(dataset, draft)
        if not wanted.sequences:
            for sample in dataset.samples:
                if sample.sequence is not None:
                    draft.lose("image of a known sequence, which the format has no room for", sample)
    return draft.losses()
