"""Which variant serves a cell: the registry decides and records, the serving folder makes it so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hub.errors import BaseMismatchError, StageTakenError, UnknownVariantError
from hub.models.cells import Cells
from hub.models.variants import Variants
from hub.rollout.serving_folder import ServingFolder
from hub.schemas import core as s
from registry.canonical import JSON
from registry.errors import NothingToRollBackError
from registry.promotion.policies import Approval, Policies
from registry.promotion.readiness import Readiness, judge_metrics
from registry.promotion.stages import Stages
from registry.stage_types import HELD_STAGES, LOOK, DecisionRecord
from registry.types import UNSET, Unset, Variant
from serving.folder.routing import MAX_BASES

log = logging.getLogger("parcelhub.promotions")

EvidenceSource = Callable[[s.Version], Mapping[str, JSON]]
"""What else speaks for a variant, by name."""


class Promotions:
    """Moves between stages. One at a time: the decision and the folder change as one.

    `evidence_sources` add to what a decision is made on; `after_move` is told of every move that was made.
    """

    def __init__(
        self,
        cells: Cells,
        variants: Variants,
        stages: Stages,
        folder: ServingFolder,
        policies: Policies,
    ) -> None:
        self._cells = cells
        self._variants = variants
        self._stages = stages
        self._folder = folder
        self._policies = policies
        self._lock = threading.Lock()
        self.evidence_sources: list[EvidenceSource] = []
        self.after_move: list[Callable[[s.Moved], None]] = []

    def promote(
        self,
        cell: str,
        version: str,
        stage: s.ServedStage,
        *,
        actor: str,
        note: str,
        expected: str | Unset | None = UNSET,
    ) -> s.Moved:
        """Give a stage to a variant, on the evidence and the approvals that the policy in force asks for.

        `expected` is the version that the caller saw at the stage (None: the base); another one there, and the move
        is refused. The variant's files lie in the serving folder before the decision is made: once it is recorded,
        only one rename is left to do, and a hub that dies before it does it at its next start. Raises
        MoveRefusedError, StatementError (nobody vouches for the variant), BaseMismatchError, UnknownCellError,
        UnknownVariantError.
        """
        self._cells.get(cell)
        # Before the lock: the server may take a while, and other cells move meanwhile.
        found = self._folder.look(self._variants.get(cell, version))
        with self._lock:
            one = self._variants.get(cell, version)
            served = self._folder.pinned_bases(leaving_out=(cell, stage))
            if one.base not in served and len(served) >= MAX_BASES:
                raise BaseMismatchError(
                    f"{one.name} is on {one.base}, the robots are served by {' and '.join(served)}, and a server holds"
                    f" {MAX_BASES} bases; fine-tune again on one of them, or roll other variants back first"
                )
            self._folder.add_variant(cell, version, one.commit)
            before = self._stages.current(cell)[stage]
            variant = self._variants.standing(cell, version).variant
            approvals = self._policies.approvals(cell, variant, one.commit, stage)
            decision = self._stages.move(
                cell,
                variant,
                stage,
                actor=actor,
                evidence=self._evidence(one, before, approvals) | ({LOOK: found} if found else {}),
                policy_digest=self._policies.current().digest,
                expected_current=self._holder_named(cell, expected),
                note=note,
                # With the move or not at all: approvals that stayed would allow a second one.
                with_it=lambda tx, made: self._policies.use_in(tx, cell, variant, one.commit, stage, made.id),
            )
            moved = self._done(cell, stage, before, decision)
        self._tell(moved)
        return moved

    def rollback(
        self,
        cell: str,
        stage: s.ServedStage,
        *,
        actor: str,
        note: str,
        evidence: Mapping[str, JSON] | None = None,
        expected: str | Unset | None = UNSET,
        placed_by: str | None = None,
    ) -> s.Moved:
        """Give a stage back to who had it before; from the first variant on it, back to the base.

        `evidence` is kept in the decision; nothing is asked of it. `expected` is the version that the caller judged:
        another one at the stage by now, and nothing moves. `placed_by` is the decision that put it there: a variant
        that left the stage and came back since is not the one that was judged. Raises StageTakenError,
        NothingToRollBackError, UnknownCellError.
        """
        self._cells.get(cell)
        kept = dict(evidence or {})
        with self._lock:
            before = self._stages.current(cell)[stage]
            self._require(cell, stage, before, expected, placed_by)
            if before is None:
                raise NothingToRollBackError(cell, stage)
            if self._came_after_base(cell, before):
                policy = self._policies.current().digest
                decision = self._stages.move(
                    cell, before, "candidate", actor=actor, evidence=kept, policy_digest=policy, note=note
                )
            else:
                decision = self._stages.rollback(
                    cell, actor, stage=stage, expected_current=before, evidence=kept, note=note
                )
            moved = self._done(cell, stage, before, decision)
        self._tell(moved)
        return moved

    def sync(self) -> None:
        """Let the robots' table say what there is, where something other than a move changed it: a new base."""
        with self._lock:
            self._folder.sync()

    def put_away(self, cell: str, version: str, actor: str, note: str) -> None:
        """Take a variant from every stage that it holds, each back to who had it before, and archive it.

        Safe to repeat: what a process did that died is not done again. Raises UnknownVariantError.
        """
        for stage in HELD_STAGES:
            holder = self._stages.current(cell)[stage]
            if holder is not None and holder.version == version:
                self.rollback(cell, stage, actor=actor, note=note, expected=version)
        with self._lock:
            standing = self._variants.standing(cell, version)
            if standing.stage != "archived":
                policy = self._policies.current().digest
                self._stages.move(
                    cell, standing.variant, "archived", actor=actor, evidence={}, policy_digest=policy, note=note
                )
            self._folder.sync()

    def judged(self, one: s.Version) -> Readiness | None:
        """The verdict that the gate goes by: of the report, and of a trial that the variant passed at the station."""
        found: dict[str, JSON] = {}
        for source in self.evidence_sources:
            found |= source(one)
        return _judged(one, found)

    def approve(self, cell: str, version: str, stage: s.ServedStage, *, by: str, note: str) -> Approval:
        """Note that somebody approves of a variant's move to a stage. Raises UnknownCellError, UnknownVariantError."""
        self._cells.get(cell)
        one = self._variants.get(cell, version)
        variant = self._variants.standing(cell, version).variant
        return self._policies.approve(cell, variant, one.commit, stage, by=by, note=note)

    def placed_by(self, cell: str, stage: s.ServedStage) -> tuple[Variant | None, str]:
        """Who holds a stage, and the id of the decision that put it there ("" for the base)."""
        for standing in self._stages.assignments(cell, stages=(stage,)):
            return standing.variant, standing.decision
        return None, ""

    def _require(
        self,
        cell: str,
        stage: s.ServedStage,
        holder: Variant | None,
        expected: str | Unset | None,
        placed_by: str | None,
    ) -> None:
        """Raises StageTakenError unless the stage is as the caller saw it."""
        if not isinstance(expected, Unset):
            wanted = None if expected is None else _version_of(cell, expected)
            if wanted != (None if holder is None else holder.version):
                raise StageTakenError(
                    f"{stage} of {cell!r} is held by {_robot_name(holder) or 'the base'} by now, not by"
                    f" {expected or 'the base'}; nothing was rolled back"
                )
        if placed_by is not None and self.placed_by(cell, stage)[1] != placed_by:
            raise StageTakenError(
                f"{_robot_name(holder) or 'the base'} was put at {stage} of {cell!r} anew since it was judged;"
                " nothing was rolled back"
            )

    def _holder_named(self, cell: str, version: str | Unset | None) -> Variant | Unset | None:
        if version is None or isinstance(version, Unset):
            return version
        return self._variants.standing(cell, _version_of(cell, version)).variant

    def _came_after_base(self, cell: str, variant: Variant) -> bool:
        """Whether the base had the stage when the variant was promoted to it.

        The registry goes back from variant to variant; without this, one that was rolled back to the base would
        return with the next rollback.
        """
        record = self._stages.decision(self._variants.standing(cell, variant.version).decision)
        while record.restores is not None:  # a rollback put it there: what counts is its promotion
            record = self._stages.decision(record.restores)
        return record.holder is None

    def _done(self, cell: str, stage: s.ServedStage, before: Variant | None, decision: DecisionRecord) -> s.Moved:
        routing_version = self._folder.sync()
        now = self._stages.current(cell)[stage]
        return s.Moved(
            cell=cell,
            stage=stage,
            version=_robot_name(now),
            previous=_robot_name(before),
            decision=decision.id,
            routing_version=routing_version,
        )

    def _tell(self, moved: s.Moved) -> None:
        # Outside the lock: who is told may ask for the next move.
        for told in self.after_move:
            try:
                told(moved)
            except Exception:
                log.exception("%s (%s) has moved; what should follow from it did not", moved.cell, moved.stage)

    def _evidence(self, one: s.Version, holder: Variant | None, approvals: tuple[Approval, ...]) -> dict[str, JSON]:
        """What speaks for a variant. Long lists (losses per step) stay with the job."""
        found: dict[str, JSON] = {
            "evaluation": _numbers(one.metrics),
            "deck": one.deck,
            "base": one.base,
            "job": one.job,
        }
        slices = one.metrics.get("slices")
        if isinstance(slices, dict):
            found["slices"] = {str(name): _numbers(each) for name, each in slices.items() if isinstance(each, dict)}
        if holder is not None:
            found["holder"] = self._of_holder(one.cell, holder)
        if approvals:
            found["approvals"] = [approval.evidence() for approval in approvals]
        for source in self.evidence_sources:
            found |= source(one)
        if judged := _judged(one, found):
            found["evaluation"] = _numbers(one.metrics) | {
                "readiness": judged.rank,
                "verdict": judged.verdict,
                "reason": judged.reason,
            }
        return found

    def _of_holder(self, cell: str, holder: Variant) -> dict[str, JSON]:
        try:
            other = self._variants.get(cell, holder.version)
        except UnknownVariantError:
            return {"variant": str(holder)}
        found: dict[str, JSON] = {"variant": str(holder), "evaluation": _numbers(other.metrics)}
        slices = other.metrics.get("slices")
        if isinstance(slices, dict):
            found["slices"] = {str(name): _numbers(each) for name, each in slices.items() if isinstance(each, dict)}
        return found


def _judged(one: s.Version, evidence: Mapping[str, JSON]) -> Readiness | None:
    trial = evidence.get("station_trial")
    picks = trial.get("picks") if isinstance(trial, Mapping) else None
    return judge_metrics(one.metrics, trial_picks=picks if isinstance(picks, int) else None)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, JSON]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}


def _robot_name(variant: Variant | None) -> str | None:
    """`cells/dock-7@v3` as robots see it: `dock-7@v3`."""
    return None if variant is None else f"{variant.repo.name}@{variant.version}"


def _version_of(cell: str, name: str) -> str:
    """`v3` of `v3` or of `<cell>@v3`. Raises UnknownVariantError for another cell's: its v3 is not ours."""
    of, _, version = name.rpartition("@")
    if of not in ("", cell, f"cells/{cell}"):
        raise UnknownVariantError(f"{name!r} is no variant of the cell {cell!r}")
    return version
