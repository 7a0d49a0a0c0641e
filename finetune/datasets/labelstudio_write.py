"""Label Studio's JSON, written: `tasks.json` to import, with `label_config.xml` for the project's labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr  # only its escaping of text that we write

import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets.attributes import Attributes, Scalar, is_box_only, unboxed
from finetune.datasets.brush import encode_brush
from finetune.datasets.coco_write import dump
from finetune.datasets.contours import trace
from finetune.datasets.export import Draft, box_of
from finetune.datasets.kinds import Format, register_writer
from finetune.datasets.types import Dataset, Sample
from finetune.errors import DatasetError

Record = dict[str, Any]
_BOX_TAG = "box"
"""The control that boxes are drawn with; that of the outlines is `label`."""


def write_labelstudio(dataset: Dataset, draft: Draft, *, polygons: bool) -> None:
    """`images`, `tasks.json` that names them as local files, and `label_config.xml`.

    Raises DatasetError for a class name that XML cannot hold.
    """
    kind = "polygonlabels" if polygons else "brushlabels"
    tags = {"label": "PolygonLabels" if polygons else "BrushLabels"}
    if any(any(sample.box_only) for sample in dataset.samples):
        tags[_BOX_TAG] = "RectangleLabels"
    draft.write_text("label_config.xml", _config(dataset, tags))
    draft.write_text("tasks.json", _tasks(draft, kind))


def _config(dataset: Dataset, tags: Mapping[str, str]) -> str:
    for name in dataset.classes:
        if not name.isprintable():
            raise DatasetError(f"the class name {name!r} cannot be written for Label Studio; rename the class")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.classes)
    lists = "".join(f'  <{tag} name="{name}" toName="image">\n{labels}  </{tag}>\n' for name, tag in tags.items())
    return f'<View>\n  <Image name="image" value="$image"/>\n{lists}</View>\n'


def _tasks(draft: Draft, kind: str) -> Iterator[str]:
    yield "["
    for number, sample in enumerate(draft.samples(), 1):
        image = draft.copy_image(sample, "images")
        data = {"image": f"/data/local-files/?d={quote(image)}"}
        data |= {"split": sample.split} if sample.split is not None else {}
        data |= {"sequence": sample.sequence} if sample.sequence is not None else {}
        result = [
            record
            for index, (label, counts, attributes) in enumerate(sample.instances(), 1)
            for record in _region(sample, draft, kind, f"{number}-{index}", label, counts, attributes)
        ]
        annotation = {"id": number, "was_cancelled": False, "result": result}
        yield (",\n" if number > 1 else "\n") + dump({"id": number, "data": data, "annotations": [annotation]})
    yield "\n]\n"


def _region(
    sample: Sample, draft: Draft, kind: str, region: str, label: str, counts: bytes, attributes: Attributes
) -> Iterator[Record]:
    value: Record
    control = "label"
    if is_box_only(attributes):
        kind, control = "rectanglelabels", _BOX_TAG
        x0, y0, x1, y1 = box_of(counts, sample.height, sample.width)
        across, down = 100 / sample.width, 100 / sample.height
        value = {"x": x0 * across, "y": y0 * down, "width": (x1 - x0) * across, "height": (y1 - y0) * down}
        value["rotation"] = 0
    elif kind == "polygonlabels":
        ring = draft.one_ring(sample, trace(counts, sample.height, sample.width))
        value = {"points": (ring * (100 / np.array([sample.width, sample.height]))).tolist(), "closed": True}
    else:
        mask = coco_mask.decode({"size": [sample.height, sample.width], "counts": counts})
        value = {"format": "rle", "rle": encode_brush(np.ascontiguousarray(mask).view(np.bool_))}
    place = {"id": region, "to_name": "image", "image_rotation": 0}
    place |= {"original_width": sample.width, "original_height": sample.height}
    yield place | {"from_name": control, "type": kind, "value": value | {kind: [label]}}
    for name, said in unboxed(attributes):
        yield place | {"from_name": name} | _extra(said)


def _extra(value: Scalar) -> Record:
    if isinstance(value, bool):
        return {"type": "choices", "value": {"choices": ["true" if value else "false"]}}
    if isinstance(value, str):
        return {"type": "textarea", "value": {"text": [value]}}
    return {"type": "number", "value": {"number": value}}


register_writer(
    Format(
        "labelstudio",
        "Label Studio, brush",
        partial(write_labelstudio, polygons=False),
        whole=True,
        overlaps=True,
        attributes=True,
        sequences=True,
    )
)
register_writer(
    Format(
        "labelstudio-polygons",
        "Label Studio, polygons",
        partial(write_labelstudio, polygons=True),
        whole=False,
        overlaps=True,
        attributes=True,
        sequences=True,
    )
)
