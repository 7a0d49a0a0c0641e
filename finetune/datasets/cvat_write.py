"""CVAT XML 1.1 for images, written: masks by their pixels, or one polygon per instance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from xml.sax.saxutils import escape, quoteattr  # only its escaping of text that we write

import numpy as np

from finetune.datasets.attributes import Attributes, Scalar, is_box_only, spell, unboxed
from finetune.datasets.contours import trace
from finetune.datasets.export import Draft, box_of, window_of
from finetune.datasets.kinds import Format, register_writer
from finetune.datasets.tree import split_named
from finetune.datasets.types import Dataset, Sample
from finetune.errors import DatasetError

_SUBSETS = {"train": "Train", "valid": "Validation", "test": "Test"}
# What XML 1.0 cannot hold, escaped or not.
NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Kinds = dict[tuple[str, str], str]


def write_cvat(dataset: Dataset, draft: Draft, *, polygons: bool) -> None:
    """`annotations.xml` and `images` with a folder per subset. Raises DatasetError for names that XML cannot hold."""
    for name in dataset.classes:
        if NOT_XML.search(name) or split_named(name) is not None:
            raise DatasetError(f"the class name {name!r} cannot be written for CVAT; rename the class")
    kinds = _attribute_kinds(dataset)
    draft.write_text("annotations.xml", _document(dataset, draft, kinds, polygons=polygons))


def _document(dataset: Dataset, draft: Draft, kinds: Kinds, *, polygons: bool) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
    yield f"      <size>{len(dataset.samples)}</size>\n      <mode>annotation</mode>\n      <labels>\n"
    for label in dataset.classes:
        yield f"        <label>\n          <name>{escape(label)}</name>\n          <attributes>\n"
        for (owner, name), kind in kinds.items():
            if owner == label:
                yield f"            <attribute><name>{escape(name)}</name><mutable>False</mutable>"
                yield f"<input_type>{kind}</input_type><default_value></default_value><values></values></attribute>\n"
        yield "          </attributes>\n        </label>\n"
    yield "      </labels>\n    </task>\n  </meta>\n"
    for number, sample in enumerate(draft.samples()):
        subset = _SUBSETS[sample.split] if sample.split else ""
        image = draft.copy_image(sample, f"images/{subset}" if subset else "images")
        name = image.rsplit("/", 1)[1]
        shown = f" subset={quoteattr(subset)}" if subset else ""
        yield f'  <image id="{number}" name={quoteattr(name)}{shown} width="{sample.width}" height="{sample.height}">\n'
        shared = [(label, dict(a).get("group_id")) for label, _, a in sample.instances() if not is_box_only(a)]
        for label, counts, attributes in sample.instances():
            # Outlines of one label in one group would be read as the parts of one instance.
            group = dict(attributes).get("group_id")
            if group is not None and not is_box_only(attributes) and shared.count((label, group)) > 1:
                attributes = tuple(pair for pair in attributes if pair[0] != "group_id")
                draft.lose(
                    "a group of several instances, which CVAT takes for the parts of one: group_id left out", sample
                )
            elif group is not None and is_box_only(attributes) and (label, group) in shared:
                attributes = tuple(pair for pair in attributes if pair[0] != "group_id")
                draft.lose("a box in the group of an outline, which would take its place: group_id left out", sample)
            yield from _shape(sample, draft, label, counts, attributes, kinds, polygons=polygons)
        yield "  </image>\n"
    yield "</annotations>\n"


def _shape(
    sample: Sample, draft: Draft, label: str, counts: bytes, attributes: Attributes, kinds: Kinds, *, polygons: bool
) -> Iterator[str]:
    boxed = is_box_only(attributes)
    attributes = unboxed(attributes)
    values = dict(attributes)
    occluded, group = values.get("occluded", False), values.get("group_id")
    head = f'label={quoteattr(label)} source="manual" occluded="{1 if occluded is True else 0}"'
    if isinstance(group, int) and not isinstance(group, bool):
        head += f' group_id="{group}"'
    if boxed:
        left, top, right, bottom = box_of(counts, sample.height, sample.width)
        kind, sides = "box", f'xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"'
        yield f'    <box {head} {sides} z_order="0">\n'
    elif polygons:
        ring = draft.one_ring(sample, trace(counts, sample.height, sample.width))
        kind, points = "polygon", ";".join(f"{x},{y}" for x, y in ring.tolist())
        yield f'    <polygon {head} points="{points}" z_order="0">\n'
    else:
        bitmap, x, y = window_of(counts, sample.height, sample.width)
        kind, runs = "mask", ", ".join(map(str, _row_runs(bitmap.ravel())))
        box = f'left="{x}" top="{y}" width="{bitmap.shape[1]}" height="{bitmap.shape[0]}"'
        yield f'    <mask {head} rle="{runs}" {box} z_order="0">\n'
    for name, value in attributes:
        if (label, name) in kinds:
            if kinds[label, name] == "text" and not isinstance(value, str):
                draft.lose("attribute whose values are of several kinds: written as text", sample)
            yield f"      <attribute name={quoteattr(name)}>{escape(spell(value))}</attribute>\n"
        elif not _built_in(name, value):
            draft.lose("attribute that XML cannot hold: left out", sample)
    yield f"    </{kind}>\n"


def _row_runs(flat: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    return np.diff(edges, prepend=0, append=flat.size).tolist()


def _built_in(name: str, value: Scalar) -> bool:
    """Whether CVAT has a field of its own for the attribute."""
    if name == "occluded":
        return value is True
    return name == "group_id" and isinstance(value, int) and not isinstance(value, bool)


def _attribute_kinds(dataset: Dataset) -> Kinds:
    """(label, attribute) to the input type that holds all of its values."""
    kinds: Kinds = {}
    for sample in dataset.samples:
        for label, _, attributes in sample.instances() if sample.attributes else ():
            for name, value in unboxed(attributes):
                if _built_in(name, value) or NOT_XML.search(name + spell(value)):
                    continue
                kind = "checkbox" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
                same = kinds.setdefault((label, name), kind) == kind
                kinds[label, name] = kind if same else "text"
    return kinds


register_writer(Format("cvat", "CVAT XML 1.1, masks", partial(write_cvat, polygons=False), True, True, True))
register_writer(
    Format("cvat-polygons", "CVAT XML 1.1, polygons", partial(write_cvat, polygons=True), False, True, True)
)
