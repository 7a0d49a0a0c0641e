"""Novelty, doubt and failed picks of all cells of a server, watched beside the answers; a change starts a sample.

`offer` is called by what answers robots: it puts references into a queue and returns. One thread embeds frames within
its share of the time, judges them against the reference of their cell, and keeps them in the ring. When a stream has
changed (`ChangeDetector`, one false alarm a week and camera at most for all three), a diverse sample of the ring's
frames of that cell is preserved as captures, each with its reason, its embeddings and what was not answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from serving.instances import Instances
from serving.observed.appearance import appearance
from serving.observed.camera_words import TOLD_EVERY_S, CameraWord
from serving.observed.captures import CaptureStore, Reason, encoded
from serving.observed.change import ChangeDetector, looks_between
from serving.observed.cusum import weight
from serving.observed.doubt import Again, by_scores
from serving.observed.novelty import Float
from serving.observed.novelty_reference import Judged, Reference, Seen
from serving.observed.observer import CameraKey
from serving.observed.packing import observed, pack, unpack
from serving.observed.ring import FrameRing
from serving.observed.sampling import Quota, diverse, picture_hash
from serving.observed.state_files import read_state, set_aside, write_state
from serving.observed.uplink import DiskUplink, Uplink
from serving.observed.watch_samples import capture_of, change_of, interest, stacked
from serving.observed.wishes import FORGET, Wish, waiting, wish

log = logging.getLogger(__name__)

WEEK_S: Final = 7 * 86_400.0
LOOK_S: Final = 4.0
SAMPLE: Final = 24
"""Frames that one change preserves at most."""
LOOK_BACK_S: Final = 1_800.0
"""How far back from a change frames are sampled."""
MAX_WAITING: Final = 4
MAX_CAMERAS: Final = 128
REASONS: Final[tuple[Reason, ...]] = ("novelty", "doubt", "failed_picks")
Stream = Literal["novelty", "doubt", "unstable"]
STREAMS: Final[Mapping[Stream, Reason]] = {"novelty": "novelty", "doubt": "doubt", "unstable": "doubt"}
"""What is watched of each camera, and the reason of the sample that a change of it starts."""
STATE: Final = "novelty.json"
FORMAT: Final = 1
SAVE_EVERY_S: Final = 60.0
SHOWS_NEW_S: Final = 1_800.0
"""So long after a change of novelty a camera is said to show something new."""
Image = npt.NDArray[np.uint8]


class Doubts(Protocol):
    """What looks at frames again; None where it is not this frame's turn, or nothing can be asked."""

    def __call__(self, frame: Frame) -> Again | None:
        """Look at the frame again, on the caller's thread."""


class Embeds(Protocol):
    """What makes embeddings: `Seen` of a frame and what the variant answered on it; None where its base has none."""

    def __call__(self, image: Image, instances: Instances, variant: str | None) -> Seen | None:
        """Look at an image, uint8 [H, W, 3], by the base of the variant that answered; None: the base in place."""


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

    streams: dict[Stream, ChangeDetector]
    last_at: float = -1e9
    changed_at: float = -1e9
    """When novelty changed last, epoch seconds."""
    frames: int = 0
    changes: int = 0
    """Since the server started."""
    told: str = ""
    told_at: float = 0.0


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
        uplink: Uplink | None = None,
        doubts: Doubts | None = None,
    ) -> None:
        """`folder` is the telemetry folder. `reference_of` gives the reference beside a variant (None: the base), or
        None. Work takes at most `share` of the time. With `start` False nothing runs by itself: `look` is called.
        `uplink` takes samples, the one on this disk unless said. `doubts` looks at some frames again."""
        self._folder = folder
        self._uplink = uplink or DiskUplink(folder, captures=captures)
        self._doubts = doubts
        self._state = folder / "observed" / STATE
        self._saved_at = time.monotonic()
        self._embeds = embeds
        self._reference_of = reference_of
        self._rest = 1 / share - 1
        self._ring = ring or FrameRing(folder / "ring")
        self._quota = Quota(folder / "observed" / "quota.json")
        self._sample = sample
        self._looks = looks_between(between_s, LOOK_S, len(STREAMS))
        self._cameras: OrderedDict[CameraKey, _Watched] = OrderedDict()
        self._states: dict[CameraKey, str] = {}
        self._waiting: deque[Frame] = deque(maxlen=MAX_WAITING)
        self._some = threading.Condition()
        self._closed = False
        self.looked = self.changes = 0
        self._restore()
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
        """What an answer carries: `new` for half an hour after novelty has changed, `learning`, `ok`, or `cannot_tell`
        where there is no reference; of a camera that was not seen, too."""
        return self._states.get(key, "cannot_tell")

    def close(self) -> None:
        """End the thread; what waits is left out."""
        with self._some:
            self._closed = True
            self._some.notify()
        if self._thread.is_alive():
            self._thread.join(10)
        self._save()

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
                if time.monotonic() - self._saved_at > SAVE_EVERY_S:
                    self._save()
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
        seen = self._embeds(frame.pixels, frame.instances, frame.variant)
        if seen is None:
            return None
        self.looked += 1
        watched = self._watched(frame.key)
        reference = self._reference_of(frame.variant)
        judged = None if reference is None else reference.judge(seen)
        again = None if self._doubts is None else self._doubts(frame)
        document = self._document(frame, seen, judged)
        if again is not None:
            document["observed"] |= again.document()
        self._ring.put(frame.at, document, encoded(frame.pixels)[0])
        passed = weight(frame.at - watched.last_at)
        watched.last_at = max(frame.at, watched.last_at)
        values: dict[Stream, float] = {"doubt": by_scores(frame.instances.scores)}
        if judged is not None:
            values["novelty"] = judged.strangeness
        if again is not None:
            values["unstable"] = again.frame
        state = "cannot_tell" if judged is None else "ok"
        for stream, value in values.items():
            if not watched.streams[stream].learnt and judged is not None and stream != "unstable":
                state = "learning"
            if watched.streams[stream].add(value, passed):
                self._changed(frame.key, watched, stream, frame.at)
        if judged is not None and frame.at - watched.changed_at < SHOWS_NEW_S:
            state = "new"
        self._states[frame.key] = state
        watched.frames += 1
        self._tell(frame.key, watched, state, values, frame.at)
        return judged

    def _tell(self, key: CameraKey, watched: _Watched, state: str, values: Mapping[Stream, float], at: float) -> None:
        """Tell the hub what is known of a camera: when that changes, and now and then."""
        now = time.monotonic()
        if state == watched.told and now - watched.told_at < TOLD_EVERY_S:
            return
        watched.told, watched.told_at = state, now
        streams = {name: {"learnt": one.learnt, "evidence": one.evidence} for name, one in watched.streams.items()}
        told = {
            "state": state, "frames": watched.frames, "changes": watched.changes, "changed_at": watched.changed_at,
            "values": {name: round(float(value), 5) for name, value in values.items()}, "streams": streams,
            "limit": self._looks,
        }  # fmt: skip
        self._uplink.statistics(CameraWord("novelty", key.cell, key.line, key.camera, at, told))

    def _changed(self, key: CameraKey, watched: _Watched, stream: Stream, at: float) -> None:
        """Note a change and sample. As a wish, which lies on the disk until it is granted: a site that is killed grants
        it when it is back, and captures that it had made already count once."""
        log.warning("%s of %s has changed", stream, key.cell)
        self.changes += 1
        watched.changes += 1
        if stream == "novelty":
            watched.changed_at = at
        name = hashlib.sha256(json.dumps([key.digest, stream, at]).encode()).hexdigest()[:32]
        wish(self._folder, name, key.cell, STREAMS[stream], at - LOOK_BACK_S, (), until=at)
        self._uplink.put(name, at, change_of(key, stream, at, self._looks))
        self._save()
        self.grant()

    def _watched(self, key: CameraKey) -> _Watched:
        found = self._cameras.get(key)
        if found is None:
            found = _Watched({stream: ChangeDetector(self._looks) for stream in STREAMS})
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

    # --- state over a restart -----------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        cameras = [
            {
                "camera": [key.cell, key.line, key.camera],
                "last_at": one.last_at,
                "changed_at": one.changed_at,
                "streams": {name: stream.save() for name, stream in one.streams.items()},
            }
            for key, one in self._cameras.items()
        ]
        try:
            write_state(self._state, {"format": FORMAT, "looks": self._looks, "cameras": cameras})
        except OSError as error:
            log.warning("the state of the watch could not be written: %s", error)

    def _restore(self) -> None:
        """What was learnt of each camera before a restart; of a damaged file nothing, and it is set aside."""
        document = read_state(self._state)
        if document is None:
            return
        if document.get("format") != FORMAT:
            set_aside(self._state, "written by another version")
            return
        try:
            for one in document["cameras"][-MAX_CAMERAS:]:
                cell, line, camera = one["camera"]
                watched = self._watched(CameraKey(str(cell), line, camera))
                watched.last_at, watched.changed_at = float(one["last_at"]), float(one["changed_at"])
                for name, stream in watched.streams.items():
                    stream.restore(one["streams"][name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._cameras.clear()
            set_aside(self._state, error)

    # --- samples ------------------------------------------------------------------------------------------------------

    def grant(self) -> int:
        """Sample what is asked for; how many wishes there were. Raises OSError where the disk fails: what was not
        granted is, the next time."""
        count = 0
        for one in waiting(self._folder):
            kept = 0
            if one.reason == FORGET:
                self._forget(one.cell)
            elif one.reason in REASONS:
                count += 1
                try:
                    kept = self._preserve(one)
                except (KeyError, TypeError, ValueError):
                    log.exception("a sample of %s could not be made", one.cell)
            one.done()  # before it counts: who is killed in between must not count it twice
            if kept:
                self._quota.use(one.cell, one.until, kept)
        return count

    def _forget(self, cell: str) -> None:
        """Another cell by its name must not find its frames, nor what was learnt of its cameras."""
        self._ring.forget(cell)
        for key in [key for key in self._cameras if key.cell == cell]:
            del self._cameras[key]
            self._states.pop(key, None)
        self._save()

    def _preserve(self, asked: Wish) -> int:
        """Keep a diverse sample of a cell's frames in the ring as captures; those of `requests` before others."""
        cell, requests, reason = asked.cell, asked.requests, asked.reason
        room = min(self._sample, self._quota.left(cell, asked.until))
        documents: list[tuple[str, dict[str, Any]]] = []
        for name in self._ring.names(since=asked.since, until=asked.until):
            found = self._ring.read(name)
            if found is not None and found[0].get("cell") == cell:
                documents.append((name, found[0]))
        if not documents or room < 1:
            return 0
        rows = stacked([unpack(one["frame"])[0] for _, one in documents])
        strange = np.array([interest(one, reason, requests) for _, one in documents], np.float32)
        kept = 0
        for k in diverse(rows, strange, [int(one["hash"]) for _, one in documents], room):
            name, one = documents[k]
            found = self._ring.read(name)
            if found is not None:
                self._uplink.capture(capture_of(one, found[1], reason))
                kept += 1
        log.info("%d frames of %s were kept: %s", kept, cell, reason)
        return kept
