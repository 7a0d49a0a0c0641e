"""Promotions, refusals and rollbacks: the decision records, and the verdicts of trials."""

from __future__ import annotations

from typing import Final, Literal

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog
from registry.stage_types import DecisionRecord

NAME = "promotion"
RULE: Final = "rule"
"""Who promotes by itself (`hub.rollout.promoter`)."""
_PLACES: Final = {"station": "the test station", "beta": "beta", "fleet": "the fleet"}
_VERDICTS: Final[dict[str, Literal["", "good", "bad", "warn"]]] = {"passed": "good", "failed": "bad"}


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """A step for each decision, and for each trial that came to a verdict."""
    rows = catalog.query(
        "SELECT id, record FROM decisions WHERE cell = ? AND json_extract_string(record, '$.decided_at') >= ?"
        " AND json_extract_string(record, '$.decided_at') < ? ORDER BY number DESC LIMIT ?",
        [asked.cell, _text(asked.since), _text(asked.until), asked.most],
    )
    offered = dict(
        catalog.query(
            "SELECT v.decision, r.id FROM refresh_runs r JOIN stage_variants v ON v.cell = r.cell"
            " AND v.variant = 'cells/' || r.version WHERE r.cell = ? AND r.state = 'offered'"
            " AND v.stage IN ('station', 'beta', 'fleet')",
            [asked.cell],
        )
    )
    found = [_decision(asked.cell, id_, DecisionRecord.parse(text.encode()), offered.get(id_)) for id_, text in rows]
    trials = catalog.query(
        "SELECT id, version, stage, state, decided_at, picks, successes FROM rollout_trials WHERE cell = ?"
        " AND decided_at >= ? AND decided_at < ? ORDER BY decided_at DESC LIMIT ?",
        [asked.cell, asked.since, asked.until, asked.most],
    )
    for id_, version, stage, state, at, picks, successes in trials:
        found.append(
            Step(
                id=step_id(at, NAME, f"trial-{id_}"), at=when(at), kind=NAME,
                title=f"The trial of {version} at {_PLACES.get(stage, stage)}: {state}",
                reason=f"{successes:,} of {picks:,} picks went well", tone=_VERDICTS.get(state, ""),
                link=f"/ui/models/{asked.cell}/{version}",
            )
        )  # fmt: skip
    return asked.page(found)


def _text(at: float) -> str:
    """A time as decision records have it, near enough to compare texts."""
    return when(min(max(at, 0.0), 32_503_680_000.0))[:-1]


def _decision(cell: str, id_: str, record: DecisionRecord, run: str | None) -> Step:
    """The step of a decision; `run` is the refresh whose variant it put where that is now: it may be undone."""
    run = run if record.actor == RULE else None  # what a person moved is taken back at the refresh's own line
    version, place = record.variant.version, _PLACES.get(record.to_stage, record.to_stage)
    tone: Literal["", "good", "bad", "warn"] = "good"
    if record.kind == "rollback":
        title, tone = f"Rolled back: {version} serves {place} again", "warn"
    elif not record.allowed:
        title, tone = f"The gate refused {version} for {place}", "bad"
    elif record.to_stage == "candidate" and record.from_stage in _PLACES:
        title, tone = f"{version} was rolled back: the shared base serves {_PLACES[record.from_stage]} again", "warn"
    elif record.to_stage == "candidate":
        title, tone = f"{version} is a candidate", ""
    elif record.to_stage == "archived":
        title, tone = f"{version} was put away", "warn"
    else:
        title = f"{version} was promoted to {place}"
    at = record.decided_at.timestamp()
    reason = "; ".join(filter(None, [record.reason, record.note]))
    return Step(
        id=step_id(at, NAME, id_[:16]), at=when(at), kind=NAME, title=title, reason=reason, who=record.actor,
        link=f"/ui/models/{cell}/{version}", tone=tone, run=run or "", actions=["undo"] if run else [],
    )  # fmt: skip
