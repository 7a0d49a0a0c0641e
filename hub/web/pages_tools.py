"""Labelling in another tool: send pictures of a queue there and take back what people made of them, by buttons."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, get_args

import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from hub.accounts.tokens import Scope
from hub.errors import InputError, UnknownEventError
from hub.http.audit import note
from hub.schemas.handoff import HandOffState, ToolName
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.handing import Asked
from hub.web.render import page

MAX_TOKEN: Final = 4_000
WORDS: Final[dict[HandOffState, str]] = {
    "sending": "on the way", "out": "not begun", "unfinished": "begun", "predicted": "not begun (a proposal alone)",
    "labelled": "labelled and taken back", "skipped": "skipped there", "removed": "removed there",
    "conflict": "labelled here meanwhile", "late": "changed there too late", "forgotten": "to be deleted there",
}  # fmt: skip
NAMES: Final[dict[ToolName, str]] = {"label-studio": "Label Studio", "cvat": "CVAT", "fiftyone": "FiftyOne"}


@get("/label/cells/{cell:str}/tools", sync_to_thread=True)
def tools(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """Which pictures of the cell are at other tools, what the newest hand-off did, and the buttons."""
    who = identity_of(request)
    found = web.services.labelling.cell(cell, who)
    handed = web.services.labelling.handed(cell, None, who)
    counts = Counter((one.tool, one.place, one.state) for one in handed)
    groups = [
        {"tool": NAMES[tool], "place": place, "state": WORDS[state], "count": count,
         "note": next((one.note for one in handed if (one.place, one.state) == (place, state) and one.note), "")}
        for (tool, place, state), count in sorted(counts.items())
    ]  # fmt: skip
    standing = web.handings.standing(cell)
    response = page(
        request,
        "label_tools.html",
        here="label",
        cell=found,
        groups=groups,
        standing=standing,
        names=NAMES,
        last_tool=standing.tool if standing else handed[-1].tool if handed else "label-studio",
        last_url=_address(handed),
        folder=web.handings.folder(cell),
        event=_event(web, request, last(request, "event")),
        labels=who.may(Scope.CONTRIBUTE),
    )
    if standing is not None and standing.state == "running":
        response.headers["Refresh"] = "2"  # until it is done; the address stays
    return response


@post("/label/cells/{cell:str}/tools/{action:str}", status_code=HTTP_303_SEE_OTHER)
async def hand(request: WebRequest, web: Parts, cell: Text, action: Text) -> Redirect:
    """Send pictures to a tool, or take back what was made of them there."""
    fields = await form_of(request)

    def begin() -> Redirect:
        who = identity_of(request)
        who.require(Scope.CONTRIBUTE)
        asked = _asked(action, fields)
        web.handings.start(cell, who, asked)
        note(request, action=action, tool=asked.tool)  # neither the address nor the token
        return to(f"/ui/label/cells/{cell}/tools")

    return await anyio.to_thread.run_sync(begin)


def _asked(action: str, fields: dict[str, str]) -> Asked:
    """Raises InputError for what is no such form."""
    if action not in ("push", "pull"):
        raise InputError(f"pictures are pushed or pulled, not {action[:20]!r}")
    tool = fields.get("tool", "")
    if tool not in get_args(ToolName):
        raise InputError(f"there is no labelling tool {tool[:20]!r} here; choose Label Studio, CVAT or FiftyOne")
    token = fields.get("token", "").strip()
    if len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("the token holds what no token holds")
    values: dict[str, Any] = {
        "project": fields.get("project", "").strip() or None, "limit": fields.get("limit", "").strip() or "100",
    }  # fmt: skip
    try:
        project = None if values["project"] is None else int(values["project"])
        limit = msgspec.convert(int(values["limit"]), int)
    except ValueError as error:
        raise InputError("the project and the number of pictures are whole numbers") from error
    if (project is not None and project < 1) or not 1 <= limit <= 1000:
        raise InputError("a project's number is 1 or more, and 1 to 1,000 pictures go at once")
    return Asked(
        action, tool, fields.get("url", "").strip()[:2000], token, project, limit,  # type: ignore[arg-type]
        fields.get("event", "").strip()[:100], "give_back" in fields,
    )  # fmt: skip


def _address(handed: list[Any]) -> str:
    """Where the newest pictures went: the part of the place before its project."""
    for one in reversed(handed):
        if one.tool != "fiftyone":
            return str(one.place).partition("/projects/")[0].partition("#")[0]
    return ""


def _event(web: Web, request: WebRequest, event: str) -> Any:  # noqa: ANN401  # an event of the API
    """The event whose pictures are meant; None where none is, or it is not the caller's to see."""
    if not event:
        return None
    try:
        return web.services.production.events.get(event, web.services.privacy.workplaces(identity_of(request)))
    except UnknownEventError:
        return None
