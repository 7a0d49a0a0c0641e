"""Who may use which route, and on what, for all three entrances: REST, Hub protocol, pages.

Each route that the application registers has a rule, a REST resource's in its own module (`hub.api`), all others here.
A route without one is refused for everybody. A rule says for each kind of identity what it reaches. It is the first
guard of every request. What follows is finer: scopes (`hub.accounts.tokens`), repositories (`hub.accounts.access`),
cells and what was made of private data (`hub.accounts.privacy`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from hub.accounts.tokens import Identity, Kind
from hub.errors import ForbiddenError, UnauthorizedError


class Reach(StrEnum):
    """What a kind of identity reaches by a route. Another team's public things are `public`, its private ones are
    reached by `all` alone."""

    NONE = "nothing"
    PUBLIC = "public"
    OWN = "own"
    """Of the caller's own teams; what has no team is everybody's who has a team."""
    VISIBLE = "own and public"
    GIVEN = "what it was made for"
    """Of a job: the repositories that its token names, and itself. Of a robot or a site: its cells."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Rule:
    """What each kind reaches; a kind that is not named reaches nothing."""

    name: str
    reach: Mapping[Kind, Reach]

    def of(self, kind: Kind) -> Reach:
        """What this kind reaches."""
        return self.reach.get(kind, Reach.NONE)


def _rule(name: str, team: Reach, **others: Reach) -> Rule:
    """People and teams reach the same; the operator all."""
    reach = {Kind.PERSON: team, Kind.TEAM: team, Kind.OPERATOR: Reach.ALL}
    return Rule(name, reach | {Kind(kind): value for kind, value in others.items()})


OPEN: Final = Rule("open", dict.fromkeys(Kind, Reach.ALL))
"""Tells nothing of anybody."""
SIGNED: Final = Rule("signed", dict.fromkeys(Kind, Reach.ALL))
"""The address or the token is a grant that the hub signed for one thing; who sends it does not matter."""
SEE: Final = _rule("see", Reach.VISIBLE)
SEE_GIVEN: Final = _rule("see, jobs too", Reach.VISIBLE, job=Reach.GIVEN)
READ: Final = _rule("read", Reach.VISIBLE, job=Reach.GIVEN, anonymous=Reach.PUBLIC)
"""Of the Hub protocol; anonymous callers only where the hub allows them."""
SEARCH: Final = _rule("search", Reach.VISIBLE, anonymous=Reach.PUBLIC)
CHANGE: Final = _rule("change", Reach.OWN)
CHANGE_GIVEN: Final = _rule("change, jobs too", Reach.OWN, job=Reach.GIVEN)
PROPOSE: Final = _rule("propose", Reach.VISIBLE)
"""To say or propose something about what one may read."""
SEND: Final = _rule("send", Reach.VISIBLE, job=Reach.GIVEN)
"""Bytes, before a commit or a proposal names them."""
VERIFY: Final = _rule("verify", Reach.VISIBLE, job=Reach.GIVEN, anonymous=Reach.GIVEN)
"""Whether bytes arrived: for who sent them, or with the signed grant that the hub gave for them."""
PRODUCTION: Final = _rule("production", Reach.OWN)
REPORT: Final = _rule("report", Reach.OWN, robot=Reach.GIVEN)
ACCOUNT: Final = _rule("account", Reach.OWN)
PEOPLE: Final = _rule("people", Reach.ALL)
"""Any person: names of users as commits show them, whether a README's head is well-formed."""
OPERATOR: Final = Rule("operator", {Kind.OPERATOR: Reach.ALL})
JOB: Final = Rule("job", {Kind.JOB: Reach.GIVEN})
JOB_OR_OWN: Final = _rule("job", Reach.OWN, job=Reach.GIVEN)
SITE: Final = Rule("site", {Kind.SITE: Reach.GIVEN})
"""The uplink: what runs beside Triton, about the cells of its token."""

_HF, _UI = "/api/{kind}/{namespace}/{name}", "/ui"
_FILES, _SET = "/{namespace}/{name}", "/datasets/{namespace}/{name}"


def grouped(*groups: tuple[str, Rule, str]) -> dict[str, Rule]:
    """Rules by route, from groups of (what all addresses begin with, rule, `METHOD /rest` with commas between them).

    Raises ValueError for two rules of one route.
    """
    found: dict[str, Rule] = {}
    for prefix, rule, routes in groups:
        for route in routes.split(", "):
            method, _, path = route.partition(" ")
            key = f"{method} {prefix}{path}"
            if key in found:
                raise ValueError(f"two rules for {key}")
            found[key] = rule
    return found


def _table() -> dict[str, Rule]:
    """Hub protocol, pages and the description of the API; each REST resource brings its own (`hub.api`)."""
    return grouped(
        # Hub protocol
        ("/api", _rule("whoami", Reach.OWN, job=Reach.GIVEN), "GET /whoami-v2"),
        ("/api", PEOPLE, "GET /users/{user}/overview"),
        # Stock clients check a card without a token, whatever token they commit it with.
        ("/api", OPEN, "POST /validate-yaml"),
        ("/api", ACCOUNT, "GET /settings/repositories"),
        ("/api/organizations/{team}", SEE, "GET /overview"),
        ("/api/organizations/{team}", ACCOUNT, "GET /settings/repositories, GET /members"),
        ("/api", CHANGE_GIVEN, "POST /repos/create"),
        ("/api", CHANGE, "DELETE /repos/delete, POST /repos/move"),
        ("/api", SEARCH, "GET /{kind}"),
        (_HF, READ, "GET, GET /revision/{revision}, GET /auth-check, GET /tree/{revision}/{path}"),
        (_HF, READ, "GET /tree/{revision}, POST /paths-info/{revision}, GET /commits/{revision}, GET /refs"),
        (_HF, READ, "GET /lfs-files, GET /xet-read-token/{revision}"),
        (_HF, SEARCH, "GET /discussions, GET /discussions/{num}"),
        (_HF, PROPOSE, "POST /ask-access, POST /discussions, POST /discussions/{num}/comment"),
        (_HF, PROPOSE, "POST /discussions/{num}/status, POST /discussions/{num}/title"),
        (
            _HF,
            PROPOSE,
            "POST /discussions/{num}/comment/{comment}/edit, POST /discussions/{num}/comment/{comment}/hide",
        ),
        (_HF, PROPOSE, "POST /duplicate"),  # reads one repository, and writes one of the caller's own
        (_HF, SEND, "POST /preupload/{revision}, POST /commit/{revision}, GET /xet-write-token/{revision}"),
        (_HF, CHANGE_GIVEN, "GET /auth-check/write, POST /lfs-files/duplicate"),
        (_HF, CHANGE, "PUT /settings, POST /discussions/{num}/merge, POST /super-squash/{branch}"),
        (_HF, CHANGE, "POST /lfs-files/batch, GET /user-access-request/{status}"),
        (_HF, CHANGE, "POST /user-access-request/grant, POST /user-access-request/handle"),
        (_HF, CHANGE_GIVEN, "POST /branch/{branch}, DELETE /branch/{branch}"),
        (_HF, CHANGE_GIVEN, "POST /tag/{revision}, DELETE /tag/{tag}"),
        (_FILES, READ, "GET /raw/{revision}/{path}, HEAD /raw/{revision}/{path}"),
        (_FILES, READ, "GET /resolve/{revision}/{path}, HEAD /resolve/{revision}/{path}"),
        (_SET, READ, "GET /raw/{revision}/{path}, HEAD /raw/{revision}/{path}"),
        (_SET, READ, "GET /resolve/{revision}/{path}, HEAD /resolve/{revision}/{path}"),
        (_FILES, READ, "GET /info/refs, POST /git-upload-pack"),
        (_SET, READ, "GET /info/refs, POST /git-upload-pack"),
        (_FILES, OPEN, "POST /git-receive-pack"),  # says to everybody that there are no pushes
        (_SET, OPEN, "POST /git-receive-pack"),
        (_FILES, READ, "POST /info/lfs/objects/batch"),  # an upload needs more, which the handler checks
        (_SET, READ, "POST /info/lfs/objects/batch"),
        (_FILES, VERIFY, "POST /info/lfs/verify"),
        (_SET, VERIFY, "POST /info/lfs/verify"),
        ("/lfs", SIGNED, "GET /objects/{token}, PUT /objects/{token}, PUT /parts/{token}/{number}"),
        ("/lfs", SIGNED, "POST /complete/{token}"),
        ("/xet/{epoch}", SIGNED, "GET /v1/chunks/{prefix}/{name}, GET /v1/reconstructions/{name}"),
        ("/xet/{epoch}", SIGNED, "GET /v2/reconstructions/{name}, POST /v1/shards, POST /v1/xorbs/{prefix}/{name}"),
        ("/xet/{epoch}", OPEN, "POST /v1/telemetry"),
        ("", OPEN, "POST /v1/telemetry"),
        ("", SIGNED, "GET /xet-fetch/{token}"),
        # pages
        ("", OPEN, "GET /"),
        (_UI, OPEN, "GET /static/{name}, GET /sign-in, POST /sign-in"),
        (_UI, ACCOUNT, "POST /sign-out, GET /settings, POST /settings/tokens, POST /settings/tokens/{token_id}/revoke"),
        (_UI, SEE, "GET, GET /{rest}, GET /datasets, GET /datasets/new, GET /cells, GET /cells/{cell}, GET /compare"),
        (_UI + _SET, SEE, "GET, GET /at/{commit}/wall/{number}, GET /at/{commit}/{kind}/{pos}, GET /images/{pos}"),
        (_UI + _SET, SEE, "GET /check, POST /check, GET /contribution"),
        (_UI + _SET, CHANGE, "POST /offer"),
        (_UI + "/growth", OPERATOR, "GET, GET /{run}, POST /{run}/stop, POST /contributions/{contribution}"),
        (_UI, SEE, "GET /repos/{kind}/{namespace}/{name}"),
        (_UI, PRODUCTION, "GET /jobs, GET /jobs/{job_id}, GET /jobs/{job_id}/log, GET /jobs/{job_id}/events"),
        (_UI, PRODUCTION, "POST /jobs/{job_id}/cancel, POST /jobs/{job_id}/retry, GET /outcomes"),
        (_UI + "/events", PRODUCTION, "GET, GET /{event_id}"),
        (_UI + "/events/{event_id}", PRODUCTION, "POST /change, POST /merge, POST /split"),
        (_UI + "/findings/{finding_id}", PRODUCTION, "GET /picture"),
        (_UI + "/alerts", PRODUCTION, "GET, GET /{alert_id}/pictures/{which}"),
        (_UI + "/alerts/{alert_id}", PRODUCTION, "POST /acknowledge, POST /close"),
        (_UI + "/failures", PRODUCTION, "GET, GET /{failure_id}, POST /{failure_id}/correct"),
        (_UI + "/captures", PRODUCTION, "GET, GET /{capture_id}, GET /{capture_id}/image/{size}"),
        (_UI + "/label", PRODUCTION, "GET, GET /cells/{cell}, GET /tasks/{task_id}, GET /tasks/{task_id}/picture"),
        (
            _UI + "/label/cells/{cell}",
            PRODUCTION,
            "POST /next, POST /fill, POST /batches, POST /propagate, PUT /settings, GET /tools, POST /tools/{action}",
        ),
        (_UI + "/label/tasks/{task_id}", PRODUCTION, "POST /accept, POST /move"),
        (_UI, SEE, "GET /finetune, GET /models/{cell}/{version}, GET /models/{cell}/{version}/report"),
        (_UI, CHANGE, "POST /finetune, POST /cells, POST /cells/{cell}/classes, POST /cells/{cell}/rollback"),
        (_UI + "/cells/{cell}", PRODUCTION, "GET /timeline, GET /cameras"),
        (_UI + "/cells/{cell}/refresh", CHANGE, "POST /policy, POST /{action}, POST /runs/{run}/{action}"),
        (_UI, CHANGE, "POST /models/{cell}/{version}/promote, POST /uploads/{namespace}/{name}"),
        (_UI + "/uploads/{upload_id}", CHANGE, "GET, DELETE, PUT /files/{sha256}, POST /commit"),
        # what describes the API
        ("/schema", OPEN, "GET, GET /{path}, GET /openapi.json, GET /openapi.yaml, GET /openapi.yml"),
    )


_rules: Final[dict[str, Rule]] = _table()
RULES: Final[Mapping[str, Rule]] = _rules
"""`METHOD /path/with/{parameters}` to the rule; those that resources bring are added (`hub.http.resources`)."""


def _shape(route: str) -> str:
    """A route without its parameters' names: of routes that share an address, Litestar tells those of one alone."""
    return re.sub(r"\{\w+\}", "{}", route)


_BY_SHAPE: Final = {_shape(route): rule for route, rule in RULES.items()}


def add_rules(more: Mapping[str, Rule]) -> None:
    """Add the rules of a resource. Raises ValueError for a route that has one: no rule is ever replaced."""
    taken = [route for route in more if _shape(route) in _BY_SHAPE]
    if taken:
        raise ValueError(f"two rules for {taken[0]}")
    _rules.update(more)
    _BY_SHAPE.update({_shape(route): rule for route, rule in more.items()})


_REFUSED: Final = {
    Kind.ROBOT: "is a robot's: it may ask Triton and report outcomes",
    Kind.SITE: "is a site's: it may send what it observed and fetch what the hub wishes",
    Kind.JOB: "is a job's, and may only work on it",
    Kind.ANONYMOUS: "has no scope that this hub knows",
}


def entrance(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The guard of every route: the table has to let this kind of identity in.

    Raises UnauthorizedError without a token, ForbiddenError with one that is of the wrong kind, and for a route that
    the table does not know.
    """
    method, path = connection.scope["method"], connection.scope.get("path_template", "")  # type: ignore[typeddict-item]
    if method == "OPTIONS":  # tells the methods of an address, nothing else
        return
    rule = _BY_SHAPE.get(_shape(f"{method} {path}"))
    if rule is None:
        raise ForbiddenError("nobody may use this address: it has no rule")
    who = connection.scope.get("user")
    kind = who.kind if isinstance(who, Identity) else Kind.ANONYMOUS
    if rule.of(kind) is not Reach.NONE:
        return
    if isinstance(who, Identity):
        raise ForbiddenError(f"the token {who.name!r} {_REFUSED.get(kind, 'may not do this: it is for operators')}")
    raise UnauthorizedError(_sign_in(path))


def _sign_in(path: str) -> str:
    if path.startswith(_UI):
        return "sign in to see this page"
    return "this route needs `Authorization: Bearer <token>`" if path.startswith("/api/v1") else _NO_USER


_NO_USER: Final = "Invalid username or password."
"""What stock clients of the Hub protocol compare with."""
