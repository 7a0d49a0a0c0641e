"""The structs of the REST API, one definition for both ends: the service encodes, `hub.client` decodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from hub.schemas.finetunes import EarlierVariant as EarlierVariant
from hub.schemas.finetunes import FinetuneSpec as FinetuneSpec
from hub.schemas.finetunes import GrowthSpec as GrowthSpec
from hub.schemas.finetunes import RefitSpec as RefitSpec
from hub.schemas.finetunes import RefreshSpec as RefreshSpec
from hub.schemas.finetunes import RefreshTrainingSpec as RefreshTrainingSpec
from hub.schemas.jobs import JobSpec

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$")]
"""A name in a URL, a folder and a robot's request: lower case, digits, `.`, `_`, `-`; 64 at most."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
RepoType = Literal["model", "dataset"]
StageName = Literal["candidate", "station", "beta", "fleet", "archived"]
ServedStage = Literal["station", "beta", "fleet"]
JobState = Literal["queued", "running", "finished", "failed", "cancelled"]
FINAL_STATES: frozenset[str] = frozenset({"finished", "failed", "cancelled"})


Classes = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=200)]
"""Labels of a base."""


class _In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends: a misspelt field is an error, never silently ignored."""


class _Out(Struct, frozen=True, kw_only=True):
    """What the hub answers: clients ignore fields they do not know, so that the hub can add some."""


class Health(_Out, frozen=True):
    status: str
    version: str
    base: str | None


class CellIn(_In, frozen=True):
    name: Slug
    description: Annotated[str, Meta(max_length=500)] = ""
    team: Annotated[str, Meta(max_length=96)] = ""
    """Who may fine-tune it and promote to it; empty: the caller's own team, or everybody for the operator's cells."""
    classes: Classes = []
    """What there is in the cell, by the base's labels: all that the base answers until it has a variant. Empty: any."""


class Cell(_Out, frozen=True):
    name: str
    description: str
    created_at: str
    team: str = ""
    classes: list[str] = []


class UserIn(_In, frozen=True):
    """Empty texts and `teams` null leave what is there."""

    fullname: Annotated[str, Meta(max_length=200)] = ""
    email: Annotated[str, Meta(max_length=200)] = ""
    teams: Annotated[list[Annotated[str, Meta(max_length=96)]], Meta(max_length=100)] | None = None


class TeamIn(_In, frozen=True):
    fullname: Annotated[str, Meta(min_length=1, max_length=200)]


class User(_Out, frozen=True):
    name: str
    fullname: str
    email: str
    teams: list[str]


class Me(_Out, frozen=True):
    """Who asks: `teams` are the namespaces that the user may write; a token of the operator's has no user."""

    name: str
    user: str | None
    token: str
    scopes: list[str]
    teams: list[str]


class TokenIn(_In, frozen=True):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,94}$")]
    scopes: Annotated[
        list[Literal["read", "contribute", "finetune", "promote", "admin"]], Meta(min_length=1, max_length=5)
    ]
    user: str | None = None
    seconds: Annotated[float, Meta(gt=0)] | None = None
    value: Annotated[str, Meta(max_length=200)] | None = None
    """A token made elsewhere that is to be good here."""
    team: Annotated[str, Meta(max_length=96)] | None = None
    """A token of a team: it acts in the team's namespace, with no person behind it. The operator makes it."""


class Token(_Out, frozen=True):
    id: str
    name: str
    user: str | None
    scopes: list[str]
    created_at: str
    expires_at: str | None


class NewToken(_Out, frozen=True):
    token: str


class Repo(_Out, frozen=True):
    type: RepoType
    namespace: str
    name: str
    created_at: str


class Ref(_Out, frozen=True):
    name: str
    kind: Literal["branch", "tag"]
    commit: str


class File(_Out, frozen=True):
    path: str
    size: int
    sha256: str


class Tree(_Out, frozen=True):
    commit: str
    files: list[File]


class PutFile(_In, frozen=True, tag_field="op", tag="put"):
    path: str
    sha256: Sha256


class DeleteFile(_In, frozen=True, tag_field="op", tag="delete"):
    path: str


class CommitIn(_In, frozen=True):
    message: Annotated[str, Meta(min_length=1, max_length=2000)]
    operations: Annotated[list[PutFile | DeleteFile], Meta(min_length=1, max_length=100_000)]
    expected_parent: str | UnsetType | None = UNSET
    """The head this commit was made on (null: none yet); another head by then is a conflict."""


class Commit(_Out, frozen=True):
    id: str
    parent: str | None
    message: str
    author: str
    created_at: str


class FinetuneIn(_In, frozen=True):
    cell: Slug
    dataset: Annotated[str, Meta(pattern=r"^[^/@\s]+/[^/@\s]+$", max_length=200)]
    """`team/name`"""
    dataset_revision: Annotated[str, Meta(max_length=200)] = "main"
    base: Annotated[str, Meta(max_length=200)] = ""
    """`base/name@tag`; empty: the newest base."""
    images: Annotated[int, Meta(ge=2, le=100_000)] | None = None
    max_minutes: Annotated[float, Meta(gt=0, le=24 * 60)] = 10.0
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    class_map: Annotated[
        dict[Annotated[str, Meta(max_length=200)], Annotated[str, Meta(max_length=200)]], Meta(max_length=1000)
    ] = {}
    """The team's class to the base's label, where the team wants to say so itself; several may have one label."""
    image_size: Annotated[int, Meta(ge=64, le=640)] | None = None
    """Pixels a side that the variant looks at pictures in; null: what suits the sizes of the labels."""


class Judgement(_Out, frozen=True):
    """What `registry.promotion.readiness` says of a variant by what its fine-tune measured."""

    verdict: Literal["ready", "test station", "not yet"]
    reason: str
    """Why, in a sentence."""
    next_step: str
    """The one thing to do next."""
    stage: StageName
    """The stage that it proposes: `fleet`, `station`, or `candidate` for a variant that stays where it is."""

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Judgement | None:
        """By the metrics of a fine-tune; None where nobody measured the variant."""
        from registry.promotion.readiness import judge_metrics  # here: clients that only ask need none of it

        found = judge_metrics(metrics)
        if found is None:
            return None
        return cls(verdict=found.verdict, reason=found.reason, next_step=found.next_step, stage=found.stage)


class Job(_Out, frozen=True):
    id: str
    state: JobState
    spec: JobSpec
    """What was asked: the struct of its kind (`hub.schemas.jobs`)."""
    attempt: int
    """How often a worker took it up; names one run of its process."""
    crashes: int
    """How often a run ended without an answer; at `max_attempts` the job fails."""
    max_attempts: int
    cancel_requested: bool
    created_by: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    worker: str | None
    error: str | None
    version: str | None
    """`<cell>@v3`, the variant a finished job made."""
    metrics: dict[str, Any]
    team: str = ""
    """Whose job it is: whose quota it counts for and who may see it."""
    used_seconds: float = 0.0
    """What its ended runs took."""
    progress: dict[str, Any] | None = None
    """The newest report: stage, step, total, images_per_second, eta_seconds, message."""
    judgement: Judgement | None = None
    """Whether the variant may be used, once it was measured."""
    life: str = ""
    """Asked for alone, and not ended: how long it waits or works, its place in the queue, its last sign of life."""


class JobEvent(_Out, frozen=True):
    seq: int
    at: str
    kind: Literal["state", "progress"]
    data: dict[str, Any]


class ClaimIn(_In, frozen=True):
    worker: Annotated[str, Meta(min_length=1, max_length=200)]
    kinds: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100)] | None = None
    """The kinds of jobs that the worker runs; null: all."""


class Claim(_Out, frozen=True):
    job: Job
    token: str
    """The job process's own token: this job, this attempt, until it ends."""
    lease_seconds: float


class HeartbeatIn(_In, frozen=True):
    worker: str
    attempt: int


class Heartbeat(_Out, frozen=True):
    stop: bool
    """The job was cancelled: end it."""


class ReleaseIn(_In, frozen=True):
    worker: str
    attempt: int
    reason: str
    crashed: bool
    """Whether the run died by itself; False when its worker had to stop it."""


class ProgressIn(_In, frozen=True):
    stage: Annotated[str, Meta(max_length=200)]
    step: int
    total: int
    images_per_second: float | None = None
    eta_seconds: float | None = None
    message: Annotated[str, Meta(max_length=8000)] = ""
    metrics: Annotated[dict[Annotated[str, Meta(max_length=200)], float], Meta(max_length=1000)] = {}


class FinishIn(_In, frozen=True):
    metrics: Annotated[dict[Annotated[str, Meta(max_length=200)], Any], Meta(max_length=1000)]
    commit: Annotated[str, Meta(max_length=200)] = ""
    """The commit that the job made: for a fine-tune, that in `cells/<cell>` with the variant."""
    deck: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of a fine-tune: the sha256 of its training deck."""
    files: Annotated[dict[Annotated[str, Meta(max_length=200)], Sha256], Meta(max_length=20)] = {}
    """Of the training of a base: its files, whose contents are uploaded."""


class JobIn(_In, frozen=True):
    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    asked: dict[str, Any] = {}
    """What the kind wants to know (docs/extending.md, docs/service.md)."""


class FailIn(_In, frozen=True):
    error: Annotated[str, Meta(min_length=1, max_length=8000)]


class Version(_Out, frozen=True):
    """One variant: what it is made of, how good it measured, where it is served."""

    name: str
    """`<cell>@v3`"""
    cell: str
    version: str
    commit: str
    stage: StageName
    base: str
    created_at: str
    metrics: dict[str, Any]
    labels: dict[str, str]
    deck: str
    dataset: str
    job: str | None
    not_in_place: str = ""
    """Why it does not answer though it was promoted; empty where it does, where it was not, and where none can say."""
    judgement: Judgement | None = None
    """Whether it may be used; None where nobody measured it."""


class Base(_Out, frozen=True):
    name: str
    """`base/universal@v1`"""
    commit: str
    weights: str
    created_at: str


class Models(_Out, frozen=True):
    bases: list[Base]
    variants: list[Version]


class PromoteIn(_In, frozen=True):
    stage: ServedStage = "fleet"
    note: Annotated[str, Meta(max_length=2000)] = ""
    expected: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    """The version that has the stage now (null: the base); another one there, and the move is refused."""


class RollbackIn(_In, frozen=True):
    stage: ServedStage = "fleet"
    note: Annotated[str, Meta(max_length=2000)] = ""
    expected: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    """The version that is to be rolled back (null: the base); another one at the stage, and nothing moves."""


class Moved(_Out, frozen=True):
    """The outcome of a promotion or rollback."""

    cell: str
    stage: ServedStage
    version: str | None
    """The variant that is served now; None: the base answers."""
    previous: str | None
    decision: str
    routing_version: int
    state: str = "unknown"
    """`in place`, `promoted, not in place`, `on its way`, or `unknown` where no server speaks."""
    reason: str = ""
    """Why it is not in place."""
