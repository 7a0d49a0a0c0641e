"""What every labelling tool has to do, and what it says of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hub.schemas.handoff import HandOff, ToolName
from hub.schemas.labels import TaskWork

Kind = Literal["labelled", "skipped", "removed", "unfinished", "predicted", "out"]
KEY = "parcelhub_task"
"""What our id of a picture is called in every tool."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance as it came back: `counts` is canonical COCO RLE of the picture's size; `region` is the id that the
    tool has kept for it, "" for one that was made there."""

    region: str
    label: str
    counts: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool says of a picture. `labelled` without shapes: the picture is empty. `mark` tells one state of the
    answer from the next; `note` is what a person should know of it."""

    kind: Kind
    mark: str = ""
    person: str = ""
    seconds: float = 0.0
    shapes: tuple[Shape, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Tool(Protocol):
    """A labelling tool with one project in it. All calls raise ToolError where the tool does not do its part."""

    @property
    def name(self) -> ToolName:
        """How the hub and the command call the tool."""

    @property
    def place(self) -> str:
        """Where pictures go: the same for the same project, without any secret."""
        ...

    @property
    def address(self) -> str:
        """What one command at a time uses: known before there is a project."""
        ...

    def prepare(self, classes: Sequence[str]) -> None:
        """Make the project if there is none; raise ToolError if it cannot hold masks of these classes."""
        ...

    def find(self) -> dict[str, str]:
        """Our ids of pictures that are there, to the tool's own: also of those that we were never told of."""
        ...

    def send(self, works: Iterable[tuple[TaskWork, bytes]]) -> Iterator[tuple[str, str]]:
        """Make tasks of pictures with what is proposed for them; gives our id and the tool's of each one that is
        there whole."""
        ...

    def answers(self, handed: Sequence[tuple[HandOff, TaskWork]]) -> Iterator[tuple[HandOff, Answer]]:
        """What the tool says of each of these pictures. A picture that is gone is `removed`."""
        ...

    def delete(self, remotes: Sequence[str]) -> None:
        """Delete tasks there; those that are gone are fine."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...
