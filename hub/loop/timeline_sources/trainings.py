"""Trainings: the cell's jobs, when they were queued and how they ended."""

from __future__ import annotations

import msgspec

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "training"
_ENDS = {"finished": ("good", "made"), "failed": ("bad", "failed"), "cancelled": ("warn", "was cancelled")}


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """Two steps for a job that has ended, one for another."""
    rows = catalog.query(
        "SELECT id, state, created_by, created_at, finished_at, error, version, metrics,"
        " json_extract_string(spec, '$.refresh.run'), json_extract_string(spec, '$.dataset')"
        " FROM hub_jobs WHERE kind IN ('finetune', 'refresh') AND json_extract_string(spec, '$.cell') = ?"
        " AND created_at >= ?"
        " AND (created_at < ? OR finished_at < ?)"
        " ORDER BY greatest(created_at, coalesce(finished_at, 0)) DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.until, asked.most * 10],
    )
    found = []
    for id_, state, by, made, ended, error, version, metrics, run, dataset in rows:
        what, link = "Training" if run else "Fine-tune", f"/ui/jobs/{id_}"
        found.append(
            Step(
                id=step_id(made, NAME, id_), at=when(made), kind=NAME, title=f"{what} {id_} was queued",
                reason=f"on {dataset}" if not run else f"of the refresh {run}", who=by, link=link, run=run or "",
            )
        )  # fmt: skip
        if ended is not None and state in _ENDS:
            tone, word = _ENDS[state]
            title = f"{what} {id_} {word}" + (f" {version}" if state == "finished" else "")
            found.append(
                Step(
                    id=step_id(ended, NAME, f"{id_}-ended"), at=when(ended), kind=NAME, title=title,
                    reason=error or _figures(metrics), link=link, tone=tone, run=run or "",  # type: ignore[arg-type]
                )
            )  # fmt: skip
    return asked.page(found)


def _figures(text: str) -> str:
    """What a finished one measured, in words."""
    metrics = msgspec.json.decode(text)
    before, after = metrics.get("base_ap50"), metrics.get("variant_ap50")
    numbers = f"AP50 {before:.2f} → {after:.2f}" if isinstance(before, float) and isinstance(after, float) else ""
    return "; ".join(filter(None, [str(metrics.get("verdict") or ""), numbers]))
