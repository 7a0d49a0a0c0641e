"""All cameras of a server, looked at beside the answers: frames come in, states and alerts go out.

`offer` is called by what answers robots: it puts a reference into a queue and returns; when the queue is full, the
frame is not looked at. One thread does the rest. Each camera costs some 0.5 MB (3.5 MB while it is being learnt), and
of more than MAX_CAMERAS those that were silent longest are put away on the disk.

    observed/<digest of the camera>.safetensors      what was learnt of it, its state in the metadata
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from registry.durable import write_file
from serving.observed.camera_health import CameraHealth
from serving.observed.camera_kinds import UNKNOWN, CameraState
from serving.observed.camera_words import TOLD_EVERY_S, CameraWord
from serving.observed.state_files import set_aside
from serving.observed.uplink import DiskUplink, Uplink
from serving.observed.views import View

log = logging.getLogger(__name__)

OBSERVED: Final = "observed"
MAX_CAMERAS: Final = 128
MAX_FILES: Final = 1024
"""Of more cameras than this, what was learnt longest ago is forgotten: names of cameras are what robots say."""
MAX_WAITING: Final = 16
MAX_WAITING_BYTES: Final = 64 * 1024**2
SAVE_EVERY_S: Final = 300.0
PICTURE_EDGE, PICTURE_QUALITY = 480, 80
GOOD_EVERY_S: Final = 60.0
"""How old the picture before a fault may be, at least: what led up to it must not be in it."""
BESIDE_ANSWERS: Final = 0.05
"""Share of the time that looks may take beside answers: both need Python's lock."""
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CameraKey:
    """Which camera: what the robot calls it, or else the line's only one."""

    cell: str
    line: str | None = None
    camera: str | None = None

    @property
    def digest(self) -> str:
        """A name for files: 32 hexadecimal digits."""
        text = json.dumps([self.cell, self.line, self.camera])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(slots=True)
class _Watched:
    """One camera in memory."""

    health: CameraHealth
    good: list[tuple[float, bytes]] = field(default_factory=list)
    """Pictures from when all was well, two at most: the older is the one to show."""
    opened: tuple[str, float] | None = None
    """The alert that is open: kind and since when."""
    closed: tuple[str, float, float] | None = None
    """The last one that was closed, and when."""
    saved_at: float = 0.0
    told: str = ""
    """The state that the hub was told last, and when."""
    told_at: float = 0.0


class Observer:
    """Looks at frames in a thread of its own. `offer` and `state_of` may be called from any thread."""

    def __init__(
        self, folder: Path, *, max_cameras: int = MAX_CAMERAS, share: float = 1.0, uplink: Uplink | None = None
    ) -> None:
        """`folder` is the telemetry folder: `observed/` in it takes what was learnt. `uplink` takes alerts, the one on
        this disk unless said. Looks take at most `share` of the time, above 0 to 1; frames that come meanwhile and
        find no room are not looked at."""
        self._folder = folder / OBSERVED
        self._uplink = uplink or DiskUplink(folder)
        self._max_cameras = max_cameras
        self._rest = 1 / share - 1
        self._cameras: OrderedDict[CameraKey, _Watched] = OrderedDict()
        self._states: dict[CameraKey, CameraState] = {}
        self._waiting: deque[tuple[CameraKey, Image, float]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._some = threading.Condition(self._lock)
        self._busy = False
        self._closed = False
        self.dropped = 0
        """Frames that were not looked at, because others waited."""
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def offer(self, key: CameraKey, image: Image, at: float) -> bool:
        """Look at a frame soon, uint8 [H, W, 3] that nobody changes; whether there was room for it."""
        with self._lock:
            full = len(self._waiting) >= MAX_WAITING or (self._bytes and self._bytes + image.nbytes > MAX_WAITING_BYTES)
            if full or self._closed:
                self.dropped += 1
                return False
            self._waiting.append((key, image, at))
            self._bytes += image.nbytes
            self._some.notify()
            return True

    def state_of(self, key: CameraKey) -> CameraState:
        """What is known of a camera now."""
        return self._states.get(key, UNKNOWN)

    def settle(self, timeout_s: float = 10.0) -> bool:
        """Wait until all that was offered has been looked at; whether it was."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            while self._waiting or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._some.wait(left)
        return True

    def close(self) -> None:
        """Look at what waits, save what was learnt, and end the thread."""
        with self._lock:
            self._closed = True
            self._some.notify()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._busy = False
                self._some.notify_all()
                while not self._waiting and not self._closed:
                    self._some.wait()
                if not self._waiting:
                    break
                key, image, at = self._waiting.popleft()
                self._bytes -= image.nbytes
                self._busy = True
            began = time.monotonic()
            try:
                self._look(key, image, at)
            except Exception:
                # A frame that cannot be judged, a full disk: neither may end the looking, and never an answer.
                log.exception("a frame of %s could not be looked at", key.cell)
            self._pause(self._rest * (time.monotonic() - began))
        for key, watched in self._cameras.items():
            self._save(key, watched)

    def _pause(self, seconds: float) -> None:
        """Leave the processor to answers, unless the end is near."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while not self._closed and (left := deadline - time.monotonic()) > 0:
                self._some.wait(left)

    def _look(self, key: CameraKey, image: Image, at: float) -> None:
        watched = self._watched(key)
        try:
            view = View.of(image)
        except ValueError as error:
            self._states[key] = CameraState("cannot_tell", reason=str(error))
            return
        state = watched.health.observe(view, at)
        self._states[key] = state
        self._keep_good(watched, state, image, at)
        self._tell(key, watched, state, image, at)
        now = time.monotonic()
        if state.camera != watched.told or now - watched.told_at > TOLD_EVERY_S:
            watched.told, watched.told_at = state.camera, now
            self._uplink.statistics(CameraWord("camera", key.cell, key.line, key.camera, at, _values(watched.health)))
        if watched.health.learnt and now - watched.saved_at > SAVE_EVERY_S:
            self._save(key, watched)

    def _watched(self, key: CameraKey) -> _Watched:
        found = self._cameras.get(key)
        if found is None:
            found = _Watched(CameraHealth())
            self._restore(key, found)
            self._cameras[key] = found
            while len(self._cameras) > self._max_cameras:
                other, put_away = self._cameras.popitem(last=False)
                self._save(other, put_away)
                self._states.pop(other, None)
        self._cameras.move_to_end(key)
        return found

    # --- alerts -------------------------------------------------------------------------------------------------------

    def _keep_good(self, watched: _Watched, state: CameraState, image: Image, at: float) -> None:
        if state.word != "ok" or state.suspect is not None:
            return
        good = watched.good
        if not good or at - good[-1][0] >= GOOD_EVERY_S:
            good.append((at, _picture(image)))
            del good[:-2]

    def _tell(self, key: CameraKey, watched: _Watched, state: CameraState, image: Image, at: float) -> None:
        """Open or close an alert when the state has changed. Saved first: after a kill it is told again, by one id."""
        now = (state.kind, state.since) if state.kind is not None and state.since is not None else None
        if now == watched.opened:
            return
        before, watched.opened = watched.opened, now
        try:
            self._tell_change(key, watched, before, state, image, at)
        except OSError:
            watched.opened = before  # a full disk: told with the next frame; the messages' ids make each count once
            raise

    def _tell_change(
        self,
        key: CameraKey,
        watched: _Watched,
        before: tuple[str, float] | None,
        state: CameraState,
        image: Image,
        at: float,
    ) -> None:
        if before is not None:
            watched.closed = (*before, at)
        self._save(key, watched)
        if before is not None:
            self._put_close(key, *before, at)
        if watched.opened is not None:
            kind, since = watched.opened
            good = [picture for taken, picture in watched.good if taken < since]
            pictures = {"after": _picture(image), **({"before": good[-1]} if good else {})}
            log.warning("the camera of %s: %s", key.cell, state.reason or kind)
            self._put_open(key, kind, since, at, state.reason, pictures)

    def _put_open(
        self, key: CameraKey, kind: str, since: float, at: float, reason: str, pictures: dict[str, bytes]
    ) -> None:
        document: dict[str, Any] = {
            "type": "alert",
            "event": "open",
            "alert": _digest(key, kind, since),
            "cell": key.cell,
            "line": key.line,
            "camera": key.camera,
            "kind": kind,
            "since": since,
            "at": at,
            "reason": reason,
            "pictures": {name: base64.b64encode(data).decode() for name, data in pictures.items()},
        }
        self._uplink.put(_digest(key, kind, since, "open"), at, document)

    def _put_close(self, key: CameraKey, kind: str, since: float, at: float) -> None:
        document = {"type": "alert", "event": "close", "alert": _digest(key, kind, since), "at": at}
        self._uplink.put(_digest(key, kind, since, "close"), at, document)

    # --- what was learnt ----------------------------------------------------------------------------------------------

    def _save(self, key: CameraKey, watched: _Watched) -> None:
        watched.saved_at = time.monotonic()
        arrays, document = watched.health.save()
        if not arrays:
            return
        metadata = {"camera": json.dumps({**document, "opened": watched.opened, "closed": watched.closed})}
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{key.digest}.safetensors"
        fresh = not path.exists()
        write_file(path, save(arrays, metadata))
        if fresh:
            files = sorted(self._folder.glob("*.safetensors"), key=lambda one: one.stat().st_mtime)
            for old in files[: max(len(files) - MAX_FILES, 0)]:
                old.unlink(missing_ok=True)

    def _restore(self, key: CameraKey, watched: _Watched) -> None:
        path = self._folder / f"{key.digest}.safetensors"
        if not path.is_file():
            return
        arrays: dict[str, npt.NDArray[np.float32]] = {}
        try:
            with safe_open(path, framework="numpy") as file:
                document = json.loads(file.metadata()["camera"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            set_aside(path, f"the camera of {key.cell}: {error}")
            return
        if not watched.health.restore(arrays, document):
            set_aside(path, f"the camera of {key.cell}: no state of this version")
        else:
            self._states[key] = watched.health.state
            with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
                self._tell_again(key, watched, document)

    def _tell_again(self, key: CameraKey, watched: _Watched, document: dict[str, Any]) -> None:
        """What was saved may not have been told before a kill. The messages' ids make each count once."""
        opened, closed = document["opened"], document["closed"]
        if closed is not None:
            watched.closed = (str(closed[0]), float(closed[1]), float(closed[2]))
            self._put_close(key, *watched.closed)
        if opened is not None:
            watched.opened = (str(opened[0]), float(opened[1]))
            self._put_open(key, *watched.opened, watched.opened[1], "", {})


def _values(health: CameraHealth) -> dict[str, Any]:
    """What the hub is told of a camera's health."""
    state = health.state
    return {
        "state": state.word, "kind": state.kind, "since": state.since, "reason": state.reason[:400],
        "frames": state.frames, "blind": list(state.blind), "baseline": health.baseline(),
    }  # fmt: skip


def _digest(key: CameraKey, kind: str, since: float, what: str = "") -> str:
    text = json.dumps([key.cell, key.line, key.camera, kind, since, what])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _picture(image: Image) -> bytes:
    """A small JPEG of a frame."""
    scale = PICTURE_EDGE / max(image.shape[:2])
    if scale < 1:
        shape = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])
    return data.tobytes()
