"""Label Studio, the real server: tasks go there once, come back exactly, and what is no label is none."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hub.client.client import HubClient
from hub.client.tools.handing import pull, push
from hub.client.tools.label_studio import LabelStudio
from hub.errors import ToolError
from hub.services import Services
from hub.settings import Settings
from serving.instances import encode_masks
from tests.hub.client.tools.label_studio_server import Server, brush, server
from tests.hub.loop.labels import CELL, HEIGHT, WIDTH, Client, box_mask, capture, ring_mask
from tests.hub.material import wait_for


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("label-studio")) as found:
        if found is None:
            pytest.skip("no Label Studio: name one with LABEL_STUDIO_URL, or its command with LABEL_STUDIO_BIN")
        yield found


@pytest.fixture
def tool(studio: Server) -> Iterator[LabelStudio]:
    made = LabelStudio(studio.url, studio.token, f"test-{secrets.token_hex(4)}")
    yield made
    made.close()


@pytest.fixture
def ann(services: Services, as_job: Client, ready: dict[str, str]) -> Iterator[HubClient]:
    for seed in range(3, 7):
        capture(services, CELL, seed=seed)
    with as_job(ready["ann"]) as client:
        client.fill_labels(CELL, _all())
        yield client


def _all() -> Any:
    from hub.schemas.labels import FillIn

    return FillIn(limit=100)


def _project(tool: LabelStudio) -> int:
    return int(tool.place.partition("/projects/")[2].partition("#")[0])


def _counts(mask: np.ndarray[Any, Any]) -> str:
    return encode_masks(mask[None])[0].decode()


def test_what_people_made_there_comes_back_and_each_kind_is_told_apart(
    studio: Server, tool: LabelStudio, ann: HubClient
) -> None:
    assert push(ann, tool, CELL).sent == 7
    assert push(ann, tool, CELL).sent == 0, "a picture that is there is not sent again"
    by_task = {one["data"]["parcelhub_task"]: one for one in studio.tasks(_project(tool))}
    tasks = sorted(by_task)
    assert len(by_task) == len(studio.tasks(_project(tool))) == 7
    assert all(one["predictions"][0]["model_version"] == "dock-7@v1" for one in by_task.values())
    assert ann.next_label_task(CELL) is None, "nobody gets here what is labelled there"
    shown = {task: {r.id: r.mask.counts for r in ann.label_task(task).regions} for task in tasks}
    proposed = by_task[tasks[0]]["predictions"][0]["result"]
    island = ring_mask() | box_mask(100, 60, 128, 96)
    remote = [by_task[task]["id"] for task in tasks]
    studio.annotate(remote[0], proposed)  # accepted as it was
    studio.annotate(remote[1], [brush(island, "box"), brush(box_mask(60, 0, 61, 96), "box", "sliver")])
    studio.annotate(remote[2], [])  # an empty picture
    studio.annotate(remote[3], [], was_cancelled=True)
    studio.call("DELETE", f"/api/tasks/{remote[4]}/")
    studio.call("POST", f"/api/tasks/{remote[5]}/drafts", json={"result": proposed, "lead_time": 1.0})
    done = pull(ann, tool, CELL)
    assert done.counts == {"labelled": 3, "skipped": 1, "removed": 1, "unfinished": 1, "predicted": 1}
    assert (done.new, done.problems) == (5, [])
    state = {task: ann.label_task(task) for task in tasks}
    assert [state[task].task.state for task in tasks] == [
        "labelled", "labelled", "labelled", "skipped", "removed", "taken", "taken",
    ]  # fmt: skip
    # To the pixel: parts, holes, an island in a hole; and a region that nobody touched keeps its id.
    assert {r.id: r.mask.counts for r in state[tasks[0]].regions} == shown[tasks[0]]
    assert {r.mask.counts for r in state[tasks[1]].regions} == {_counts(island), _counts(box_mask(60, 0, 61, 96))}
    assert state[tasks[2]].regions == []
    assert state[tasks[0]].task.labelled_by == ["label-studio:test@example.org"]
    again = pull(ann, tool, CELL)
    assert (again.new, again.counts) == (0, done.counts), "the same answers are taken once"
    assert ann.label_stats(CELL).pictures == 3


def test_an_answer_that_changes_later_replaces_the_first_until_it_is_in_a_dataset(
    studio: Server, tool: LabelStudio, ann: HubClient
) -> None:
    push(ann, tool, CELL, limit=1)
    (task,) = studio.tasks(_project(tool))
    ours = task["data"]["parcelhub_task"]
    made = studio.annotate(task["id"], [])
    assert pull(ann, tool, CELL).counts == {"labelled": 1}
    studio.call("PATCH", f"/api/annotations/{made['id']}/", json={"result": [brush(ring_mask(), "box")]})
    assert pull(ann, tool, CELL).new == 1
    assert [r.mask.counts for r in ann.label_task(ours).regions] == [_counts(ring_mask())]
    batch = ann.export_labels(CELL)
    assert batch is not None and batch.instances == 1
    studio.call("PATCH", f"/api/annotations/{made['id']}/", json={"result": []})
    late = pull(ann, tool, CELL)
    assert late.counts == {"late": 1} and "in a dataset" in late.problems[0]
    assert [r.mask.counts for r in ann.label_task(ours).regions] == [_counts(ring_mask())]


def test_a_picture_that_got_there_unnoticed_is_found_again(studio: Server, tool: LabelStudio, ann: HubClient) -> None:
    from hub.client.tools.pictures import as_stored
    from hub.schemas.handoff import HandOffIn

    tool.prepare(["box"])
    claimer = os.uname().nodename[:100]
    asked = HandOffIn(tool="label-studio", place=tool.place, claimer=claimer, limit=3)
    first, *_ = ann.hand_off(CELL, asked)
    list(tool.send([(ann.label_task(first.task), as_stored(ann.label_image(first.task)))]))
    done = push(ann, tool, CELL, limit=0)
    assert (done.found, done.sent) == (1, 2)
    assert len(studio.tasks(_project(tool))) == 3


def test_pictures_that_nobody_began_can_be_taken_back_and_forgotten_ones_go_there(
    studio: Server, tool: LabelStudio, ann: HubClient, services: Services
) -> None:
    push(ann, tool, CELL, limit=3)
    tasks = studio.tasks(_project(tool))
    studio.annotate(tasks[0]["id"], [])
    gone = ann.label_task(tasks[1]["data"]["parcelhub_task"]).task
    services.labelling.forget_capture(gone.source.removeprefix("capture "))
    done = pull(ann, tool, CELL, give_back=True)
    assert (done.deleted_there, done.given_back, done.counts) == (1, 1, {"labelled": 1, "given back": 1})
    assert [one["id"] for one in studio.tasks(_project(tool))] == [tasks[0]["id"]]
    uploads = studio.call("GET", f"/api/projects/{_project(tool)}/file-uploads", params={"all": "true"})
    pictures = [one for one in uploads if not str(one["file"]).endswith(".json")]
    assert len(pictures) == 1, "the picture itself is deleted, too"
    work = ann.next_label_task(CELL)
    assert work is not None and work.task.state == "taken"


def test_a_project_that_is_gone_removes_nothing(studio: Server, tool: LabelStudio, ann: HubClient) -> None:
    push(ann, tool, CELL, limit=2)
    studio.call("DELETE", f"/api/projects/{_project(tool)}/")
    with pytest.raises(ToolError):
        pull(ann, LabelStudio(studio.url, studio.token, CELL, _project(tool)), CELL)
    with pytest.raises(ToolError):
        pull(ann, tool, CELL)
    assert {one.state for one in ann.handoffs(CELL)} == {"out"}


def test_a_project_without_a_brush_or_a_class_is_refused(studio: Server, ann: HubClient) -> None:
    for config in (
        '<View><Image name="i" value="$x"/><RectangleLabels name="r" toName="i"><Label value="box"/></RectangleLabels>'
        "</View>",
        '<View><Image name="i" value="$x"/><BrushLabels name="b" toName="i"><Label value="bag"/></BrushLabels></View>',
    ):
        made = studio.call("POST", "/api/projects/", json={"title": secrets.token_hex(4), "label_config": config})
        with pytest.raises(ToolError):
            push(ann, LabelStudio(studio.url, studio.token, CELL, made["id"]), CELL)
    assert ann.handoffs(CELL) == []


def test_a_wrong_token_is_in_no_error(studio: Server) -> None:
    for token in ("aaaaaaaaaa.bbbbbbbbbbbb.cccccccccccc", "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"):
        with pytest.raises(ToolError) as error:
            LabelStudio(studio.url, token, CELL)
        assert token not in str(error.value)


def test_a_push_that_was_killed_goes_on_and_sends_nothing_twice(
    studio: Server, live_hub: Settings, tmp_path: Path
) -> None:
    with HubClient.of(live_hub) as hub:
        cell = f"cell-{secrets.token_hex(4)}"
        _live_queue(hub, cell, tmp_path, pictures=12)
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(studio.token)
        command = [
            sys.executable, "-m", "hub.cli.main", "label", "push", cell, "--to", "label-studio", "--url", studio.url,
            "--token-file", str(token), "--hub", live_hub.url, "--data", str(live_hub.data), "--json",
        ]  # fmt: skip
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: any(one.remote for one in hub.handoffs(cell)), seconds=120)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)
        assert {one.state for one in hub.handoffs(cell)} == {"out", "sending"}, "it was ended half-way"
        subprocess.run(command, check=True, timeout=240)
        handed = hub.handoffs(cell)
        assert [one.state for one in handed] == ["out"] * 12
        project = int(handed[0].place.partition("/projects/")[2].partition("#")[0])
        ours = [one["data"]["parcelhub_task"] for one in studio.tasks(project)]
        assert sorted(ours) == sorted(one.task for one in handed), "each picture is there once"


def _live_queue(hub: HubClient, cell: str, folder: Path, *, pictures: int) -> None:
    import cv2

    from hub.schemas.labels import FillIn
    from tests.hub.loop.labels import frame

    hub.create_cell(cell, "", team="acme", classes=["box"])
    images = folder / "set" / "images"
    images.mkdir(parents=True)
    for seed in range(pictures):
        assert cv2.imwrite(str(images / f"{seed:03}.png"), frame(seed))
    hub.push_folder("dataset", f"acme/{cell}", folder / "set", "frames")
    assert hub.fill_labels(cell, FillIn(dataset=f"acme/{cell}")) == pictures


def test_label_studio_asks_the_hub_for_pre_annotations(studio: Server, live_hub: Settings, tmp_path: Path) -> None:
    """Through Label Studio's own client: it is connected, asks, and stores what it is told as predictions."""
    with HubClient.of(live_hub) as hub:
        cell = f"cell-{secrets.token_hex(4)}"
        _live_queue(hub, cell, tmp_path, pictures=2)
        tool = LabelStudio(studio.url, studio.token, cell)
        push(hub, tool, cell)
        project = _project(tool)
        tasks = studio.tasks(project)
        assert all(one["predictions"] == [] for one in tasks)
        from hub.schemas.labels import Mask, ProposalIn

        ours = [one["data"]["parcelhub_task"] for one in tasks]
        for task in ours:
            hub.give_back(task, tool.place)
            mask = Mask(size=(HEIGHT, WIDTH), counts=_counts(ring_mask()))
            hub.propose_labels(task, ProposalIn(proposed_by=f"{cell}@v2", labels=["box"], scores=[0.8], masks=[mask]))
        backend = {
            "url": f"{live_hub.url}/api/v1/labels/cells/{cell}/ml", "project": project, "title": "parcelhub",
            "auth_method": "BASIC_AUTH", "basic_auth_user": "parcelhub", "basic_auth_pass": live_hub.client_token(),
        }  # fmt: skip
        made = studio.call("POST", "/api/ml/", json=backend)
        assert made["state"] == "CO"
        studio.call(
            "POST", "/api/dm/actions", params={"id": "retrieve_tasks_predictions", "project": project},
            json={"selectedItems": {"all": True, "excluded": []}, "project": str(project)},
        )  # fmt: skip
        found = [one["predictions"] for one in studio.tasks(project)]
        assert [len(one) for one in found] == [1, 1]
        assert found[0][0]["model_version"] == f"{cell}@v2"
        assert found[0][0]["result"][0]["value"]["rle"] == brush(ring_mask(), "box")["value"]["rle"]
        wrong = httpx.get(f"{backend['url']}/health", auth=("parcelhub", "hf_wrong"))
        assert wrong.status_code == 401
        tool.close()
