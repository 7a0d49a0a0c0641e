"""A cell's cameras: what its sites said last of each, and when they were heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from litestar import Response, get

from hub.accounts.cell_tokens import LOCAL
from hub.accounts.tokens import Scope
from hub.api.refresh import seen_cell
from hub.schemas.loop import Alert
from hub.schemas.sites import CameraStatistics, Site
from hub.web.dependencies import Parts, Text
from hub.web.guards import WebRequest, identity_of
from hub.web.render import page
from serving.observed.camera_kinds import ADVICE

LISTED = 200
SILENT_S = 600.0
"""A camera that was not heard of for so long is silent: sites speak each minute while robots ask."""
Where = tuple[str, str | None, str | None]


@dataclass(slots=True)
class CameraRow:
    """One camera of one site: the newest word of each part of the site, and its alerts that are not closed."""

    site: str
    line: str | None
    camera: str | None
    health: CameraStatistics | None = None
    novelty: CameraStatistics | None = None
    alerts: list[Alert] = field(default_factory=list)

    @property
    def at(self) -> str:
        """The time of the newest frame that was looked at."""
        return max(one.at for one in (self.health, self.novelty) if one is not None)

    @property
    def silent(self) -> bool:
        """Whether nothing was heard of it for a while."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.at)).total_seconds() > SILENT_S

    @property
    def what(self) -> str:
        """Its state in words."""
        values: dict[str, Any] = {} if self.health is None else self.health.values
        for kind, advice in ADVICE.items():
            if values.get("kind") == kind:
                return advice.what
        words = {"ok": "In order.", "cannot_tell": "Cannot be told."}
        return words.get(str(values.get("state", "")), "Not looked at yet.")


def cameras_of(words: list[CameraStatistics], alerts: list[Alert]) -> list[CameraRow]:
    """The words of one cell by camera; those at fault first, then by name."""
    rows: dict[Where, CameraRow] = {}
    for word in words:  # the newest first
        row = rows.setdefault((word.site, word.line, word.camera), CameraRow(word.site, word.line, word.camera))
        if word.what == "camera":
            row.health = row.health or word
        else:
            row.novelty = row.novelty or word
    for one in alerts:
        for (_, line, camera), row in rows.items():
            if (line, camera) == (one.line, one.camera):
                row.alerts.append(one)
    return sorted(rows.values(), key=lambda row: (not row.alerts, row.line or "", row.camera or "", row.site))


@get("/cells/{cell:str}/cameras", sync_to_thread=True)
def cameras(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """What is known of each camera, for those who work in the cell; to the operator, of its sites too."""
    who, production = identity_of(request), web.services.production
    seen_cell(web.services, who, cell)
    words = production.site_statistics.of([cell], cell=cell, limit=2 * LISTED)
    sites: list[Site] = []
    if who.may(Scope.ADMIN):
        spoken = {one.site for one in words}
        sites = [one for one in production.sites.all() if one.name in spoken or {"*", cell} & set(one.cells)]
    return page(
        request,
        "cameras.html",
        here="cells",
        cell=cell,
        cameras=cameras_of(words, production.alerts.open_in(cell)),
        sites=sites,
        local=LOCAL,
    )
