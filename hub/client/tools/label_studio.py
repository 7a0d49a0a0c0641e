"""Label Studio over its REST API: pictures are uploaded, proposals are predictions, masks are brush regions.

It is signed in to with a personal access token: a refresh token, which gives access tokens that live for minutes. A
legacy token works where the server still allows them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import quoteattr  # only its escaping of text that we write

import httpx
import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets.brush import encode_brush
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.labelstudio_regions import RegionReader
from finetune.errors import DatasetError
from hub.client.tools.session import Session
from hub.client.tools.tool import KEY, Answer, Shape
from hub.errors import ToolError
from hub.outbound import Guard
from hub.schemas.handoff import HandOff, ToolName
from hub.schemas.labels import Region, TaskWork

Record = dict[str, Any]
TOKEN_VARIABLE: Final = "LABEL_STUDIO_TOKEN"  # noqa: S105  # the name of a variable
_UPLOAD = "parcelhub_upload"
"""Under this name a task says which of the project's files is its picture."""
_NOT_FOUND = httpx.codes.NOT_FOUND
_PAGE = 100
_EXTRAS = frozenset({"choices", "textarea", "number", "rating", "taxonomy", "datetime", "relation"})


class LabelStudio:
    """One project of a Label Studio."""

    name: ToolName = "label-studio"

    def __init__(
        self, url: str, token: str, cell: str, project: int | None = None, *, guard: Guard | None = None
    ) -> None:
        """`project` None: the one that is called `parcelhub <cell>`, made by `prepare` where there is none."""
        self._session = Session(url, "Label Studio", _auth(token), guard=guard)
        self._title = f"parcelhub {cell}"[:50]
        self._project = self._look_up(project)
        self._view = _view_of(self._project) if self._project else _View("label", "image", "image", ())

    @property
    def place(self) -> str:
        """Of the project, and when it was made: another server at the same address is another place."""
        made = self._known()
        return f"{self._session.url}/projects/{made['id']}#{_seconds(made)}"

    @property
    def address(self) -> str:
        """URL and the project's number, or its title while there is none."""
        return f"{self._session.url} {self._project['id'] if self._project else self._title}"

    def prepare(self, classes: Sequence[str]) -> None:
        """Make the project if there is none. Raises ToolError if one that was there lacks a brush label."""
        if self._project is None:
            wanted = {"title": self._title, "label_config": config_of(classes), "show_collab_predictions": True}
            self._project = dict(self._session.json("POST", "/api/projects/", json=wanted))
            self._view = _view_of(self._project)
        missing = [one for one in classes if one not in self._view.labels]
        if missing:
            raise ToolError(
                f"the project {self._project['id']} of {self._session.url} has no brush label for {', '.join(missing)}:"
                " add them to its labelling interface"
            )

    def find(self) -> dict[str, str]:
        """Our ids of the project's pictures to the numbers of their tasks, read page by page."""
        found: dict[str, str] = {}
        page = 1
        while True:
            asked = {"project": self._known()["id"], "page": page, "page_size": _PAGE, "fields": "task_only"}
            answer = self._session.call("GET", "/api/tasks/", params=asked, accept=(_NOT_FOUND,))
            if answer.status_code == _NOT_FOUND:  # behind the last page
                return found
            tasks = _listed(answer.json(), "tasks")
            for task in tasks:
                data = task.get("data")
                if isinstance(data, dict) and isinstance(data.get(KEY), str):
                    found.setdefault(data[KEY], str(task["id"]))
            if len(tasks) < _PAGE:
                return found
            page += 1

    def send(self, works: Iterable[tuple[TaskWork, bytes]]) -> Iterator[tuple[str, str]]:
        """Make a task of each picture, one after another; each is given once it is there with its proposals. Raises
        ToolError."""
        base = f"/api/projects/{self._known()['id']}/import"
        for work, picture in works:
            upload = self._uploaded(base, work.task.id, picture)
            task = task_of(work, f"/data/{upload['file']}", self._view) | {"meta": {KEY: work.task.id}}
            task["data"][_UPLOAD] = upload["id"]
            made = self._session.json("POST", base, params={"return_task_ids": "true"}, json=[task])
            ids = made.get("task_ids") if isinstance(made, dict) else None
            if not isinstance(ids, list) or len(ids) != 1:
                raise ToolError("Label Studio does not say which task it made of a picture")
            yield work.task.id, str(ids[0])

    def answers(self, handed: Sequence[tuple[HandOff, TaskWork]]) -> Iterator[tuple[HandOff, Answer]]:
        """What annotators made of the pictures. Raises ToolError where a task shows another picture than was sent."""
        people: dict[int, str] = {}
        for one, work in handed:
            path = f"/api/tasks/{int(str(one.remote))}/"
            response = self._session.call("GET", path, accept=(_NOT_FOUND,))
            if response.status_code == _NOT_FOUND:
                self._look_up(int(self._known()["id"]))  # of a project that is gone, no picture was removed
                yield one, Answer("removed")
                continue
            task = response.json()
            data = task.get("data") if isinstance(task, dict) else None
            if not isinstance(data, dict) or data.get(KEY) != one.task:
                raise ToolError(
                    f"the task {one.remote} of Label Studio is another picture's: was the server set up anew?"
                )
            yield one, answer_of(task, work.task.height, work.task.width, lambda who: self._person(who, people))

    def delete(self, remotes: Sequence[str]) -> None:
        """Delete tasks with their uploaded pictures; those that are gone are fine."""
        for remote in remotes:
            path = f"/api/tasks/{int(remote)}/"
            response = self._session.call("GET", path, accept=(_NOT_FOUND,))
            if response.status_code == _NOT_FOUND:
                continue
            upload = response.json().get("data", {}).get(_UPLOAD)
            self._session.call("DELETE", path, accept=(_NOT_FOUND,))
            if isinstance(upload, int):  # the picture stays on the server's disk else
                self._session.call(
                    "DELETE", f"/api/projects/{self._known()['id']}/file-uploads", json={"file_upload_ids": [upload]}
                )

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    # How

    def _known(self) -> Record:
        if self._project is None:
            raise ToolError(f"Label Studio has no project {self._title!r}; push pictures first")
        return self._project

    def _look_up(self, project: int | None) -> Record | None:
        if project is not None:
            answer = self._session.call("GET", f"/api/projects/{project}/", accept=(_NOT_FOUND,))
            if answer.status_code == _NOT_FOUND:
                raise ToolError(f"Label Studio at {self._session.url} has no project {project} that this token sees")
            return dict(answer.json())
        found = _listed(self._session.json("GET", "/api/projects/", params={"title": self._title}), "results")
        same = [one for one in found if one.get("title") == self._title]
        return dict(min(same, key=lambda one: int(one["id"]))) if same else None

    def _uploaded(self, base: str, task: str, picture: bytes) -> Record:
        kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
        file = (f"{task}.{kind.replace('jpeg', 'jpg')}", picture, f"image/{kind}")
        made = self._session.json("POST", base, params={"commit_to_project": "false"}, files={"file": file})
        ids = made.get("file_upload_ids") if isinstance(made, dict) else None
        if not isinstance(ids, list) or len(ids) != 1:
            raise ToolError("Label Studio does not say where it put a picture")
        return dict(self._session.json("GET", f"/api/import/file-upload/{int(ids[0])}"))

    def _person(self, who: object, known: dict[int, str]) -> str:
        if isinstance(who, dict):
            return str(who.get("email") or who.get("username") or who.get("id") or "")
        if not isinstance(who, int):
            return ""
        if who not in known:
            answer = self._session.call("GET", f"/api/users/{who}/", accept=(_NOT_FOUND, httpx.codes.FORBIDDEN))
            said = answer.json() if answer.is_success else {}
            known[who] = str(said.get("email") or f"user {who}")
        return known[who]


class _View:
    """What the labelling interface calls its brush, its picture and the picture's field."""

    def __init__(self, brush: str, image: str, key: str, labels: tuple[str, ...]) -> None:
        self.brush, self.image, self.key, self.labels = brush, image, key, labels


def task_of(work: TaskWork, image: str, view: _View | None = None) -> Record:
    """A task with what is proposed as a prediction; regions keep their ids."""
    view = view or _View("label", "image", "image", ())
    prediction = prediction_of(work, brush=view.brush, image=view.image)
    return {"data": {view.key: image, KEY: work.task.id}, "predictions": [prediction] if prediction else []}


def prediction_of(work: TaskWork, *, brush: str = "label", image: str = "image") -> Record | None:
    """The proposal as a prediction; None where nobody has proposed anything."""
    if not work.task.proposed_by:
        return None
    shown = [one for one in work.regions if not one.offered]
    scores = [one.score for one in shown if one.score is not None]
    return {
        "model_version": work.task.proposed_by,
        "score": round(sum(scores) / len(scores), 5) if scores else 0.0,
        "result": [_result(one, brush, image) for one in shown],
    }


def _result(one: Region, brush: str, image: str) -> Record:
    height, width = one.mask.size
    bitmap = coco_mask.decode({"size": [height, width], "counts": one.mask.counts.encode()})
    value = {"format": "rle", "rle": encode_brush(np.ascontiguousarray(bitmap).view(np.bool_))}
    place = {"id": one.id, "from_name": brush, "to_name": image, "type": "brushlabels", "image_rotation": 0}
    place |= {"original_width": width, "original_height": height}
    score = {} if one.score is None else {"score": one.score}
    return place | score | {"value": value | {"brushlabels": [one.label]}}


def config_of(classes: Sequence[str]) -> str:
    """The labelling interface: brush masks of these classes, zoom, and no turning."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in classes)
    view = '<Image name="image" value="$image" zoom="true" zoomControl="true" rotateControl="false"/>'
    return f'<View>\n  {view}\n  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'


def answer_of(task: Record, height: int, width: int, person_of: Any) -> Answer:  # noqa: ANN401  # a callable
    """What a task says. A cancelled annotation is a skip, a draft is unfinished, a prediction alone was accepted by
    nobody, and an annotation without regions is an empty picture. Raises ToolError."""
    listed = [one for one in task.get("annotations") or [] if isinstance(one, dict)]
    usable = [one for one in listed if not one.get("was_cancelled")]
    if not usable:
        if listed:
            return Answer("skipped", _mark("skip", listed[-1]), person_of(listed[-1].get("completed_by")))
        drafts = task.get("drafts") or []
        kind = "unfinished" if drafts else "predicted" if task.get("predictions") else "out"
        return Answer(kind, _mark(kind, drafts[-1]) if drafts else "")  # type: ignore[arg-type]  # one of the three
    best = max(usable, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at")), one.get("id") or 0))
    notes = [] if len(usable) == 1 else [f"{len(usable)} annotations: the ground truth or else the newest was taken"]
    shapes, said = _shapes(best, height, width)
    if said and not shapes:  # what was drawn there is nothing that a mask can be made of: not an empty picture
        return Answer("unfinished", _mark("unusable", best), notes=(*notes, *said))
    seconds = best.get("lead_time")
    return Answer(
        "labelled", _mark("label", best), person_of(best.get("completed_by")),
        float(seconds) if isinstance(seconds, int | float) else 0.0, tuple(shapes), (*notes, *said),
    )  # fmt: skip


def _shapes(annotation: Record, height: int, width: int) -> tuple[list[Shape], list[str]]:
    """Each region as an instance, and what is to be said of them. Raises ToolError."""
    results = annotation.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise ToolError("an annotation of Label Studio has no list of results")
    shapes: list[Shape] = []
    notes: list[str] = []
    for result in results:
        region = str(result.get("id"))
        if str(result.get("type")) in _EXTRAS or (result.get("type") == "labels"):
            continue
        beside = [one for one in results if one is not result and str(one.get("id")) == region]
        findings = Findings()
        found = InstanceList(height, width, findings)
        extras = [one for one in beside if one.get("type") == "labels"]
        RegionReader("annotation", "", found, findings, lambda _: True).read({"result": [result, *extras]})
        try:
            findings.raise_problems()
        except DatasetError as error:  # a region that cannot be read must not get lost
            raise ToolError(f"the region {region[:40]} of an annotation cannot be read: {error.reason}") from None
        notes += [f"region {region[:40]}: {text}" for text in findings.warnings()]
        sample = found.sample(Path(), region[:40], None, None)
        for label, counts in zip(sample.labels, sample.masks, strict=True) if sample is not None else ():
            shapes.append(Shape(region, label, counts.decode("ascii")))
    return shapes, notes


def _mark(what: str, record: Mapping[str, Any]) -> str:
    return f"{what} {record.get('id')} {record.get('updated_at') or record.get('created_at')}"


def _view_of(project: Record) -> _View:
    """Raises ToolError where masks cannot be drawn."""
    config = project.get("parsed_label_config")
    for name, control in (config or {}).items() if isinstance(config, dict) else ():
        inputs = control.get("inputs") or []
        if control.get("type") == "BrushLabels" and len(inputs) == 1 and inputs[0].get("type") == "Image":
            key = str(inputs[0].get("value") or "image")
            return _View(name, str(control["to_name"][0]), key, tuple(control.get("labels") or ()))
    raise ToolError(
        f"the project {project.get('id')} of Label Studio has no BrushLabels over an Image: masks need them"
    )


def _seconds(project: Record) -> int:
    try:
        return int(datetime.fromisoformat(str(project["created_at"]).replace("Z", "+00:00")).timestamp())
    except (KeyError, ValueError):
        return 0


def _listed(answer: object, name: str) -> list[Record]:
    found = answer.get(name) if isinstance(answer, dict) else answer
    if not isinstance(found, list):
        raise ToolError("Label Studio answers with something else than a list")
    return [one for one in found if isinstance(one, dict)]


def _auth(token: str) -> Any:  # noqa: ANN401  # a callable
    """A personal access token has three parts and is exchanged; a legacy one is sent as it is."""
    if token.count(".") != 2:
        return lambda _: f"Token {token}"
    until = 0.0
    header = ""

    def signed(session: Session) -> str:
        nonlocal until, header
        if time.monotonic() >= until:
            made = session.json("POST", "/api/token/refresh/", json={"refresh": token}, signed=False)
            access = made.get("access") if isinstance(made, dict) else None
            if not isinstance(access, str):
                raise ToolError("Label Studio gives no access token for this personal access token")
            header, until = f"Bearer {access}", time.monotonic() + 30
        return header

    return signed
