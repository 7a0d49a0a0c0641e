"""A cell's timeline: what happened and why, and what may be done about each refresh."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Identity, Scope
from hub.api.refresh import changer, seen_cell, timeline_of
from hub.errors import InputError, UnknownCellError
from hub.http.audit import note
from hub.loop.refreshes import Glance, check_labels
from hub.schemas.refresh import RefreshPolicyIn
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.render import page

LISTED = 40
MAX_NOTE = 500
NUMBERS: Final = ("min_labels", "min_gain", "min_hours_between", "max_minutes", "tolerance")


def refresh_of(web: Web, who: Identity, cell: str) -> Glance | None:
    """What the cell's page tells of refreshes, to those who work in the cell."""
    try:
        seen_cell(web.services, who, cell)
    except UnknownCellError:
        return None
    return web.services.refreshes.glance(cell, ruled=bool(web.services.settings.refresh))


@get("/cells/{cell:str}/timeline", sync_to_thread=True)
def timeline(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """What happened to the cell, newest first."""
    who, kind = identity_of(request), last(request, "kind")
    kinds = web.services.timeline.kinds
    steps = timeline_of(
        web.services, who, cell, limit=LISTED + 1, after=last(request, "after"), kinds=(kind,) if kind in kinds else ()
    )
    found = web.services.cells.get(cell)
    return page(
        request,
        "timeline.html",
        here="cells",
        cell=found,
        refresh=web.services.refreshes.of(cell),
        policies=web.services.refreshes.policies.history(cell, 10),
        steps=steps[:LISTED],
        more=steps[LISTED - 1].id if len(steps) > LISTED else "",
        kinds=kinds,
        kind=kind if kind in kinds else "",
        mine=who.owns(found.team) or not found.team,
    )


@post("/cells/{cell:str}/refresh/policy", status_code=HTTP_303_SEE_OTHER)
async def set_policy(request: WebRequest, web: Parts, cell: Text) -> Redirect:
    """Declare the cell's refresh policy."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = _allowed(web, request, cell, Scope.FINETUNE)
        try:
            wanted = msgspec.convert(_policy_of(fields), RefreshPolicyIn)
            expected = int(fields.get("expected", ""))
        except (msgspec.ValidationError, ValueError) as error:
            raise InputError(f"the form is not well-formed: {error}") from error
        check_labels(wanted.labels, web.services.may_download(who))
        before = web.services.refreshes.policies.get(cell).policy
        wanted = msgspec.structs.replace(wanted, paused=before.paused)
        said = fields.get("note", "").strip()[:MAX_NOTE]
        made = web.services.refreshes.set_policy(cell, wanted, who.owner, said, expected=expected)
        note(request, version=made.version)
        return to(f"/ui/cells/{cell}/timeline?notice=Noted")

    return await anyio.to_thread.run_sync(change)


@post("/cells/{cell:str}/refresh/{action:str}", status_code=HTTP_303_SEE_OTHER)
async def act(request: WebRequest, web: Parts, cell: Text, action: Text) -> Redirect:
    """Pause the rule, let it go on, or start a refresh now."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = _allowed(web, request, cell, Scope.FINETUNE)
        said, refreshes = fields.get("note", "").strip()[:MAX_NOTE], web.services.refreshes
        if action in ("pause", "resume"):
            note(request, version=refreshes.pause(cell, who.owner, said, paused=action == "pause").version)
        elif action == "now":
            note(request, run=refreshes.now(cell, who.owner).id)
        else:
            raise InputError(f"a refresh is paused, resumed or started now, not {action[:20]!r}")
        return to(f"/ui/cells/{cell}/timeline?notice=Noted")

    return await anyio.to_thread.run_sync(change)


@post("/cells/{cell:str}/refresh/runs/{run:str}/{action:str}", status_code=HTTP_303_SEE_OTHER)
async def stop(request: WebRequest, web: Parts, cell: Text, run: Text, action: Text) -> Redirect:
    """Veto or undo one refresh."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = _allowed(web, request, cell, Scope.PROMOTE)
        said, refreshes = fields.get("note", "").strip()[:MAX_NOTE], web.services.refreshes
        if action not in ("veto", "undo"):
            raise InputError(f"a refresh is vetoed or undone, not {action[:20]!r}")
        stopped = (refreshes.veto if action == "veto" else refreshes.undo)(cell, run, who.owner, said)
        note(request, run=run, state=stopped.state)
        return to(f"/ui/cells/{cell}/timeline?notice=Noted")

    return await anyio.to_thread.run_sync(change)


def _allowed(web: Web, request: WebRequest, cell: str, scope: Scope) -> Identity:
    who = identity_of(request)
    who.require(scope)
    changer(web.services, who, cell)
    return who


def _policy_of(fields: dict[str, str]) -> dict[str, Any]:
    """What the form says, as the API takes it. Raises ValueError for what is no number."""
    values: dict[str, Any] = {
        name: fields[name]
        for name in ("begin", "end", "time_zone", "promote", "promote_until")
        if fields.get(name, "").strip()
    }
    for name in NUMBERS:
        text = fields.get(name, "").strip()
        if text:
            values[name] = int(text) if name == "min_labels" else float(text)
        elif name == "min_gain":
            values[name] = None
    labels = fields.get("labels", "").replace(",", " ").split()
    return values | {"labels": labels, "enabled": "enabled" in fields}
