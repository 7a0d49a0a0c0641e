"""Failed picks: why they failed, with the frame, the mask and the evidence; a person can say what it was."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

import anyio.to_thread
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER
from markupsafe import Markup

from hub.accounts.tokens import Scope
from hub.api.captures import moment, own_capture
from hub.errors import InputError
from hub.schemas.failures import Failure
from hub.web.dependencies import Parts, Text, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pages_captures import scene_of
from hub.web.render import page
from serving.errors import CaptureNotFound
from serving.observed.failure_kinds import MEANS, VERDICTS, WHAT

LISTED: Final = 50
MAX_NOTE: Final = 500


@get("/failures", sync_to_thread=True)
def failures(request: WebRequest, web: Parts) -> Response[str]:
    """Failed picks of the cells that the caller works in, newest first."""
    asked = {name: last(request, name).strip()[:200] for name in ("cell", "verdict", "since", "until")}
    kept, places = web.services.production.failures, web.services.privacy.workplaces(identity_of(request))
    kept.catch_up()
    verdict = asked["verdict"] if asked["verdict"] in VERDICTS else None
    problem, found = "", list[Failure]()
    try:
        found = kept.page(
            places=places,
            limit=LISTED + 1,
            after=last(request, "after"),
            cell=asked["cell"] or None,
            verdict=verdict,
            since=moment(asked["since"], "from"),
            until=moment(asked["until"], "to", end=True),
        )
    except InputError as error:
        problem = str(error)
    counts = kept.counts(places, asked["cell"] or None)
    given = {name: value for name, value in asked.items() if value}
    more = ""
    if len(found) > LISTED:
        more = f"/ui/failures?{urlencode(given | {'after': found[LISTED - 1].id})}"
    return page(
        request,
        "failures.html",
        here="failures",
        failures=found[:LISTED],
        more=more,
        asked=asked,
        problem=problem,
        what=WHAT,
        counts=[(name, counts[name]) for name in VERDICTS if name in counts],
        links={name: f"/ui/failures?{urlencode(given | {'verdict': name})}" for name in VERDICTS},
    )


@get("/failures/{failure_id:str}", sync_to_thread=True)
def one_failure(request: WebRequest, web: Parts, failure_id: Text) -> Response[str]:
    """One failed pick."""
    who = identity_of(request)
    found = web.services.production.failures.get(failure_id, web.services.privacy.workplaces(who))
    scene: Markup | None = None
    label = ""
    if found.capture is not None:
        try:
            capture = own_capture(web.services, who, found.capture)
            if found.instance is not None and found.instance < len(capture.instances):
                label = capture.instances[found.instance]["label"]
            scene = scene_of(
                capture, "full", only=-1 if found.instance is None else found.instance, marks=_cross(found)
            )
        except CaptureNotFound:  # it made room for newer ones
            scene = None
    return page(
        request,
        "failure.html",
        here="failures",
        failure=found,
        scene=scene,
        label=label,
        what=WHAT,
        means=MEANS,
        verdicts=VERDICTS,
    )


@post("/failures/{failure_id:str}/correct", status_code=HTTP_303_SEE_OTHER)
async def correct(request: WebRequest, web: Parts, failure_id: Text) -> Redirect:
    """A person says what it was."""
    fields = await form_of(request)

    def change() -> Redirect:
        who = identity_of(request)
        who.require(Scope.PROMOTE)
        kept = web.services.production.failures
        kept.get(failure_id, web.services.privacy.workplaces(who))
        verdict = fields.get("verdict", "")
        if verdict not in VERDICTS:
            raise InputError(f"verdict must be one of {', '.join(VERDICTS)}")
        kept.correct(failure_id, verdict, who.owner, fields.get("note", "").strip()[:MAX_NOTE])
        return to(f"/ui/failures/{failure_id}?notice=corrected")

    return await anyio.to_thread.run_sync(change)


def _cross(found: Failure) -> list[str]:
    """The picked point, in units of the frame's pixels."""
    if found.point is None:
        return []
    x, y = found.point
    lines = f"M{x - 9:.1f} {y:.1f}H{x + 9:.1f}M{x:.1f} {y - 9:.1f}V{y + 9:.1f}"
    return [
        f'<g class="picked"><title>picked here</title><path d="{lines}" fill="none" stroke="#000" stroke-width="4"/>'
        f'<path d="{lines}" fill="none" stroke="#fff" stroke-width="2"/></g>'
    ]
