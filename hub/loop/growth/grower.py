"""The base grows: contributions are checked and tested, the next base is trained, and cells move to it where they win.

`look` is what the hub calls every few seconds: it goes on with what a dead process left, and starts what the policy
says. States change in the transaction that queues or ends a job, so that neither is there without the other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from finetune.growth_plan import GrowthPlan
from hub.errors import GrowthStateError, HubError, JobStateError
from hub.jobs.queue import Jobs
from hub.loop.growth import run_rows as rows
from hub.loop.growth.checks import Checks
from hub.loop.growth.contributions import RULE, Contributions
from hub.loop.growth.moving import Mover
from hub.loop.growth.planning import Planner
from hub.loop.growth.policy import Facts, GrowthPolicies, decide
from hub.loop.growth.publishing import Publisher
from hub.loop.growth.run_rows import ACTIVE
from hub.schemas import core as s
from hub.schemas.finetunes import plan_of
from hub.schemas.growth import Contribution, GrowthOutlook, GrowthRun
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError

log = logging.getLogger("parcelhub.growth")

CHECK_SECONDS: Final = 3600.0
LEAST_SECONDS: Final = 1800.0
MOST_SECONDS: Final = 20 * 3600.0
PICTURE_SECONDS: Final = 0.75
"""Three times what a picture of a training takes on a busy core: trainings go by steps, and this bounds them."""


class Grower:
    """Thread-safe; any number of threads may `look` at once."""

    def __init__(
        self,
        catalog: Catalog,
        planner: Planner,
        jobs: Jobs,
        checks: Checks,
        publisher: Publisher,
        mover: Mover,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog, self._planner, self._jobs, self._now = catalog, planner, jobs, now
        self._checks, self._publisher, self._mover = checks, publisher, mover
        self.contributions: Contributions = planner.contributions
        self.policies = GrowthPolicies(catalog, now=now)
        self.contributions.withdrawn.append(self._offer_ended)
        self.contributions.release_all()
        jobs.observers.append(self._job_moved)

    # --- what is known ------------------------------------------------------------------------------------------------

    def outlook(self) -> GrowthOutlook:
        """What `grow` would do now: nothing is started."""
        policy = self.policies.get().policy
        plan = self._planner.base("", policy)
        base = self._planner.bases.newest()
        refits = self._planner.to_refit()
        facts = self._facts(plan)
        with self._catalog.read() as db:
            active = rows.listed(db, states=ACTIVE, limit=1)
        return GrowthOutlook(
            start=base.name,
            contributions=[f"{one.dataset}@{one.commit[:12]}: {len(one.files)} images" for one in plan.contributions],
            images=sum(len(one.files) for one in plan.contributions),
            new_images=facts.images,
            cells=[f"{one.name} on {one.base} ({one.stage})" for one in refits],
            judges=len(plan.judges),
            minutes=policy.refit_minutes * len(refits),
            rule=decide(policy, facts, self._now())[1],
            active=active[0] if active else None,
        )

    def page(self, limit: int = 50) -> list[GrowthRun]:
        """Growths, newest first."""
        with self._catalog.read() as db:
            return rows.listed(db, limit=limit)

    def get(self, run: str) -> GrowthRun:
        """Raises UnknownGrowthError."""
        with self._catalog.read() as db:
            return rows.read(db, run)

    def evidence_for(self, one: s.Version) -> dict[str, Any]:
        """What speaks for a variant that was put on another base: what became of the cell's history."""
        made = plan_of(self._jobs.get(one.job).spec) if one.job else None
        if made is None:
            return {}
        history = one.metrics.get("history")
        return {"refresh": made.run} | ({"history": history} if isinstance(history, dict) else {})

    # --- what people do -----------------------------------------------------------------------------------------------

    def grow(self, who: str, note: str = "") -> GrowthRun:
        """Let the base grow now, whatever the policy asks for; the growth that is under way is the answer.

        Raises GrowthStateError where nothing is accepted, UnknownBaseError.
        """
        with self._catalog.read() as db:
            active = rows.listed(db, states=ACTIVE, limit=1)
        if active:
            return active[0]
        if not self._start(f"{who} asked for it" + (f": {note}" if note else ""), who, by_rule=False):
            with self._catalog.read() as db:
                active = rows.listed(db, states=ACTIVE, limit=1)
            if not active:
                raise GrowthStateError("no accepted contribution has an image to learn from")
            return active[0]
        return self.page(1)[0]

    def stop(self, run: str, who: str, note: str = "") -> GrowthRun:
        """End a growth: its jobs end, cells that have not moved stay. A base that is published stays.

        Raises UnknownGrowthError, GrowthStateError.
        """

        def change(db: Cursor) -> None:
            one, now = rows.read(db, run), self._now()
            if not rows.move(db, run, "stopped", ACTIVE, now, ended_by=who, reason=note or f"{who} stopped it"):
                raise GrowthStateError(f"the growth {run} is {one.state} already")
            reason = "the growth was stopped"
            db.execute(
                "UPDATE growth_cells SET state = 'stays', reason = ? WHERE run = ? AND state IN ('refitting',"
                " 'candidate')",
                [reason, run],
            )
            rows.log(db, now, "stopped", "The growth of the base was stopped", note, run=run, who=who)

        self._catalog.run(change)
        self._end_jobs()
        return self.get(run)

    def answer(self, job_id: str, answer: s.FinishIn) -> s.Job:
        """End a value test or the training of a base with what it measured, and publish the base.

        Raises JobStateError, InputError.
        """
        job = self._jobs.require_running(job_id)
        plan = plan_of(job.spec)
        if plan is None or plan.kind == "refit":
            raise JobStateError(f"job {job_id} makes a variant; it ends with that")
        version = None
        if plan.kind == "base":
            high = answer.metrics.get("high")
            worse = isinstance(high, int | float) and high < 0
            version = None if worse else self._publisher.publish(plan, job.spec.base, answer.files)
        done = self._jobs.finish(job_id, version, answer.metrics)
        self._mover.sync()
        return done

    # --- the rule -----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Go on, and start what the policy says."""
        self.go_on()
        self._guarded(self._rule)

    def go_on(self) -> None:
        """Finish what was left, and take up what was offered."""
        self._guarded(self.contributions.catch_up)
        for one in self.contributions.listed(("offered",)):
            self._guarded(partial(self._check, one))
        for one in self.contributions.listed(("checked",)):
            self._guarded(partial(self._test, one))
        self.go_on_started()

    def go_on_started(self) -> None:
        """Go on with growths that are under way; no contribution is taken up."""
        with self._catalog.read() as db:
            runs = rows.listed(db, states=ACTIVE, limit=10)
        for run in runs:
            self._guarded(partial(self._go_on, run))
        self._guarded(self._end_jobs)

    def _guarded(self, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return work()
        except (HubError, RegistryError) as error:
            log.warning("the base's growth waits: %s", error)
        except Exception:
            log.exception("the base's growth waits")
        return None

    def _rule(self) -> None:
        policy = self.policies.get().policy
        if not policy.enabled:
            return
        start, reason = decide(policy, self._facts(self._planner.base("", policy)), self._now())
        if start:
            self._start(reason, RULE, by_rule=True)

    def _facts(self, plan: GrowthPlan) -> Facts:
        found = self._catalog.query(
            "SELECT g.id FROM growth_contributions g JOIN growth_runs r ON r.id = g.run WHERE r.base IS NOT NULL"
        )
        seen = {row[0] for row in found}
        fresh = [one for one in plan.contributions if one.id not in seen]
        with self._catalog.read() as db:
            busy = rows.listed(db, states=ACTIVE, limit=1)
            last = db.execute("SELECT max(asked_at) FROM growth_runs").fetchone()
        return Facts(
            images=sum(len(one.files) for one in fresh),
            contributions=len(fresh),
            running=busy[0].id if busy else "",
            last=last[0] if last else None,
            base=self._planner.bases.newest_name() is not None,
        )

    def _check(self, one: Contribution) -> None:
        if not self.contributions.claim(one.id, CHECK_SECONDS):
            return
        found = self._checks.run(self._planner.material(one), self.policies.get().policy.licences)
        told = json.dumps(found.told)
        if found.against:
            self.contributions.refuse(one.id, ("offered",), RULE, " ".join(found.against), checks=told)
            return
        said = "It passed the checks; the value test is next."
        self._catalog.run(
            lambda db: self.contributions.move(db, one.id, "checked", ("offered",), RULE, said, checks=told)
        )

    def _test(self, one: Contribution) -> None:
        """Queue the value test, once."""
        if self._catalog.query("SELECT 1 FROM contributions WHERE id = ? AND job IS NOT NULL", [one.id]):
            return
        policy = self.policies.get().policy
        base = self._planner.bases.newest()
        plan = self._planner.value(one, policy)
        self._queue(plan, base, f"value:{one.id}")

    def _queue(self, plan: GrowthPlan, base: s.Base, request: str,
               before: Callable[[Cursor], None] = lambda _: None) -> s.Job:  # fmt: skip
        spec = s.GrowthSpec(
            base=base.name, base_commit=base.commit, max_seconds=_bound(plan), seed=plan.seed, growth=plan
        )
        return self._jobs.create(spec, RULE, request=request, before=before)

    def _start(self, reason: str, who: str, *, by_rule: bool) -> bool:
        policy, base, run = self.policies.get().policy, self._planner.bases.newest(), secrets.token_hex(6)
        plan = self._planner.base(run, policy)
        if not plan.contributions:
            return False
        told = [base.commit, *sorted(f"{one.id}:{len(one.files)}" for one in plan.contributions)]
        cause = hashlib.sha256("\0".join([*told, "" if by_rule else run]).encode()).hexdigest()

        def begin(db: Cursor) -> None:
            now = self._now()
            made = rows.add(db, run, cause, plan, by_rule=by_rule, reason=reason, asked_by=who, asked_at=now,
                            start=base.name)  # fmt: skip
            if not made:
                raise GrowthStateError("a growth is under way, or this cause had its own")
            images = sum(len(one.files) for one in plan.contributions)
            title = f"The base grows: {images} images of {len(plan.contributions)} contributions, from {base.name}"
            rows.log(db, now, "start", title, reason, run=run, who=who)

        try:
            self._queue(plan, base, f"growth:{run}", before=begin)
        except GrowthStateError as error:
            log.info("%s", error)
            return False
        return True

    # --- a growth's cells ---------------------------------------------------------------------------------------------

    def _go_on(self, run: GrowthRun) -> None:
        if run.state != "refitting" or run.base is None:
            return
        policy, base = self.policies.get().policy, self._planner.bases.get(run.base)
        self._mover.begin(run.id, run.base, self._planner)
        for each in self.get(run.id).cells:
            if each.state == "refitting" and each.job is None:
                self._guarded(partial(self._mover.refit, run.id, each, base, policy, self._planner))
        if any(one.state == "refitting" for one in self.get(run.id).cells):
            return
        for each in self.get(run.id).cells:
            if each.state == "candidate":
                self._guarded(partial(self._mover.move, run.id, each))
        left = self.get(run.id)
        if any(one.state in ("refitting", "candidate") for one in left.cells):
            return
        moved = sum(one.state == "moved" for one in left.cells)
        told = f"{moved} of {len(left.cells)} cells with a variant moved to {left.base}; the others stay where they are"

        def finish(db: Cursor) -> None:
            if rows.move(db, run.id, "finished", ("refitting",), self._now(), reason=told):
                rows.log(db, self._now(), "finished", f"The growth to {left.base} has ended", told, run=run.id)

        self._catalog.run(finish)

    # --- what becomes of jobs -----------------------------------------------------------------------------------------

    def _job_moved(self, db: Cursor, job: s.Job) -> None:
        """Contributions and growths follow their jobs, inside the transaction that moves the job."""
        plan = plan_of(job.spec)
        if plan is None:
            return
        if plan.kind == "value":
            self._test_moved(db, job, plan)
        elif plan.kind == "base":
            self._training_moved(db, job, plan)
        else:
            self._mover.job_moved(db, job, plan)

    def _test_moved(self, db: Cursor, job: s.Job, plan: GrowthPlan) -> None:
        if job.state == "queued":
            db.execute("UPDATE contributions SET job = ? WHERE id = ?", [job.id, plan.run])
        elif job.state == "finished":
            told, verdict = str(job.metrics.get("told", "")), job.metrics.get("verdict")
            kept = {name: value for name, value in job.metrics.items() if name != "cells"}
            kept["cells"] = len(job.metrics.get("cells") or [])
            if not self.contributions.move(db, plan.run, "tested", ("checked",), RULE, told, result=json.dumps(kept)):
                return
            policy = self.policies.read(db).policy
            if verdict == "helps" or (verdict == "unsure" and policy.accept_unsure):
                self.contributions.move(db, plan.run, "accepted", ("tested",), RULE, f"{told}. The next base gets it.")
            elif verdict == "hurts":
                self.contributions.move(db, plan.run, "refused", ("tested",), RULE, told)
                db.execute("DELETE FROM contribution_active WHERE id = ?", [plan.run])
        elif job.state in ("failed", "cancelled"):
            # Why in detail is the operator's to read: it may name other teams' things.
            word = "failed; the operator can try it again" if job.state == "failed" else "was cancelled"
            self.contributions.move(db, plan.run, "checked", ("checked",), RULE, f"The value test {word}.")

    def _training_moved(self, db: Cursor, job: s.Job, plan: GrowthPlan) -> None:
        now, run = self._now(), plan.run
        if job.state == "queued":
            db.execute("UPDATE growth_runs SET job = ? WHERE id = ?", [job.id, run])
            if rows.move(db, run, "training", ("failed",), now, ended_at=None):
                db.execute("INSERT OR IGNORE INTO growth_active VALUES (1, ?)", [run])
        elif job.state == "finished":
            result = json.dumps(job.metrics)
            if job.version is None:
                told = "the next base is worse zero-shot on the cells' history; it is not published"
                if rows.move(db, run, "failed", ("training",), now, reason=told, result=result):
                    rows.log(db, now, "worse", "The next base is worse", told, run=run)
                return
            if rows.move(db, run, "refitting", ("training",), now, base=job.version, result=result):
                mean = job.metrics.get("difference")
                told = f"zero-shot {mean:+.3f} AP50 on the cells' history" if isinstance(mean, float) else ""
                rows.log(db, now, "base", f"{job.version} is published", told, run=run)
        elif job.state in ("failed", "cancelled"):
            word = "failed; the job's log says why" if job.state == "failed" else "was cancelled"
            if rows.move(db, run, "failed", ("training",), now, reason=f"its training {word}"):
                rows.log(db, now, "failed", f"The training of the next base {word}", run=run)

    def _offer_ended(self, db: Cursor, _id: str, job: str | None) -> None:
        if job is not None:
            db.execute("UPDATE hub_jobs SET cancel_requested = true WHERE id = ? AND state = 'running'", [job])

    def _end_jobs(self) -> None:
        """End jobs of offers that were taken back and of growths that were stopped."""
        found = self._catalog.query(
            "SELECT j.id FROM hub_jobs j JOIN contributions c ON c.job = j.id WHERE j.state IN ('queued', 'running')"
            " AND NOT j.cancel_requested AND c.state IN ('withdrawn', 'refused')"
            " UNION SELECT j.id FROM hub_jobs j JOIN growth_runs r ON r.state = 'stopped'"
            " AND json_extract_string(j.spec, '$.growth.run') = r.id WHERE j.state IN ('queued', 'running')"
            " AND NOT j.cancel_requested"
        )
        for (job,) in found:
            self._jobs.cancel(job)


def _bound(plan: GrowthPlan) -> float:
    """Seconds that a training of the plan may take."""
    trainings = 2 if plan.kind == "value" else 1
    return min(max(LEAST_SECONDS, trainings * plan.steps * plan.batch * PICTURE_SECONDS), MOST_SECONDS)
