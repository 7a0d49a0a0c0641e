"""Hand-offs that a page starts: the hub itself calls the labelling tool, with a token that it is given for that once.

One per cell at a time, in a thread. What became of each picture is in the table of hand-offs, so a hub that ends
half-way loses nothing: the same button goes on. The tool's token is kept by nobody: it lives as long as the thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from hub.accounts.tokens import Identity
from hub.client.tools import handing
from hub.client.tools.cvat import Cvat
from hub.client.tools.fiftyone import FiftyOne
from hub.client.tools.label_studio import LabelStudio
from hub.client.tools.tool import Tool
from hub.error_table import is_expected, problem_of
from hub.errors import HubAnswerError, HubError, InputError, ToolError
from hub.outbound import Guard
from hub.schemas import handoff as h
from hub.schemas import labels as s
from hub.schemas.handoff import ToolName
from hub.services import Services
from registry.errors import RegistryError

log = logging.getLogger("parcelhub.handoff")

T = TypeVar("T")
Action = Literal["push", "pull"]
MAX_KNOWN: Final = 500
MAX_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asks for. `token` is in no message and no log: it is left out of what is shown of this."""

    action: Action
    tool: ToolName
    url: str
    token: str
    project: int | None = None
    limit: int = 100
    event: str = ""
    give_back: bool = False

    def __repr__(self) -> str:
        return f"{self.action} {self.tool}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the newest hand-off of a cell stands.

    Attributes:
        state: `running`, `done` or `failed`; said: what came of it, or what is wrong and what to do, in words.
        problems: pictures that a person should look at, the first MAX_PROBLEMS.
        began, ended: epoch seconds.
    """

    action: Action
    tool: ToolName
    who: str
    began: float
    state: Literal["running", "done", "failed"] = "running"
    said: str = ""
    problems: tuple[str, ...] = ()
    ended: float | None = None


class Handings:
    """The hand-offs that pages started, by cell. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._folder = services.settings.data / "handoffs"
        self._guard = Guard.of(services.settings.webhook_allow)
        self._lock = threading.Lock()
        self._known: dict[str, Standing] = {}

    def standing(self, cell: str) -> Standing | None:
        """The newest of a cell since the hub started. Whether the caller may know is asked elsewhere."""
        with self._lock:
            return self._known.get(cell)

    def folder(self, cell: str) -> Path:
        """Where FiftyOne's dataset of a cell lies, on the hub's machine."""
        return self._folder / cell

    def start(self, cell: str, who: Identity, asked: Asked) -> threading.Thread:
        """Begin one. Raises InputError for what cannot be asked, or where one is under way."""
        if asked.tool != "fiftyone" and not (asked.url and asked.token):
            raise InputError("name the tool's address, and a token of yours there")
        hub = _AsPerson(self._services, who)
        hub.label_cell(cell)  # UnknownCellError for whom it is not there
        with self._lock:
            now = self._known.get(cell)
            if now is not None and now.state == "running":
                raise InputError(f"a {now.action} of {cell!r} is under way; wait until it is done")
            while len(self._known) >= MAX_KNOWN:
                ended = [name for name, one in self._known.items() if one.state != "running"]
                if not ended:
                    raise InputError("too many hand-offs are under way; wait until one is done")
                del self._known[ended[0]]
            self._known[cell] = Standing(asked.action, asked.tool, who.owner, time.time())
        thread = threading.Thread(target=self._run, args=(cell, hub, asked), name=f"handoff {cell}", daemon=True)
        thread.start()
        return thread

    def _run(self, cell: str, hub: _AsPerson, asked: Asked) -> None:
        try:
            tool = self._open(cell, asked)
            try:
                said, problems = (
                    self._push(hub, tool, cell, asked) if asked.action == "push" else _pull(hub, tool, cell, asked)
                )
            finally:
                tool.close()
            self._end(cell, "done", said, problems)
        except (HubError, RegistryError) as error:
            log.info("%s of %s ended: %s", asked, cell, type(error).__name__)
            self._end(cell, "failed", str(error) if is_expected(error) else problem_of(error).title)
        except Exception:
            log.exception("%s of %s ended", asked, cell)
            self._end(cell, "failed", "something went wrong at the hub; its log says what. What was sent is kept.")

    def _open(self, cell: str, asked: Asked) -> Tool:
        if asked.tool == "fiftyone":
            self.folder(cell).mkdir(parents=True, exist_ok=True)
            return FiftyOne(self.folder(cell), cell)
        if asked.tool == "cvat":
            return Cvat(asked.url, asked.token, cell, asked.project, guard=self._guard)
        return LabelStudio(asked.url, asked.token, cell, asked.project, guard=self._guard)

    def _push(self, hub: _AsPerson, tool: Tool, cell: str, asked: Asked) -> tuple[str, list[str]]:
        captures: list[str] | None = None
        if asked.event:
            captures = hub.captures_of_event(cell, asked.event)
            if not captures:
                raise InputError(f"the event {asked.event[:40]} has no picture in {cell!r} any more")
        done = handing.push(hub, tool, cell, limit=asked.limit, captures=captures)
        if not done.sent and not done.found:
            return "No picture waits here, so none was sent.", []
        more = f" ({done.found} more had got there before)" if done.found else ""
        return f"{done.sent} pictures are at {done.place} now{more}.", []

    def _end(self, cell: str, state: Literal["done", "failed"], said: str, problems: Sequence[str] = ()) -> None:
        with self._lock:
            self._known[cell] = replace(
                self._known[cell], state=state, said=said[:1000], problems=tuple(problems[:MAX_PROBLEMS]),
                ended=time.time(),
            )  # fmt: skip


def _pull(hub: _AsPerson, tool: Tool, cell: str, asked: Asked) -> tuple[str, list[str]]:
    done = handing.pull(hub, tool, cell, give_back=asked.give_back)
    words = {
        "out": "not begun",
        "predicted": "a proposal alone",
        "unfinished": "unfinished",
        "removed": "removed there",
    }
    counts = ", ".join(f"{count} {words.get(state, state)}" for state, count in sorted(done.counts.items()))
    return f"{done.new} new answers from {done.place}; {counts or 'no picture is there'}.", done.problems


class _AsPerson:
    """The calls that a hand-off makes, as the person who asked for it, without the way over HTTP."""

    def __init__(self, services: Services, who: Identity) -> None:
        self._labelling, self._events, self._who = services.labelling, services.production.events, who
        self._places = services.privacy.workplaces(who)

    def label_cell(self, cell: str) -> s.LabelCell:
        return self._labelling.cell(cell, self._who)

    def label_task(self, task_id: str) -> s.TaskWork:
        return _answering(lambda: self._labelling.work(task_id, self._who))

    def label_image(self, task_id: str) -> bytes:
        return _answering(lambda: self._labelling.picture(task_id, self._who)[0])

    def handoffs(self, cell: str, place: str | None = None) -> list[h.HandOff]:
        return _answering(lambda: self._labelling.handed(cell, place, self._who))

    def hand_off(self, cell: str, asked: h.HandOffIn) -> list[h.HandOff]:
        return _answering(lambda: self._labelling.hand_off(cell, asked, self._who))

    def say_sent(self, task_id: str, place: str, remote: str) -> h.HandOff:
        return _answering(lambda: self._labelling.sent(task_id, h.Sent(place=place, remote=remote), self._who))

    def take_back(self, task_id: str, said: h.Returned) -> h.HandOff:
        return _answering(lambda: self._labelling.take_back(task_id, said, self._who))

    def give_back(self, task_id: str, place: str) -> h.HandOff:
        return _answering(lambda: self._labelling.give_back(task_id, place, self._who))

    def captures_of_event(self, cell: str, event: str) -> list[str]:
        found = [one for one in self._events.findings(event, self._places, limit=1000) if one.cell == cell]
        captures = list(dict.fromkeys(one.capture for one in found))
        if captures:
            self._labelling.fill(cell, s.FillIn(limit=1000), self._who)  # captures of events go before all others
        return captures


def _answering(call: Callable[[], T]) -> T:
    """What a call gives; the hub's refusals as its client tells them."""
    try:
        return call()
    except ToolError:
        raise
    except (HubError, RegistryError) as error:
        found: Any = problem_of(error)
        raise HubAnswerError(found.status, found.slug, found.title, str(error)) from error
