"""A cell's refresh policy: declared, versioned, and a pure function of what is known.

Every change is a new version; who made it when stays. `decide` says whether the rule starts a refresh now, and if not
why, in words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from hub.errors import InputError, RefreshStateError, UnknownCellError
from hub.migrations.tables import timestamp
from hub.schemas.refresh import RefreshPolicy, RefreshPolicyIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.catalog.remembered import Reads

Code = Literal[
    "start", "off", "paused", "running", "no labels", "few labels", "same cause", "too soon", "other hours", "no base"
]
HOUR: Final = 3600.0
MAX_VERSIONS: Final = 1000
_COLUMNS = "cell, version, document, set_by, set_at, note"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision is made on. Times are epoch seconds.

    Attributes:
        labels: there is a dataset of labels.
        unused: new labelled images that no refresh took up.
        gain: (expected gain from 0 to 1, what it comes from), where somebody knows it.
        running: the refresh that is under way, "" for none.
        last: when the newest refresh was started; None before the first one.
        base: there is a base to train on.
    """

    labels: bool
    unused: int
    gain: tuple[float, str] | None = None
    running: str = ""
    last: float | None = None
    base: bool = True


NOTHING = Facts(labels=False, unused=0)
"""The facts of a cell of which nobody asked anything."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`code` is `start`, or why not; `reason` says it in words."""

    code: Code
    reason: str


def decide(policy: RefreshPolicyIn, facts: Facts, now: float) -> Decision:
    """Whether the rule starts a refresh at `now` (epoch seconds)."""
    if facts.running:
        return Decision("running", f"the refresh {facts.running} is under way")
    if not policy.enabled:
        return Decision("off", "the policy is switched off")
    if policy.paused:
        return Decision("paused", "somebody paused it")
    if not facts.labels:
        return Decision("no labels", "there is no dataset of labels yet")
    enough = _enough(policy, facts)
    if enough is None:
        gain = "" if facts.gain is None else f"; expected gain {facts.gain[0]:.2f}, asked for {_gain(policy)}"
        return Decision("few labels", f"{facts.unused} new labelled images of {policy.min_labels}{gain}")
    if not facts.base:
        return Decision("no base", f"{enough}, but there is no base to train on")
    if facts.last is not None and now < (earliest := facts.last + policy.min_hours_between * HOUR):
        return Decision("too soon", f"{enough}, but not before {timestamp(earliest)[:16]}Z: one refresh a while")
    if not in_hours(policy, now):
        hours = f"{policy.begin} to {policy.end} {policy.time_zone}"
        return Decision("other hours", f"{enough}, but refreshes start from {hours}")
    return Decision("start", enough)


def _enough(policy: RefreshPolicyIn, facts: Facts) -> str | None:
    """Why there is enough to learn from; None if there is not."""
    if facts.unused >= policy.min_labels:
        return f"{facts.unused} new labelled images, {policy.min_labels} are enough"
    if facts.unused and policy.min_gain is not None and facts.gain is not None and facts.gain[0] >= policy.min_gain:
        return f"expected gain {facts.gain[0]:.2f} ({facts.gain[1]}), {policy.min_gain:.2f} is enough"
    return None


def _gain(policy: RefreshPolicyIn) -> str:
    return "nothing" if policy.min_gain is None else f"{policy.min_gain:.2f}"


def in_hours(policy: RefreshPolicyIn, now: float) -> bool:
    """Whether `now` lies in the policy's hours: from `begin` on, before `end`; equal ones are the whole day."""
    local = datetime.fromtimestamp(now, tz=_zone(policy.time_zone))
    begin, end = _minutes(policy.begin), _minutes(policy.end)
    at = local.hour * 60 + local.minute
    if begin % 1440 == end % 1440:
        return True
    return begin <= at < end if begin < end else at >= begin or at < end


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def check_policy(policy: RefreshPolicyIn) -> None:
    """Raises InputError for a time zone that there is not."""
    try:
        _zone(policy.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"there is no time zone {policy.time_zone[:60]!r}") from error


class RefreshPolicies:
    """The table of policies. Thread-safe."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now
        self.on_set: list[Callable[[Cursor, RefreshPolicy, RefreshPolicyIn], None]] = []
        """Told of a new policy and of the one before, inside the transaction."""

    def get(self, cell: str) -> RefreshPolicy:
        """The policy in force."""
        return self._read(self._catalog, cell)

    def history(self, cell: str, limit: int = 100) -> list[RefreshPolicy]:
        """Every version, the newest first."""
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM refresh_policies WHERE cell = ? ORDER BY version DESC LIMIT ?",  # noqa: S608
            [cell, limit],
        )
        return [_policy(row) for row in rows]

    def set(
        self,
        cell: str,
        change: Callable[[RefreshPolicyIn], RefreshPolicyIn],
        who: str,
        note: str = "",
        *,
        expected: int | None = None,
    ) -> RefreshPolicy:
        """Put in force what `change` makes of the policy that there is; the same again is no new version.

        Raises InputError, UnknownCellError, RefreshStateError where `expected` is not the version by now.
        """

        def put(db: Cursor) -> RefreshPolicy:
            if not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone():
                raise UnknownCellError(f"there is no cell {cell!r}")
            before = self._read(db, cell)
            if expected is not None and expected != before.version:
                raise RefreshStateError(f"the policy of {cell!r} is version {before.version} by now, not {expected}")
            wanted = change(before.policy)
            check_policy(wanted)
            if wanted == before.policy and before.version:
                return before
            if before.version >= MAX_VERSIONS:
                db.execute(
                    "DELETE FROM refresh_policies WHERE cell = ? AND version <= ?",
                    [cell, before.version - MAX_VERSIONS],
                )
            text, now = msgspec.json.encode(wanted).decode(), self._now()
            db.execute(
                f"INSERT INTO refresh_policies ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                [cell, before.version + 1, text, who, now, note],
            )
            made = self._read(db, cell)
            for told in self.on_set:
                told(db, made, before.policy)
            return made

        return self._catalog.run(put)

    def _read(self, db: Reads, cell: str) -> RefreshPolicy:
        row = db.execute(
            f"SELECT {_COLUMNS} FROM refresh_policies WHERE cell = ? ORDER BY version DESC LIMIT 1",  # noqa: S608
            [cell],
        ).fetchone()
        return RefreshPolicy(cell=cell, version=0, policy=RefreshPolicyIn()) if row is None else _policy(row)


def _policy(row: tuple[str, int, str, str, float, str]) -> RefreshPolicy:
    cell, version, document, set_by, set_at, note = row
    policy = msgspec.json.decode(document, type=RefreshPolicyIn)
    return RefreshPolicy(cell=cell, version=version, policy=policy, set_by=set_by, set_at=timestamp(set_at), note=note)
