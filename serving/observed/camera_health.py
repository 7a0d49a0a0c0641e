"""One camera, frame by frame: its reference and its ordinary numbers are learnt, then each frame is judged, and what
they say is decided over time.

Memory: while it learns, 60 views (3 MB at most); after that the reference and a handful of numbers, some 0.4 MB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

import cv2
import numpy as np

from serving.observed import reference as refs
from serving.observed.camera_files import ordinary_of, sum_of
from serving.observed.camera_kinds import KINDS, UNKNOWN, CameraState, Kind, Word
from serving.observed.cusum import DAY_S, Cusum, Recovery, threshold, weight
from serving.observed.measures import Plain, change, plain, white_share
from serving.observed.reference import Compared
from serving.observed.rules import Lately, Ordinary, blind, looks_like, summary
from serving.observed.views import Float, View

REFERENCE_FRAMES: Final = 60
ORDINARY_FRAMES: Final = 40
"""So many frames are measured beside the new reference before the camera is judged: a hundred in all."""
DIFFERENT, DIFFERENT_SHARE, STANDING = 12, 0.01, 30
"""A frame is learnt from if so many grey levels differ on such a share of it from the last one that was; or so many
frames later."""
OTHER_SIZE: Final = 20
"""So many frames of another size in a row, and the camera is learnt anew."""
BETWEEN_FALSE_ALARMS_S: Final = 30 * DAY_S
RECOVERED_S: Final = 3600.0
_FOLLOW_S: Final = 900.0
_HOUR_LOOKS: Final = 60.0
_COVER_LOOKS: Final = 150.0
_SUSPICIOUS: Final = 2.0
LOOK_EVERY_S: Final = 1.0
"""A frame that comes sooner after the last one that was judged is glanced at alone, unless it is odd: what frames show
within a second is no more evidence than one of them."""
ODD_LIGHT, ODD_WHITE = 0.4, 0.15
"""Log of luminance, and share of white pixels, by which an odd frame differs from the last one that was judged."""
FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Glance:
    """What every frame is looked at for: log of mean luminance, share of white pixels, whether it is the one before."""

    light: float
    white: float
    same: bool

    @classmethod
    def of(cls, view: View, before: View | None) -> Self:
        """Of a frame's small picture and the one before; None: it is the first."""
        red, green, blue, _ = cv2.mean(view.small)
        return cls(math.log(red + green + blue + 3.0), white_share(view), change(view, before)[1] == 0.0)

    def odd(self, judged: Self) -> bool:
        """Whether it differs from the last frame that was judged, as only a fault or a new light does at once."""
        changed = abs(self.light - judged.light) > ODD_LIGHT or abs(self.white - judged.white) > ODD_WHITE
        return changed or self.same != judged.same


@dataclass(slots=True)
class _Hours:
    """The ordinary gain by hour of the day, over the days."""

    gain: list[float] = field(default_factory=lambda: [0.0] * 24)
    looks: list[float] = field(default_factory=lambda: [0.0] * 24)

    def of(self, hour: int) -> float:
        return self.gain[hour] if self.looks[hour] >= _HOUR_LOOKS else math.nan

    def learn(self, hour: int, gain: float, looks: float) -> None:
        self.looks[hour] += looks
        step = looks / min(self.looks[hour], 3000.0) if self.looks[hour] > 0 else 0.0
        self.gain[hour] += (gain - self.gain[hour]) * min(step, 1.0)


class CameraHealth:
    """Whether one camera is in order. Not thread-safe: one thread calls `observe`, in the order of the frames."""

    def __init__(self, *, between_false_alarms_s: float = BETWEEN_FALSE_ALARMS_S) -> None:
        """`between_false_alarms_s` is the mean time that a healthy camera goes without a false alarm, all kinds
        together, as far as its frames are what it learnt from."""
        self._limit = threshold(between_false_alarms_s, len(KINDS) + 1)
        self._over = threshold(RECOVERED_S, 1)
        self.state: CameraState = UNKNOWN
        self._start()
        self._frames = 0
        self._last_at: float | None = None
        self._before: View | None = None
        self._glance: Glance | None = None

    def _start(self) -> None:
        self._size: tuple[int, int] | None = None
        self._others = 0
        self._views: list[View] = []
        self._kept: View | None = None
        self._since_kept = 0
        self._measured: list[tuple[Plain, Compared, tuple[float, float]]] = []
        self._reference: refs.Reference | None = None
        self._ordinary: Ordinary | None = None
        self._blind: tuple[Kind, ...] = ()
        self._sums = {kind: Cusum() for kind in KINDS}
        self._any = Cusum()
        self._votes = dict.fromkeys(KINDS, 0.0)
        self._recovery = Recovery()
        self._hours = _Hours()
        self._covered: Float | None = None
        self._cover_looks = 0.0
        self._lately = Lately()

    @property
    def learnt(self) -> bool:
        """Whether the camera can be judged."""
        return self._ordinary is not None

    def baseline(self) -> dict[str, float | int] | None:
        """What is ordinary for this camera, in numbers for people; None while it is learnt. `light`: beside that of its
        first hundred frames. `noise`: grey levels. `fixed`: the share of the view where nothing ever lies. `edges`: of
        sixteen tiles, those whose edges tell. `hours`: of the day's, those whose light is known."""
        reference, one = self._reference, self._ordinary
        if reference is None or one is None:
            return None
        firm = np.isfinite(reference.edges) & (np.array(one.structure) > 0)
        return {
            "light": round(math.exp(one.gain), 3),
            "noise": round(one.noise, 2),
            "fixed": round(reference.share, 3),
            "edges": int(firm.sum()),
            "hours": sum(looks >= _HOUR_LOOKS for looks in self._hours.looks),
        }

    def relearn(self) -> None:
        """Forget the camera: what it shows from now on is in order."""
        self._start()
        self._before = self._glance = None
        self.state = CameraState("cannot_tell", reason=self._learning(), frames=self._frames)

    def observe(self, view: View, at: float) -> CameraState:
        """Take a frame in that was seen at `at` (epoch seconds). Returns what is known of the camera now.

        A frame that is older than the one before counts as simultaneous with it.
        """
        self._frames += 1
        if self._between(view, at):
            self.state = replace(self.state, frames=self._frames)
            return self.state
        passed = at - self._last_at if self._last_at is not None else 0.0
        self._last_at = max(at, self._last_at) if self._last_at is not None else at
        looks = weight(passed)
        if self._size is None:
            self._size = view.size
        if view.size != self._size:
            return self._of_another_size(view)
        self._others = 0
        before, self._before = self._before, view
        frame = plain(view)
        moved = change(view, before)
        if self._reference is None:
            return self._collect(view, frame, moved)
        found = refs.compare(frame, self._reference)
        if self._ordinary is None:
            return self._measure(view, frame, found, moved)
        return self._judge(frame, found, moved, at, looks)

    def _between(self, view: View, at: float) -> bool:
        """Whether a glance is enough: the camera is known, was judged just now, and this frame is nothing odd."""
        if self._ordinary is None or self._last_at is None or view.size != self._size or self._others:
            return False
        glance, before = Glance.of(view, self._before), self._glance
        if before is not None and 0.0 <= at - self._last_at < LOOK_EVERY_S and not glance.odd(before):
            self._before = view
            return True
        self._glance = glance
        return False

    # --- learning -----------------------------------------------------------------------------------------------------

    def _of_another_size(self, view: View) -> CameraState:
        self._others += 1
        if self._others >= OTHER_SIZE:
            self.relearn()
            self._size = view.size
            return self.state
        height, width = view.size
        was = self._size or (0, 0)
        reason = f"the frame has {width} x {height} pixels, the camera had {was[1]} x {was[0]}"
        if self.state.word == "fault":
            return self.state
        self.state = CameraState("cannot_tell", reason=reason, blind=self._blind, frames=self._frames)
        return self.state

    def _collect(self, view: View, frame: Plain, moved: tuple[float, float]) -> CameraState:
        poor = ""
        if frame.mean < 6.0:
            poor = "the picture is almost black"
        elif frame.saturated > 0.7:
            poor = "the picture is almost white"
        elif moved[1] == 0.0:
            poor = "the camera sends the same picture again and again"
        if poor:  # nothing is learnt from it
            self.state = CameraState("cannot_tell", reason=poor, frames=self._frames)
            return self.state
        if self._tells_more(view):
            self._views.append(view)
        if len(self._views) >= REFERENCE_FRAMES:
            self._reference = refs.learn(self._views)
            self._views = []
            self._covered = np.zeros_like(self._reference.log)
        self.state = CameraState("cannot_tell", reason=self._learning(), frames=self._frames)
        return self.state

    def _tells_more(self, view: View) -> bool:
        """Whether a frame is to be learnt from: it differs from the last one that was, or a while has passed. A belt
        that stands shows what lies on it for minutes, which must not become a part of the view."""
        self._since_kept += 1
        kept = self._kept
        if kept is not None and self._since_kept < STANDING:
            differs = (cv2.absdiff(view.calm(), kept.calm()) > DIFFERENT).mean()
            if differs < DIFFERENT_SHARE:
                return False
        self._kept, self._since_kept = view, 0
        return True

    def _measure(self, view: View, frame: Plain, found: Compared, moved: tuple[float, float]) -> CameraState:
        reference = self._reference
        if reference is None:
            raise AssertionError("a camera is measured beside its reference")
        if self._tells_more(view):
            self._measured.append((frame, found, moved))
        if len(self._measured) >= ORDINARY_FRAMES:
            measured, self._measured = self._measured, []
            self._kept = None
            self._ordinary = summary(measured)
            self._blind = blind(reference, self._ordinary)
            for one in measured:
                suspect = looks_like(*one, reference, self._ordinary, math.nan, self._lately)
                for kind, total in self._sums.items():
                    total.p0 += float(suspect == kind) / len(measured)
                self._any.p0 += float(suspect is not None) / len(measured)
        self.state = CameraState("cannot_tell", reason=self._learning(), frames=self._frames)
        return self.state

    def _learning(self) -> str:
        done = len(self._views) + (REFERENCE_FRAMES + len(self._measured) if self._reference is not None else 0)
        return f"the camera is being learnt: {done} of {REFERENCE_FRAMES + ORDINARY_FRAMES} frames"

    # --- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, frame: Plain, found: Compared, moved: tuple[float, float], at: float, looks: float) -> CameraState:
        reference, ordinary = self._reference, self._ordinary
        if reference is None or ordinary is None:
            raise AssertionError("a camera is judged when it is learnt")
        hour = int(at % DAY_S // 3600)
        suspect = looks_like(frame, found, moved, reference, ordinary, self._hours.of(hour), self._lately)
        sums = self._sums
        for name, total in sums.items():
            total.add(suspect == name, at, looks, 2 * self._limit)
        self._vote(suspect, at, looks)
        kind, since = self.state.kind, self.state.since
        if kind is not None and self._recovery.add(suspect is not None, sums[kind].p0, looks) > self._over:
            kind = since = None
            for total in (*sums.values(), self._any):
                total.reset()
        worst = max(KINDS, key=lambda one: sums[one].value)
        # Of a fault that turns out to be another one, nothing is left when the other is certain.
        if sums[worst].value > self._limit and (kind is None or sums[kind].value == 0.0):
            kind, since = worst, sums[worst].first
            self._recovery = Recovery()
        elif kind is None and self._any.value > self._limit:
            likeliest = max(KINDS, key=self._votes.__getitem__)
            kind, since = likeliest, self._any.first
            self._recovery = Recovery()
        calm = kind is None and suspect is None and max(one.value for one in sums.values()) < _SUSPICIOUS
        if calm:
            self._follow(frame, found, hour, looks)
        if kind is None and max(one.value for one in sums.values()) < self._limit / 2:
            self._uncover(frame, found, looks)
            for name, total in sums.items():
                total.learn(suspect == name, looks)
            self._any.learn(suspect is not None, looks)
        word: Word = "ok" if kind is None else "fault"
        reason = "" if kind is None else self._told(kind, found)
        self.state = CameraState(word, kind, since, reason, self._blind, suspect, self._frames)
        return self.state

    def _vote(self, suspect: Kind | None, at: float, looks: float) -> None:
        """Sum up that the frames look faulty at all, and as what: under one fault they may look like two by turns."""
        if self._any.add(suspect is not None, at, looks, 2 * self._limit) == 0.0:
            self._votes = dict.fromkeys(KINDS, 0.0)
        elif suspect is not None:
            self._votes[suspect] += looks

    def _follow(self, frame: Plain, found: Compared, hour: int, looks: float) -> None:
        """Follow the day's slow changes."""
        one = self._ordinary
        if one is None:
            return
        step = min(looks * 4.0 / _FOLLOW_S, 1.0)
        self._hours.learn(hour, found.gain, looks)
        self._ordinary = replace(
            one,
            gain=one.gain + (found.gain - one.gain) * min(step * 3, 1.0),
            red=one.red + (found.red - one.red) * step,
            blue=one.blue + (found.blue - one.blue) * step,
            saturated=one.saturated + (frame.saturated - one.saturated) * step,
            noise=one.noise + (frame.noise - one.noise) * step,
        )

    def _uncover(self, frame: Plain, found: Compared, looks: float) -> None:
        """Places that turn out to be covered now and then are no longer part of the reference."""
        reference = self._reference
        if reference is None or self._covered is None:
            return
        off = (np.abs(frame.log - reference.log - np.float32(found.gain)) > refs.SPREAD).astype(np.float32)
        cv2.accumulateWeighted(off, self._covered, min(looks / _COVER_LOOKS, 1.0))
        self._cover_looks += looks
        if self._cover_looks >= _COVER_LOOKS / 2:
            self._cover_looks = 0.0
            if ((self._covered > refs.COVERED) & (reference.fixed > 0)).any():
                self._reference = refs.without(reference, self._covered > refs.COVERED, self._size or (0, 0))
                if self._ordinary is not None:
                    self._blind = blind(self._reference, self._ordinary)

    def _told(self, kind: Kind, found: Compared) -> str:
        ordinary = self._ordinary
        if ordinary is None:
            return ""
        if kind in ("dark", "over_exposed"):
            return f"the view has {math.exp(found.gain - ordinary.gain):.2f} times its ordinary light"
        if kind == "moved":
            return f"{max(found.agreement, 0.0):.0%} of the view's fixed edges are where they were"
        return ""

    # --- saving -------------------------------------------------------------------------------------------------------

    def save(self) -> tuple[dict[str, Float], dict[str, Any]]:
        """What was learnt, as arrays and a document for JSON; a camera that is still learning saves nothing."""
        if self._reference is None or self._ordinary is None or self._size is None:
            return {}, {"format": FORMAT}
        document = {
            "format": FORMAT,
            "size": list(self._size),
            "ordinary": asdict(self._ordinary),
            "p0": {kind: total.p0 for kind, total in self._sums.items()},
            "any": [self._any.p0, self._any.value, self._any.first],
            "sums": {kind: [total.value, total.first] for kind, total in self._sums.items()},
            "recovery": self._recovery.value,
            "hours": asdict(self._hours),
            "frames": self._frames,
            "fault": None if self.state.kind is None else [self.state.kind, self.state.since],
        }
        return refs.arrays(self._reference), document

    def restore(self, arrays: Mapping[str, Float], document: Mapping[str, Any]) -> bool:
        """Take back what `save` gave; whether there was something. What is damaged or of another version is left."""
        try:
            if document["format"] != FORMAT or not arrays:
                return False
            reference = refs.from_arrays(dict(arrays))
            height, width = document["size"]
            ordinary = ordinary_of(document["ordinary"])
            hours = _Hours(
                [float(v) for v in document["hours"]["gain"]], [float(v) for v in document["hours"]["looks"]]
            )
            if len(hours.gain) != 24 or len(hours.looks) != 24:
                return False
            p0 = {kind: float(document["p0"][kind]) for kind in KINDS}
            sums = {kind: sum_of(document.get("sums", {}).get(kind, (0.0, None))) for kind in KINDS}
            any_p0, any_value, any_first = document["any"]
            any_sum = Cusum(float(any_p0), *sum_of((any_value, any_first)))
            recovery, _ = sum_of((document.get("recovery", 0.0), None))
            frames = int(document["frames"])
            fault = document["fault"]
            known = fault is None or (fault[0] in KINDS and isinstance(fault[1], float))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return False
        if not known:
            return False
        self._start()
        self._size, self._reference, self._ordinary, self._hours = (int(height), int(width)), reference, ordinary, hours
        self._blind = blind(reference, ordinary)
        self._covered = np.zeros_like(reference.log)
        for kind, total in self._sums.items():
            total.p0 = p0[kind]
            total.value, total.first = sums[kind]
        self._any = any_sum
        self._recovery.value = recovery
        self._frames = frames
        if fault is not None:
            self.state = CameraState("fault", fault[0], fault[1], "", self._blind, None, frames)
        else:
            self.state = CameraState("ok", blind=self._blind, frames=frames)
        return True
