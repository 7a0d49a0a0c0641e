"""A small HTTP server that keeps what CVAT's API keeps, and refuses what its schema does not know.

It is no CVAT: it stands in for one, which needs containers. What it takes is checked against the models of `cvat-sdk`
where that is installed, field by field; what it gives is made by those models' names.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

try:
    from cvat_sdk import models
except ImportError:
    models = None

Record = dict[str, Any]
TOKEN = "cvat-token-of-a-test"
MADE = "2026-01-02T03:04:05.000000Z"


class Kept:
    """Projects, tasks, jobs, labels; `fail_at` is the path behind which the server is gone once."""

    def __init__(self) -> None:
        self.projects: dict[int, Record] = {}
        self.labels: list[Record] = []
        self.tasks: dict[int, Record] = {}
        self.files: dict[int, dict[str, bytes]] = {}
        self.frames: dict[int, list[Record]] = {}
        self.deleted: dict[int, list[int]] = {}
        self.annotations: dict[int, Record] = {}
        self.jobs: dict[int, Record] = {}
        self.fail_at: str | None = None
        self.log: list[str] = []
        self.next = 0

    def number(self) -> int:
        self.next += 1
        return self.next


def checked(model: str, body: Record) -> Record:
    """What a request of this model may hold. Raises ValueError."""
    if models is not None:
        made = getattr(models, model)
        unknown = set(body) - set(made.attribute_map.values())
        if unknown:
            raise ValueError(f"{model} has no {sorted(unknown)}")
        made._new_from_openapi_data(**body, _check_type=True)
    return body


class Handler(BaseHTTPRequestHandler):
    kept: Kept
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Tests read no log."""

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.kept.log.append(f"{self.command} {parts.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"detail": "Authentication credentials were not provided."})
            return
        if self.kept.fail_at and re.fullmatch(self.kept.fail_at, f"{self.command} {parts.path}"):
            self.kept.fail_at = None
            self._answer(500, {"detail": "gone"})
            return
        try:
            self._answer(*self._route(self.command, parts.path.rstrip("/"), asked, body))
        except KeyError:
            self._answer(404, {"detail": "Not found."})
        except ValueError as error:
            self._answer(400, {"detail": str(error)})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  # the names that the base class asks for

    def _answer(self, status: int, value: object) -> None:
        data = b"" if status == 204 else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.cvat+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _route(self, method: str, path: str, asked: Record, body: bytes) -> tuple[int, object]:
        kept = self.kept
        if path == "/api/projects" and method == "GET":
            found = [one for one in kept.projects.values() if asked.get("name") in (None, one["name"])]
            return 200, _page(found, asked)
        if path == "/api/projects":
            wanted = checked("ProjectWriteRequest", json.loads(body))
            number = kept.number()
            for label in wanted.pop("labels"):
                kept.labels.append({"id": kept.number(), "project_id": number, **label})
            kept.projects[number] = {"id": number, "created_date": MADE, **wanted}
            return 201, kept.projects[number]
        if match := re.fullmatch(r"/api/projects/(\d+)", path):
            return 200, kept.projects[int(match[1])]
        if path == "/api/labels":
            return 200, _page([one for one in kept.labels if str(one["project_id"]) == asked["project_id"]], asked)
        if path == "/api/jobs":
            return 200, _page([one for one in kept.jobs.values() if str(one["task_id"]) == asked["task_id"]], asked)
        if path.startswith("/api/requests/"):
            return 200, {"id": path.rpartition("/")[2], "status": "finished", "message": ""}
        if path == "/api/tasks" and method == "GET":
            return 200, _page([t for t in kept.tasks.values() if str(t["project_id"]) == asked["project_id"]], asked)
        if path == "/api/tasks":
            wanted = checked("TaskWriteRequest", json.loads(body))
            number = kept.number()
            kept.tasks[number] = {"id": number, "size": 0, **wanted}
            kept.frames[number], kept.deleted[number], kept.files[number] = [], [], {}
            kept.annotations[number] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
            return 201, kept.tasks[number]
        match = re.fullmatch(r"/api/tasks/(\d+)(/.*)?", path)
        if match is None:
            raise KeyError(path)
        return self._task(method, int(match[1]), match[2] or "", body)

    def _task(self, method: str, task: int, rest: str, body: bytes) -> tuple[int, object]:
        kept = self.kept
        known = kept.tasks[task]
        if rest == "" and method == "PATCH":
            known |= checked("PatchedTaskWriteRequest", json.loads(body))
            return 200, known
        if rest == "" and method == "DELETE":
            for table in (kept.tasks, kept.frames, kept.deleted, kept.files, kept.annotations):
                del table[task]
            kept.jobs = {number: job for number, job in kept.jobs.items() if job["task_id"] != task}
            return 204, None
        if rest == "/data" and method == "POST":
            return self._upload(task, body)
        if rest == "/data/meta" and method == "GET":
            size = len(kept.frames[task])
            return 200, {"size": size, "frames": kept.frames[task], "deleted_frames": kept.deleted[task]}
        if rest == "/data/meta" and method == "PATCH":
            kept.deleted[task] = checked("PatchedDataMetaWriteRequest", json.loads(body))["deleted_frames"]
            return 200, {}
        if rest == "/annotations" and method == "PUT":
            said = json.loads(body)
            labels = {one["id"] for one in kept.labels if one["project_id"] == known["project_id"]}
            for shape in said["shapes"]:
                checked("LabeledShapeRequest", shape)
                if shape["label_id"] not in labels or not 0 <= shape["frame"] < len(kept.frames[task]):
                    raise ValueError("a shape of no label or no frame")
            stored = [{"id": kept.number(), **shape} for shape in said["shapes"]]
            kept.annotations[task] = {**checked("LabeledDataRequest", {**said, "shapes": []}), "shapes": stored}
            return 200, kept.annotations[task]
        if rest == "/annotations":
            return 200, kept.annotations[task]
        raise KeyError(rest)

    def _upload(self, task: int, body: bytes) -> tuple[int, object]:
        kept = self.kept
        if "Upload-Start" in self.headers:
            return 202, {}
        if "Upload-Multiple" in self.headers:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            for part in message_from_bytes(head + body).get_payload():
                if name := part.get_filename():  # type: ignore[union-attr]
                    kept.files[task][name] = part.get_payload(decode=True)  # type: ignore[union-attr,assignment]
            return 200, {}
        if "Upload-Finish" not in self.headers:
            raise ValueError("no upload header")
        checked("DataRequest", json.loads(body))
        for name, data in sorted(kept.files[task].items()):
            with Image.open(io.BytesIO(data)) as picture:
                kept.frames[task].append({"name": name, "width": picture.width, "height": picture.height})
        size, step = len(kept.frames[task]), kept.tasks[task]["segment_size"]
        kept.tasks[task]["size"] = size
        for start in range(0, size, step):
            number = kept.number()
            kept.jobs[number] = {
                "id": number, "task_id": task, "type": "annotation", "stage": "annotation", "state": "new",
                "start_frame": start, "stop_frame": min(start + step, size) - 1, "assignee": None,
            }  # fmt: skip
        return 202, {"rq_id": f"action=create&target=task&id={task}".replace("&", "-")}


def _page(found: list[Record], asked: Record) -> Record:
    number, size = int(asked.get("page", 1)), int(asked.get("page_size", 10))
    part = found[(number - 1) * size : number * size]
    more = number * size < len(found)
    return {"count": len(found), "next": "more" if more else None, "previous": None, "results": part}


@contextmanager
def serving() -> Iterator[tuple[str, Kept]]:
    """Its address, and what it keeps."""
    kept = Kept()
    handler = type("Bound", (Handler,), {"kept": kept})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
