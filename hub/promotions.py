"""Which variant serves a cell: the registry decides and records, the serving folder makes it so."""

from __future__ import annotations

import threading

from hub import schemas as s
from hub.cells import Cells
from hub.errors import BaseMismatchError
from hub.serving_folder import ServingFolder
from hub.variants import Variants
from registry.canonical import JSON
from registry.errors import NothingToRollBackError
from registry.stage_types import DecisionRecord
from registry.stages import Stages
from registry.types import Digest, Variant


class Promotions:
    """Moves between stages. One at a time: the decision and the folder change as one."""

    def __init__(
        self,
        cells: Cells,
        variants: Variants,
        stages: Stages,
        folder: ServingFolder,
        *,
        policy: Digest,
    ) -> None:
        self._cells = cells
        self._variants = variants
        self._stages = stages
        self._folder = folder
        self._policy = policy
        self._lock = threading.Lock()

    def promote(self, cell: str, version: str, stage: s.ServedStage, *, actor: str, note: str) -> s.Moved:
        """Give a stage to a variant, with its evaluation as the evidence that the gate asks for.

        The variant's files lie in the serving folder before the decision is made: once it is recorded, only
        one rename is left to do, and a hub that dies before it does it at its next start.
        """
        self._cells.get(cell)
        with self._lock:
            one = self._variants.get(cell, version)
            served = self._folder.pinned_base(leaving_out=(cell, stage))
            if served is not None and one.base != served:
                raise BaseMismatchError(
                    f"{one.name} is on {one.base}, the robots are served by {served};"
                    " fine-tune again on that base, or roll the other variants back first"
                )
            self._folder.add_variant(cell, version, one.commit)
            before = self._stages.current(cell)[stage]
            decision = self._stages.move(
                cell,
                self._variants.standing(cell, version).variant,
                stage,
                actor=actor,
                evidence=_evidence(one),
                policy_digest=self._policy,
                note=note,
            )
            return self._done(cell, stage, before, decision)

    def rollback(self, cell: str, stage: s.ServedStage, *, actor: str, note: str) -> s.Moved:
        """Give a stage back to who had it before; from the first variant on it, back to the base."""
        self._cells.get(cell)
        with self._lock:
            before = self._stages.current(cell)[stage]
            if before is None:
                raise NothingToRollBackError(cell, stage)
            if self._came_after_base(cell, before):
                decision = self._stages.move(
                    cell, before, "candidate", actor=actor, evidence={}, policy_digest=self._policy, note=note
                )
            else:
                decision = self._stages.rollback(cell, actor, stage=stage, note=note)
            return self._done(cell, stage, before, decision)

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


def _evidence(one: s.Version) -> dict[str, JSON]:
    """What speaks for a variant. Long lists (losses per step) stay with the job."""
    numbers: dict[str, JSON] = {
        name: value for name, value in one.metrics.items() if isinstance(value, int | float | str)
    }
    return {"evaluation": numbers, "deck": one.deck, "base": one.base, "job": one.job}


def _robot_name(variant: Variant | None) -> str | None:
    """`cells/dock-7@v3` as robots see it: `dock-7@v3`."""
    return None if variant is None else f"{variant.repo.name}@{variant.version}"
