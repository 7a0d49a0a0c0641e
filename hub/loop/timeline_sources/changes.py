"""Change points: what a camera shows, how sure answers are, or how picks go has changed; each started a sample."""

from __future__ import annotations

from typing import Final

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "change"
_TITLES: Final = {
    "novelty": "Something new shows",
    "doubt": "Answers became less sure",
    "unstable": "Answers became less stable",
    "failed_picks": "Picks fail more often than before",
}


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """A step for each change point."""
    rows = catalog.query(
        "SELECT id, line, camera, stream, happened_at, reason FROM loop_changes WHERE cell = ? AND happened_at >= ?"
        " AND happened_at < ? ORDER BY happened_at DESC, id LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.most],
    )
    found = []
    for id_, line, camera, stream, at, reason in rows:
        place = ", ".join(filter(None, [line and f"line {line}", camera and f"camera {camera}"]))
        found.append(
            Step(
                id=step_id(at, NAME, id_[:16]), at=when(at), kind=NAME,
                title=_TITLES.get(stream, f"{stream} has changed") + (f" ({place})" if place else ""),
                reason=reason, tone="warn", link=f"/ui/captures?cell={asked.cell}", data={"stream": stream},
            )
        )  # fmt: skip
    return asked.page(found)
