"""Which answered frames become captures: each rule is a `FrameSelector`, in a register, by name.

The server asks the selectors that `PARCELHUB_CAPTURE_SELECTORS` names, in that order; the first that says yes gives the
capture its reason. Those of this module are `low_score` and `sample`; extensions bring others (docs/extending.md). What
a change point samples from the ring is no selector's business (`serving.observed.novelty_watch`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from serving import extensions
from serving.errors import TritonError

if TYPE_CHECKING:
    from serving.instances import Instances

log = logging.getLogger(__name__)

DEFAULT = ("low_score", "sample")


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A frame that was answered.

    Attributes:
        request_id: of the request; random, and known to the robot.
        top_score: of the most certain instance, None without any.
        instances: all that was answered; None where a caller knows the score alone.
        cell, camera: as the request named them.
        at: epoch seconds.
    """

    request_id: str
    top_score: float | None
    instances: Instances | None = None
    cell: str | None = None
    camera: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class CapturePolicy:
    """Which frames are kept.

    Attributes:
        low_score: all frames whose most certain instance is below this, and those without any.
        share: of the others, the share that is kept (0 to 1).
        max_bytes, max_count: bounds of the folder; the oldest captures leave first.
        selectors: the rules that choose frames, in order (`serving.observed.selectors`).

    Raises ValueError for one that cannot be followed.
    """

    low_score: float = 0.5
    share: float = 0.01
    max_bytes: int = 2 * 1024**3
    max_count: int = 20_000
    selectors: tuple[str, ...] = DEFAULT

    def __post_init__(self) -> None:
        if not (0 <= self.low_score <= 1 and 0 <= self.share <= 1) or self.max_bytes < 0 or self.max_count < 0:
            raise ValueError(f"not a capture policy: {self}")

    def reason(self, request_id: str, top_score: float | None) -> str | None:
        """Why this frame is to be kept, or None, as far as its score says it."""
        return self.choose(Answered(request_id, top_score))

    def choose(self, frame: Answered) -> str | None:
        """The name of the first selector that wants the frame, or None. One that fails wants none: no answer is late
        for it. Raises TritonError for an unknown selector."""
        if self.max_count == 0 or self.max_bytes == 0:
            return None
        for name, wants in chosen(self.selectors):
            try:
                if wants(frame, self):
                    return name
            except Exception:
                log.exception("the frame selector %s failed", name)
        return None


class FrameSelector(Protocol):
    """Whether a frame is kept. It runs on the path of answers: it must be quick, and it sees no pixels."""

    def __call__(self, frame: Answered, policy: CapturePolicy) -> bool:
        """True: keep it. What it raises is logged, and the frame is not kept for it."""


_register: dict[str, FrameSelector] = {}


def register(name: str, selector: FrameSelector) -> FrameSelector:
    """Make a selector known; captures that it chose have its name as their reason. Raises ValueError if another has
    its name."""
    if not name.isidentifier() or len(name) > 20:
        raise ValueError(f"{name!r} is no name of a selector: letters, digits and _, 20 at most")
    if _register.setdefault(name, selector) is not selector:
        raise ValueError(f"there are two selectors named {name!r}")
    return selector


def selectors() -> Mapping[str, FrameSelector]:
    """All selectors, by name. Raises ExtensionError."""
    extensions.load()
    return _register


def chosen(names: Sequence[str]) -> tuple[tuple[str, FrameSelector], ...]:
    """The selectors of these names. Raises TritonError for one that there is not, ExtensionError."""
    known = selectors()
    for name in names:
        if name not in known:
            raise TritonError(f"there is no frame selector {name!r}; there are {', '.join(sorted(known))}")
    return tuple((name, known[name]) for name in names)


def low_score(frame: Answered, policy: CapturePolicy) -> bool:
    """Frames whose most certain instance is doubtful, and those without any."""
    return frame.top_score is None or frame.top_score < policy.low_score


def sample(frame: Answered, policy: CapturePolicy) -> bool:
    """A share of all, by a hash of the request id: the choice can be made again."""
    place = int.from_bytes(hashlib.sha256(frame.request_id.encode()).digest()[:6], "big") / 2**48
    return place < policy.share


register("low_score", low_score)
register("sample", sample)
