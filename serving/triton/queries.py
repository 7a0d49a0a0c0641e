"""What is asked of the engine, and what it answers: values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.errors import InternalError, ServingError
from serving.inference.preprocess import Image
from serving.inference.segmenter import SegmentOptions
from serving.instances import Instances

log = logging.getLogger(__name__)

MAX_HELD, MAX_HELD_BYTES = 64, 128 * 1024 * 1024
"""Requests that wait for variants to be read, and the bytes of their frames. More are told to ask again; one alone may
be larger."""


MAX_COUNTED = 10_000
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Query:
    """One robot's request. `image` is encoded JPEG or PNG bytes, or uint8 [H, W, 3].

    `token` is the robot's; it counts only where the engine checks tokens. `camera` names one of several on a line.
    """

    image: bytes | Image
    cell: str | None = None
    variant: str | None = None
    line: str | None = None
    min_score: float = 0.05
    robot: str | None = None
    token: str | None = None
    camera: str | None = None

    @property
    def of_cell(self) -> str | None:
        """The cell that it names, or whose variant it names."""
        return self.cell or (None if self.variant is None else self.variant.partition("@")[0])

    @property
    def size(self) -> int:
        """Bytes of the image as it came."""
        return len(self.image) if isinstance(self.image, bytes) else self.image.nbytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: the instances and who made them (`<cell>@v3 on base/universal@v1`).

    `stage` is the stage whose variant it was, `pinned` where the request named the variant, None for the base.
    `instead_of` is the variant that should have answered by the routing and could not; None where that one did.
    `pixels` is the frame as it was decoded.
    """

    instances: Instances
    served_by: str
    variant: str | None = None
    base: str = ""
    stage: str | None = None
    table_version: int = 0
    instead_of: str | None = None
    pixels: Image | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Ready:
    """A query that was understood: what to compute, and `classes` for the case that the base has to step in."""

    image: Image
    order: SegmentOptions
    stage: str | None
    classes: tuple[str, ...] = ()
    instead_of: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A query that waits for its variant to be read; `later` is called when that is over."""

    later: Callable[[], None]
    size: int


@dataclass(slots=True)
class Counts:
    """What the engine did with variants, cumulative: asked for one in memory, for one that was not, files read."""

    hits: dict[str, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)

    def add(self, counts: dict[str, int], variant: str) -> None:
        """Count one more; of more variants than MAX_COUNTED all others are one."""
        if variant not in counts and len(counts) >= MAX_COUNTED:
            variant = OTHER
        counts[variant] = counts.get(variant, 0) + 1


def as_serving_error(error: Exception) -> ServingError:
    """The error that a robot is told; what was not expected is logged and told as the server's own fault."""
    if isinstance(error, ServingError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return InternalError(error)
