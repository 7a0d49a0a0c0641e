"""The base's growth: steps of all cells (a base is trained, is published) and of each cell's way to it."""

from __future__ import annotations

from typing import Final, Literal

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "growth"
_TONES: Final[dict[str, Literal["", "good", "bad", "warn"]]] = {
    "base": "good",
    "moved": "good",
    "finished": "good",
    "worse": "bad",
    "failed": "bad",
    "stays": "warn",
    "stopped": "warn",
}


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """A step for each entry of the log that is the cell's or every cell's."""
    rows = catalog.query(
        "SELECT number, happened_at, kind, title, reason, who FROM growth_log WHERE (cell = ? OR cell = '')"
        " AND happened_at >= ? AND happened_at < ? ORDER BY happened_at DESC, number DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.most],
    )
    found = [
        Step(
            id=step_id(at, NAME, f"{number:012}"), at=when(at), kind=NAME, title=title, reason=reason, who=who,
            tone=_TONES.get(kind, ""), data={"kind": kind},
        )
        for number, at, kind, title, reason, who in rows
    ]  # fmt: skip
    return asked.page(found)
