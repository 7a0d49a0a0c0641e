"""Alerts about the cell's cameras, when they opened and when they closed."""

from __future__ import annotations

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog
from serving.observed.camera_kinds import ADVICE

NAME = "alert"


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """Two steps for an alert that is closed, one for another."""
    rows = catalog.query(
        "SELECT id, line, camera, kind, reason, opened_at, closed_at, closed_by, note FROM loop_alerts WHERE cell = ?"
        " AND opened_at >= ? AND (opened_at < ? OR closed_at < ?)"
        " ORDER BY greatest(opened_at, coalesce(closed_at, 0)) DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.until, asked.most * 10],
    )
    link = f"/ui/alerts?cell={asked.cell}"
    found = []
    for id_, line, camera, kind, reason, opened, closed, by, note in rows:
        place = "".join(f", {word} {value}" for word, value in (("line", line), ("camera", camera)) if value)
        what = ADVICE[kind].what.rstrip(".")
        found.append(
            Step(
                id=step_id(opened, NAME, id_), at=when(opened), kind=NAME, title=f"Alert: {what}{place}",
                reason=reason or ADVICE[kind].remedy, link=link, tone="bad",
            )
        )  # fmt: skip
        if closed is not None:
            found.append(
                Step(
                    id=step_id(closed, NAME, f"{id_}-closed"), at=when(closed), kind=NAME,
                    title=f"Alert closed: {what}{place}", reason=note, who=by or "", link=link, tone="good",
                )
            )  # fmt: skip
    return asked.page(found)
