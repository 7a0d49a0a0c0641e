"""The structs of the service's resources: datasets and their images, uploads, teams, quotas, evaluations, the audit
log. As in `hub.schemas`: one definition for both ends."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from hub.schemas.core import Classes, Sha256, _In, _Out

Note = Annotated[str, Meta(max_length=2000)]
MAX_FILES = 100_000
"""Of one upload."""


# --- datasets ---------------------------------------------------------------------------------------------------------


class DatasetIn(_In, frozen=True):
    """A dataset to make. `private`: only its team sees it; the operator always does. To show it to all is said."""

    private: bool = True


class DatasetChange(_In, frozen=True):
    """What to change; null leaves it as it is."""

    private: bool | None = None


class OfferIn(_In, frozen=True):
    """An offer of a dataset's revision to the base: its pictures train a base that everybody gets, whether the dataset
    is private or not. Its names and pictures are shown to nobody else."""

    note: Note = ""
    revision: Annotated[str, Meta(max_length=300)] = "main"


class Dataset(_Out, frozen=True):
    """A dataset, whose revisions are commits of its repository."""

    name: str
    """`team/name`"""
    team: str
    private: bool
    offered: bool
    """Whether the team lets the base learn from it."""
    offered_by: str | None
    created_at: str
    modified_at: str
    commit: str | None
    """The head of `main`; null before the first push."""


class DatasetSummary(_Out, frozen=True):
    """What a revision of a dataset holds."""

    dataset: Dataset
    commit: str
    files: int
    bytes: int
    images: int
    instances: int
    classes: dict[str, int]
    """Class to its number of instances."""
    note: str
    """Why sizes and instances are not known, if they are not."""


class DatasetImage(_Out, frozen=True):
    """An image at one revision; sizes are pixels, null where they are not known."""

    pos: int
    """Its place in the dataset's order, from 0: what `after` takes."""
    file: str
    """Its path in the repository."""
    width: int | None
    height: int | None
    split: str | None
    instances: int
    sha256: str
    bytes: int


# --- uploads ----------------------------------------------------------------------------------------------------------


class ManifestFile(_In, frozen=True):
    """A file of an upload: its path in the dataset, its size in bytes, its sha256."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    size: Annotated[int, Meta(ge=0, le=2**62)]
    sha256: Sha256


class UploadIn(_In, frozen=True):
    """All files that the dataset is to hold. The same manifest again is the same upload: it goes on."""

    files: Annotated[list[ManifestFile], Meta(min_length=1, max_length=MAX_FILES)]
    message: Annotated[str, Meta(min_length=1, max_length=2000)] = "upload"
    private: bool = True
    """For a dataset that does not exist yet: its team's, unless it is said to be for all."""


class MissingFile(_Out, frozen=True):
    """A file whose bytes the hub lacks or has in part; sizes are bytes."""

    sha256: str
    size: int
    received: int
    """Bytes that have arrived; the next part begins here."""


class Upload(_Out, frozen=True):
    """Where an upload stands; nothing in `missing`: it can be completed."""

    id: str
    dataset: str
    files: int
    bytes: int
    missing: list[MissingFile]
    part_bytes: int
    """The most bytes of one part."""
    commit: str | None
    """The commit that the upload became."""
    created_at: str


class PartReceived(_Out, frozen=True):
    """What the hub has of a file after a part, in bytes; `complete`: all of it, and its sha256 is right."""

    sha256: str
    received: int
    complete: bool


# --- teams and quotas -------------------------------------------------------------------------------------------------


class Team(_Out, frozen=True):
    """A team and the names of its members."""

    name: str
    fullname: str
    members: list[str]


class QuotaIn(_In, frozen=True):
    """What a team may use; null is the hub's default, 0 is nothing."""

    running: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    queued: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    bytes: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    minutes_per_day: Annotated[float, Meta(ge=0, le=1e9)] | None = None


class Quota(_Out, frozen=True):
    """The limits in force, and what is used of them."""

    team: str
    running: int
    running_used: int
    queued: int
    queued_used: int
    bytes: int
    bytes_used: int
    minutes_per_day: float
    minutes_used: float
    """Of today (UTC), running jobs included."""


class CellChange(_In, frozen=True):
    """What to change; null leaves it as it is. The team is the operator's to change; "" takes it away. No `classes` at
    all: any of the base's."""

    description: Annotated[str, Meta(max_length=500)] | None = None
    team: Annotated[str, Meta(max_length=96)] | None = None
    classes: Classes | None = None


# --- jobs -------------------------------------------------------------------------------------------------------------


class LogIn(_In, frozen=True):
    """A piece of a job's log; `offset` is where it belongs."""

    worker: str
    attempt: int
    offset: Annotated[int, Meta(ge=0)]
    text: Annotated[str, Meta(max_length=1_000_000)]


class LogSize(_Out, frozen=True):
    """How much of a job's log the hub has."""

    size: int
    """What the hub has of the log: where the next piece begins, in bytes of UTF-8."""


class LogPart(_Out, frozen=True):
    """A piece of a job's log; offsets and sizes are bytes of UTF-8."""

    text: str
    offset: int
    """Where the text begins."""
    next: int
    """Where to go on."""
    size: int
    final: bool
    """Whether the job has ended: nothing comes any more."""


# --- evaluations ------------------------------------------------------------------------------------------------------


class EvaluationIn(_In, frozen=True):
    """What somebody measured of a model; `dataset` and `deck` say on what."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][^@\s]{0,150}@[^@\s]{1,100}$")]
    """`<cell>@v3` or `base/universal@v1`"""
    metrics: dict[str, Any]
    dataset: Annotated[str, Meta(max_length=300)] = ""
    deck: Annotated[str, Meta(max_length=64)] = ""


class Evaluation(_Out, frozen=True):
    """A measurement as it was kept."""

    id: str
    model: str
    dataset: str
    deck: str
    metrics: dict[str, Any]
    created_by: str
    created_at: str


# --- the audit log ----------------------------------------------------------------------------------------------------


class AuditEntry(_Out, frozen=True):
    """One entry of the audit log; entries are numbered from 1 without a gap."""

    number: int
    at: str
    who: str
    token: str
    """The name of the token that was used."""
    action: str
    """What was asked: the operation's name in the API."""
    subject: str
    """What it was done to: the address."""
    status: int
    """How it was answered; refusals for lack of rights are kept, too."""
    address: str
    """From where."""
    detail: dict[str, Any]
    """Digests and names that the change produced."""
    previous: str
    digest: str
    """sha256 of this entry with the digest of the one before: nothing can be taken out unseen."""


class AuditCheck(_Out, frozen=True):
    """Whether the audit log is what was written."""

    entries: int
    whole: bool
    broken_at: int | None
    """The first entry that is not what it was."""
    head: str
    """The newest entry's digest; keep it elsewhere to notice a log that was cut short."""


# --- refusals ---------------------------------------------------------------------------------------------------------


class FieldProblem(_Out, frozen=True):
    """A field that is wrong, by its path in the request's body, and why."""

    field: str
    message: str


class ProblemDocument(_Out, frozen=True):
    """Why a request was refused (RFC 9457)."""

    type: str
    """`urn:parcelhub:problem:<slug>`: what to tell apart."""
    title: str
    status: int
    detail: str
    """A sentence for the person who asked."""
    instance: str
    errors: list[FieldProblem] = field(default_factory=list)
    """Which fields are wrong, where the request is not well-formed."""
