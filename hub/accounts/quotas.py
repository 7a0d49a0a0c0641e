"""What a team may use: running jobs, queued jobs, minutes a day, stored bytes; and what it uses of it.

A team is a namespace, a user's own among them. Limits that the operator did not set for a team are the hub's settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hub.accounts.reservations import Reservations
from hub.errors import QuotaError
from hub.schemas.jobs import job_specs
from hub.schemas.resources import Quota, QuotaIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

DAY = 86_400.0
_OF = (
    "repo IN (SELECT key FROM repos WHERE lower(namespace) = ? OR (type = 'model' AND namespace = 'cells' AND name IN"
    " (SELECT name FROM hub_cells WHERE team = ?)))"
)
"""The repositories of a team: those in its namespace, and those of its cells' variants."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Running and queued jobs, bytes, minutes a day."""

    running: int
    queued: int
    bytes: int
    minutes: float


class Quotas:
    """The limits of all teams. Checks run inside the transaction of what they allow."""

    def __init__(
        self,
        catalog: Catalog,
        defaults: Limits,
        *,
        grace_seconds: float = 7 * DAY,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`grace_seconds`: bytes that arrived and that no commit names are stored, and counted, for so long."""
        self._catalog = catalog
        self._reservations = Reservations(grace_seconds, now=now)
        self._defaults = defaults
        self._now = now

    def set(self, team: str, wanted: QuotaIn) -> Quota:
        """Give a team limits of its own; None is the hub's default again."""
        row = [team.lower(), wanted.running, wanted.queued, wanted.bytes, wanted.minutes_per_day]
        with self._catalog.write() as db:
            db.execute("INSERT OR REPLACE INTO hub_quotas VALUES (?, ?, ?, ?, ?)", row)
        return self.get(team)

    def get(self, team: str) -> Quota:
        """Limits and use."""
        team = team.lower()
        with self._catalog.read() as db:
            limits = self.limits(db, team)
            states = dict(
                db.execute(
                    "SELECT state, count(*) FROM hub_jobs WHERE team = ? AND state IN ('queued', 'running') "
                    "GROUP BY state",
                    [team],
                ).fetchall()
            )
            return Quota(
                team=team,
                running=limits.running,
                running_used=states.get("running", 0),
                queued=limits.queued,
                queued_used=states.get("queued", 0),
                bytes=limits.bytes,
                bytes_used=_stored(db, team),
                minutes_per_day=limits.minutes,
                minutes_used=round(self._minutes(db, team), 2),
            )

    def limits(self, db: Cursor, team: str) -> Limits:
        """The limits in force for a team: its own, and the hub's default where it has none. A team nobody knows has the
        defaults."""
        row = db.execute("SELECT running, queued, bytes, minutes FROM hub_quotas WHERE team = ?", [team]).fetchone()
        own = row or (None, None, None, None)
        base = self._defaults
        return Limits(
            base.running if own[0] is None else own[0],
            base.queued if own[1] is None else own[1],
            base.bytes if own[2] is None else own[2],
            base.minutes if own[3] is None else own[3],
        )

    def check_queue(self, db: Cursor, team: str, minutes: float) -> None:
        """Raises QuotaError if the team may not queue another job of so many minutes today; one of 0 needs none."""
        limits = self.limits(db, team)
        queued = _count(db, team, "queued")
        if queued >= limits.queued:
            raise QuotaError(f"the team {team!r} has {queued} queued jobs and may have {limits.queued}; cancel one")
        used = self._minutes(db, team)
        if minutes and used + minutes > limits.minutes:
            raise QuotaError(
                f"the team {team!r} has used {used:.0f} of its {limits.minutes:g} minutes of today (UTC);"
                f" this job may take {minutes:g} more"
            )

    def may_run(self, db: Cursor, team: str) -> bool:
        """Whether another of the team's jobs may start now."""
        limits = self.limits(db, team)
        return _count(db, team, "running") < limits.running and self._minutes(db, team) < limits.minutes

    def reserve(self, team: str, owner: str, contents: Mapping[str, int], *, instead_of: Sequence[str] = ()) -> None:
        """Reserve room for bytes on their way in (content to bytes), before they travel. Raises QuotaError.

        Asked and noted as one: of those who come at once, no more get in than have room.
        """
        if contents or instead_of:
            self._catalog.run(lambda db: self.reserve_in(db, team, owner, contents, instead_of=instead_of))

    def reserve_in(
        self, db: Cursor, team: str, owner: str, contents: Mapping[str, int], *, instead_of: Sequence[str] = ()
    ) -> None:
        """As `reserve`, as a part of the caller's transaction."""
        team = team.lower()
        limit = self.limits(db, team).bytes
        self._reservations.reserve(
            db, team, owner, contents, stored=_stored(db, team), limit=limit, instead_of=instead_of
        )

    def release_in(self, db: Cursor, team: str, owner: str, contents: Iterable[str]) -> None:
        """Give back what was reserved and did not arrive, as a part of the caller's transaction."""
        self._reservations.release(db, team.lower(), owner, list(contents))

    def release(self, team: str, owner: str, contents: Iterable[str]) -> None:
        """As `release_in`."""
        wanted = list(contents)
        if wanted:
            self._catalog.run(lambda db: self.release_in(db, team, owner, wanted))

    def check_bytes(self, team: str, more: int) -> None:
        """Raises QuotaError if `more` new bytes are too many for the team."""
        team = team.lower()
        with self._catalog.read() as db:
            limit = self.limits(db, team).bytes
            used = _stored(db, team)
        if used + more > limit:
            raise QuotaError(f"the team {team!r} stores {used:,} of its {limit:,} bytes; these files are {more:,} more")

    def check_new(self, team: str, files: Mapping[str, int]) -> None:
        """Raises QuotaError if a team may not store these blobs (sha256 to bytes) as well; what it has is free."""
        team, more = team.lower(), sum(files.values())
        with self._catalog.read() as db:
            left = self.limits(db, team).bytes - _stored(db, team)
            if more > left:
                had = db.execute(
                    f"SELECT DISTINCT sha256 FROM repo_blobs WHERE sha256 IN (SELECT unnest(?::VARCHAR[])) AND {_OF}",  # noqa: S608
                    [list(files), team, team],
                ).fetchall()
                more -= sum(files[digest] for (digest,) in had)
        if more > max(0, left):
            raise QuotaError(f"the team {team!r} may store {max(0, left):,} bytes more; these files are {more:,}")

    def room(self, teams: Collection[str]) -> int:
        """The bytes that the one of `teams` with most room may still store; 0 without a team."""
        with self._catalog.read() as db:
            left = [self.limits(db, team.lower()).bytes - _stored(db, team.lower()) for team in teams]
        return max([0, *left])

    def check_pending(self, owner: str, room: int, more: int, *, since: float) -> int:
        """How many bytes `owner` may still send before a commit names them, if `room` bytes are theirs to fill.

        What was sent since `since` (epoch seconds) and is in no repository counts: blobs are nobody's until then, and
        the collection takes them after a while. Raises QuotaError if `more` bytes are too many.
        """
        rows = self._catalog.query(
            "SELECT coalesce(sum(size), 0) FROM hub_possessions p WHERE owner = ? AND proven_at >= ?"
            " AND NOT EXISTS (SELECT 1 FROM repo_blobs b WHERE b.sha256 = p.sha256)",
            [owner, since],
        )
        left = max(0, room - int(rows[0][0]))
        if more > left:
            raise QuotaError(
                f"{int(rows[0][0]):,} bytes wait for a commit and {room:,} have room; these are {more:,} more"
            )
        return left

    def book(self, db: Cursor, team: str, started: float, ended: float) -> float:
        """Count a run's time for the days that it ran on. Returns its seconds."""
        for day, seconds in days_between(started, ended):
            db.execute(
                "INSERT INTO hub_usage VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds",
                [team, day, seconds],
            )
        return max(0.0, ended - started)

    def _minutes(self, db: Cursor, team: str) -> float:
        """Of today, what still runs included."""
        now = self._now()
        today = int(now // DAY)
        row = db.execute("SELECT seconds FROM hub_usage WHERE team = ? AND day = ?", [team, today]).fetchone()
        begin = today * DAY
        running = db.execute(
            "SELECT coalesce(sum(greatest(? - greatest(claimed_at, ?), 0)), 0) FROM hub_jobs"
            " WHERE team = ? AND state = 'running' AND NOT list_contains(?::VARCHAR[], kind)",
            [now, begin, team, sorted(name for name, spec in job_specs().items() if spec.light)],
        ).fetchone()
        return ((row[0] if row else 0.0) + max(0.0, running[0] if running else 0.0)) / 60


def days_between(started: float, ended: float) -> Iterator[tuple[int, float]]:
    """(day, seconds of it) of a stretch of epoch seconds; days are counted from the epoch, in UTC."""
    at = started
    while at < ended:
        day = int(at // DAY)
        upto = min(ended, (day + 1) * DAY)
        yield day, upto - at
        at = upto


def _count(db: Cursor, team: str, state: str) -> int:
    row = db.execute("SELECT count(*) FROM hub_jobs WHERE team = ? AND state = ?", [team, state]).fetchone()
    return int(row[0]) if row else 0


def _stored(db: Cursor, team: str) -> int:
    row = db.execute(
        f"SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT sha256, size FROM repo_blobs WHERE {_OF})",  # noqa: S608
        [team, team],
    ).fetchone()
    return int(row[0]) if row else 0
