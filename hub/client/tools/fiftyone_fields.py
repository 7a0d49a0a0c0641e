"""`metadata.json` of a FiftyOneDataset: the dataset's document, with the fields that samples have."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from hub.client.tools.tool import KEY

Record = dict[str, Any]
VERSION: Final = "1.0.0"
"""Of FiftyOne; a later one brings the document up to itself when it imports it."""
_FIELDS, _LABELS = "fiftyone.core.fields.", "fiftyone.core.labels."


def metadata_of(name: str, place: str, classes: Sequence[str]) -> Record:
    """The document of a new dataset; `place` goes along in its `info`."""
    now = {"$date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    slug = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")
    fields = [
        _field("id", "ObjectIdField", key="_id", fixed=True), _field("filepath", "StringField"),
        _field("tags", "ListField", of="StringField"),
        _field("metadata", "EmbeddedDocumentField", document="fiftyone.core.metadata.ImageMetadata", fields=[
            _field("size_bytes", "IntField"), _field("mime_type", "StringField"), _field("width", "IntField"),
            _field("height", "IntField"), _field("num_channels", "IntField"),
        ]),
        _field("created_at", "DateTimeField", fixed=True), _field("last_modified_at", "DateTimeField", fixed=True),
        _field("ground_truth", "EmbeddedDocumentField", document=f"{_LABELS}Detections", fields=[_detections()]),
        _field("predictions", "EmbeddedDocumentField", document=f"{_LABELS}Detections", fields=[_detections()]),
        _field(KEY, "StringField"), _field("model_version", "StringField"),
    ]  # fmt: skip
    return {
        "name": name, "slug": slug or "parcelhub", "version": VERSION, "created_at": now, "last_modified_at": now,
        "last_loaded_at": now, "sample_collection_name": f"samples.{slug}", "persistent": True, "media_type": "image",
        "group_media_types": {}, "tags": [], "info": {"parcelhub": place}, "app_config": {},
        "classes": {"ground_truth": list(classes)}, "default_classes": list(classes), "mask_targets": {},
        "default_mask_targets": {}, "skeletons": {}, "sample_fields": fields, "frame_fields": [], "saved_views": [],
        "workspaces": [], "annotation_runs": {}, "brain_methods": {}, "evaluations": {}, "runs": {},
    }  # fmt: skip


def _detections() -> Record:
    return _field("detections", "ListField", of="EmbeddedDocumentField", document=f"{_LABELS}Detection", fields=[
        _field("id", "ObjectIdField", key="_id"), _field("tags", "ListField", of="StringField"),
        _field("attributes", "DictField", of="EmbeddedDocumentField", document=f"{_LABELS}Attribute"),
        _field("label", "StringField"), _field("bounding_box", "ListField", of="FloatField"),
        _field("mask", "ArrayField"), _field("mask_path", "StringField"), _field("confidence", "FloatField"),
        _field("index", "IntField"), _field("parcelhub_region", "StringField"),
    ])  # fmt: skip


def _field(
    name: str,
    kind: str,
    *,
    of: str | None = None,
    document: str | None = None,
    fields: Sequence[Record] = (),
    key: str | None = None,
    fixed: bool = False,
) -> Record:
    return {
        "name": name, "ftype": _FIELDS + kind, "embedded_doc_type": document, "fields": list(fields),
        "subfield": None if of is None else _FIELDS + of, "db_field": key or name, "description": None, "info": None,
        "read_only": fixed, "created_at": None,
    }  # fmt: skip
