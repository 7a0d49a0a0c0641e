"""Who vouches for what, what was made from what, and under which policy it may move."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.provenance import ProvenanceCalls
from hub.http.access_policy import CHANGE, OPERATOR, SEE, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest
from hub.http.resources import Resource, register
from hub.migrations.tables import timestamp
from hub.schemas import provenance as p
from hub.services import Services
from registry.errors import NotFoundError
from registry.promotion.policies import Approval, PolicyInForce
from registry.promotion.policy import Policy
from registry.provenance import Statement

Name = Annotated[str, QueryParameter(min_length=1, max_length=300)]


class ProvenanceController(Controller):
    """Statements, audits, lineage, the policy of promotion and approvals."""

    path = "/provenance"
    tags = ("provenance",)

    @get("/statement", sync_to_thread=True)
    def get_statement(self, services: Hub, request: HubRequest, name: Name) -> p.StatementOut:
        """The signed statement about `<cell>@<version>` or `base/<name>@<version>`; 409 if none is believed."""
        _require(services, request, name)
        made = services.vouching.statement(name)
        said = str(made.predicate.get("dataset", "")).partition("@")[0]
        if services.privacy.secret_datasets([said], identity_of(request)):
            raise NotFoundError(f"there is no statement about {name!r}")
        return _statement(name, made)

    @post("/statement", sync_to_thread=True, guards=[requires(Scope.ADMIN)], status_code=HTTP_200_OK)
    def sign(self, services: Hub, data: JSONBody[p.SignIn], request: HubRequest) -> p.StatementOut:
        """Sign a base or a variant that was brought in by hand."""
        made = services.vouching.sign(data.name, by=identity_of(request).owner)
        services.serving_folder.sync()
        note(request, commit=made.commit, key=made.keyid)
        return _statement(data.name, made)

    @get("/keys", sync_to_thread=True)
    def list_keys(self, services: Hub) -> list[p.KeyOut]:
        """The public keys that this hub believes."""
        return [
            p.KeyOut(id=key.id, public=key.public, since=timestamp(key.since.timestamp()), signs=key.signs)
            for key in services.registry.keys.all()
        ]

    @get("/verify", sync_to_thread=True)
    def verify(self, services: Hub, request: HubRequest, name: Name) -> p.Verification:
        """Replay the decisions about a cell and check statements and files, all from digests."""
        _require(services, request, name)
        return services.verification.of(name)

    @get("/lineage", sync_to_thread=True)
    def lineage(
        self,
        services: Hub,
        request: HubRequest,
        name: Name,
        direction: Annotated[Literal["up", "down"], QueryParameter()] = "up",
    ) -> p.LineageOut:
        """What something was made from (`up`), or what was made of it and which robots run that (`down`)."""
        _require(services, request, name)
        return services.lineages.of(name, direction, identity_of(request))

    @get("/decisions", sync_to_thread=True)
    def decisions(
        self,
        services: Hub,
        request: HubRequest,
        cell: Annotated[str, QueryParameter(min_length=1, max_length=96)],
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> list[p.DecisionOut]:
        """The decisions about a cell, newest first, refused ones among them."""
        _require(services, request, cell)
        found = services.registry.stages.history(services.cells.get(cell).name, limit)
        return [p.DecisionOut(id=one.id, record=msgspec.json.decode(one.document())) for one in found]

    @get("/policy", sync_to_thread=True)
    def get_policy(self, services: Hub) -> p.PolicyOut:
        """The policy in force."""
        return _policy(services.registry.policies.current())

    @put("/policy", sync_to_thread=True, guards=[requires(Scope.ADMIN)])
    def set_policy(self, services: Hub, data: JSONBody[p.PolicyIn], request: HubRequest) -> p.PolicyOut:
        """Put a policy in force; decisions that were made stay under theirs."""
        made = services.registry.policies.set(Policy.parse(data.policy), identity_of(request).owner)
        note(request, policy=made.digest)
        return _policy(made)

    @post("/approvals", sync_to_thread=True, guards=[requires(Scope.PROMOTE)])
    def approve(self, services: Hub, data: JSONBody[p.ApprovalIn], request: HubRequest) -> p.ApprovalOut:
        """Approve of a variant's move to a stage; whoever makes the move counts not."""
        who = identity_of(request)
        who.require_team(services.cells.get(data.cell).team, f"the cell {data.cell!r}")
        services.require_variant(who, data.cell, data.version)
        given = services.promotions.approve(data.cell, data.version, data.stage, by=who.owner, note=data.note)
        note(request, commit=given.commit, stage=given.stage)
        return _approval(data.cell, given)


def _require(services: Services, request: HubRequest, name: str) -> None:
    """Raise UnknownVariantError for variants, and cells with such, that do not exist for the caller."""
    cell, _, version = name.partition("@")
    if "/" not in cell:
        services.require_variant(identity_of(request), cell, version or "of yours")


def _statement(name: str, one: Statement) -> p.StatementOut:
    return p.StatementOut(
        name=name,
        repo=one.repo,
        version=one.version,
        commit=one.commit,
        files=dict(one.files),
        predicate=dict(one.predicate),
        keyid=one.keyid,
        signed_at=timestamp(one.signed_at.timestamp()),
        envelope=one.envelope.decode(),
    )


def _policy(one: PolicyInForce) -> p.PolicyOut:
    document: dict[str, Any] = msgspec.json.decode(one.document)
    at = None if one.set_at is None else timestamp(one.set_at.timestamp())
    return p.PolicyOut(digest=one.digest, policy=document, set_by=one.set_by, set_at=at)


def _approval(cell: str, one: Approval) -> p.ApprovalOut:
    return p.ApprovalOut(
        cell=cell,
        version=one.variant.version,
        commit=one.commit,
        stage=one.stage,
        by=one.by,
        note=one.note,
        given_at=timestamp(one.given_at.timestamp()),
    )


RESOURCE = register(
    Resource(
        "provenance",
        [ProvenanceController],
        rules=grouped(
            ("/provenance", SEE, "GET /statement, GET /keys, GET /verify, GET /lineage, GET /decisions, GET /policy"),
            ("/provenance", OPERATOR, "POST /statement, PUT /policy"),
            ("/provenance", CHANGE, "POST /approvals"),
        ),
        calls=ProvenanceCalls,
    )
)
