"""How long a job has waited or worked, its place in the queue, and when it gave its last sign of life, in words."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from hub.schemas.core import FINAL_STATES, Job
from registry.catalog.catalog import Catalog

SILENT_SECONDS: Final = 30.0
"""A worker says that it is there every two seconds; after so many it is told that it does not."""
SLOW_SECONDS: Final = 60.0
"""A job that has said nothing of its work for so long waits for the machine."""


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a job that has not ended. Times are seconds.

    Attributes:
        state: `queued` or `running`.
        lasted: since when it is in this state.
        ahead: jobs before it in the queue, that the caller may see.
        heard: since its worker gave a sign of life; None where it has none.
        told: since it said something of its work; None where it has said nothing in this run.
    """

    state: str
    lasted: float
    ahead: int = 0
    heard: float | None = None
    told: float | None = None

    def __str__(self) -> str:
        if self.state == "queued":
            place = "it is the next one" if not self.ahead else f"{count(self.ahead, 'job')} before it"
            return f"Waiting for {duration(self.lasted)}; {place}."
        if self.heard is not None and self.heard > SILENT_SECONDS:
            return (
                f"No word from its worker for {duration(self.heard)}: it may have died, or its machine be overloaded. "
                "The job is queued again when its lease runs out."
            )
        sign = "" if self.heard is None else f" Its worker gave a sign of life {duration(self.heard)} ago."
        if self.told is None:
            busy = " It has said nothing yet: the machine is busy." if self.lasted > SLOW_SECONDS else ""
            return f"Starting for {duration(self.lasted)}.{busy}{sign}"
        if self.told > SLOW_SECONDS:
            return f"Running for {duration(self.lasted)}; the last report is {duration(self.told)} old.{sign}"
        return f"Running for {duration(self.lasted)}."


class Lives:
    """The lives of jobs, from their table."""

    def __init__(self, catalog: Catalog, lease_seconds: float, now: Callable[[], float]) -> None:
        self._catalog = catalog
        self._lease_seconds = lease_seconds
        self._now = now

    def of(self, job: Job, *, teams: Collection[str] | None, created_by: str) -> Life | None:
        """How a job lives; None for one that has ended. Of the jobs before it those count that `teams` (None: all) and
        `created_by` may see.
        """
        if job.state in FINAL_STATES:
            return None
        now = self._now()
        told = dict(
            self._catalog.query(
                "SELECT kind, max(happened_at) FROM hub_job_events WHERE job = ? GROUP BY kind", [job.id]
            )
        )
        since = told.get("state", now)
        leased = self._catalog.query("SELECT lease_until FROM hub_jobs WHERE id = ?", [job.id])[0][0]
        heard = None if leased is None else max(0.0, now - (leased - self._lease_seconds))
        spoke = told.get("progress", 0.0)
        return Life(
            job.state,
            max(0.0, now - since),
            self._ahead(job, teams, created_by),
            heard if job.state == "running" else None,
            now - spoke if spoke >= since else None,
        )

    def _ahead(self, job: Job, teams: Collection[str] | None, created_by: str) -> int:
        if job.state != "queued":
            return 0
        rows = self._catalog.query(
            "SELECT count(*) FROM hub_jobs WHERE state IN ('queued', 'running')"
            " AND (created_at, id) < (SELECT (created_at, id) FROM hub_jobs WHERE id = ?)"
            " AND (? OR list_contains(?::VARCHAR[], team) OR created_by = ?)",
            [job.id, teams is None, sorted(teams or ()), created_by],
        )
        return int(rows[0][0])


def duration(seconds: float) -> str:
    """`11 minutes`, as a person says it."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return count(int(seconds // size), word)
    return count(max(0, int(seconds)), "second")


def count(number: int, thing: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
