"""Novelty, doubt and failed picks of all cells of a server, watched beside the answers; a change starts a sample.

`offer` is called by what answers robots: it puts references into a queue and returns. One thread embeds frames within
its share of the time, judges them against the reference of their cell, and keeps them in the ring. When a stream has
changed (`ChangeDetector`, one false alarm a week and camera at most for all three), a diverse sample of the ring's
frames of that cell is preserved as captures, each with its reason, its embeddings and what was not answered.

    wishes/<32 hexadecimal digits>.json     what the hub asks to be sampled: {"cell", "reason", "since", "requests"};
                                            with the reason "forget", the cell is gone, and its frames go
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from registry.durable import write_file
from serving.instances import Instances
from serving.observed.appearance import appearance
from serving.observed.captures import Capture, CaptureStore, Reason, encoded
from serving.observed.change import ChangeDetector, looks_between
from serving.observed.cusum import weight
from serving.observed.novelty import Float
from serving.observed.novelty_reference import Judged, Reference, Seen
from serving.observed.observer import CameraKey
from serving.observed.ring import FrameRing
from serving.observed.sampling import Quota, diverse, picture_hash

log = logging.getLogger(__name__)

WEEK_S: Final = 7 * 86_400.0
LOOK_S: Final = 4.0
SAMPLE: Final = 24
"""Frames that one change preserves at most."""
LOOK_BACK_S: Final = 1_800.0
"""How far back from a change frames are sampled."""
MAX_WAITING: Final = 4
MAX_CAMERAS: Final = 128
SURE: Final = 0.6
"""A package answered below this score is doubted more the lower it is."""
WISHES: Final = "wishes"
MAX_WISH_BYTES: Final = 64 * 1024
FORGET: Final = "forget"
_WISH: Final = re.compile(r"[0-9a-f]{32}\.json")
REASONS: Final[tuple[Reason, ...]] = ("novelty", "doubt", "failed_picks")
Image = npt.NDArray[np.uint8]


class Embeds(Protocol):
    """What makes embeddings: `Seen` of a frame and what was answered on it; None where the base has none to offer."""

    def __call__(self, image: Image, instances: Instances) -> Seen | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame that was answered: uint8 [H, W, 3] that nobody changes, what was said of it, and who asked."""

    key: CameraKey
    pixels: Image
    instances: Instances
    request_id: str
    at: float
    served_by: str
    variant: str | None
    robot: str | None = None


@dataclass(slots=True)
class _Watched:
    """One camera."""

    streams: dict[Reason, ChangeDetector]
    last_at: float = -1e9


class NoveltyWatch:
    """All cameras of a server. `offer` may be called from any thread and returns at once."""

    def __init__(
        self,
        folder: Path,
        captures: CaptureStore,
        embeds: Embeds,
        reference_of: Callable[[str | None], Reference | None],
        *,
        share: float = 0.1,
        ring: FrameRing | None = None,
        sample: int = SAMPLE,
        between_s: float = WEEK_S,
        start: bool = True,
    ) -> None:
        """`folder` is the telemetry folder. `reference_of` gives the reference beside a variant (None: the base), or
        None. Work takes at most `share` of the time. With `start` False nothing runs by itself: `look` is called."""
        self._folder = folder
        self._captures = captures
        self._embeds = embeds
        self._reference_of = reference_of
        self._rest = 1 / share - 1
        self._ring = ring or FrameRing(folder / "ring")
        self._quota = Quota(folder / "observed" / "quota.json")
        self._sample = sample
        self._looks = looks_between(between_s, LOOK_S, 2)
        self._cameras: OrderedDict[CameraKey, _Watched] = OrderedDict()
        self._states: dict[CameraKey, str] = {}
        self._waiting: deque[Frame] = deque(maxlen=MAX_WAITING)
        self._some = threading.Condition()
        self._closed = False
        self.looked = self.changes = 0
        self._thread = threading.Thread(target=self._run, name="novelty", daemon=True)
        if start:
            self._thread.start()

    def offer(self, frame: Frame) -> None:
        """Look at a frame soon; of more than wait already the oldest one is left out."""
        with self._some:
            if not self._closed:
                self._waiting.append(frame)
                self._some.notify()

    def state_of(self, key: CameraKey) -> str:
        """`learning`, `ok`, or `cannot_tell` where there is no reference; of a camera that was not seen, too."""
        return self._states.get(key, "cannot_tell")

    def close(self) -> None:
        """End the thread; what waits is left out."""
        with self._some:
            self._closed = True
            self._some.notify()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)  # answers go first
        while True:
            with self._some:
                while not self._waiting and not self._closed:
                    self._some.wait(2.0)
                    if not self._waiting:
                        break
                if self._closed:
                    return
                frame = self._waiting.pop() if self._waiting else None  # the newest
            began = time.monotonic()
            try:
                self.grant()  # first: a cell that is gone must not be sampled
                if frame is not None:
                    self.look(frame)
            except Exception:
                # A frame that cannot be judged, a full disk: neither may end the watch, and never an answer.
                log.exception("a frame could not be looked at for novelty")
            deadline = time.monotonic() + self._rest * (time.monotonic() - began)
            with self._some:
                while not self._closed and (left := deadline - time.monotonic()) > 0:
                    self._some.wait(left)

    # --- one frame ----------------------------------------------------------------------------------------------------

    def look(self, frame: Frame) -> Judged | None:
        """Judge a frame, keep it in the ring, and sample where something has changed. None: cannot tell."""
        seen = self._embeds(frame.pixels, frame.instances)
        if seen is None:
            return None
        self.looked += 1
        watched = self._watched(frame.key)
        reference = self._reference_of(frame.variant)
        judged = None if reference is None else reference.judge(seen)
        self._states[frame.key] = "cannot_tell" if judged is None else "ok"
        self._ring.put(frame.at, self._document(frame, seen, judged), encoded(frame.pixels)[0])
        passed = weight(frame.at - watched.last_at)
        watched.last_at = max(frame.at, watched.last_at)
        values: dict[Reason, float] = {"doubt": _doubt(frame.instances)}
        if judged is not None:
            values["novelty"] = judged.strangeness
        for reason, value in values.items():
            stream = watched.streams[reason]
            if not stream.learnt:
                self._states[frame.key] = "learning" if judged is not None else "cannot_tell"
            if stream.add(value, passed):
                log.warning("%s of %s has changed", reason, frame.key.cell)
                self.changes += 1
                self._preserve(frame.key.cell, reason, frame.at - LOOK_BACK_S, frame.at, ())
        return judged

    def _watched(self, key: CameraKey) -> _Watched:
        found = self._cameras.get(key)
        if found is None:
            found = _Watched({reason: ChangeDetector(self._looks) for reason in REASONS})
            self._cameras[key] = found
            while len(self._cameras) > MAX_CAMERAS:
                gone, _ = self._cameras.popitem(last=False)
                self._states.pop(gone, None)
        self._cameras.move_to_end(key)
        return found

    def _document(self, frame: Frame, seen: Seen, judged: Judged | None) -> dict[str, Any]:
        found, key = frame.instances, frame.key
        return {
            "cell": key.cell, "line": key.line, "camera": key.camera, "robot": frame.robot,
            "request_id": frame.request_id, "at": frame.at, "served_by": frame.served_by,
            "height": found.height, "width": found.width, "labels": found.labels,
            "scores": [round(float(v), 5) for v in found.scores],
            "boxes": [[float(v) for v in box] for box in found.boxes],
            "masks": [mask.decode() for mask in found.masks],
            "frame": pack(seen.patches.mean(axis=0)[None]),
            "hash": picture_hash(frame.pixels),
            "observed": observed(seen, judged, self._embedded_beside(frame, seen, judged)),
        }  # fmt: skip

    @staticmethod
    def _embedded_beside(frame: Frame, seen: Seen, judged: Judged | None) -> Float:
        """Embeddings of what was not answered, of the patches in its box: float32 [U, D]."""
        boxes = judged.unanswered if judged is not None else ()
        if not boxes:
            return np.zeros((0, seen.instances.shape[1]), np.float32)
        height, width = frame.pixels.shape[:2]
        rows, columns = seen.grid
        masks = np.zeros((len(boxes), height, width), np.bool_)
        means = []
        for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
            mask[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
            part = seen.patches.reshape(rows, columns, -1)[
                round(y0 * rows) : round(y1 * rows), round(x0 * columns) : round(x1 * columns)
            ]
            means.append(part.reshape(-1, part.shape[-1]).mean(axis=0))
        looks = appearance(frame.pixels, Instances.from_masks(masks, [""] * len(boxes)))
        found = np.concatenate([np.stack(means), looks], axis=1)
        return np.asarray(found, np.float32)

    # --- samples ------------------------------------------------------------------------------------------------------

    def grant(self) -> int:
        """Sample what the hub asks for; how many wishes there were."""
        folder, count = self._folder / WISHES, 0
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if _WISH.fullmatch(entry.name))
        except FileNotFoundError:
            return 0
        for name in names:
            path = folder / name
            try:
                with path.open("rb") as file:
                    wish = json.loads(file.read(MAX_WISH_BYTES))
                cell, since, reason = str(wish["cell"]), float(wish["since"]), wish["reason"]
                requests = tuple(str(one) for one in wish["requests"])
            except (OSError, ValueError, KeyError, TypeError):
                log.warning("a wish for a sample cannot be read and was left out")
            else:
                if reason == FORGET:
                    self._ring.forget(cell)
                elif reason in REASONS:
                    count += 1
                    self._preserve(cell, reason, since, time.time(), requests)
            path.unlink(missing_ok=True)
        return count

    def _preserve(self, cell: str, reason: Reason, since: float, until: float, requests: tuple[str, ...]) -> int:
        """Keep a diverse sample of a cell's frames in the ring as captures; those of `requests` before others."""
        room = min(self._sample, self._quota.left(cell, until))
        documents: list[tuple[str, dict[str, Any]]] = []
        for name in self._ring.names(since=since, until=until):
            found = self._ring.read(name)
            if found is not None and found[0].get("cell") == cell:
                documents.append((name, found[0]))
        if not documents or room < 1:
            return 0
        rows = np.concatenate([unpack(one["frame"]) for _, one in documents])
        strange = np.array([_interest(one, reason, requests) for _, one in documents], np.float32)
        kept = 0
        for k in diverse(rows, strange, [int(one["hash"]) for _, one in documents], room):
            name, one = documents[k]
            found = self._ring.read(name)
            if found is not None:
                self._captures.add(_capture(one, found[1], reason))
                kept += 1
        self._quota.use(cell, until, kept)
        log.info("%d frames of %s were kept: %s", kept, cell, reason)
        return kept


def _doubt(instances: Instances) -> float:
    """How much the network doubts a frame: of its most doubted package; nothing answered is doubt as well."""
    return 1.0 if not len(instances) else float(np.maximum(SURE - instances.scores, 0.0).max())


def _interest(document: Mapping[str, Any], reason: Reason, requests: tuple[str, ...]) -> float:
    if requests:
        return float(document["request_id"] in requests)
    if reason == "doubt":
        return float(max((SURE - score for score in document["scores"]), default=1.0))
    return float(document["observed"].get("strangeness", 0.0))


def observed(seen: Seen, judged: Judged | None, beside: Float) -> dict[str, Any]:
    """What is kept of a frame beside the answer, as JSON: embeddings of its packages and how novel each is; `beside`
    are those of what was not answered."""
    found: dict[str, Any] = {"embeddings": pack(seen.instances), "width": int(seen.instances.shape[1])}
    if judged is not None:
        found |= {
            "novelty": [round(float(v), 5) for v in judged.novelty],
            "novel": [bool(v) for v in judged.novel],
            "embeddings_beside": pack(beside),
            "unanswered": [[round(v, 5) for v in box] for box in judged.unanswered],
            "strangeness": round(judged.strangeness, 4),
        }
    return found


def pack(rows: Float) -> str:
    """float32 [n, D] as base64 of float16."""
    return base64.b64encode(np.ascontiguousarray(rows, np.float16).tobytes()).decode()


def unpack(text: str, width: int | None = None) -> Float:
    """What `pack` made, one row unless `width` says how long each is. Raises ValueError for what is none."""
    values = np.frombuffer(base64.b64decode(text, validate=True), np.float16).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("embeddings that are not finite")
    return values.reshape(-1, width if width else max(len(values), 1))


def _capture(document: Mapping[str, Any], picture: bytes, reason: Reason) -> Capture:
    count = len(document["labels"])
    instances = Instances(
        int(document["height"]),
        int(document["width"]),
        np.array(document["boxes"], np.float32).reshape(count, 4),
        np.array(document["scores"], np.float32),
        tuple(document["labels"]),
        tuple(str(mask).encode() for mask in document["masks"]),
    )
    return Capture(
        picture, instances, str(document["request_id"]), float(document["at"]), reason, str(document["served_by"]),
        document["cell"], document["line"], document["robot"], document["camera"], document["observed"],
    )  # fmt: skip


def wish(
    folder: Path, wish_id: str, cell: str, reason: Reason | Literal["forget"], since: float, requests: tuple[str, ...]
) -> None:
    """Ask the site for a sample, or to forget a cell, by a file.

    `folder` is the telemetry folder, `wish_id` 32 hexadecimal digits.
    """
    document = {"cell": cell, "reason": reason, "since": since, "requests": list(requests)}
    write_file(folder / WISHES / f"{wish_id}.json", json.dumps(document).encode())
