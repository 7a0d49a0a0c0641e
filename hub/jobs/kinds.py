"""What a kind of job is, and the register of those that there are.

A kind is one module: the struct of what is queued (`hub.schemas.jobs.JobSpec`), what its process does with it, and
what its page says, and it registers itself with `register`. Modules of the room `hub.kinds` are found by themselves,
others are named in `PARCELHUB_EXTENSIONS` (docs/extending.md). Neither the queue nor the worker, the process, the API
or the pages know a kind by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hub.errors import InputError
from hub.schemas.jobs import JobSpec, register_spec
from serving import extensions

if TYPE_CHECKING:
    from finetune.contract import Progress
    from hub.accounts.tokens import Identity
    from hub.client.client import HubClient
    from hub.schemas.core import FinishIn, Job

ROOM = "hub.kinds"


class JobStoppedError(Exception):
    """Raised to leave a job that was cancelled, or whose worker is going down. Not an error of the job."""


class Fact(NamedTuple):
    """A line of a job's page: a term, what there is to say, and where that leads."""

    term: str
    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a kind adds to its jobs' page; nothing of it is markup.

    Attributes:
        title: the page's heading, as in `Fine-tune of dock-7`.
        about: what it works on, below the heading.
        facts: what was asked.
        stages: the names that its progress reports carry, in order, each with its words for people.
        links: where to go on from here once it has ended: text and address.
    """

    title: str
    about: Sequence[Fact] = ()
    facts: Sequence[Fact] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    links: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """What the process of a job has at hand.

    Attributes:
        client: talks to the hub with the job's own token.
        job: the job, as the hub gave it.
        workspace: a folder that outlives the process; a later attempt finds it as it was left.
        report: tells the hub how far the work is.
        should_stop: whether the job was cancelled, or the worker is going down: raise JobStoppedError soon.
    """

    client: HubClient
    job: Job
    workspace: Path
    report: Callable[[Progress], None]
    should_stop: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Done:
    """What a job tells the hub at its end; `commit` and `deck` are a fine-tune's, `files` those of a new base by name
    (sha256 of what was uploaded). `rest` are folders of the workspace that go once the hub has the answer."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""
    deck: str = ""
    rest: Sequence[Path] = ()
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job.

    Attributes:
        spec: the struct of what is queued; its tag is the kind's name.
        title: as people call one: `fine-tune`.
        run: the work, in a process of its own. An error of our own hierarchies fails the job, any other one gives it
            back for another attempt.
        page: what its page says.
        asked: the struct that `POST /jobs` takes for it; None where such jobs are asked for elsewhere.
        queue: checks the asker's rights (hub's services, identity, asked) and queues the job.
        accept: takes what the process answered (services, job, answer) and ends the job; None: the metrics are kept.
    """

    spec: type[JobSpec]
    title: str
    run: Callable[[Work], Done]
    page: Callable[[Job], Fragment]
    asked: type[msgspec.Struct] | None = None
    queue: Callable[[Any, Identity, Any], Job] | None = None
    accept: Callable[[Any, Job, FinishIn], Job] | None = None

    @property
    def name(self) -> str:
        """The tag of `spec`, as jobs are stored and asked for by: `finetune`."""
        return str(self.spec.__struct_config__.tag)  # type: ignore[attr-defined]  # of every struct


_register: dict[str, JobKind] = {}


def register(wanted: JobKind) -> JobKind:
    """Make a kind known, its struct among the specs. Raises ValueError if another has its name."""
    register_spec(wanted.spec)
    if _register.setdefault(wanted.name, wanted) is not wanted:
        raise ValueError(f"there are two kinds of jobs named {wanted.name!r}")
    return wanted


def job_kinds() -> Mapping[str, JobKind]:
    """All kinds, by name: each module of the room has had the chance to register, and each extension.

    Raises ExtensionError.
    """
    _room()
    extensions.load()
    return _register


@cache
def _room() -> None:
    package = importlib.import_module(ROOM)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{ROOM}.{module.name}")


def kind_of(spec: JobSpec) -> JobKind:
    """The kind of a spec. Raises InputError for one that this process does not know."""
    return kind_named(spec.kind)


def kind_named(name: str) -> JobKind:
    """The kind of this name. Raises InputError."""
    found = job_kinds().get(name)
    if found is None:
        raise InputError(f"there is no kind of job {name!r}; there are {', '.join(sorted(job_kinds()))}")
    return found


def page_of(job: Job) -> Fragment:
    """What the page of a job says; of a kind that is not known here, what it was asked."""
    found = job_kinds().get(job.spec.kind)
    if found is not None:
        return found.page(job)
    asked = msgspec.to_builtins(job.spec)
    facts = [Fact(str(name), str(value)) for name, value in asked.get("asked", asked).items()]
    return Fragment(f"{job.spec.kind or 'Job'} {job.id}", facts=facts)


def downloads(work: Work) -> Callable[[str], Callable[[int, int], None]]:
    """What to tell of downloads: `downloads(work)("dataset")` is a callback of the client's. Raises JobStoppedError
    where the job is to end."""
    from finetune.contract import Progress

    def of(what: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if work.should_stop():
                raise JobStoppedError
            work.report(Progress("download", done, total, message=f"downloading the {what}"))

        return report

    return of
