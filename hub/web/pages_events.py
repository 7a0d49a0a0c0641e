"""Events: what new or failing packages have in common, as a wall of pictures, ranked; and one event with all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast, get_args

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Scope
from hub.errors import InputError
from hub.loop.events import Events
from hub.schemas.events import EventChange, EventState
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.render import page

LISTED = 40
FINDINGS = 120
CHIPS = {
    "new": "running", "watched": "queued", "labelling": "running", "learnt": "succeeded", "ignored": "canceled",
    "fault": "failed",
}  # fmt: skip
_ID = re.compile(r"[0-9a-f]{32}")


@get("/events", sync_to_thread=True)
def events(request: WebRequest, web: Parts) -> Response[str]:
    """Events of the cells that the caller works in, the one that would gain most first."""
    kept, who = web.services.production.events, identity_of(request)
    cell, asked = last(request, "cell").strip()[:200], last(request, "state")
    state = cast("EventState | None", asked if asked in get_args(EventState) else None)
    kept.take_up()
    found = kept.all(web.services.privacy.workplaces(who), cell=cell or None, state=state)
    return page(
        request,
        "events.html",
        here="events",
        events=found[:LISTED],
        more=max(len(found) - LISTED, 0),
        cell=cell,
        state=state or "",
        states=get_args(EventState),
        chips=CHIPS,
    )


@get("/events/{event_id:str}", sync_to_thread=True)
def event(request: WebRequest, web: Parts, event_id: Text) -> Response[str]:
    """One event."""
    kept, places = web.services.production.events, web.services.privacy.workplaces(identity_of(request))
    found = kept.get(event_id, places)
    others = [one for one in kept.all(places) if one.id != event_id]
    return page(
        request,
        "event.html",
        here="events",
        event=found,
        findings=kept.findings(event_id, places, limit=FINDINGS),
        others=others[:200],
        states=get_args(EventState),
        chips=CHIPS,
    )


@get("/findings/{finding_id:str}/picture", sync_to_thread=True)
def picture(request: WebRequest, web: Parts, finding_id: Text) -> Response[bytes]:
    """The picture of a finding."""
    data = web.services.production.events.crop(finding_id, web.services.privacy.workplaces(identity_of(request)))
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})


@post("/events/{event_id:str}/change", status_code=HTTP_303_SEE_OTHER)
async def change(request: WebRequest, web: Parts, event_id: Text) -> Redirect:
    """A name, a state, a note."""

    def apply(kept: Events, fields: dict[str, str], who: str, _places: Any) -> str:  # noqa: ANN401
        state = fields.get("state", "")
        if state and state not in get_args(EventState):
            raise InputError(f"{state[:40]!r} is no state of an event")
        name = fields.get("name", "").strip()[:100]
        told = EventChange(
            name=name or None,
            state=cast("EventState | None", state or None),
            note=fields["note"].strip()[:500] if "note" in fields else None,
        )
        kept.change(event_id, told, who)
        return event_id

    return await _apply(request, web, event_id, apply)


@post("/events/{event_id:str}/merge", status_code=HTTP_303_SEE_OTHER)
async def merge(request: WebRequest, web: Parts, event_id: Text) -> Redirect:
    """Put another event into this one."""

    def apply(kept: Events, fields: dict[str, str], who: str, places: Any) -> str:  # noqa: ANN401
        other = fields.get("other", "")
        kept.get(other, places)
        kept.merge(event_id, other, who)
        return event_id

    return await _apply(request, web, event_id, apply)


@post("/events/{event_id:str}/split", status_code=HTTP_303_SEE_OTHER)
async def split(request: WebRequest, web: Parts, event_id: Text) -> Redirect:
    """Let the chosen findings found an event of their own."""

    def apply(kept: Events, fields: dict[str, str], who: str, places: Any) -> str:  # noqa: ANN401
        chosen = [name[5:] for name in fields if name.startswith("pick-") and _ID.fullmatch(name[5:])]
        return kept.split(event_id, chosen, who, places, fields.get("name", "")[:100])

    return await _apply(request, web, event_id, apply)


async def _apply(
    request: WebRequest, web: Web, event_id: str, apply: Callable[[Events, dict[str, str], str, Any], str]
) -> Redirect:
    fields = dict(await form_of(request))

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.PROMOTE)
        kept, places = web.services.production.events, web.services.privacy.workplaces(who)
        kept.get(event_id, places)
        return to(f"/ui/events/{apply(kept, fields, who.owner, places)}?notice=Noted")

    return await anyio.to_thread.run_sync(change)
