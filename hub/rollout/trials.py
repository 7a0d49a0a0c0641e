"""Trials: a stage's variant judged by the outcomes of its picks, and rolled back by itself when they turn bad.

Each promotion starts one. At `station` and `beta` it ends with a verdict, which is the evidence for the next stage; at
`fleet` it goes on for as long as the variant does. The verdict is Wald's sequential test (`hub.rollout.statistics`),
made anew from the stored outcomes each time, so it can be made again by whoever doubts it: the evidence document holds
the test's terms and every pick.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hub.errors import HubError, StageTakenError, TrialError, UnknownTrialError
from hub.migrations.tables import timestamp
from hub.rollout.promotions import Promotions
from hub.rollout.statistics import Rate, Result, SequentialTest
from hub.rollout.telemetry import Telemetry, evidence_digest, wanted_of
from hub.rollout.trial_clock import begin_by_now
from hub.schemas import core as s
from hub.schemas import serving as v
from registry.blobs.blobs import BlobStore
from registry.canonical import JSON, canonical_json
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import MoveRefusedError, NothingToRollBackError, RegistryError
from registry.promotion.stages import Stages
from serving.errors import ServingError

log = logging.getLogger("parcelhub.trials")

ACTOR = "watch"
DEFAULT_GOOD = 0.90
DEFAULT_DROP = 0.05
BASELINE_PICKS = 100
BASELINE_S = 30 * 86_400.0
PICKS_AT_MOST: Mapping[str, int] = {"station": 200, "beta": 1000, "fleet": 0}
_COLUMNS = "id, cell, version, stage, state, terms, started_at, decided_at, picks, successes, ratio, evidence, decision"


class Terms(msgspec.Struct, frozen=True):
    """What a trial was started with."""

    good: float
    bad: float
    alpha: float
    beta: float
    at_most: int
    repeat: bool
    rollback: bool
    placed_by: str = ""
    """The decision that put the variant at the stage: one that came back since is judged by another trial."""

    def test(self) -> SequentialTest:
        """The sequential test of these terms, before any pick."""
        return SequentialTest(self.good, self.bad, self.alpha, self.beta, self.at_most, self.repeat)


class Trials:
    """The trials of all cells. Thread-safe."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        stages: Stages,
        promotions: Promotions,
        telemetry: Telemetry,
        *,
        automatic: bool = True,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._stages = stages
        self._promotions = promotions
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self.observers: list[Callable[[Cursor, str, str], None]] = []
        """Told of each verdict (the trial's id, its state) inside its transaction."""
        promotions.evidence_sources.append(self.evidence_for)
        promotions.after_move.append(self._moved if automatic else self._superseded)

    def start(self, cell: str, asked: v.TrialIn, actor: str) -> v.Trial:
        """Judge the variant that holds a stage now; a trial that runs there ends.

        Raises TrialError where the base has the stage, or the rates are the wrong way round.
        """
        holder, placed_by = self._promotions.placed_by(cell, asked.stage)
        if holder is None:
            raise TrialError(f"the base has {asked.stage} of {cell!r}; promote a variant to it first")
        good = asked.good or self._baseline(cell, asked.stage)
        bad = asked.bad or max(good - DEFAULT_DROP, good / 2)
        repeat = asked.stage == "fleet" and not asked.picks
        terms = Terms(good, bad, asked.alpha, asked.beta, asked.picks, repeat, asked.rollback, placed_by)
        try:
            terms.test()
        except ValueError as error:
            raise TrialError(str(error)) from error
        return self._start(cell, asked.stage, holder.version, terms, actor)

    def of_cell(self, cell: str, *, limit: int = 100) -> list[v.Trial]:
        """The trials of a cell, newest first."""
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM rollout_trials WHERE cell = ? ORDER BY started_at DESC, id LIMIT ?",  # noqa: S608
            [cell, limit],
        )
        return [_trial(row) for row in rows]

    def get(self, trial_id: str) -> v.Trial:
        """One trial. Raises UnknownTrialError."""
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM rollout_trials WHERE id = ?", [trial_id])  # noqa: S608
        if not rows:
            raise UnknownTrialError(f"there is no trial {trial_id!r}")
        return _trial(rows[0])

    def stop(self, trial_id: str) -> v.Trial:
        """End a trial without a verdict."""
        self.get(trial_id)
        self._end(trial_id, "stopped")
        return self.get(trial_id)

    def evidence_for(self, one: s.Version) -> dict[str, JSON]:
        """What passed trials say for a variant: `station_trial`, `beta_trial`; nothing of those that did not pass."""
        found: dict[str, JSON] = {}
        for trial in self.of_cell(one.cell):
            key = f"{trial.stage}_trial"
            if trial.state == "passed" and trial.variant == one.name and key not in found:
                found[key] = {
                    "trial": trial.id,
                    "picks": trial.picks,
                    "successes": trial.successes,
                    "interval": [trial.low, trial.high],
                    "test": {"good": trial.good, "bad": trial.bad, "alpha": trial.alpha, "beta": trial.beta},
                    "document": trial.evidence,
                }
        return found

    def evaluate(self, cells: set[str] | None = None) -> list[v.Trial]:
        """Look at the running trials (of some cells, or of all) with the outcomes there are. Returns those decided."""
        begin_by_now(self._catalog)
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM rollout_trials WHERE state = 'running'")  # noqa: S608
        decided = []
        with self._lock:
            self._telemetry.look(wait=True)
            self._telemetry.votes.only({row[0] for row in rows})
            for row in rows:
                if cells is None or row[1] in cells:
                    try:
                        decided += self._evaluate(row)
                    except (HubError, RegistryError, ServingError):
                        # One trial that cannot be judged must not keep the others from it.
                        log.exception("trial %s of %s cannot be judged now", row[0], row[1])
        return decided

    def tidy(self) -> None:
        """After a look, so that none waits for it: what came in is put where questions are answered from."""
        self._telemetry.tidy()

    def _evaluate(self, row: tuple[Any, ...]) -> list[v.Trial]:
        trial, terms = _trial(row), msgspec.json.decode(row[5], type=Terms)
        test, wanted = terms.test(), wanted_of(trial.cell, trial.variant, trial.stage, row[6])
        result = self._telemetry.progress(trial.id, wanted, test).result
        if result.verdict == "open":
            if (result.rate.picks, result.rate.successes) != (trial.picks, trial.successes):
                self._progress(trial.id, result)
            return []
        # The running sum says that it is time to decide; what is decided on is the record itself.
        picks = self._telemetry.picks(trial.cell, trial.variant, trial.stage, row[6])
        result = test.run(success for _, success in picks)
        if result.verdict == "open":
            log.error("the running sum of trial %s was not that of its picks; it is made anew", trial.id)
            self._progress(trial.id, self._telemetry.recount(trial.id, wanted, test).result)
            return []
        used = picks[: result.rate.picks]
        document = self._document(trial, result, used)
        state = "passed" if result.verdict == "good" else "failed"
        decision = None
        if result.verdict == "bad" and terms.rollback:
            try:
                decision = self._roll_back(trial, terms, result, document)
            except (StageTakenError, MoveRefusedError, NothingToRollBackError) as error:
                # Somebody moved the stage since: what stands there now has a trial of its own, which judges it.
                log.warning("trial %s judged %s bad, and nothing moved: %s", trial.id, trial.variant, error)
        self._end(trial.id, state, result=result, evidence=document, decision=decision)
        log.warning(
            "trial of %s at %s: %s after %d picks (%d good)%s",
            *(trial.variant, trial.stage, state, result.rate.picks, result.rate.successes),
            ", rolled back" if decision else "",
        )
        return [self.get(trial.id)]

    def _roll_back(self, trial: v.Trial, terms: Terms, result: Result, document: str) -> str:
        rate, (low, high) = result.rate, result.rate.interval
        note = (
            f"{rate.successes} of {rate.picks} picks succeeded (95 %: {low:.3f} to {high:.3f}): rather {trial.bad:g} "
            f"than {trial.good:g}, by Wald's sequential test with alpha {trial.alpha:g} and beta {trial.beta:g}"
        )
        evidence: dict[str, JSON] = {"trial": {"id": trial.id, "document": document}}
        return self._promotions.rollback(
            trial.cell,
            trial.stage,
            actor=ACTOR,
            note=note,
            evidence=evidence,
            expected=trial.variant,
            placed_by=terms.placed_by or None,
        ).decision

    def _document(self, trial: v.Trial, result: Result, picks: Sequence[tuple[str, bool]]) -> str:
        test = {name: getattr(trial, name) for name in ("good", "bad", "alpha", "beta", "picks_at_most", "repeat")}
        low, high = result.rate.interval
        document: dict[str, JSON] = {
            "trial": trial.id,
            "cell": trial.cell,
            "variant": trial.variant,
            "stage": trial.stage,
            "test": test,
            "verdict": result.verdict,
            "ratio": result.ratio,
            "picks": [[request_id, success] for request_id, success in picks],
            "picks_sha256": evidence_digest(picks),
            "successes": result.rate.successes,
            "interval": [low, high],
        }
        return self._blobs.put_bytes(canonical_json(document)).sha256

    def _baseline(self, cell: str, stage: s.ServedStage) -> float:
        """The success rate of the cell's picks with other variants than the stage's; a default where there are few."""
        holder = self._stages.current(cell)[stage]
        mine = None if holder is None else f"{holder.repo.name}@{holder.version}"
        groups, _ = self._telemetry.rates(
            ["variant"], where={"cell": cell}, since=time.time() - BASELINE_S, matched=True
        )
        others = [group for group in groups if group.key[0] != mine]
        picks = sum(group.picks for group in others)
        if picks < BASELINE_PICKS:
            return DEFAULT_GOOD
        return min(max(sum(group.successes for group in others) / picks, 0.2), 0.995)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _moved(self, moved: s.Moved) -> None:
        """A promotion or rollback was made: what is now at the stage is watched."""
        self._superseded(moved)
        if moved.version is None:
            return
        asked = v.TrialIn(stage=moved.stage, picks=PICKS_AT_MOST[moved.stage])
        if moved.stage == "fleet":  # it runs for ever, so a needless rollback must be rarer
            asked = msgspec.structs.replace(asked, alpha=0.001)
        self.start(moved.cell, asked, ACTOR)

    def _superseded(self, moved: s.Moved) -> None:
        with self._catalog.write() as db:
            db.execute(
                "UPDATE rollout_trials SET state = 'stopped', decided_at = ? "
                "WHERE cell = ? AND stage = ? AND state = 'running'",
                [time.time(), moved.cell, moved.stage],
            )

    def _start(self, cell: str, stage: str, version: str, terms: Terms, actor: str) -> v.Trial:
        trial_id, now = secrets.token_hex(8), time.time()
        with self._catalog.write() as db:
            held = db.execute(
                "SELECT decision FROM stage_variants WHERE cell = ? AND stage = ?", [cell, stage]
            ).fetchone()
            if held is None or held[0] != terms.placed_by:
                raise TrialError(f"{stage} of {cell!r} has changed just now; ask again")
            db.execute(
                "UPDATE rollout_trials SET state = 'stopped', decided_at = ? "
                "WHERE cell = ? AND stage = ? AND state = 'running'",
                [now, cell, stage],
            )
            db.execute(
                "INSERT INTO rollout_trials VALUES (?, ?, ?, ?, 'running', ?, ?, ?, NULL, 0, 0, 0.0, NULL, NULL)",
                [trial_id, cell, version, stage, msgspec.json.encode(terms).decode(), now, actor],
            )
        return self.get(trial_id)

    def _progress(self, trial_id: str, result: Result) -> None:
        with self._catalog.write() as db:
            db.execute(
                "UPDATE rollout_trials SET picks = ?, successes = ?, ratio = ? WHERE id = ? AND state = 'running'",
                [result.rate.picks, result.rate.successes, result.ratio, trial_id],
            )

    def _end(
        self,
        trial_id: str,
        state: str,
        *,
        result: Result | None = None,
        evidence: str | None = None,
        decision: str | None = None,
    ) -> None:
        with self._catalog.write() as db:
            if result is not None:
                # Its own rollback has already marked it as stopped: the verdict is the better word. What somebody else
                # stopped meanwhile stays so.
                db.execute(
                    "UPDATE rollout_trials SET picks = ?, successes = ?, ratio = ?, evidence = ?, decision = ?, "
                    "state = ?, decided_at = ? WHERE id = ? AND (state = 'running' OR ?)",
                    [
                        result.rate.picks, result.rate.successes, result.ratio, evidence, decision, state, time.time(),
                        trial_id, decision is not None,
                    ],
                )  # fmt: skip
                for observer in self.observers:
                    observer(db, trial_id, state)
                return
            db.execute(
                "UPDATE rollout_trials SET state = ?, decided_at = ? WHERE id = ? AND state = 'running'",
                [state, time.time(), trial_id],
            )


class TrialWatch:
    """Evaluates running trials soon after outcomes arrived, from a thread of its own."""

    def __init__(self, trials: Trials, *, every_s: float = 1.0) -> None:
        self._trials = trials
        self._every = every_s
        self._cells: set[str] = set()
        self._all = True
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trials", daemon=True)
        self._thread.start()

    def arrived(self, cells: set[str | None]) -> None:
        """Outcomes of these cells came in; None: of a cell that only the prediction knows."""
        with self._changed:
            self._all = self._all or None in cells
            self._cells |= {cell for cell in cells if cell is not None}
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; at most ten seconds are waited for an evaluation that runs."""
        self._ended.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(10)

    def _run(self) -> None:
        quiet = 0
        while True:
            with self._changed:
                # Now and then without a new outcome: its prediction may have been taken up only after it.
                self._changed.wait(self._every if self._cells or self._all or quiet < 3 else 30 * self._every)
                if self._ended.is_set():
                    return
                quiet = 0 if self._cells or self._all else quiet + 1
                everything, cells = self._all or quiet > 0, self._cells
                self._cells, self._all = set(), False
            try:
                self._trials.evaluate(None if everything else cells)
                self._trials.tidy()
            except Exception:
                # Without this thread nothing would ever roll back by itself again.
                log.exception("the watch goes on after an unexpected error")
            # At most one look per interval, however fast outcomes come in.
            self._ended.wait(self._every)


def _trial(row: tuple[Any, ...]) -> v.Trial:
    terms = msgspec.json.decode(row[5], type=Terms)
    rate = Rate(row[9], row[8])
    low, high = rate.interval
    return v.Trial(
        id=row[0],
        cell=row[1],
        variant=f"{row[1]}@{row[2]}",
        stage=row[3],
        state=row[4],
        good=terms.good,
        bad=terms.bad,
        alpha=terms.alpha,
        beta=terms.beta,
        picks_at_most=terms.at_most,
        repeat=terms.repeat,
        rollback=terms.rollback,
        started_at=timestamp(row[6]),
        decided_at=None if row[7] is None else timestamp(row[7]),
        picks=row[8],
        successes=row[9],
        rate=rate.value,
        low=low,
        high=high,
        ratio=row[10],
        boundaries=list(terms.test().boundaries),
        evidence=row[11],
        decision=row[12],
    )
