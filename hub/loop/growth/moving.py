"""Each cell's way to a new base: its variant is put on it, judged on the cell's history, moved through the gates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final, Protocol

from finetune.growth_plan import GrowthPlan
from hub.errors import HubError
from hub.jobs.queue import Jobs
from hub.loop.growth import run_rows as rows
from hub.loop.growth.contributions import RULE
from hub.loop.growth.planning import Planner
from hub.models.variants import Variants
from hub.schemas import core as s
from hub.schemas.growth import CellState, GrowthCell, GrowthPolicyIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError
from registry.promotion.history import judge_history
from registry.stage_types import HELD_STAGES
from registry.types import Unset

SECONDS: Final = 60.0


class Promoter(Protocol):
    """Who moves variants between stages: `hub.rollout.promotions`."""

    def promote(
        self, cell: str, version: str, stage: s.ServedStage, *, actor: str, note: str, expected: str | Unset | None
    ) -> s.Moved:
        """Move a version to a stage. Raises StageTakenError for another than `expected` there, MoveRefusedError by the
        gate."""

    def sync(self) -> None:
        """Write what robots are served by anew, from what the catalog says. Safe to repeat."""


class Mover:
    """Moves cells. Thread-safe; each step may be done again."""

    def __init__(
        self,
        catalog: Catalog,
        jobs: Jobs,
        variants: Variants,
        promotions: Promoter,
        team_of: Callable[[str], str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`team_of` gives the team of a cell, whose quota its training counts for."""
        self._catalog, self._jobs, self._variants, self._promotions = catalog, jobs, variants, promotions
        self._team_of, self._now = team_of, now

    def sync(self) -> None:
        """Let robots' table say what there is: a cell without a variant may get the new base."""
        self._promotions.sync()

    def begin(self, run: str, base: str, planner: Planner) -> None:
        """Note the cells whose variants are to be put on a base; what is noted stays as it is."""
        found = [(one, json.dumps(self._stages(one.cell, one.version))) for one in planner.to_refit(base)]
        known = {row[0] for row in self._catalog.query("SELECT cell FROM growth_cells WHERE run = ?", [run])}
        for one, stages in found:
            if one.cell not in known:
                self._note(run, one, stages)

    def _note(self, run: str, one: s.Version, stages: str) -> None:
        def put(db: Cursor) -> None:
            db.execute(
                "INSERT OR IGNORE INTO growth_cells VALUES (?, ?, 'refitting', ?, NULL, NULL, ?, '', NULL)",
                [run, one.cell, one.name, stages],
            )

        self._catalog.run(put)

    def refit(self, run: str, cell: GrowthCell, base: s.Base, policy: GrowthPolicyIn, planner: Planner) -> None:
        """Queue a cell's training on the new base, once."""
        one = self._variants.get(cell.cell, cell.start.partition("@")[2])
        plan = planner.refit(run, one, policy)
        if plan is None:
            self._settle(run, cell.cell, "failed", "its deck, its images or its base are gone", ("refitting",))
            return
        dataset, _, commit = one.dataset.partition("@")
        spec = s.RefitSpec(
            cell=cell.cell, dataset=dataset, dataset_commit=commit or plan.judges[0].decks[0].commit, base=base.name,
            base_commit=base.commit, images=None, max_seconds=policy.refit_minutes * SECONDS, seed=0, growth=plan,
        )  # fmt: skip
        try:
            self._jobs.create(spec, RULE, team=self._team_of(cell.cell), request=f"refit:{run}:{cell.cell}")
        except (HubError, RegistryError) as error:
            self._settle(run, cell.cell, "failed", f"its training could not be queued: {error}", ("refitting",))

    def job_moved(self, db: Cursor, job: s.Job, plan: GrowthPlan) -> None:
        """A cell follows its job, inside the transaction that moves the job."""
        run, cell = plan.run, job.spec.cell
        if job.state == "queued":
            db.execute("UPDATE growth_cells SET job = ? WHERE run = ? AND cell = ?", [job.id, run, cell])
        elif job.state == "finished":
            history = job.metrics.get("history")
            slices = history.get("slices", []) if isinstance(history, dict) else []
            mean = sum(one["difference"] for one in slices) / len(slices) if slices else None
            db.execute(
                "UPDATE growth_cells SET state = 'candidate', version = ?, difference = ? WHERE run = ? AND cell = ?"
                " AND state = 'refitting'",
                [job.version, mean, run, cell],
            )
            told = str(history.get("told", "")) if isinstance(history, dict) else "nothing was measured"
            title = f"{job.version} is a candidate, on {job.spec.base}"
            rows.log(db, self._now(), "refit", title, told, run=run, cell=cell)
        elif job.state in ("failed", "cancelled"):
            reason = job.error or "its job was cancelled"
            self._settle_in(db, run, cell, "failed", reason, ("refitting",))

    def move(self, run: str, cell: GrowthCell) -> None:
        """Move a cell to its refitted variant where its history allows, through the gate of each stage that the present
        variant holds; else it stays, served on its own base."""
        if cell.version is None:
            self._settle(run, cell.cell, "failed", "no variant came of it", ("candidate",))
            return
        version = cell.version.partition("@")[2]
        history = self._variants.get(cell.cell, version).metrics.get("history")
        try:
            verdict = judge_history(history if isinstance(history, dict) else {})
        except ValueError as error:
            self._settle(run, cell.cell, "stays", f"its history cannot be judged: {error}", ("candidate",))
            return
        if not verdict.passed:
            self._settle(run, cell.cell, "stays", verdict.told, ("candidate",))
            return
        if not cell.stages:
            self._settle(run, cell.cell, "moved", f"{cell.version} is offered at candidate: {verdict.told}",
                         ("candidate",))  # fmt: skip
            return
        refused = []
        for stage in HELD_STAGES:
            if stage not in cell.stages or stage in self._stages(cell.cell, version):
                continue
            holder = cell.start.partition("@")[2]
            if stage not in self._stages(cell.cell, holder):
                refused.append(f"{stage}: another variant holds it by now")
                continue
            try:
                self._promotions.promote(
                    cell.cell, version, stage, actor=RULE, note=f"growth {run}: {verdict.told}", expected=cell.start
                )
            except (HubError, RegistryError) as error:
                refused.append(f"{stage}: {error}")
        got = [stage for stage in cell.stages if stage in self._stages(cell.cell, version)]
        if got:
            told = f"{cell.version} has {', '.join(got)}: {verdict.told}" + (f". Not {'; '.join(refused)}" if refused
                                                                            else "")  # fmt: skip
            self._settle(run, cell.cell, "moved", told, ("candidate",))
        else:
            self._settle(run, cell.cell, "stays", "; ".join(refused), ("candidate",))

    def _stages(self, cell: str, version: str) -> list[str]:
        found = self._catalog.query(
            "SELECT stage FROM stage_variants WHERE cell = ? AND variant = 'cells/' || ? || '@' || ?",
            [cell, cell, version],
        )
        held = {row[0] for row in found} & set(HELD_STAGES)
        return [stage for stage in HELD_STAGES if stage in held]

    def _settle(self, run: str, cell: str, to: CellState, reason: str, came: tuple[CellState, ...]) -> None:
        self._catalog.run(lambda db: self._settle_in(db, run, cell, to, reason, came))

    def _settle_in(
        self, db: Cursor, run: str, cell: str, to: CellState, reason: str, came: tuple[CellState, ...]
    ) -> None:
        moved = db.execute(
            "UPDATE growth_cells SET state = ?, reason = ? WHERE run = ? AND cell = ?"
            " AND list_contains(?::VARCHAR[], state) RETURNING start",
            [to, reason[:2000], run, cell, list(came)],
        ).fetchall()
        if moved:
            title = {
                "moved": "The cell moved to the new base",
                "stays": f"The cell stays on the base of {moved[0][0]}, served beside the new one",
                "failed": "The cell's variant could not be put on the new base",
            }.get(to, to)
            rows.log(db, self._now(), to, title, reason, run=run, cell=cell)
