"""Refreshes: a cell's variant goes on learning from its new labels, by rule or by hand, once for each cause.

`look` is what the hub calls every few seconds: it finishes what a dead process left, and starts what the policies say.
A run is a row that is inserted once for its cause (the set of new images and the variant that it goes on from), while
a cell has one run at most. Its job is queued in the transaction that moves the row on, so that neither is there
without the other, whatever is killed when.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from hub.datasets.store import Store
from hub.errors import HubError, InputError, RefreshStateError
from hub.jobs.queue import Jobs
from hub.loop import refresh_runs as runs
from hub.loop.refresh_material import Materials, Picture, Source
from hub.loop.refresh_policy import NOTHING, Decision, Facts, RefreshPolicies, decide
from hub.loop.refresh_runs import ACTIVE
from hub.loop.refresh_starter import RULE, Starter
from hub.migrations.tables import timestamp
from hub.migrations.tables_refresh import OF_CELL
from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.models.variants import Variants
from hub.schemas import core as s
from hub.schemas.refresh import PromotionStatus, Refresh, RefreshPolicy, RefreshPolicyIn, RefreshRun, RefreshStatus
from registry.canonical import JSON
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError
from registry.registry import Registry
from registry.stage_types import HELD_STAGES
from registry.types import RepoId

log = logging.getLogger("parcelhub.refresh")

Gain = Callable[[str], tuple[float, str] | None]
"""A cell's expected gain (0 to 1) and what it comes from; None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A cell's refreshes in short: its policy, what the rule says, the run under way, and the newest runs."""

    policy: RefreshPolicy
    status: Decision
    active: RefreshRun | None
    runs: list[RefreshRun]


class Refreshes:
    """The refreshes of all cells. Thread-safe; any number of threads may `look` at once."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        cells: Cells,
        bases: Bases,
        variants: Variants,
        jobs: Jobs,
        materials: Materials,
        *,
        check_new: Callable[[str, dict[str, int]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """`check_new` raises QuotaError where a team may not store these blobs as well."""
        self._catalog: Catalog = registry.catalog
        self._cells, self._bases, self._jobs, self._materials = cells, bases, jobs, materials
        self._now = now
        self._starter = Starter(registry, store, bases, variants, jobs, materials, check_new=check_new, now=now)
        self.policies = RefreshPolicies(self._catalog, now=now)
        self.gains: list[Gain] = []
        """Who knows of expected gains; the highest counts."""
        self.promotion: Callable[[str], PromotionStatus | None] = lambda _cell: None
        """What the rule of promotions says of a cell."""
        self.take_back: Callable[[str, str, str, str], None] = lambda _cell, _version, _who, _note: None
        """Take a variant from every stage that it holds (cell, version, who, note), and put it away."""
        self.policies.on_set.append(self._policy_set)
        jobs.observers.append(self._job_moved)

    # --- what is known ------------------------------------------------------------------------------------------------

    def of(self, cell: str) -> Refresh:
        """A cell's policy, what it says now, and its newest runs. Raises UnknownCellError."""
        found = self._cells.get(cell)
        policy = self.policies.get(cell)
        new, facts, _ = self._facts(found, policy.policy)
        decision = decide(policy.policy, facts, self._now())
        with self._catalog.read() as db:
            newest = runs.listed(db, cell, limit=10)
        return Refresh(
            cell=cell,
            policy=policy,
            labels=self._materials.label_datasets(cell, found.team, policy.policy),
            status=RefreshStatus(code=decision.code, reason=decision.reason, new_images=len(new), unused=facts.unused),
            active=next((one for one in newest if one.state in ACTIVE), None),
            runs=newest,
            promotion=self.promotion(cell),
        )

    def glance(self, cell: str, *, ruled: bool = True) -> Glance:
        """What a cell's page says, from the last decision of the rule: its facts are not looked for again unless
        something has happened since. `ruled`: the rule looks at cells every few seconds. Raises UnknownCellError."""
        found = self._cells.get(cell)
        policy = self.policies.get(cell)
        newest = runs.listed(self._catalog, cell, limit=10)
        said = self._catalog.query("SELECT code, reason, since FROM refresh_status WHERE cell = ?", [cell])
        active = next((one for one in newest if one.state in ACTIVE), None)
        happened = [policy.set_at, *(moment for one in newest[:1] for moment in (one.asked_at, one.ended_at))]
        if active is not None:
            decision = Decision("running", f"the refresh {active.id} is under way")
        elif ruled and said and all(timestamp(said[0][2]) >= moment for moment in happened if moment):
            decision = Decision(said[0][0], said[0][1])
        elif not policy.version and not self._materials.sources(
            self._materials.label_datasets(cell, found.team, policy.policy)
        ):
            decision = decide(policy.policy, NOTHING, self._now())  # nobody asked anything of this cell
        else:
            decision = decide(policy.policy, self._facts(found, policy.policy)[1], self._now())
        return Glance(policy, decision, active, newest)

    def label_datasets(self, cell: str) -> list[str]:
        """The datasets that the cell's labels come into, whether they exist or not. Raises UnknownCellError."""
        return self._materials.label_datasets(cell, self._cells.get(cell).team, self.policies.get(cell).policy)

    def page(self, cell: str, *, limit: int, after: str = "") -> list[RefreshRun]:
        """A cell's runs, newest first."""
        with self._catalog.read() as db:
            return runs.listed(db, cell, after=after, limit=limit)

    def get(self, cell: str, run: str) -> RefreshRun:
        """Raises UnknownRefreshError."""
        with self._catalog.read() as db:
            return runs.read(db, cell, run)

    def evidence_for(self, one: s.Version) -> dict[str, JSON]:
        """What speaks for a variant that a refresh made: the run, and what became of the cell's history."""
        rows = self._catalog.query("SELECT id FROM refresh_runs WHERE version = ?", [one.name])
        made = _refresh_of(self._jobs.get(one.job)) if one.job and not rows else None
        if not rows and made is None:
            return {}
        history = one.metrics.get("history")
        found: dict[str, JSON] = {"refresh": rows[0][0] if rows else made.run if made else ""}
        return found | ({"history": history} if isinstance(history, dict) else {})

    # --- what people do -----------------------------------------------------------------------------------------------

    def set_policy(
        self, cell: str, policy: RefreshPolicyIn, who: str, note: str = "", *, expected: int | None = None
    ) -> RefreshPolicy:
        """Declare a cell's policy. Raises InputError, RefreshStateError, UnknownCellError."""
        for name in policy.labels:
            RepoId.parse(name, "dataset")
        return self.policies.set(cell, lambda _: policy, who, note, expected=expected)

    def pause(self, cell: str, who: str, note: str = "", *, paused: bool = True) -> RefreshPolicy:
        """Let the rule wait until somebody resumes it; what runs goes on. Raises UnknownCellError."""
        return self.policies.set(cell, lambda one: msgspec.structs.replace(one, paused=paused), who, note)

    def now(self, cell: str, who: str) -> RefreshRun:
        """Start one by hand, whatever hours and numbers the policy asks for; the one under way is the answer.

        Raises RefreshStateError where there is nothing to learn from, UnknownCellError.
        """
        found = self._cells.get(cell)
        policy = self.policies.get(cell).policy
        new, facts, sources = self._facts(found, policy)
        if not facts.running:
            if not new:
                raise RefreshStateError(f"{cell!r} has no labelled image that its decks do not have already")
            if not facts.base:
                raise RefreshStateError("there is no base to train on")
            self._starter.start(found, policy, new, sources, f"{who} asked for it", who, by_rule=False)
        with self._catalog.read() as db:
            made = runs.listed(db, cell, states=ACTIVE, limit=1)
        if not made:
            raise RefreshStateError(f"the refresh of {cell!r} ended at once; its timeline says why")
        return made[0]

    def veto(self, cell: str, run: str, who: str, note: str = "") -> RefreshRun:
        """Stop a refresh, or put away what it offers before robots have it. Raises UnknownRefreshError,
        RefreshStateError."""

        def change(db: Cursor) -> None:
            one = runs.read(db, cell, run)
            if one.state == "offered" and _stage(db, one) in HELD_STAGES:
                raise RefreshStateError(f"{one.version} serves robots already; undo the refresh instead")
            now = self._now()
            if not runs.move(db, run, "vetoed", (*ACTIVE, "offered"), now, ended_by=who, note=note):
                raise RefreshStateError(f"the refresh {run} is {one.state} already")
            runs.log(db, cell, now, "veto", "The refresh was vetoed", note, run=run, who=who)

        self._catalog.run(change)
        self._settle(cell, run)
        return self.get(cell, run)

    def undo(self, cell: str, run: str, who: str, note: str = "") -> RefreshRun:
        """Take back what a refresh offered: from every stage that it holds, and out of the way. Its images are new
        again. Raises UnknownRefreshError, RefreshStateError."""

        def change(db: Cursor) -> None:
            one, now = runs.read(db, cell, run), self._now()
            if not runs.move(db, run, "undone", ("offered",), now, ended_by=who, note=note):
                raise RefreshStateError(f"the refresh {run} is {one.state}; only one that offers a variant is undone")
            runs.log(db, cell, now, "undo", f"The refresh was undone: {one.version} goes", note, run=run, who=who)

        self._catalog.run(change)
        self._settle(cell, run)
        return self.get(cell, run)

    # --- the rule -----------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Finish what was left: what a dead process was building, what a person stopped."""
        with self._catalog.read() as db:
            open_ = runs.listed(db, states=("building",), limit=1000)
            ended = self._unsettled(db)
        for cell, run in ended:
            self._guarded(partial(self._settle, cell, run))
        for one in open_:
            self._guarded(partial(self._starter.build, one.cell, one.id))

    def look(self) -> int:
        """Go on, and start what the policies say; how many were started."""
        self.go_on()
        started = 0
        for each in self._cells.all():
            started += bool(self._guarded(partial(self._look_at, each)))
        return started

    def _guarded(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Do it; what goes wrong with one cell stops no other one's."""
        try:
            return work()
        except (HubError, RegistryError) as error:
            log.warning("a refresh waits: %s", error)
        except Exception:
            log.exception("a refresh waits")
        return None

    def _look_at(self, cell: s.Cell) -> bool:
        policy = self.policies.get(cell.name)
        new, facts, sources = self._facts(cell, policy.policy)
        if not facts.labels and not policy.version:
            return False  # nobody asked anything of this cell
        decision = decide(policy.policy, facts, self._now())
        if decision.code == "start":
            if self._starter.start(cell, policy.policy, new, sources, decision.reason, RULE, by_rule=True):
                return True
            decision = Decision("same cause", "these very images had their refresh already")
        self._say(cell.name, decision)
        return False

    def _facts(self, cell: s.Cell, policy: RefreshPolicyIn) -> tuple[list[Picture], Facts, tuple[Source, ...]]:
        sources = self._materials.sources(self._materials.label_datasets(cell.name, cell.team, policy))
        with self._catalog.read() as db:
            busy = runs.listed(db, cell.name, states=ACTIVE, limit=1)
            # One that a clock that was ahead put into the future holds up none.
            last = db.execute(
                "SELECT max(asked_at) FROM refresh_runs WHERE cell = ? AND asked_at <= ?", [cell.name, self._now()]
            ).fetchone()
        new = self._materials.new_of(cell.name, sources) if sources else []
        known = [found for gain in self.gains if (found := gain(cell.name)) is not None]
        facts = Facts(
            labels=bool(sources),
            unused=self._materials.unused(cell.name, new) if new else 0,
            gain=max(known, default=None),
            running=busy[0].id if busy else "",
            last=last[0] if last else None,
            base=self._bases.newest_name() is not None,
        )
        return new, facts, sources

    def _say(self, cell: str, decision: Decision) -> None:
        """Keep what the rule says; the log hears of it when the kind of answer changes."""
        rows = self._catalog.query("SELECT code, reason FROM refresh_status WHERE cell = ?", [cell])
        if rows and rows[0] == (decision.code, decision.reason):
            return

        def write(db: Cursor) -> None:
            before = db.execute("SELECT code FROM refresh_status WHERE cell = ?", [cell]).fetchone()
            if not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone():
                return
            now = self._now()
            db.execute(
                "INSERT INTO refresh_status VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET code = excluded.code,"
                " reason = excluded.reason, since = excluded.since",
                [cell, decision.code, decision.reason, now],
            )
            if (before is None or before[0] != decision.code) and decision.code != "running":
                runs.log(db, cell, now, "not now", "No refresh now", decision.reason)

        self._catalog.run(write)

    # --- what becomes of it -------------------------------------------------------------------------------------------

    def _job_moved(self, db: Cursor, job: s.Job) -> None:
        """A run follows its job, inside the transaction that moves the job."""
        if (of := _refresh_of(job)) is None:
            return
        now, cell = self._now(), job.spec.cell
        if job.state == "queued":
            db.execute("UPDATE refresh_runs SET job = ? WHERE id = ?", [job.id, of.run])
            if runs.move(db, of.run, "training", ("failed",), now):  # somebody tries it again
                db.execute("INSERT OR IGNORE INTO refresh_active VALUES (?, ?)", [cell, of.run])
        elif job.state == "finished":
            db.execute("UPDATE refresh_runs SET version = ? WHERE id = ?", [job.version, of.run])
            history = job.metrics.get("history")
            told = str(history.get("told", "")) if isinstance(history, dict) else "nothing was measured on its history"
            if runs.move(db, of.run, "offered", ("training",), now):
                worse = bool(history.get("worse")) if isinstance(history, dict) else True
                title = f"{job.version} is a candidate" + (", and the gate will refuse it" if worse else "")
                runs.log(db, cell, now, "worse" if worse else "offered", title, told, run=of.run)
        elif job.state in ("failed", "cancelled"):
            reason = job.error or "its job was cancelled"
            if runs.move(db, of.run, "failed", ("training",), now, reason=reason):
                runs.log(db, cell, now, "failed", "The refresh failed", reason, run=of.run)

    def _unsettled(self, db: Cursor) -> list[tuple[str, str]]:
        """(cell, run) of those that a person stopped, whose job still works or whose variant is not put away."""
        rows = db.execute(
            "SELECT r.cell, r.id FROM refresh_runs r LEFT JOIN hub_jobs j ON j.id = r.job"
            " LEFT JOIN stage_variants v ON v.cell = r.cell AND v.variant = 'cells/' || r.version"
            " WHERE r.state IN ('vetoed', 'undone') AND ((j.state IN ('queued', 'running') AND NOT"
            " j.cancel_requested) OR (v.stage IS NOT NULL AND v.stage <> 'archived'))"
        ).fetchall()
        return [(row[0], row[1]) for row in rows]

    def _settle(self, cell: str, run: str) -> None:
        """Make it so that a run which a person stopped does nothing any more: its job ends, its variant goes."""
        one = self.get(cell, run)
        if one.job is not None:
            job = self._jobs.get(one.job)
            if job.state in ("queued", "running") and not job.cancel_requested:
                self._jobs.cancel(one.job)
        with self._catalog.read() as db:
            stage = _stage(db, one)
        if one.version is not None and stage not in (None, "archived"):
            self.take_back(cell, one.version.partition("@")[2], one.ended_by or RULE, one.note or f"refresh {run}")

    def _policy_set(self, db: Cursor, made: RefreshPolicy, before: RefreshPolicyIn) -> None:
        now = made.policy
        if now.paused != before.paused:
            title = "Refreshes were paused" if now.paused else "Refreshes go on"
        else:
            title = f"The refresh policy is version {made.version}"
        changed = [
            f"{name}: {getattr(before, name)} → {getattr(now, name)}"
            for name in now.__struct_fields__
            if getattr(before, name) != getattr(now, name) and name != "paused"
        ]
        reason = "; ".join([*([made.note] if made.note else []), *changed])
        runs.log(db, made.cell, self._now(), "policy", title, reason, who=made.set_by)

    def forget(self, db: Cursor, cell: str) -> None:
        """What is known of a cell that is deleted goes with it."""
        for table in OF_CELL:
            db.execute(f"DELETE FROM {table} WHERE cell = ?", [cell])  # noqa: S608  # one of six names


def _stage(db: Cursor, one: RefreshRun) -> str | None:
    """Where the variant stands that a run offers."""
    row = db.execute(
        "SELECT stage FROM stage_variants WHERE cell = ? AND variant = 'cells/' || ?", [one.cell, one.version or ""]
    ).fetchone()
    return None if row is None else str(row[0])


def check_labels(names: Sequence[str], may_use: Callable[[RepoId], bool]) -> None:
    """Raises InputError for a dataset that whoever declares a policy may not have; one that is not there among them."""
    for name in names:
        if not may_use(RepoId.parse(name, "dataset")):
            raise InputError(f"there is no dataset {name!r} that you may use")


def _refresh_of(job: s.Job) -> s.RefreshSpec | None:
    """Which refresh a job is of."""
    return job.spec.refresh if isinstance(job.spec, s.FinetuneSpec) else None
