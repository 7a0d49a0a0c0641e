"""Push pictures of a queue to a tool, and pull what people made of them.

Each step can be ended and done again. A picture is held at the hub before it is sent, the tool's id is noted after, and
what got there without our being told of it is found by our own id. A pull notes each picture's answer by itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hub.client.tools.pictures import as_stored
from hub.client.tools.tool import Answer, Tool
from hub.errors import HubAnswerError, InputError
from hub.schemas import handoff as h
from hub.schemas import labels as s


class Hub(Protocol):
    """The hub's side of a hand-off: a client of it, or the hub itself. Refusals are HubAnswerError."""

    def label_cell(self, cell: str) -> s.LabelCell:
        """A cell's queue: its settings, its classes and how much waits."""

    def label_task(self, task_id: str) -> s.TaskWork:
        """A picture with the regions that are proposed for it."""

    def label_image(self, task_id: str) -> bytes:
        """The picture as it came, JPEG or PNG."""

    def handoffs(self, cell: str, place: str | None = None) -> list[h.HandOff]:
        """The cell's pictures at a place; None: at any."""

    def hand_off(self, cell: str, asked: h.HandOffIn) -> list[h.HandOff]:
        """Hold pictures for a place; those that are to be sent, the first of the queue first."""

    def say_sent(self, task_id: str, place: str, remote: str) -> h.HandOff:
        """Note the tool's id of a picture that arrived."""

    def take_back(self, task_id: str, said: h.Returned) -> h.HandOff:
        """Keep what a tool says of a picture; labels count as made by the person who made them."""

    def give_back(self, task_id: str, place: str) -> h.HandOff:
        """Let a picture wait at the hub again."""


_AT_ONCE = 50
_NOT_FOUND, _CONFLICT = 404, 409
LOOKED_AT = ("out", "unfinished", "predicted", "labelled", "skipped", "removed")


@dataclass
class Pushed:
    """What a push did."""

    place: str
    sent: int = 0
    found: int = 0
    """That were there already: an earlier push was ended before it was told so."""


@dataclass
class Pulled:
    """What a pull did: pictures by what became of them, and what a person should look at."""

    place: str
    counts: dict[str, int] = field(default_factory=dict)
    new: int = 0
    """Answers that the hub had not."""
    deleted_there: int = 0
    given_back: int = 0
    problems: list[str] = field(default_factory=list)


def push(hub: Hub, tool: Tool, cell: str, *, limit: int = 100, captures: Sequence[str] | None = None) -> Pushed:
    """Send pictures that wait, with their proposals. Raises ToolError, HubError."""
    with _alone(tool.address):
        tool.prepare(hub.label_cell(cell).classes)
        asked = h.HandOffIn(
            tool=tool.name, place=tool.place, claimer=socket.gethostname()[:100] or "somebody", limit=limit,
            captures=None if captures is None else list(captures),
        )  # fmt: skip
        done = Pushed(tool.place)
        waiting = hub.hand_off(cell, asked)
        known = tool.find() if waiting else {}
        fresh: list[str] = []
        for one in waiting:
            if one.task in known:
                hub.say_sent(one.task, tool.place, known[one.task])
                done.found += 1
            else:
                fresh.append(one.task)
        for at in range(0, len(fresh), _AT_ONCE):
            works = ((hub.label_task(task), as_stored(hub.label_image(task))) for task in fresh[at : at + _AT_ONCE])
            for task, remote in tool.send(works):
                hub.say_sent(task, tool.place, remote)
                done.sent += 1
        return done


def pull(hub: Hub, tool: Tool, cell: str, *, give_back: bool = False) -> Pulled:
    """Take what people made of the pictures; `give_back`: those that nobody has begun wait at the hub again, and are
    deleted there. Raises ToolError, HubError."""
    with _alone(tool.address):
        done = Pulled(tool.place)
        handed = hub.handoffs(cell, tool.place)
        _forget(hub, tool, handed, done)
        open_ = [one for one in handed if one.state in LOOKED_AT and one.remote is not None]
        counts: Counter[str] = Counter(one.state for one in handed if one.state not in (*LOOKED_AT, "forgotten"))
        for at in range(0, len(open_), _AT_ONCE):
            works = [(one, work) for one in open_[at : at + _AT_ONCE] if (work := _work(hub, one.task)) is not None]
            known = {one.task: work for one, work in works}
            for one, answer in tool.answers(works):
                done.problems += [f"{one.remote}: {note}" for note in answer.notes]
                state = _take(hub, one, known[one.task], answer, done)
                if give_back and state in ("out", "predicted") and one.remote is not None:
                    tool.delete([one.remote])
                    hub.give_back(one.task, tool.place)
                    done.given_back += 1
                    state = "given back"
                counts[state] += 1
        done.counts = dict(counts)
        return done


def _take(hub: Hub, one: h.HandOff, work: s.TaskWork, answer: Answer, done: Pulled) -> str:
    """Tell the hub; what state the picture is in then."""
    # A picture that was opened here again waits for a changed answer: the one that was seen before is none.
    if (one.mark == answer.mark and one.state in (answer.kind, "out") and answer.mark) or (
        one.state == answer.kind == "removed"
    ):
        return one.state
    if answer.kind in ("unfinished", "predicted", "out") and one.state in ("labelled", "skipped", "removed"):
        done.problems.append(f"{one.remote}: it was {one.state}, and is {answer.kind} there now: left as it was")
        return one.state
    shown = {region.id: region for region in work.regions}
    same_mask = {region.mask.counts: region for region in work.regions}
    regions = []
    kept: set[str] = set()
    for shape in answer.shapes:
        # A tool may give a region another id when a person takes a proposal over.
        same = shown.get(shape.region)
        same = same if same is not None and same.mask.counts == shape.counts else same_mask.get(shape.counts)
        if same is not None and same.id not in kept:
            kept.add(same.id)
            regions.append(s.RegionIn(label=shape.label, keep=same.id))
        else:
            mask = s.Mask(size=(work.task.height, work.task.width), counts=shape.counts)
            regions.append(s.RegionIn(label=shape.label, mask=mask))
    said = h.Returned(
        place=one.place, what=answer.kind, mark=answer.mark[:200], person=answer.person[:200],
        seconds=min(max(answer.seconds, 0.0), 86_400.0), regions=regions,
    )  # fmt: skip
    try:
        after = hub.take_back(one.task, said)
    except HubAnswerError as error:
        if error.status not in (400, _NOT_FOUND, _CONFLICT, 422):
            raise
        done.problems.append(f"{one.remote}: {error}")
        return "refused"
    if after.note:
        done.problems.append(f"{one.remote}: {after.note}")
    done.new += (after.state, after.mark) != (one.state, one.mark) and after.state in ("labelled", "skipped", "removed")
    return after.state


def _forget(hub: Hub, tool: Tool, handed: Sequence[h.HandOff], done: Pulled) -> None:
    """Pictures that the hub deleted go there as well."""
    gone = [one for one in handed if one.state == "forgotten"]
    if not gone:
        return
    known = tool.find() if any(one.remote is None for one in gone) else {}
    for one in gone:
        remote = one.remote or known.get(one.task)
        if remote is not None:
            tool.delete([remote])
            done.deleted_there += 1
        hub.take_back(one.task, h.Returned(place=one.place, what="forgotten"))


def _work(hub: Hub, task: str) -> s.TaskWork | None:
    try:
        return hub.label_task(task)
    except HubAnswerError as error:
        if error.status != _NOT_FOUND:
            raise
        return None  # it was deleted here this minute: the next pull sees that


@contextmanager
def _alone(place: str) -> Iterator[None]:
    """One program of this account at a time for one place; the system ends the hold when the program ends."""
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"parcelhub-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / f"handoff-{name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another command sends to or takes from {place} at the moment") from None
        yield
