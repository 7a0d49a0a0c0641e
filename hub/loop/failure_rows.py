"""The rows of failed picks, and what they become outside of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from hub.migrations.tables import timestamp
from hub.schemas.failures import Correction, Evidence, Failure
from serving.observed.failure_kinds import WHAT, FailedPick, Verdict


class Row(NamedTuple):
    """A row of `loop_failures`."""

    id: str
    request_id: str
    cell: str
    line: str | None
    robot: str | None
    variant: str | None
    base: str | None
    outcome: str
    asked_at: float
    picked_at: float
    received_at: float
    said_label: str | None
    instance: int | None
    point_x: float | None
    point_y: float | None
    gripper: str | None
    capture: str | None
    verdict: Verdict
    evidence: str
    looks: int
    due: bool
    judged_at: float
    corrected: Verdict | None


COLUMNS: Final = Row._fields


def _point(row: Row) -> tuple[float, float] | None:
    return None if row.point_x is None or row.point_y is None else (row.point_x, row.point_y)


def pick_of(row: Row) -> FailedPick:
    """The pick as the telemetry told it."""
    return FailedPick(
        row.request_id,
        row.outcome,
        row.picked_at,
        row.received_at,
        row.asked_at,
        row.cell,
        row.line,
        row.robot,
        row.variant,
        row.base,
        row.said_label,
        row.instance,
        row.gripper,
        _point(row),
    )


def failure_of(row: Row, corrections: Sequence[Correction]) -> Failure:
    """As the API tells it: what a person said goes before the rules."""
    verdict = row.corrected or row.verdict
    return Failure(
        id=row.id,
        request_id=row.request_id,
        cell=row.cell,
        line=row.line,
        robot=row.robot,
        variant=row.variant,
        outcome=row.outcome,
        picked_at=timestamp(row.picked_at),
        label=row.said_label,
        instance=row.instance,
        point=_point(row),
        gripper=row.gripper,
        capture=row.capture,
        verdict=verdict,
        what=WHAT[verdict],
        judged=row.verdict,
        evidence=msgspec.json.decode(row.evidence, type=list[Evidence]),
        looks=row.looks,
        corrections=list(corrections),
    )
