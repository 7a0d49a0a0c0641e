"""Takes what refreshes and growths offer to station, beta and fleet, by the cell's policy and by evidence.

`look` is what the hub calls every few seconds. For each cell it takes the newest variant that a refresh or a growth
offers, and decides on what is known (`decide`, a pure function): try the next stage, ask a person, or wait for the
trial where it stands. The gate in force judges each try as it judges a person's, and a trial begins at the stage that
it lets the variant to. A try happens once for what it was decided on, while the stage is held by whom was seen there: a
second look, another thread, or a process that comes after a killed one changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hub.errors import HubError
from hub.loop import refresh_runs as runs
from hub.loop.refresh_policy import RefreshPolicies
from hub.migrations.tables_promoter import OF_CELL
from hub.rollout.plan import Plan
from hub.rollout.promotions import Promotions
from hub.rollout.trials import Trials
from hub.schemas import core as s
from hub.schemas.refresh import PromoteMode, PromotionStatus
from hub.schemas.serving import Trial
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import MoveRefusedError, RegistryError
from registry.promotion.policies import Policies
from registry.promotion.stages import Stages
from serving.errors import ServingError

log = logging.getLogger("parcelhub.promoter")

ACTOR: Final = "rule"
AGAIN_S: Final = 300.0
"""When what kept the rule from trying (no server that looks at the variant) is tried again."""
NEXT: Final[Mapping[str, s.ServedStage]] = {"candidate": "station", "station": "beta", "beta": "fleet"}
ORDER: Final = ("candidate", "station", "beta", "fleet")
PLACES: Final = {"station": "the test station", "beta": "beta", "fleet": "the fleet"}
Code = Literal["try", "ask", "wait", "refused", "off", "paused", "taken back", "done", "nothing"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a step is decided on.

    Attributes:
        version: the newest variant that is offered, "" for none; stage: where it stands.
        run: the refresh that offers it, "" for a growth.
        served_before: it stands at candidate and has held a stage: somebody, or its trial, took it back.
        trial: the newest trial of it where it stands: (id, state, picks, picks at most); None for none.
        used: whether any line or share of the cell gets the variant where it stands, so that a trial there sees picks.
        holder: who holds the next stage; "" for the base.
        gate: the digest of the gate's policy; approvals: of the move to the next stage.
    """

    version: str
    stage: str = "candidate"
    run: str = ""
    served_before: bool = False
    trial: tuple[str, str, int, int] | None = None
    used: bool = False
    holder: str = ""
    gate: str = ""
    approvals: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """`code` is what the rule does; `stage` the next stage, `reason` in words."""

    code: Code
    reason: str
    stage: s.ServedStage = "station"


def decide(mode: PromoteMode, until: s.ServedStage, paused: bool, facts: Facts) -> Decision:
    """What the rule does about a cell."""
    if mode == "off":
        return Decision("off", "the policy leaves promotions to people")
    if not facts.version:
        return Decision("nothing", "no refresh offers a variant")
    stage = NEXT.get(facts.stage)
    if stage is None or ORDER.index(stage) > ORDER.index(until):
        return Decision("done", f"{facts.version} is where the policy ends", stage or "fleet")
    if paused:
        return Decision("paused", "somebody paused it", stage)
    if facts.served_before:
        return Decision("taken back", f"{facts.version} has served and was taken back", stage)
    why = "it is new"
    if facts.stage != "candidate":
        place = PLACES[facts.stage]
        state = facts.trial[1] if facts.trial is not None else ""
        if state == "failed":
            return Decision("wait", f"its trial at {place} failed", stage)
        if state == "passed":
            why = f"its trial at {place} passed"
        elif facts.used:
            seen = "" if facts.trial is None else f", {facts.trial[2]:,} picks of {facts.trial[3]:,} at most so far"
            return Decision("wait", f"its trial at {place} has no verdict yet{seen}", stage)
        else:
            why = f"no line or share of the cell is at {place}, so nothing can be tried there"
    return Decision("try" if mode == "evidence" else "ask", why, stage)


class Promoter:
    """All cells. Thread-safe; any number of threads may `look` at once."""

    def __init__(
        self,
        catalog: Catalog,
        policies: RefreshPolicies,
        promotions: Promotions,
        trials: Trials,
        stages: Stages,
        gates: Policies,
        plan_of: Callable[[str], Plan],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog, self._policies, self._promotions = catalog, policies, promotions
        self._trials, self._stages, self._gates, self._plan_of = trials, stages, gates, plan_of
        self._now = now
        self._owner = secrets.token_hex(8)
        self._lock = threading.Lock()

    def look(self) -> int:
        """Do what the policies say; how many variants moved."""
        moved = 0
        with self._lock:
            for (cell,) in self._catalog.query(
                "SELECT name FROM hub_cells WHERE name IN (SELECT cell FROM refresh_runs WHERE state = 'offered')"
                " OR name IN (SELECT cell FROM growth_cells WHERE state = 'moved') ORDER BY name"
            ):
                try:
                    moved += self._look_at(cell)
                except (HubError, RegistryError, ServingError) as error:
                    log.warning("a promotion in %s waits: %s", cell, error)
                except Exception:
                    log.exception("a promotion in %s waits", cell)  # what is wrong with one cell stops no other one
        return moved

    def says(self, cell: str) -> PromotionStatus:
        """What the rule says of a cell now."""
        policy, facts = self._policies.get(cell).policy, self._facts(cell)
        found = decide(policy.promote, policy.promote_until, policy.paused, facts)
        if found.code == "try":  # it was, and nothing has changed since
            tried = self._catalog.query(
                "SELECT state, reason FROM promoter_steps WHERE cause = ? AND state IN ('refused', 'later')",
                [_cause(cell, facts, found.stage)],
            )
            if tried:
                return PromotionStatus(code=tried[0][0], reason=tried[0][1], stage=found.stage)
        return PromotionStatus(code=found.code, reason=found.reason, stage=found.stage)

    def forget(self, db: Cursor, cell: str) -> None:
        """What is known of a cell that is deleted goes with it."""
        for table in OF_CELL:
            db.execute(f"DELETE FROM {table} WHERE cell = ?", [cell])  # noqa: S608  # one of two names

    def _look_at(self, cell: str) -> bool:
        policy = self._policies.get(cell).policy
        if policy.promote == "off":
            return False
        facts = self._facts(cell)
        decision = decide(policy.promote, policy.promote_until, policy.paused, facts)
        if decision.code != "try":
            self._say(cell, facts, decision)
            return False
        cause = _cause(cell, facts, decision.stage)
        if not self._claim(cause, cell, facts, decision):
            return False
        return self._try(cause, cell, facts, decision)

    def _try(self, cause: str, cell: str, facts: Facts, decision: Decision) -> bool:
        version = facts.version.partition("@")[2]
        note = f"by evidence: {decision.reason}" + (f" (refresh {facts.run})" if facts.run else "")
        try:
            moved = self._promotions.promote(
                cell, version, decision.stage, actor=ACTOR, note=note, expected=facts.holder or None
            )
        except MoveRefusedError as error:
            self._end(cause, "refused", str(error))
            # The decision record is the timeline's line about it, and what the rule knows from now on.
            self._say(cell, facts, Decision("refused", str(error), decision.stage))
            return False
        except (HubError, RegistryError, ServingError) as error:
            self._end(cause, "later", str(error))
            self._say(cell, facts, Decision("wait", f"it could not be tried: {error}", decision.stage))
            return False
        self._end(cause, "moved", moved.decision)
        log.info("%s has %s by rule: %s", facts.version, decision.stage, decision.reason)
        self._say(cell, facts, decision)
        return True

    # --- what is known ------------------------------------------------------------------------------------------------

    def _facts(self, cell: str) -> Facts:
        with self._catalog.read() as db:
            offered = db.execute(
                "SELECT r.version, r.id, r.asked_at FROM refresh_runs r JOIN stage_variants v ON v.cell = r.cell"
                " AND v.variant = 'cells/' || r.version WHERE r.cell = ? AND r.state = 'offered'"
                " AND v.stage <> 'archived'"
                " UNION ALL SELECT g.version, '', n.asked_at FROM growth_cells g JOIN growth_runs n ON n.id = g.run"
                " JOIN stage_variants v ON v.cell = g.cell AND v.variant = 'cells/' || g.version WHERE g.cell = ?"
                " AND g.state = 'moved' AND g.version IS NOT NULL AND v.stage <> 'archived'"
                " ORDER BY 3 DESC LIMIT 1",
                [cell, cell],
            ).fetchone()
            if offered is None:
                return Facts("")
            version, run = str(offered[0]), str(offered[1])
            held = dict(db.execute("SELECT stage, variant FROM stage_variants WHERE cell = ?", [cell]).fetchall())
            row = db.execute(
                "SELECT stage FROM stage_variants WHERE cell = ? AND variant = 'cells/' || ?", [cell, version]
            ).fetchone()
            stage = str(row[0]) if row else "candidate"
            served = db.execute(
                "SELECT 1 FROM stage_holds WHERE cell = ? AND variant = 'cells/' || ? LIMIT 1", [cell, version]
            ).fetchone()
            following = NEXT.get(stage, "fleet")
            approved = db.execute(
                "SELECT count(*) FROM approvals WHERE cell = ? AND variant = 'cells/' || ? AND stage = ?"
                " AND used_by IS NULL",
                [cell, version, following],
            ).fetchone()
        trial = next((one for one in self._trials.of_cell(cell) if _judges(one, version, stage)), None)
        plan = self._plan_of(cell)
        return Facts(
            version=version,
            stage=stage,
            run=run,
            served_before=stage == "candidate" and served is not None,
            trial=None if trial is None else (trial.id, trial.state, trial.picks, trial.picks_at_most),
            used=stage in plan.lines.values() or (stage == "beta" and plan.share > 0),
            holder=str(held.get(following, "")).removeprefix("cells/"),
            gate=self._gates.current().digest,
            approvals=int(approved[0]) if approved else 0,
        )

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _claim(self, cause: str, cell: str, facts: Facts, decision: Decision) -> bool:
        """Whether this look is the one that tries it: nobody did for these facts, or who did is gone."""

        def take(db: Cursor) -> bool:
            now = self._now()
            row = db.execute("SELECT state, owner, changed_at FROM promoter_steps WHERE cause = ?", [cause]).fetchone()
            if row is not None:
                state, owner, changed = row
                mine = owner == self._owner
                if state in ("moved", "refused") or (state == "trying" and mine):
                    return False
                if state == "later" and mine and changed <= now < changed + AGAIN_S:
                    return False
            values = [cause, cell, facts.version, decision.stage, "trying", decision.reason, self._owner, now]
            db.execute("INSERT OR REPLACE INTO promoter_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            return True

        return self._catalog.run(take)

    def _end(self, cause: str, state: str, reason: str) -> None:
        with self._catalog.write() as db:
            db.execute(
                "UPDATE promoter_steps SET state = ?, reason = ?, changed_at = ? WHERE cause = ?",
                [state, reason[:2000], self._now(), cause],
            )

    def _say(self, cell: str, facts: Facts, decision: Decision) -> None:
        """Keep what the rule says; the timeline hears of what a person must do, and of what is waited for, when that
        changes."""
        key = (decision.code, facts.version, decision.stage)

        def write(db: Cursor) -> None:
            before = db.execute("SELECT code, version, stage FROM promoter_status WHERE cell = ?", [cell]).fetchone()
            if before == key or not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone():
                return
            row = [cell, *key, decision.reason[:2000]]
            db.execute("INSERT OR REPLACE INTO promoter_status VALUES (?, ?, ?, ?, ?)", row)
            place = PLACES[decision.stage]
            titles = {
                "ask": f"{facts.version} is ready for {place}: a person decides",
                "wait": f"{facts.version} waits on its way to {place}",
                "taken back": f"{facts.version} was taken back: the rule does not offer it again",
                "paused": f"{facts.version} waits: promotions are paused",
            }
            if (title := titles.get(decision.code)) is not None:
                runs.log(db, cell, self._now(), "promoter", title, decision.reason, run=facts.run, who=ACTOR)

        self._catalog.run(write)


def _judges(trial: Trial, version: str, stage: str) -> bool:
    return trial.variant == version and trial.stage == stage


def _cause(cell: str, facts: Facts, stage: str) -> str:
    """Names a step: the same for the same facts. How many picks a trial has is none of them."""
    trial = None if facts.trial is None else facts.trial[:2]
    said = [cell, facts.version, facts.stage, stage, facts.holder, facts.gate, facts.approvals, trial]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
