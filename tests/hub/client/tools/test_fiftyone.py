"""FiftyOne's dataset format: what is pushed is what FiftyOne writes itself, and comes back exactly."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.client.client import HubClient
from hub.client.tools.fiftyone import FiftyOne
from hub.client.tools.fiftyone_masks import decode_mask, encode_mask
from hub.client.tools.handing import pull, push
from hub.errors import ToolError
from hub.schemas.labels import FillIn
from hub.services import Services
from serving.instances import encode_masks
from tests.hub.loop.labels import CELL, HEIGHT, WIDTH, Client, capture, ring_mask


@pytest.fixture
def ann(services: Services, as_job: Client, ready: dict[str, str]) -> Iterator[HubClient]:
    for seed in range(3, 8):
        capture(services, CELL, seed=seed)
    with as_job(ready["ann"]) as client:
        client.fill_labels(CELL, FillIn(limit=100))
        yield client


def _read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    document = json.loads((folder / "samples.json").read_text())
    return document, document["samples"]


def test_a_dataset_that_went_through_hands_comes_back_exactly(ann: HubClient, tmp_path: Path) -> None:
    tool = FiftyOne(tmp_path / "set", CELL)
    assert push(ann, tool, CELL, limit=5).sent == 5
    assert push(ann, tool, CELL, limit=3).sent == 3
    assert push(ann, tool, CELL).sent == 0
    document, samples = _read(tmp_path / "set")
    assert len({one["parcelhub_task"] for one in samples}) == len(samples) == 8
    assert all((tmp_path / "set" / one["filepath"]).stat().st_size for one in samples)
    assert pull(ann, tool, CELL).counts == {"predicted": 8}, "predictions that nobody accepted are no labels"
    shown = {r.id: r.mask.counts for r in ann.label_task(samples[0]["parcelhub_task"]).regions}
    samples[0]["ground_truth"] = samples[0]["predictions"]
    samples[0]["tags"] = ["by:eve"]
    full = {"label": "box", "bounding_box": [0, 0, 1, 1], "mask": encode_mask(ring_mask())}
    bare = base64.b64encode(zlib.compress(_npy(ring_mask().astype(np.uint8)))).decode()  # as older exports have it
    samples[1]["ground_truth"] = {"_cls": "Detections", "detections": [full, {**full, "label": "box", "mask": bare}]}
    samples[2]["ground_truth"] = {"_cls": "Detections", "detections": []}
    samples[3]["tags"] = ["skipped"]
    samples[4]["tags"] = ["accepted"]
    samples[5]["ground_truth"] = {"detections": [{"label": "box", "bounding_box": [0.1, 0.1, 0.2, 0.2]}]}
    gone = samples.pop(6)
    (tmp_path / "set" / "samples.json").write_text(json.dumps(document))
    done = pull(ann, tool, CELL)
    assert done.counts == {"labelled": 4, "skipped": 1, "removed": 1, "unfinished": 1, "predicted": 1}
    assert "no mask" in done.problems[0]
    work = [ann.label_task(one["parcelhub_task"]) for one in samples]
    assert {r.id: r.mask.counts for r in work[0].regions} == shown
    assert work[0].task.labelled_by == ["fiftyone:eve"]
    ring = encode_masks(ring_mask()[None])[0].decode()
    assert {r.mask.counts for r in work[1].regions} == {ring}
    assert (work[2].regions, work[2].task.state) == ([], "labelled")
    assert ann.label_task(gone["parcelhub_task"]).task.state == "removed"
    assert pull(ann, tool, CELL).new == 0


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    with io.BytesIO() as file:
        np.save(file, array, allow_pickle=False)
        return file.getvalue()


def test_masks_that_are_none_are_refused_and_no_object_is_made_of_them() -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("an object was made",))

    pickled = io.BytesIO()
    np.save(pickled, np.array([Bad()], object), allow_pickle=True)
    most = HEIGHT * WIDTH
    for data in (
        zlib.compress(pickled.getvalue()), zlib.compress(b"\0" * 400_000_000), b"none",
        zlib.compress(_npy(ring_mask()))[:-9],
        zlib.compress(_npy(np.zeros((2, 2, 2)))), zlib.compress(_npy(np.array(["a"]))),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="mask"):
            decode_mask(base64.b64encode(data).decode(), most)
    values: list[object] = [None, 3, {"$binary": {}}, {"$binary": "é"}, "no base64!"]
    for value in values:
        with pytest.raises(ValueError, match="mask"):
            decode_mask(value, most)
    assert np.array_equal(decode_mask(encode_mask(ring_mask()), most), ring_mask())


def test_a_folder_of_somebody_else_and_paths_out_of_it_are_refused(ann: HubClient, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("not yours")
    with pytest.raises(ToolError):
        push(ann, FiftyOne(tmp_path, CELL), CELL)
    assert ann.handoffs(CELL) == []
    tool = FiftyOne(tmp_path / "set", CELL)
    push(ann, tool, CELL, limit=1)
    document, samples = _read(tmp_path / "set")
    outside = {"label": "box", "bounding_box": [0, 0, 1, 1], "mask_path": "../mine.txt"}
    samples[0]["ground_truth"] = {"detections": [outside]}
    (tmp_path / "set" / "samples.json").write_text(json.dumps(document))
    with pytest.raises(ToolError, match="not in the dataset"):
        pull(ann, tool, CELL)


def test_fiftyone_itself_reads_what_was_written(ann: HubClient, tmp_path: Path) -> None:
    """By FiftyOne's own documents and labels; it runs where `fiftyone` is installed."""
    pytest.importorskip("fiftyone")
    import fiftyone.core.labels as fol
    import fiftyone.core.odm as foo
    from bson import json_util

    push(ann, FiftyOne(tmp_path / "set", CELL), CELL, limit=2)
    metadata = json_util.loads((tmp_path / "set" / "metadata.json").read_text())
    document = foo.DatasetDocument.from_dict(metadata)
    document.validate()
    assert {field.name for field in document.sample_fields} >= {"ground_truth", "predictions", "parcelhub_task"}
    assert all(field.to_field() is not None for field in document.sample_fields)
    for sample in json_util.loads((tmp_path / "set" / "samples.json").read_text())["samples"]:
        work = ann.label_task(sample["parcelhub_task"])
        read = fol.Detections.from_dict(sample["predictions"])
        for one, region in zip(read.detections, work.regions, strict=True):
            full = one.to_segmentation(frame_size=(WIDTH, HEIGHT)).mask > 0
            assert encode_masks(full[None])[0].decode() == region.mask.counts
            again = json.loads(json_util.dumps(one.to_dict()))
            assert np.array_equal(decode_mask(again["mask"], HEIGHT * WIDTH), one.mask)
