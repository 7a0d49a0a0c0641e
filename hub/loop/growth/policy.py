"""When the base grows by itself, and what a contribution must pass: declared, versioned, and a pure function."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from hub.errors import GrowthStateError
from hub.migrations.tables import timestamp
from hub.schemas.growth import GrowthPolicy, GrowthPolicyIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

HOUR: Final = 3600.0
MAX_VERSIONS: Final = 1000
_COLUMNS = "version, document, set_by, set_at, note"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision is made on: accepted images and contributions that no base learnt from, the run that is under
    way ("" for none), when the newest one was asked for (epoch seconds), whether there is a base."""

    images: int
    contributions: int
    running: str = ""
    last: float | None = None
    base: bool = True


def decide(policy: GrowthPolicyIn, facts: Facts, now: float) -> tuple[bool, str]:
    """Whether the rule lets the base grow at `now` (epoch seconds), and why, or why not."""
    if facts.running:
        return False, f"the growth {facts.running} is under way"
    if not policy.enabled:
        return False, "the rule is switched off"
    have = f"{facts.images} accepted images of {facts.contributions} contributions that no base learnt from"
    if facts.images < policy.min_images or facts.contributions < policy.min_contributions:
        return False, f"{have}; {policy.min_images} of {policy.min_contributions} are asked for"
    if not facts.base:
        return False, f"{have}, but there is no base to go on from"
    if facts.last is not None and now < (earliest := facts.last + policy.min_hours_between * HOUR):
        return False, f"{have}, but not before {timestamp(earliest)[:16]}Z: one base a while"
    return True, have


class GrowthPolicies:
    """The table of policies; one for the whole hub. Thread-safe."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog, self._now = catalog, now

    def get(self) -> GrowthPolicy:
        """The policy in force."""
        with self._catalog.read() as db:
            return self.read(db)

    def history(self, limit: int = 100) -> list[GrowthPolicy]:
        """Every version, the newest first."""
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM growth_policies ORDER BY version DESC LIMIT ?",  # noqa: S608
            [limit],
        )
        return [_policy(row) for row in rows]

    def set(self, policy: GrowthPolicyIn, who: str, note: str = "", *, expected: int | None = None) -> GrowthPolicy:
        """Put a policy in force; the same again is no new version. Raises GrowthStateError where `expected` is not the
        version by now."""

        def put(db: Cursor) -> GrowthPolicy:
            before = self.read(db)
            if expected is not None and expected != before.version:
                raise GrowthStateError(f"the growth policy is version {before.version} by now, not {expected}")
            if policy == before.policy and before.version:
                return before
            db.execute("DELETE FROM growth_policies WHERE version <= ?", [before.version - MAX_VERSIONS])
            text = msgspec.json.encode(policy).decode()
            db.execute(
                "INSERT INTO growth_policies VALUES (?, ?, ?, ?, ?)", [before.version + 1, text, who, self._now(), note]
            )
            return self.read(db)

        return self._catalog.run(put)

    def read(self, db: Cursor) -> GrowthPolicy:
        """The policy in force, inside a transaction."""
        row = db.execute(f"SELECT {_COLUMNS} FROM growth_policies ORDER BY version DESC LIMIT 1").fetchone()  # noqa: S608
        return GrowthPolicy(version=0, policy=GrowthPolicyIn()) if row is None else _policy(row)


def _policy(row: tuple[int, str, str, float, str]) -> GrowthPolicy:
    version, document, by, at, note = row
    policy = msgspec.json.decode(document, type=GrowthPolicyIn)
    return GrowthPolicy(version=version, policy=policy, set_by=by, set_at=timestamp(at), note=note)
