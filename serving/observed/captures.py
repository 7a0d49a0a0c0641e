"""Captures: frames kept from production with their predictions, in a folder that never grows past its bounds.

    captures/<capture id>.jpg|.png      the frame as it came (raw pixels become a JPEG of quality 95)
    captures/<capture id>.json          what was answered, by whom, and why the frame was kept

A capture id begins with the time in milliseconds, so names sort by age; the rest follows from the picture, the request
and the reason, so a frame that is kept again, by whoever was killed before it knew, is one capture. The JSON is written
last and removed first: a capture whose JSON is there is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.durable import write_file
from serving.errors import CaptureNotFound
from serving.instances import Instances
from serving.observed.selectors import DEFAULT
from serving.observed.selectors import CapturePolicy as CapturePolicy

Reason = str
"""The name of the frame selector that chose it (`low_score`, `sample`, an extension's). `novelty`, `doubt` and
`failed_picks` are of a sample that a change point started."""
REASONS: tuple[Reason, ...] = (*DEFAULT, "novelty", "doubt", "failed_picks")
"""Those that every server may give."""
CAPTURE_ID = re.compile(r"[0-9]{13}-[0-9a-f]{12}")
"""Milliseconds of its time, then digits by chance."""
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True, eq=False)
class Capture:
    """A frame to keep: encoded JPEG or PNG bytes or uint8 [H, W, 3] RGB, and what was answered."""

    image: bytes | npt.NDArray[np.uint8]
    instances: Instances
    request_id: str
    at: float
    reason: Reason
    served_by: str
    cell: str | None
    line: str | None
    robot: str | None
    camera: str | None = None
    observed: Mapping[str, Any] = field(default_factory=dict)
    """What was seen beside the answer (`serving.observed.novelty_watch`), as JSON has it."""

    @property
    def id(self) -> str:
        """Its name: the same for the same picture, request, camera, time and reason."""
        said = [self.request_id, repr(self.at), self.reason, self.cell, self.line, self.robot, self.camera]
        digest = hashlib.sha256(json.dumps(said).encode())
        digest.update(self.image if isinstance(self.image, bytes) else np.ascontiguousarray(self.image).data)
        return f"{max(int(self.at * 1000), 0):013d}-{digest.hexdigest()[:12]}"


class CaptureStore:
    """The folder. Those who write bound it each for itself, any number read. Thread-safe."""

    def __init__(self, folder: Path, policy: CapturePolicy | None = None) -> None:
        self.folder = folder
        self.policy = policy or CapturePolicy()
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self._indexed = False

    def add(self, capture: Capture) -> str:
        """Write a capture and push out the oldest ones beyond the bounds. Returns its id.

        The same frame for the same reason again changes nothing.
        """
        name = capture.id
        with self._lock:
            if not self._indexed:
                self._index()
            if self._path(name, ".json").is_file():
                return name
            data, suffix = encoded(capture.image)
            text = json.dumps(_document(capture), separators=(",", ":")).encode()
            self._total -= self._sizes.pop(name, 0)  # a picture that a killed writer left without its JSON
            write_file(self.folder / f"{name}{suffix}", data)
            write_file(self.folder / f"{name}.json", text)
            self._sizes[name] = len(data) + len(text)
            self._total += self._sizes[name]
            self._bound()
        return name

    def receive(self, name: str, picture: bytes, document: Mapping[str, Any]) -> None:
        """Keep a capture that another store made, under its own id. Raises CaptureNotFound for what is no id."""
        with self._lock:
            if not self._indexed:
                self._index()
            target = self._path(name, ".json")
            if target.is_file():
                return
            text = json.dumps({**document, "kept_at": time.time()}, separators=(",", ":")).encode()
            self._total -= self._sizes.pop(name, 0)
            write_file(self.folder / f"{name}{encoded(picture)[1]}", picture)
            write_file(target, text)
            self._sizes[name] = len(picture) + len(text)
            self._sizes = OrderedDict(sorted(self._sizes.items()))
            self._total += self._sizes[name]
            self._bound()

    def names(self, *, before: str | None = None) -> Iterator[str]:
        """Ids of the captures, newest first; with `before`, those older than that one."""
        try:
            names = sorted((e.name[:-5] for e in os.scandir(self.folder) if e.name.endswith(".json")), reverse=True)
        except FileNotFoundError:
            return
        yield from (name for name in names if CAPTURE_ID.fullmatch(name) and (before is None or name < before))

    def read(self, name: str) -> dict[str, Any]:
        """The JSON of a capture, with its `id`. Raises CaptureNotFound."""
        try:
            document: dict[str, Any] = json.loads(self._path(name, ".json").read_bytes())
        except (OSError, ValueError) as error:
            raise CaptureNotFound(name) from error
        return {"id": name, **document}

    def image(self, name: str) -> tuple[bytes, str]:
        """(bytes, media type) of a capture's frame. Raises CaptureNotFound."""
        for suffix, kind in ((".jpg", "image/jpeg"), (".png", "image/png")):
            path = self._path(name, suffix)
            if path.is_file():
                try:
                    return path.read_bytes(), kind
                except FileNotFoundError:
                    break
        raise CaptureNotFound(name)

    def path_of(self, name: str) -> Path:
        """The file of a capture's frame. Raises CaptureNotFound."""
        for suffix in (".jpg", ".png"):
            if (path := self._path(name, suffix)).is_file():
                return path
        raise CaptureNotFound(name)

    def remove(self, name: str) -> None:
        """Delete a capture; one that is gone already is fine. Raises CaptureNotFound for what is no id."""
        for suffix in (".json", ".jpg", ".png"):
            self._path(name, suffix).unlink(missing_ok=True)

    def remove_of(self, cell: str) -> None:
        """Delete every capture of a cell: another cell of its name must not find them."""
        for name in self.names():
            try:
                if self.read(name)["cell"] == cell:
                    self.remove(name)
            except (CaptureNotFound, KeyError):  # it made room for a newer one, or is no capture
                continue

    def _path(self, name: str, suffix: str) -> Path:
        if not CAPTURE_ID.fullmatch(name):
            raise CaptureNotFound(name)
        return self.folder / f"{name}{suffix}"

    def _index(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes: dict[str, int] = {}
        for entry in os.scandir(self.folder):
            name = entry.name.partition(".")[0]
            if entry.name.startswith(".") or not CAPTURE_ID.fullmatch(name):
                Path(entry.path).unlink(missing_ok=True)  # half a file that a killed writer left
                continue
            sizes[name] = sizes.get(name, 0) + entry.stat().st_size
        self._sizes = OrderedDict(sorted(sizes.items()))
        self._total = sum(sizes.values())
        self._indexed = True

    def _bound(self) -> None:
        while self._sizes and (self._total > self.policy.max_bytes or len(self._sizes) > self.policy.max_count):
            oldest, size = self._sizes.popitem(last=False)
            self._total -= size
            self.remove(oldest)


def encoded(image: bytes | npt.NDArray[np.uint8]) -> tuple[bytes, str]:
    """(bytes, suffix of the file's name) of a frame as it is kept."""
    if isinstance(image, bytes):
        return image, ".png" if image[:8] == b"\x89PNG\r\n\x1a\n" else ".jpg"
    import cv2

    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data.tobytes(), ".jpg"


def _document(capture: Capture) -> dict[str, Any]:
    found = capture.instances
    return {
        "request_id": capture.request_id,
        "at": capture.at,
        "kept_at": time.time(),
        "reason": capture.reason,
        "served_by": capture.served_by,
        "cell": capture.cell,
        "line": capture.line,
        "robot": capture.robot,
        "camera": capture.camera,
        "height": found.height,
        "width": found.width,
        **({"observed": dict(capture.observed)} if capture.observed else {}),
        "instances": [
            {"label": label, "score": round(float(score), 5), "box": [float(v) for v in box], "mask": mask.decode()}
            for label, score, box, mask in zip(found.labels, found.scores, found.boxes, found.masks, strict=True)
        ],
    }
