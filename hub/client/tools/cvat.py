"""CVAT over its REST API, in the shape that `cvat-sdk` uses: a project for a cell, tasks of many pictures in it.

A picture is a frame that is called by our id. What is proposed are masks with the source `auto`; people's answers
count when their job is completed. A frame that was deleted was removed; one with the tag `parcelhub-skip` is skipped.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import httpx
import numpy as np
from pycocotools import mask as coco_mask

from hub.client.tools.cvat_shapes import mask_points, read_shapes
from hub.client.tools.session import Session
from hub.client.tools.tool import Answer, Kind, Shape
from hub.errors import ToolError
from hub.outbound import Guard
from hub.schemas.handoff import HandOff, ToolName
from hub.schemas.labels import TaskWork

Record = dict[str, Any]
TOKEN_VARIABLE: Final = "CVAT_ACCESS_TOKEN"  # noqa: S105  # the name of a variable
SKIP: Final = "parcelhub-skip"
_UNDERWAY: Final = " (being sent)"
"""At the end of a task's name until all of its pictures and proposals are there."""
_FRAMES: Final = 10
"""Pictures of one job: a person completes so many at once."""
_MOST_BYTES: Final = 50 << 20
_WAIT_SECONDS: Final = 1_800.0
_OURS: Final = re.compile(r"[0-9a-f]{32}")
_NOT_FOUND = httpx.codes.NOT_FOUND


class Cvat:
    """One project of a CVAT."""

    name: ToolName = "cvat"

    def __init__(
        self,
        url: str,
        token: str,
        cell: str,
        project: int | None = None,
        *,
        pause: Callable[[float], None] = time.sleep,
        guard: Guard | None = None,
    ) -> None:
        """`project` None: the one that is called `parcelhub <cell>`, made by `prepare` where there is none."""
        kind = "Token" if re.fullmatch(r"[0-9a-f]{40}", token) else "Bearer"
        accept = {"Accept": "application/vnd.cvat+json, application/json"}
        self._session = Session(url, "CVAT", lambda _: f"{kind} {token}", headers=accept, guard=guard)
        self._cell = cell
        self._title = f"parcelhub {cell}"[:200]
        self._pause = pause
        self._project = self._look_up(project)
        self._labels: dict[str, int] = {}
        self._kinds: dict[int, tuple[str, str]] = {}

    @property
    def address(self) -> str:
        """URL and the project's number, or its title while there is none."""
        return f"{self._session.url} {self._project['id'] if self._project else self._title}"

    @property
    def place(self) -> str:
        """The project's URL with its time of birth, so that one of a server set up anew is another place. Raises
        ToolError."""
        made = self._known()
        try:
            seconds = int(datetime.fromisoformat(str(made.get("created_date")).replace("Z", "+00:00")).timestamp())
        except ValueError:
            seconds = 0
        return f"{self._session.url}/projects/{made['id']}#{seconds}"

    def prepare(self, classes: Sequence[str]) -> None:
        """Make the project if there is none. Raises ToolError if one that was there lacks a label for masks."""
        if self._project is None:
            labels: list[Record] = [{"name": one, "type": "any", "attributes": []} for one in classes]
            labels.append({"name": SKIP, "type": "tag", "attributes": []})
            self._project = dict(
                self._session.json("POST", "/api/projects", json={"name": self._title, "labels": labels})
            )
        self._read_labels()
        drawn = {name for number, (name, kind) in self._kinds.items() if kind in ("any", "mask")}
        if missing := [one for one in classes if one not in drawn]:
            raise ToolError(
                f"the project {self._project['id']} of {self._session.url} has no label for masks that is called"
                f" {', '.join(missing)}: add them"
            )

    def find(self) -> dict[str, str]:
        """Our ids to `<task>/<frame>`. A task that an earlier push left half done is deleted."""
        found: dict[str, str] = {}
        for task in self._paged("/api/tasks", project_id=self._known()["id"]):
            if str(task.get("name")).endswith(_UNDERWAY):
                # An earlier push was ended here. Nobody has seen it: it goes, and its pictures are sent anew.
                self._session.call("DELETE", f"/api/tasks/{int(task['id'])}", accept=(_NOT_FOUND,))
                continue
            for frame, name in enumerate(self._names(int(task["id"]))):
                if name is not None:
                    found.setdefault(name, f"{int(task['id'])}/{frame}")
        return found

    def send(self, works: Iterable[tuple[TaskWork, bytes]]) -> Iterator[tuple[str, str]]:
        """Make one task of all pictures. It has its final name only once it is whole; nothing is given before. Raises
        ToolError where pictures are missing from it."""
        held = list(works)
        if not held:
            return
        if not self._labels:
            self._read_labels()
        title = f"parcelhub {self._cell} {held[0][0].task.id[:8]}"
        wanted = {"name": title + _UNDERWAY, "project_id": self._known()["id"], "segment_size": _FRAMES, "overlap": 0}
        task = int(self._session.json("POST", "/api/tasks", json=wanted)["id"])
        self._upload(task, held)
        frames = {name: frame for frame, name in enumerate(self._names(task, held)) if name is not None}
        missing = [work.task.id for work, _ in held if work.task.id not in frames]
        if missing:
            raise ToolError(f"CVAT's task {task} lacks {len(missing)} of its pictures")
        shapes = [shape for work, _ in held for shape in self._proposed(work, frames[work.task.id])]
        proposals = {"version": 0, "tags": [], "shapes": shapes, "tracks": []}
        self._session.json("PUT", f"/api/tasks/{task}/annotations/", json=proposals)
        self._session.json("PATCH", f"/api/tasks/{task}", json={"name": title})
        for work, _ in held:
            yield work.task.id, f"{task}/{frames[work.task.id]}"

    def answers(self, handed: Sequence[tuple[HandOff, TaskWork]]) -> Iterator[tuple[HandOff, Answer]]:
        """What annotators made of the pictures. Raises ToolError where a frame shows another picture than was sent."""
        self._read_labels()
        by_task: dict[int, list[tuple[HandOff, TaskWork, int]]] = {}
        for one, work in handed:
            number, _, place = str(one.remote).partition("/")
            by_task.setdefault(int(number), []).append((one, work, int(place)))
        for task, frames in by_task.items():
            meta = self._session.call("GET", f"/api/tasks/{task}/data/meta", accept=(_NOT_FOUND,))
            if meta.status_code == _NOT_FOUND:
                self._look_up(int(self._known()["id"]))  # of a project that is gone, no picture was removed
                yield from ((one, Answer("removed")) for one, _, _ in frames)
                continue
            gone = set(meta.json().get("deleted_frames") or [])
            jobs = [
                one for one in self._paged("/api/jobs", task_id=task) if one.get("type", "annotation") == "annotation"
            ]
            said = self._session.json("GET", f"/api/tasks/{task}/annotations/")
            for one, work, frame in frames:
                if self._names_of(meta.json())[frame : frame + 1] != [one.task]:
                    raise ToolError(f"the frame {one.remote} of CVAT is another picture: was the server set up anew?")
                yield one, Answer("removed") if frame in gone else self._answer(said, jobs, frame, work)

    def delete(self, remotes: Sequence[str]) -> None:
        """CVAT cannot delete one picture of a task: it is marked as deleted, and the task goes with its last one."""
        by_task: dict[int, set[int]] = {}
        for remote in remotes:
            number, _, place = remote.partition("/")
            by_task.setdefault(int(number), set()).add(int(place))
        for task, frames in by_task.items():
            meta = self._session.call("GET", f"/api/tasks/{task}/data/meta", accept=(_NOT_FOUND,))
            if meta.status_code == _NOT_FOUND:
                continue
            gone = frames | set(meta.json().get("deleted_frames") or [])
            if len(gone) >= int(meta.json().get("size") or 0):
                self._session.call("DELETE", f"/api/tasks/{task}", accept=(_NOT_FOUND,))
            else:
                self._session.json("PATCH", f"/api/tasks/{task}/data/meta", json={"deleted_frames": sorted(gone)})

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    # How

    def _known(self) -> Record:
        if self._project is None:
            raise ToolError(f"CVAT has no project {self._title!r}; push pictures first")
        return self._project

    def _look_up(self, project: int | None) -> Record | None:
        if project is not None:
            answer = self._session.call("GET", f"/api/projects/{project}", accept=(_NOT_FOUND,))
            if answer.status_code == _NOT_FOUND:
                raise ToolError(f"CVAT at {self._session.url} has no project {project} that this token sees")
            return dict(answer.json())
        same = [one for one in self._paged("/api/projects", name=self._title) if one.get("name") == self._title]
        return min(same, key=lambda one: int(one["id"])) if same else None

    def _read_labels(self) -> None:
        listed = list(self._paged("/api/labels", project_id=self._known()["id"]))
        self._labels = {str(one["name"]): int(one["id"]) for one in listed}
        self._kinds = {int(one["id"]): (str(one["name"]), str(one.get("type", "any"))) for one in listed}

    def _paged(self, path: str, **wanted: object) -> Iterator[Record]:
        page = 1
        while True:
            answer = self._session.json("GET", path, params={**wanted, "page": page, "page_size": 100})
            found = answer.get("results") if isinstance(answer, dict) else None
            if not isinstance(found, list):
                raise ToolError(f"CVAT answers {path} with something else than a list")
            yield from (one for one in found if isinstance(one, dict))
            if not answer.get("next"):
                return
            page += 1

    def _names(self, task: int, held: Sequence[tuple[TaskWork, bytes]] = ()) -> list[str | None]:
        """Our ids by frame, None for frames that are not ours; `held`: whose sizes are compared. Raises ToolError."""
        meta = self._session.json("GET", f"/api/tasks/{task}/data/meta")
        frames = meta.get("frames") or []
        sizes = {work.task.id: (work.task.width, work.task.height) for work, _ in held}
        names = self._names_of(meta)
        for name, frame in zip(names, frames, strict=True):
            if name in sizes and (frame.get("width"), frame.get("height")) != sizes[name]:
                raise ToolError(
                    f"CVAT sees a picture as {frame.get('width')}x{frame.get('height')}, and it is {sizes[name]}"
                )
        return names

    @staticmethod
    def _names_of(meta: Record) -> list[str | None]:
        stems = [str(one.get("name")).rpartition("/")[2].partition(".")[0] for one in meta.get("frames") or []]
        return [stem if _OURS.fullmatch(stem) else None for stem in stems]

    def _upload(self, task: int, held: Sequence[tuple[TaskWork, bytes]]) -> None:
        path = f"/api/tasks/{task}/data/"
        self._session.call("POST", path, headers={"Upload-Start": ""})
        group: dict[str, tuple[str, bytes]] = {}
        size = 0
        for work, picture in held:
            if group and size + len(picture) > _MOST_BYTES:
                self._send_files(path, group)
                group, size = {}, 0
            name = f"{work.task.id}{'.png' if picture.startswith(b'PNG', 1) else '.jpg'}"
            group[f"client_files[{len(group)}]"] = (name, picture)
            size += len(picture)
        self._send_files(path, group)
        end = {"image_quality": 95, "sorting_method": "lexicographical", "use_zip_chunks": True, "use_cache": True}
        made = self._session.json("POST", path, headers={"Upload-Finish": ""}, json=end)
        self._wait(str(made.get("rq_id") or ""), task)

    def _send_files(self, path: str, group: dict[str, tuple[str, bytes]]) -> None:
        self._session.call("POST", path, headers={"Upload-Multiple": ""}, data={"image_quality": "95"}, files=group)

    def _wait(self, request: str, task: int) -> None:
        """Until CVAT has made frames of the files. Raises ToolError."""
        waited = 0.0
        while request:
            said = self._session.json("GET", f"/api/requests/{request}")
            if said.get("status") == "finished":
                return
            if said.get("status") == "failed":
                raise ToolError(f"CVAT cannot make frames of its task {task}: {str(said.get('message'))[:200]}")
            if waited >= _WAIT_SECONDS:
                raise ToolError(f"CVAT has not made frames of its task {task} in {_WAIT_SECONDS / 60:.0f} minutes")
            self._pause(1.0)
            waited += 1.0
        raise ToolError("CVAT does not say what it does with the pictures: it is older than 2.18")

    def _proposed(self, work: TaskWork, frame: int) -> Iterator[Record]:
        for one in work.regions:
            if one.offered or one.label not in self._labels:
                continue
            height, width = one.mask.size
            bitmap = coco_mask.decode({"size": [height, width], "counts": one.mask.counts.encode()})
            score = {} if one.score is None else {"score": one.score}
            yield score | {
                "type": "mask", "label_id": self._labels[one.label], "frame": frame, "source": "auto",
                "occluded": False, "outside": False, "z_order": 0, "rotation": 0.0, "group": 0, "attributes": [],
                "points": mask_points(np.ascontiguousarray(bitmap).view(np.bool_)),
            }  # fmt: skip

    def _answer(self, said: Record, jobs: Sequence[Record], frame: int, work: TaskWork) -> Answer:
        job = next((j for j in jobs if int(j["start_frame"]) <= frame <= int(j["stop_frame"])), None)
        shapes = [one for one in said.get("shapes") or [] if one.get("frame") == frame]
        tags = [self._kinds.get(one.get("label_id"), ("", ""))[0] for one in said.get("tags") or []
                if one.get("frame") == frame]  # fmt: skip
        state = str(job.get("state")) if job else "new"
        assignee = job.get("assignee") if job else None
        person = str(assignee.get("username") or "") if isinstance(assignee, dict) else ""
        content = [[one.get(key) for key in ("type", "label_id", "group", "rotation", "points")] for one in shapes]
        mark = hashlib.sha256(json.dumps([state, tags, content], sort_keys=True).encode()).hexdigest()[:32]
        if state != "completed":
            kind: Kind = "predicted" if shapes else "out"
            begun = state in ("in progress", "rejected") or tags or any(one.get("source") != "auto" for one in shapes)
            moved = job is not None and job.get("stage", "annotation") != "annotation"
            return Answer("unfinished" if begun or moved else kind, mark if begun else "")
        if SKIP in tags:
            return Answer("skipped", mark, person)
        size = work.task.height, work.task.width
        if any(one.get("frame", 0) <= frame for one in said.get("tracks") or []):
            return Answer("unfinished", mark, person, notes=("there are tracks, which belong to videos: use shapes",))
        found, notes, whole = read_shapes(shapes, self._kinds, *size)
        made = tuple(Shape("", label, counts) for label, counts in found)
        return Answer("labelled" if whole else "unfinished", mark, person, 0.0, made if whole else (), tuple(notes))
