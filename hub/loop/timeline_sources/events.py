"""Events of packages that are new or keep failing, from when one was seen in the cell."""

from __future__ import annotations

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "event"


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """One step for each event: when it was founded, or first seen in this cell if that was later."""
    rows = catalog.query(
        "SELECT e.id, e.number, e.name, e.state, greatest(e.founded_at, min(f.seen_at)) AS first_at, count(*),"
        " sum(CASE WHEN f.novel THEN 1 ELSE 0 END) FROM loop_events e JOIN loop_findings f ON f.event = e.id"
        " WHERE f.cell = ? AND e.merged_into IS NULL GROUP BY e.id, e.number, e.name, e.state, e.founded_at"
        " HAVING first_at >= ? AND first_at < ? ORDER BY first_at DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.most * 10],
    )
    found = []
    for id_, number, name, state, at, count, novel in rows:
        what = "new packages" if 2 * novel >= count else "failing picks"
        found.append(
            Step(
                id=step_id(at, NAME, id_), at=when(at), kind=NAME, title=f"Event {number}: {name or what}",
                reason=f"{count} findings of {what} in this cell look alike; the event is {state}",
                link=f"/ui/events/{id_}", tone="warn",
            )
        )  # fmt: skip
    return asked.page(found)
