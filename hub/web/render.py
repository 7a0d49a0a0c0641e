"""Templates: one environment, escaped throughout, and the few words and numbers that pages need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Response
from litestar.status_codes import HTTP_200_OK
from markupsafe import Markup

from finetune.report.plots import STYLE
from hub import __version__
from hub.accounts.tokens import Identity, Scope
from hub.web.guards import WebRequest
from hub.web.sessions import Session

_HERE = resources.files("hub.web")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
STAGE_WORDS: Mapping[str, str] = {
    "candidate": "not served",
    "station": "on the test station",
    "beta": "on one or two lines",
    "fleet": "everywhere",
    "archived": "put away",
}


NOTICES: Mapping[str, str] = {
    "promoted": "Robots are served by it now.",
    "rolled-back": "Rolled back. What serves each stage now is below.",
    "classes": "The base knows what there is.",
    "revoked": "Token revoked.",
    "corrected": "Noted, with your name. Your word goes before the rules' verdict.",
}
"""What a page may be told to say, by the key in its address: nobody's own words get onto a page by a link."""


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Name to (bytes, content type) of everything under `static/`."""
    found: dict[str, tuple[bytes, str]] = {}
    for entry in _HERE.joinpath("static").iterdir():
        kind = _TYPES.get("." + entry.name.rpartition(".")[2])
        if kind:
            found[entry.name] = (entry.read_bytes(), kind)
    css, kind = found["app.css"]
    found["app.css"] = (css + STYLE.encode(), kind)
    return found


@cache
def static_url(name: str) -> str:
    """The address of a static file, with its digest: it may be kept for ever."""
    return f"/ui/static/{name}?v={hashlib.sha256(static_files()[name][0]).hexdigest()[:12]}"


def ago(text: str | None) -> str:
    """`2026-11-20T19:10:53.123Z` as a person says it: `5 minutes ago`."""
    if not text:
        return "-"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return "just now"


def short(text: str | None, most: int = 12) -> str:
    """The head of a digest."""
    return (text or "")[:most]


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def number(value: object, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) and not isinstance(value, bool) else "-"


def safe(text: str) -> Markup:
    """SVG that was drawn here, every text in it escaped: it goes into a page as it is."""
    return Markup(text)  # noqa: S704


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(_HERE.joinpath("templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ago": ago, "short": short, "filesize": size, "fig": number, "seg": lambda v: quote(v, "")}
    environment.globals |= {
        "static": static_url,
        "version": __version__,
        "stage_words": STAGE_WORDS,
        "Scope": Scope,
    }
    return environment


_ENVIRONMENT = _environment()


def page(
    request: WebRequest, template: str, *, status: int = HTTP_200_OK, here: str = "", **values: object
) -> Response[str]:
    """A page as an answer. `here` names the menu's entry that it belongs to."""
    return Response(fragment(request, template, here=here, **values), status_code=status, media_type=MediaType.HTML)


def fragment(request: WebRequest, template: str, **values: object) -> str:
    """A template as text."""
    session = request.scope.get("auth")
    who = session.identity if isinstance(session, Session) else None
    known: dict[str, Any] = {
        "who": who,
        "csrf": session.csrf if isinstance(session, Session) else "",
        "may": _may(who),
        "here": "",
        "notice": NOTICES.get(request.query_params.get("notice", ""), ""),
    }
    return _ENVIRONMENT.get_template(template).render(**(known | values))


def _may(who: Identity | None) -> dict[str, bool]:
    return {scope.value: who is not None and who.may(scope) for scope in Scope}
