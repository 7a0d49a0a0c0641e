"""CVAT: pictures are frames that are there once, and come back exactly; no label is told from an empty picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hub.client.client import HubClient
from hub.client.tools.cvat import SKIP, Cvat
from hub.client.tools.cvat_shapes import mask_points, read_shapes, window_of
from hub.client.tools.handing import pull, push
from hub.errors import InputError, ToolError
from hub.schemas.labels import FillIn
from hub.services import Services
from serving.instances import encode_masks
from tests.hub.client.tools.cvat_server import TOKEN, Kept, serving
from tests.hub.loop.labels import CELL, HEIGHT, WIDTH, Client, box_mask, capture, ring_mask


@pytest.fixture
def cvat() -> Iterator[tuple[Cvat, Kept]]:
    with serving() as (url, kept):
        tool = Cvat(url, TOKEN, CELL, pause=lambda _: None)
        yield tool, kept
        tool.close()


@pytest.fixture
def ann(services: Services, as_job: Client, ready: dict[str, str]) -> Iterator[HubClient]:
    for seed in range(3, 24):
        capture(services, CELL, seed=seed)
    with as_job(ready["ann"]) as client:
        client.fill_labels(CELL, FillIn(limit=100))
        yield client


def _counts(mask: np.ndarray[Any, Any]) -> str:
    return encode_masks(mask[None])[0].decode()


@pytest.mark.parametrize("seed", range(20))
def test_masks_of_any_form_go_through_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 40), rng.integers(1, 40))) < rng.random()
    mask[rng.integers(mask.shape[0]), rng.integers(mask.shape[1])] = True
    bitmap, x, y = window_of(mask_points(mask), *mask.shape)
    back = np.zeros_like(mask)
    back[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap
    assert np.array_equal(back, mask)
    masks = pytest.importorskip("cvat_sdk.masks")  # CVAT's own functions say the same, both ways
    assert masks.encode_mask(mask) == mask_points(mask)
    assert np.array_equal(
        masks.decode_mask(mask_points(mask), image_width=mask.shape[1], image_height=mask.shape[0]), mask
    )


def test_each_kind_of_answer_is_told_apart_and_masks_are_exact(cvat: tuple[Cvat, Kept], ann: HubClient) -> None:
    tool, kept = cvat
    assert push(ann, tool, CELL).sent == 24
    assert push(ann, tool, CELL).sent == 0
    (task,) = kept.tasks
    assert [job["stop_frame"] for job in kept.jobs.values()] == [9, 19, 23]
    shapes, jobs = kept.annotations[task]["shapes"], list(kept.jobs.values())
    assert all(one["source"] == "auto" and one["type"] == "mask" for one in shapes)
    names = [frame["name"].partition(".")[0] for frame in kept.frames[task]]
    proposed = {r.mask.counts for r in ann.label_task(names[0]).regions}
    assert pull(ann, tool, CELL).counts == {"predicted": 24}, "what nobody has looked at is no label"
    skip = next(one["id"] for one in kept.labels if one["name"] == SKIP)
    box = next(one["id"] for one in kept.labels if one["name"] == "box")
    drawn = ring_mask() | box_mask(100, 60, 128, 96)
    said = kept.annotations[task]
    said["shapes"] = [one for one in shapes if one["frame"] not in (1, 2, 12)]  # 1 redrawn, 2 empty
    said["shapes"].append({"id": 900, "type": "mask", "label_id": box, "frame": 1, "source": "manual", "group": 0,
                           "points": mask_points(drawn)})  # fmt: skip
    for x in (10, 60):  # two shapes of one group are the parts of one instance
        points = [float(p) for p in (x, 20, x + 30, 20, x + 30, 50, x, 50)]
        said["shapes"].append({"id": 901 + x, "type": "polygon", "label_id": box, "frame": 12, "source": "manual",
                               "group": 7, "points": points})  # fmt: skip
    said["tags"] = [{"id": 990, "label_id": skip, "frame": 3}]
    kept.deleted[task] = [4]
    jobs[0] |= {"state": "completed", "assignee": {"username": "eve"}}
    jobs[1]["state"] = "in progress"
    done = pull(ann, tool, CELL)
    assert done.counts == {"labelled": 8, "skipped": 1, "removed": 1, "unfinished": 10, "predicted": 4}
    assert done.problems == []
    work = {k: ann.label_task(names[k]) for k in range(5)}
    assert {r.mask.counts for r in work[0].regions} == proposed
    assert [r.mask.counts for r in work[1].regions] == [_counts(drawn)]
    assert work[2].regions == [] and work[2].task.state == "labelled"
    assert [work[k].task.state for k in (3, 4)] == ["skipped", "removed"]
    assert work[1].task.labelled_by == ["cvat:eve"]
    assert pull(ann, tool, CELL).new == 0
    jobs[1]["state"] = "completed"
    assert pull(ann, tool, CELL).new == 10
    both = box_mask(10, 20, 40, 50) | box_mask(60, 20, 90, 50)
    assert [r.mask.counts for r in ann.label_task(names[12]).regions] == [_counts(both)]


@pytest.mark.parametrize(
    "at", [r"POST /api/tasks/\d+/data/", r"PUT /api/tasks/\d+/annotations/", r"PATCH /api/tasks/\d+"]
)
def test_a_push_that_ended_at_any_step_is_made_good(cvat: tuple[Cvat, Kept], ann: HubClient, at: str) -> None:
    tool, kept = cvat
    kept.fail_at = at
    with pytest.raises(ToolError):
        push(ann, tool, CELL)
    assert {one.state for one in ann.handoffs(CELL)} == {"sending"}
    assert push(ann, tool, CELL).sent == 24
    assert len(kept.tasks) == 1, "the task that was begun is gone"
    (task,) = kept.tasks
    assert len(kept.frames[task]) == 24 and len(kept.annotations[task]["shapes"]) == 48
    assert not kept.tasks[task]["name"].endswith("(being sent)")


def test_what_the_tool_has_and_the_hub_was_not_told_is_found(cvat: tuple[Cvat, Kept], ann: HubClient) -> None:
    tool, kept = cvat
    real = tool.send

    def ended(works):  # type: ignore[no-untyped-def]
        list(real(works))
        raise KeyboardInterrupt

    tool.send = ended  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        push(ann, tool, CELL)
    tool.send = real  # type: ignore[method-assign]
    done = push(ann, tool, CELL)
    assert (done.sent, done.found, len(kept.tasks)) == (0, 24, 1)


def test_a_task_that_was_deleted_there_removes_its_pictures_and_a_project_none(
    cvat: tuple[Cvat, Kept], ann: HubClient
) -> None:
    tool, kept = cvat
    push(ann, tool, CELL, limit=3)
    project = next(iter(kept.projects))
    gone = kept.projects.pop(project)
    with pytest.raises(ToolError):
        Cvat(tool.place.partition("/projects")[0], TOKEN, CELL, project)
    tasks = dict(kept.tasks)
    kept.tasks.clear()
    with pytest.raises(ToolError):
        pull(ann, tool, CELL)
    assert {one.state for one in ann.handoffs(CELL)} == {"out"}
    kept.projects[project], kept.tasks = gone, tasks
    kept.tasks.clear()
    assert pull(ann, tool, CELL).counts == {"removed": 3}


@pytest.mark.parametrize(
    "points",
    [[1, 2, 3], [4.0, 0.0, 0.0, 1.0, 1.5], [3.0, 0.0, 0.0, 1.0, 1.0], [-1.0, 5.0, 0.0, 0.0, 1.0, 1.0],
     [4.0, 0.0, 0.0, 500.0, 500.0], [4.0, -1.0, 0.0, 0.0, 1.0], ["4", 0, 0, 1, 1], [True, 0, 0, 1, 1]],
)  # fmt: skip
def test_runs_that_fit_no_box_are_no_mask(points: list[object]) -> None:
    with pytest.raises(ValueError, match="mask"):
        window_of(points, HEIGHT, WIDTH)
    found, notes, whole = read_shapes(
        [{"id": 1, "type": "mask", "label_id": 1, "points": points}], {1: ("box", "any")}, HEIGHT, WIDTH
    )
    assert (found, whole, len(notes)) == ([], False, 1)


def test_a_token_goes_over_a_public_network_by_https_alone_and_to_no_cloud_credentials() -> None:
    with pytest.raises(InputError, match="https"):
        Cvat("http://93.184.216.34", TOKEN, CELL)
    with pytest.raises(ToolError):
        Cvat("http://169.254.169.254", TOKEN, CELL)
    for url in ("http://user:secret@127.0.0.1", "ftp://127.0.0.1", "127.0.0.1"):
        with pytest.raises(InputError):
            Cvat(url, TOKEN, CELL)


def test_the_auto_annotation_function_gives_cvat_what_the_hub_proposes(
    ann: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By cvat-sdk's own driver of such functions: its file is loaded, its labels and shapes are checked there."""
    pytest.importorskip("cvat_sdk.auto_annotation")
    import importlib.util
    import types

    from click.testing import CliRunner
    from PIL import Image

    from hub.cli.label import label
    from hub.settings import Settings

    path = CliRunner().invoke(label, ["cvat-function"]).output.strip()
    spec = importlib.util.spec_from_file_location("function_of_a_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = module.ParcelhubFunction(CELL, ann.label_cell(CELL).classes, ann, Settings.load({}))
    assert [(one.name, one.id) for one in function.spec.labels] == [("box", 1)]
    task = ann.label_tasks(CELL, state="open")[0]
    work = ann.label_task(task.id)
    context = types.SimpleNamespace(frame_name=f"a/{task.id}.png", conf_threshold=None, conv_mask_to_poly=False)
    shapes = function.detect(context, Image.new("RGB", (WIDTH, HEIGHT)))
    assert all(one.type.value == "mask" and one.label_id == 1 and one.frame == 0 for one in shapes)
    found, _, whole = read_shapes(
        [{"type": "mask", "label_id": 1, "points": list(one.points)} for one in shapes],
        {1: ("box", "any")},
        HEIGHT,
        WIDTH,
    )
    assert whole and {counts for _, counts in found} == {r.mask.counts for r in work.regions}
    context.conf_threshold = 0.8
    assert len(function.detect(context, Image.new("RGB", (WIDTH, HEIGHT)))) == 1
    context.conv_mask_to_poly = True
    rings = function.detect(context, Image.new("RGB", (WIDTH, HEIGHT)))
    assert {one.type.value for one in rings} == {"polygon"} and len({one.group for one in rings}) == 1
