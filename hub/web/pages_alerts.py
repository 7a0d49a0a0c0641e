"""Alerts: what is wrong with the cells' cameras, with pictures of before and after, and what to do about it."""

from __future__ import annotations

from typing import Any, cast, get_args

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Identity, Scope
from hub.schemas.loop import Alert, AlertState
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.render import page

LISTED = 30
MAX_NOTE = 500


def open_alerts(web: Web, who: Identity, cell: str) -> list[Alert]:
    """The alerts of a cell that are not closed, for those who work in it."""
    return web.services.production.alerts.open_in(cell) if web.services.privacy.works_in(who, cell) else []


@get("/alerts", sync_to_thread=True)
def alerts(request: WebRequest, web: Parts) -> Response[str]:
    """Alerts of the cells that the caller works in, newest first."""
    who = identity_of(request)
    cell, asked = last(request, "cell").strip()[:200], last(request, "state")
    state = cast("AlertState | None", asked if asked in get_args(AlertState) else None)
    found = web.services.production.alerts.page(
        places=web.services.privacy.workplaces(who),
        limit=LISTED + 1,
        after=last(request, "after"),
        cell=cell or None,
        state=state,
    )
    return page(
        request,
        "alerts.html",
        here="alerts",
        alerts=found[:LISTED],
        more=found[LISTED - 1].id if len(found) > LISTED else "",
        cell=cell,
        state=state or "",
        states=get_args(AlertState),
    )


@get("/alerts/{alert_id:str}/pictures/{which:str}", sync_to_thread=True)
def picture(request: WebRequest, web: Parts, alert_id: Text, which: Text) -> Response[bytes]:
    """A picture of an alert."""
    kept = web.services.production.alerts
    kept.get(alert_id, web.services.privacy.workplaces(identity_of(request)))
    headers = {"Cache-Control": "private, max-age=86400"}
    return Response(kept.picture(alert_id, which), media_type="image/jpeg", headers=headers)


@post("/alerts/{alert_id:str}/acknowledge", status_code=HTTP_303_SEE_OTHER)
async def acknowledge(request: WebRequest, web: Parts, alert_id: Text) -> Redirect:
    """Somebody looks after it."""
    return await _change(request, web, alert_id, "acknowledge")


@post("/alerts/{alert_id:str}/close", status_code=HTTP_303_SEE_OTHER)
async def close(request: WebRequest, web: Parts, alert_id: Text) -> Redirect:
    """It was dealt with."""
    return await _change(request, web, alert_id, "close")


async def _change(request: WebRequest, web: Web, alert_id: str, what: str) -> Redirect:
    fields = await form_of(request)

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.PROMOTE)
        kept: Any = web.services.production.alerts
        kept.get(alert_id, web.services.privacy.workplaces(who))
        getattr(kept, what)(alert_id, who.owner, fields.get("note", "").strip()[:MAX_NOTE])
        return to("/ui/alerts?notice=Noted")

    return await anyio.to_thread.run_sync(change)
