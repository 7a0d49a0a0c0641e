"""Refreshes: what the rule decided and why, what people said about it, and what may be done about each now."""

from __future__ import annotations

from typing import Final, Literal

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "refresh"
_TONES: Final[dict[str, Literal["", "good", "bad", "warn"]]] = {
    "offered": "good",
    "worse": "bad",
    "failed": "bad",
    "veto": "warn",
    "undo": "warn",
    "not now": "",
}
_MAY: Final = {"building": ["veto"], "training": ["veto"], "offered": ["veto", "undo"]}


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """A step for each entry of the log; the newest one of a refresh says what may be done about it."""
    rows = catalog.query(
        "SELECT l.number, l.happened_at, l.kind, l.run, l.title, l.reason, l.who, r.state, r.version, v.stage,"
        " l.number = (SELECT max(number) FROM refresh_log n WHERE n.cell = l.cell AND n.run = l.run)"
        " FROM refresh_log l LEFT JOIN refresh_runs r ON r.id = l.run AND l.run <> ''"
        " LEFT JOIN stage_variants v ON v.cell = l.cell AND v.variant = 'cells/' || r.version"
        " WHERE l.cell = ? AND l.happened_at >= ? AND l.happened_at < ?"
        " ORDER BY l.happened_at DESC, l.number DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.most],
    )
    found = []
    for number, at, kind, run, title, reason, who, state, version, stage, newest in rows:
        may = list(_MAY.get(state or "", ())) if newest else []
        if stage in ("station", "beta", "fleet"):
            may = [one for one in may if one != "veto"]  # robots have it: it is taken back, not stopped
        elif state == "offered":
            may = [one for one in may if one != "undo"]
        link = f"/ui/models/{asked.cell}/{version.partition('@')[2]}" if version else ""
        found.append(
            Step(
                id=step_id(at, NAME, f"{number:012}"), at=when(at), kind=NAME, title=title, reason=reason, who=who,
                link=link, tone=_TONES.get(kind, ""), run=run, actions=may, data={"kind": kind},
            )
        )  # fmt: skip
    return asked.page(found)
