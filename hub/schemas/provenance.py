"""The structs of the provenance routes: statements, audits, lineage, policy and approvals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.schemas.core import ServedStage

ModelName = Annotated[str, Meta(min_length=3, max_length=300)]
"""`<cell>@<version>` or `base/<name>@<version>`."""


class _In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends."""


class _Out(Struct, frozen=True, kw_only=True):
    """What the hub answers."""


class SignIn(_In, frozen=True):
    """The model to sign a statement about."""

    name: ModelName


class StatementOut(_Out, frozen=True):
    """A believed statement. `envelope` is the DSSE envelope as it was signed; `files` maps paths to sha256."""

    name: str
    repo: str
    version: str
    commit: str
    files: dict[str, str]
    predicate: dict[str, Any]
    keyid: str
    signed_at: str
    envelope: str


class KeyOut(_Out, frozen=True):
    """A public key that this hub believes; `signs` marks the one that it signs with."""

    id: str
    public: str
    since: str
    signs: bool


class FindingOut(_Out, frozen=True):
    """One thing that could not be confirmed: of what, in a word, and in a sentence."""

    subject: str
    problem: str
    detail: str


class Verification(_Out, frozen=True):
    """What `model verify` found: nothing in `findings` means that everything was confirmed."""

    name: str
    ok: bool
    decisions: int
    files: int
    """Files whose bytes were hashed again."""
    statements: int
    findings: list[FindingOut]
    notes: list[str]


class LineageNode(_Out, frozen=True):
    """An artifact. `facts` say what else is known: who uploaded, which stages it has."""

    id: str
    kind: str
    name: str
    revision: str
    distance: int
    facts: dict[str, Any]


class LineageEdge(_Out, frozen=True):
    """`child` was made of `parent`; both are ids of nodes."""

    child: str
    parent: str
    relation: str


class ServedBy(_Out, frozen=True):
    """A cell whose robots run something of what was found. `model` is the variant or the base."""

    cell: str
    stage: str
    model: str
    robots: list[str]


class LineageOut(_Out, frozen=True):
    """What an artifact was made of (`up`) or what was made of it (`down`). `truncated`: there is more than is shown."""

    name: str
    direction: Literal["up", "down"]
    nodes: list[LineageNode]
    edges: list[LineageEdge]
    served: list[ServedBy]
    truncated: bool


class PolicyIn(_In, frozen=True):
    """The policy that is to be in force from now on."""

    policy: dict[str, Any]


class PolicyOut(_Out, frozen=True):
    """The policy in force. `set_by` is empty for the one that a hub starts with."""

    digest: str
    policy: dict[str, Any]
    set_by: str
    set_at: str | None


class ApprovalIn(_In, frozen=True):
    """A person's word that a version may have a stage."""

    cell: Annotated[str, Meta(max_length=96)]
    version: Annotated[str, Meta(max_length=200)]
    stage: ServedStage = "fleet"
    note: Annotated[str, Meta(max_length=2000)] = ""


class ApprovalOut(_Out, frozen=True):
    """An approval as it was given; it holds for one move of this commit."""

    cell: str
    version: str
    commit: str
    stage: str
    by: str
    note: str
    given_at: str


class DecisionOut(_Out, frozen=True):
    """A decision record, and its digest."""

    id: str
    record: dict[str, Any]
