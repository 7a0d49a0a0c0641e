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
Text = Annotated[str, Meta(max_length=200)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
RepoType = Literal["model", "dataset"]
ScopeName = Literal["read", "contribute", "finetune", "promote", "admin"]
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
    """How the hub does; `base` is the newest one, null before there is any."""

    status: str
    version: str
    base: str | None


class CellIn(_In, frozen=True):
    """A cell to make. Its `team` may fine-tune and promote; empty: the caller's own, or everybody for the operator's.
    `classes`: labels of the base that are there, all that it answers until there is a variant; empty: any."""

    name: Slug
    description: Annotated[str, Meta(max_length=500)] = ""
    team: Annotated[str, Meta(max_length=96)] = ""
    classes: Classes = []


class Cell(_Out, frozen=True):
    """A cell; `team` empty: everybody's. `classes` as in `CellIn`."""

    name: str
    description: str
    created_at: str
    team: str = ""
    classes: list[str] = []


class UserIn(_In, frozen=True):
    """Empty texts and `teams` null leave what is there."""

    fullname: Text = ""
    email: Text = ""
    teams: Annotated[list[Annotated[str, Meta(max_length=96)]], Meta(max_length=100)] | None = None


class TeamIn(_In, frozen=True):
    """A team to make or to rename."""

    fullname: Annotated[str, Meta(min_length=1, max_length=200)]


class User(_Out, frozen=True):
    """A user and the teams in whose namespaces they may write."""

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
    """A token to make; it ends after `seconds`, null: never. `value`: one made elsewhere that is to be good here. One
    of a `team` acts in its namespace with no person behind it; the operator makes it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,94}$")]
    scopes: Annotated[list[ScopeName], Meta(min_length=1, max_length=5)]
    user: str | None = None
    seconds: Annotated[float, Meta(gt=0)] | None = None
    value: Text | None = None
    team: Annotated[str, Meta(max_length=96)] | None = None


class Token(_Out, frozen=True):
    """A token as it is listed: what it may do and when it ends, not its secret."""

    id: str
    name: str
    user: str | None
    scopes: list[str]
    created_at: str
    expires_at: str | None


class NewToken(_Out, frozen=True):
    """A token's secret, shown this once."""

    token: str


class Repo(_Out, frozen=True):
    """A repository of the registry."""

    type: RepoType
    namespace: str
    name: str
    created_at: str


class Ref(_Out, frozen=True):
    """A branch or a tag, and the commit that it names."""

    name: str
    kind: Literal["branch", "tag"]
    commit: str


class File(_Out, frozen=True):
    """A file of a revision; its size is in bytes."""

    path: str
    size: int
    sha256: str


class Tree(_Out, frozen=True):
    """All files of one commit."""

    commit: str
    files: list[File]


class PutFile(_In, frozen=True, tag_field="op", tag="put"):
    """Add or replace a file whose bytes were uploaded."""

    path: str
    sha256: Sha256


class DeleteFile(_In, frozen=True, tag_field="op", tag="delete"):
    """Delete a file."""

    path: str


class CommitIn(_In, frozen=True):
    """`expected_parent` is the head it was made on (null: none yet); another head by then is a conflict."""

    message: Annotated[str, Meta(min_length=1, max_length=2000)]
    operations: Annotated[list[PutFile | DeleteFile], Meta(min_length=1, max_length=100_000)]
    expected_parent: str | UnsetType | None = UNSET


class Commit(_Out, frozen=True):
    """A commit; `parent` is null for the first."""

    id: str
    parent: str | None
    message: str
    author: str
    created_at: str


class FinetuneIn(_In, frozen=True):
    """A fine-tune of `base` (`base/name@tag`; empty: the newest) on `dataset` (`team/name`). `class_map`: own
    class to the base's label, or several to one. `image_size`: pixels a side to look at; null: what suits labels."""

    cell: Slug
    dataset: Annotated[str, Meta(pattern=r"^[^/@\s]+/[^/@\s]+$", max_length=200)]
    dataset_revision: Text = "main"
    base: Text = ""
    images: Annotated[int, Meta(ge=2, le=100_000)] | None = None
    max_minutes: Annotated[float, Meta(gt=0, le=24 * 60)] = 10.0
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    class_map: Annotated[dict[Text, Text], Meta(max_length=1000)] = {}
    image_size: Annotated[int, Meta(ge=64, le=640)] | None = None


class Judgement(_Out, frozen=True):
    """What `registry.promotion.readiness` says of a variant by what its fine-tune measured. `reason` and `next_step`
    are a sentence each; `stage` is what it proposes: `candidate` for a variant that stays where it is."""

    verdict: Literal["ready", "test station", "not yet"]
    reason: str
    next_step: str
    stage: StageName

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Judgement | None:
        """By the metrics of a fine-tune; None where nobody measured the variant."""
        from registry.promotion.readiness import judge_metrics  # here: clients that only ask need none of it

        found = judge_metrics(metrics)
        if found is None:
            return None
        return cls(verdict=found.verdict, reason=found.reason, next_step=found.next_step, stage=found.stage)


class Job(_Out, frozen=True):
    """A job; `spec` is the struct of its kind (`hub.schemas.jobs`). `attempt`: how often a worker took it up; names one
    run. `crashes`: runs that ended without an answer; at `max_attempts` it fails. `version`: the variant it made,
    `<cell>@v3`. `team`: whose quota it counts for and who may see it. `used_seconds`: of ended runs. `progress`: the
    newest report (stage, step, total, images_per_second, eta_seconds, message). `judgement`: may the variant be used?
    `life`, asked for alone and not ended: how long it waits or works, its place in the queue, its last sign."""

    id: str
    state: JobState
    spec: JobSpec
    attempt: int
    crashes: int
    max_attempts: int
    cancel_requested: bool
    created_by: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    worker: str | None
    error: str | None
    version: str | None
    metrics: dict[str, Any]
    team: str = ""
    used_seconds: float = 0.0
    progress: dict[str, Any] | None = None
    judgement: Judgement | None = None
    life: str = ""


class JobEvent(_Out, frozen=True):
    """One entry of a job's history, numbered from 1."""

    seq: int
    at: str
    kind: Literal["state", "progress"]
    data: dict[str, Any]


class ClaimIn(_In, frozen=True):
    """A worker that asks for a job of these kinds; null: of any."""

    worker: Annotated[str, Meta(min_length=1, max_length=200)]
    kinds: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100)] | None = None


class Claim(_Out, frozen=True):
    """A job to run, with the token of its process: for this job and this attempt, until it ends."""

    job: Job
    token: str
    lease_seconds: float


class HeartbeatIn(_In, frozen=True):
    """A worker's word that a run goes on."""

    worker: str
    attempt: int


class Heartbeat(_Out, frozen=True):
    """`stop`: the job was cancelled, end it."""

    stop: bool


class ReleaseIn(_In, frozen=True):
    """A run that ended without an answer: `crashed` by itself, or because its worker had to stop it."""

    worker: str
    attempt: int
    reason: str
    crashed: bool


class ProgressIn(_In, frozen=True):
    """How far a run is; `metrics` are numbers by name, such as the loss."""

    stage: Text
    step: int
    total: int
    images_per_second: float | None = None
    eta_seconds: float | None = None
    message: Annotated[str, Meta(max_length=8000)] = ""
    metrics: Annotated[dict[Text, float], Meta(max_length=1000)] = {}


class FinishIn(_In, frozen=True):
    """Of a fine-tune: its `commit` in `cells/<cell>`, and `deck`, a sha256. Of a base: `files`, already uploaded."""

    metrics: Annotated[dict[Text, Any], Meta(max_length=1000)]
    commit: Text = ""
    deck: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    files: Annotated[dict[Text, Sha256], Meta(max_length=20)] = {}


class JobIn(_In, frozen=True):
    """A job to queue; `asked` is what its kind wants to know (docs/extending.md, docs/service.md)."""

    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    asked: dict[str, Any] = {}


class FailIn(_In, frozen=True):
    """Why a job cannot succeed, for the person who asked for it."""

    error: Annotated[str, Meta(min_length=1, max_length=8000)]


class Version(_Out, frozen=True):
    """One variant (`<cell>@v3`): what it is made of, how good it measured (`judgement` None: not at all), where it is
    served. `not_in_place`: why it does not answer though promoted; empty where it does, and where none can say."""

    name: str
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
    judgement: Judgement | None = None


class Base(_Out, frozen=True):
    """A version of a base, named `base/universal@v1`; `weights` is the sha256 of its weights."""

    name: str
    commit: str
    weights: str
    created_at: str


class Models(_Out, frozen=True):
    """All bases and variants that the caller may see."""

    bases: list[Base]
    variants: list[Version]


class PromoteIn(_In, frozen=True):
    """A stage to give. `expected` has it now (null: the base); another one there, and the move is refused."""

    stage: ServedStage = "fleet"
    note: Annotated[str, Meta(max_length=2000)] = ""
    expected: Text | UnsetType | None = UNSET


class RollbackIn(_In, frozen=True):
    """A stage to give back. `expected` has it now (null: the base); another one there, and nothing moves."""

    stage: ServedStage = "fleet"
    note: Annotated[str, Meta(max_length=2000)] = ""
    expected: Text | UnsetType | None = UNSET


class Moved(_Out, frozen=True):
    """The outcome of a promotion or rollback. `version` is served now; None: the base. `state`: `in place`, `promoted,
    not in place` (`reason` says why), `on its way`, or `unknown` where no server speaks."""

    cell: str
    stage: ServedStage
    version: str | None
    previous: str | None
    decision: str
    routing_version: int
    state: str = "unknown"
    reason: str = ""
