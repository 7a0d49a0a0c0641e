"""Signing in and out, the overview, settings, and the files that every page needs."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import NotFoundException
from litestar.response import Redirect
from litestar.status_codes import HTTP_200_OK, HTTP_303_SEE_OTHER, HTTP_404_NOT_FOUND

from hub.accounts.minting import mint
from hub.accounts.tokens import Identity, Scope
from hub.errors import ForbiddenError, InputError, UnauthorizedError, UnknownUserError
from hub.http.audit import note
from hub.schemas import core as s
from hub.web.dependencies import Parts, Text, Web, to, whole
from hub.web.guards import CSRF_FIELD, WebRequest, check_form, form_of, identity_of, session_of
from hub.web.render import page, static_files
from hub.web.sessions import COOKIE, FORM_COOKIE, form_token
from registry.stage_types import HELD_STAGES

_SHOWN = 6
_YEAR = 365 * 86_400
MAX_TOKEN_DAYS = 3650


@get("/", include_in_schema=False)
async def root() -> Redirect:
    """The hub's address in a browser: its pages."""
    return Redirect("/ui/")


@get("/{rest:path}", sync_to_thread=False)
def no_such_page(rest: Text) -> Response[str]:
    """Every other address under `/ui`: a page that says so."""
    raise NotFoundException(rest)


@get("/static/{name:str}", sync_to_thread=False)
def static_file(name: Text) -> Response[bytes]:
    """Style, scripts and the mark. Their addresses carry their digest, so browsers keep them."""
    found = static_files().get(name)
    if found is None:
        return Response(b"", status_code=HTTP_404_NOT_FOUND, media_type="text/plain")
    headers = {"Cache-Control": f"public, max-age={_YEAR}, immutable"}
    return Response(found[0], media_type=found[1], headers=headers)


# --- signing in and out -----------------------------------------------------------------------------------------------


@get("/sign-in", sync_to_thread=False)
def sign_in_page(request: WebRequest) -> Response[Any]:
    """The form; who has a session already goes on."""
    back = _inside(request.query_params.get("next", ""))
    if request.auth is not None:
        return Redirect(back)
    return _form(request, back)


@post("/sign-in", status_code=HTTP_200_OK)
async def sign_in(request: WebRequest, web: Parts) -> Response[Any]:
    """A token for a session. Ten wrong ones from an address, and it has to wait."""
    fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    check_form(request.cookies.get(FORM_COOKIE, ""), fields.get(CSRF_FIELD, ""))
    back = _inside(fields.get("next", ""))
    address = request.client.host if request.client else ""
    if wait := web.attempts.must_wait(address):
        problem = f"Too many attempts from your address. Try again in {wait / 60:.0f} minutes."
        return _form(request, back, problem=problem, status=429)
    try:
        session = await anyio.to_thread.run_sync(web.sessions.open, fields.get("token", "").strip())
    except UnauthorizedError:
        web.attempts.note(address)
        return _form(request, back, problem="This token is not known here, or has expired.", status=401)
    answer = to(back)
    answer.set_cookie(_cookie(request, COOKIE, session.secret, int(web.sessions.seconds)))
    answer.delete_cookie(FORM_COOKIE, path="/ui")
    return answer


@post("/sign-out", status_code=HTTP_303_SEE_OTHER)
async def sign_out(request: WebRequest, web: Parts) -> Redirect:
    """End this session, or with `everywhere` all of the same token."""
    fields = await form_of(request)
    end = web.sessions.close_all_like if fields.get("everywhere") else web.sessions.close
    await anyio.to_thread.run_sync(end, session_of(request).secret)
    answer = to("/ui/sign-in")
    answer.delete_cookie(COOKIE, path="/ui")
    return answer


def _form(request: WebRequest, back: str, *, problem: str = "", status: int = HTTP_200_OK) -> Response[str]:
    secret = request.cookies.get(FORM_COOKIE, "") or secrets.token_urlsafe(24)
    answer = page(request, "sign_in.html", status=status, form=form_token(secret), next=back, problem=problem)
    answer.set_cookie(_cookie(request, FORM_COOKIE, secret, 3600))
    return answer


def _cookie(request: WebRequest, name: str, value: str, seconds: int) -> Cookie:
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    return Cookie(name, path="/ui", value=value, httponly=True, samesite="lax", secure=secure, max_age=seconds)


def _inside(address: str) -> str:
    """An address of these pages, whatever was asked for: nobody is sent elsewhere from here."""
    parts = urlsplit(address)
    safe = not parts.scheme and not parts.netloc and parts.path.startswith("/ui/") and "\\" not in address
    return address if safe and not any(ord(char) < 32 for char in address) else "/ui/"


# --- the overview -----------------------------------------------------------------------------------------------------


@get("/", sync_to_thread=True)
def overview(request: WebRequest, web: Parts) -> Response[str]:
    """What there is, what runs, what is served."""
    who, services = identity_of(request), web.services
    jobs = web.jobs(who, limit=_SHOWN)
    datasets = services.datasets.page(who, limit=_SHOWN)
    hidden = services.privacy.hidden(who)
    variants = services.variants.page(limit=_SHOWN, hidden=hidden)
    serving = [one for one in services.registry.stages.assignments(stages=HELD_STAGES) if one.cell not in hidden]
    return page(
        request,
        "overview.html",
        here="home",
        counts=_counts(web, who, hidden),
        jobs=jobs,
        datasets=datasets,
        variants=variants,
        serving=sorted(serving, key=lambda one: one.cell)[:_SHOWN],
        serving_count=len(serving),
        base=services.bases.newest_name(),
        first_steps=not (datasets and variants and serving),
        finished=any(job.state == "finished" for job in jobs) or bool(variants),
    )


def _counts(web: Web, who: Identity, hidden: Collection[str]) -> dict[str, int]:
    """How many there are of what the caller may see."""
    everything, mine = who.sees_all, sorted(who.namespaces)
    rows = web.services.registry.catalog.query(
        "SELECT (SELECT count(*) FROM repos WHERE type = 'dataset'"
        " AND (? OR NOT private OR list_contains(?::VARCHAR[], lower(namespace)))), (SELECT count(*) FROM hub_cells), "
        "(SELECT count(*) FROM hub_variants WHERE NOT list_contains(?::VARCHAR[], cell)),"
        " (SELECT count(*) FROM hub_jobs WHERE state IN ('queued', 'running')"
        " AND (? OR list_contains(?::VARCHAR[], team) OR created_by = ?))",
        [everything, mine, sorted(hidden), everything, mine, who.owner],
    )
    return dict(zip(("datasets", "cells", "variants", "jobs"), rows[0], strict=True))


# --- settings ---------------------------------------------------------------------------------------------------------


@get("/settings", sync_to_thread=True)
def settings(request: WebRequest, web: Parts) -> Response[str]:
    """Who one is, what one may, one's sessions; for the operator all tokens."""
    return _settings(request, web, made=web.once.take(session_of(request).secret))


def _settings(request: WebRequest, web: Web, *, made: str = "", problem: str = "") -> Response[str]:
    session = session_of(request)
    who = session.identity
    tokens = web.services.tokens.all() if who.may(Scope.ADMIN) else []
    return page(
        request,
        "settings.html",
        here="settings",
        tokens=tokens,
        sessions=web.sessions.count_like(session.secret),
        scopes=[scope.value for scope in Scope],
        hub_url=web.services.settings.public_url or str(request.base_url).rstrip("/"),
        made=made,
        problem=problem,
    )


@post("/settings/tokens", status_code=HTTP_303_SEE_OTHER)
async def make_token(request: WebRequest, web: Parts) -> Response[Any]:
    """Make a token. Its value is on the page that follows, this once: a reload of that makes no second one."""
    fields = await form_of(request)
    return await anyio.to_thread.run_sync(_make_token, request, web, fields)


def _make_token(request: WebRequest, web: Web, fields: dict[str, str]) -> Response[Any]:
    who = identity_of(request)
    who.require(Scope.ADMIN)
    scopes = [scope.value for scope in Scope if fields.get(f"scope-{scope.value}")]
    user = fields.get("user", "").strip() or None
    if not scopes or not fields.get("name", "").strip():
        return _settings(request, web, problem="A token needs a name and at least one thing that it may do.")
    try:
        most = web.services.tokens.seconds_left(who)
        days = whole(fields.get("days", ""), low=1, high=MAX_TOKEN_DAYS, default=90)
        name, seconds = fields["name"].strip(), days * 86_400.0
        if not fields.get("days") and most is not None:
            seconds = min(seconds, most)  # nothing was asked for: as long as may be
        asked = msgspec.convert({"name": name, "scopes": scopes, "seconds": seconds, "user": user}, s.TokenIn)
        token = mint(web.services.tokens, web.services.users, who, asked)
    except (InputError, ForbiddenError, UnknownUserError, msgspec.ValidationError) as error:
        return _settings(request, web, problem=str(error))
    note(request, name=name, scopes=scopes, user=user)
    web.once.put(session_of(request).secret, token)
    return to("/ui/settings")


@post("/settings/tokens/{token_id:str}/revoke", status_code=HTTP_303_SEE_OTHER)
async def revoke_token(request: WebRequest, web: Parts, token_id: Text) -> Redirect:
    """End a token, and the sessions that it opened."""
    await form_of(request)
    who = identity_of(request)
    who.require(Scope.ADMIN)
    if any(one.id == token_id and one.name == who.name for one in web.services.tokens.all()):
        raise ForbiddenError("this is the token that you are signed in with")
    await anyio.to_thread.run_sync(web.services.tokens.revoke, token_id)
    note(request, id=token_id)
    return to("/ui/settings?notice=revoked")
