"""Stages: which variant a cell's robots get, and a record of every decision about it.

The state is two tables in step. `stage_variants` says where each variant of a cell stands. `stage_holds` is a log
per cell and stage of who held it (a NULL holder: nobody, the base answers); the newest row that is not undone is
the holder. A rollback marks rows undone instead of writing the old holder on top, so that a second rollback goes
one further back and never forward again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TypeAlias

from registry.blobs.blobs import BlobStore
from registry.canonical import JSON
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import (
    BlobNotFoundError,
    InvalidValueError,
    MoveRefusedError,
    NotFoundError,
    NothingToRollBackError,
    StageError,
)
from registry.promotion.stage_guards import forget_variants, keep_served, keep_tag
from registry.repos import repo_rows as rows_
from registry.repos.repos import Repos
from registry.stage_types import (
    HELD_STAGES,
    LOOK,
    STAGES,
    Assignment,
    DecisionRecord,
    Gate,
    HeldStage,
    MoveRequest,
    Stage,
    Verdict,
)
from registry.types import UNSET, Digest, Ref, Unset, Variant, check_digest, check_name, stage_ref

Sign: TypeAlias = Callable[[bytes], tuple[Digest, bytes]]
"""From a message to a key's id and its signature (`KeyRing.sign`)."""
SEALED = b"parcelhub decision\0"
"""What stands before a record's id where it is signed, so that the signature is good for nothing else."""
MAX_ACTOR = 200
MAX_NOTE = 10_000


class Stages:
    """The stages of all cells. Use from any number of threads."""

    def __init__(
        self, catalog: Catalog, blobs: BlobStore, repos: Repos, gate: Gate, *, sign: Sign | None = None
    ) -> None:
        """`sign`, if there is one, vouches for every record."""
        self._sign = sign
        self._catalog = catalog
        self._blobs = blobs
        self._repos = repos
        self._gate = gate
        repos.delete_guards.append(keep_served)
        repos.tag_guards.append(keep_tag)
        repos.on_delete.append(forget_variants)
        self.observers: list[Callable[[Cursor, DecisionRecord], None]] = []
        """Told of each decision, refused ones among them, inside its transaction."""

    def move(
        self,
        cell: str,
        variant: Variant,
        to_stage: Stage,
        *,
        actor: str,
        evidence: Mapping[str, JSON],
        policy_digest: Digest,
        expected_current: Variant | Unset | None = UNSET,
        note: str = "",
        with_it: Callable[[Cursor, DecisionRecord], None] | None = None,
    ) -> DecisionRecord:
        """Ask the gate, and move a variant to a stage of a cell; a variant the cell never had comes in this way.

        Whoever holds the target stage goes back to `candidate`. `expected_current` is the holder of the target
        stage that the caller saw (None: nobody). Any stage may follow any other, which is for the gate to
        narrow; only out of `archived` the one way is `candidate`.

        `with_it` writes what must change together with an allowed move. An attempt leaves a decision record, allowed
        or not; the record is a blob before the move is visible.
        Raises MoveRefusedError (with the record) if the gate or the state says no. Raises without a record, for
        what is no attempt yet: RevisionNotFoundError or RepoNotFoundError (no such variant), StageError (a
        version that is no tag, an unknown stage), BlobNotFoundError (the policy is not stored),
        InvalidNameError, InvalidValueError (evidence that is no JSON among them).
        """
        _check(cell, to_stage, actor, note)
        check_digest(policy_digest)
        if not self._blobs.exists(policy_digest):
            raise BlobNotFoundError(policy_digest)
        with self._catalog.write() as tx:
            commit = self._pinned(variant)
            now_at = _stage_of(tx, cell, variant)
            holder = _holder(tx, cell, to_stage)
            request = MoveRequest(cell, variant, commit, now_at, to_stage, holder, actor, evidence, policy_digest)
            verdict = sensible(request, expected_current) or self._gate(request)
            record = self._record(
                tx,
                DecisionRecord(
                    kind="move",
                    cell=cell,
                    variant=variant,
                    commit=commit,
                    from_stage=now_at,
                    to_stage=to_stage,
                    holder=holder,
                    actor=actor,
                    note=note,
                    evidence=evidence,
                    policy=policy_digest,
                    restores=None,
                    verdict="allowed" if verdict.allowed else "refused",
                    reason=verdict.reason,
                    previous=_last_decision(tx, cell),
                    decided_at=datetime.now(UTC),
                    expected=expected_current,
                ),
            )
            if record.allowed:
                _place(tx, record)
                if now_at in HELD_STAGES:
                    _hold(tx, cell, now_at, None, record.id)
                if to_stage in HELD_STAGES:
                    _hold(tx, cell, to_stage, variant, record.id)
                _point_refs(tx, record)
                if with_it is not None:
                    with_it(tx, record)
        # Only now: raised inside the block it would roll the record back.
        if not record.allowed:
            raise MoveRefusedError(record)
        return record

    def rollback(
        self,
        cell: str,
        actor: str,
        *,
        stage: HeldStage = "fleet",
        expected_current: Variant | Unset | None = UNSET,
        evidence: Mapping[str, JSON] = MappingProxyType({}),
        note: str = "",
    ) -> DecisionRecord:
        """Give a stage back to the variant that held it before; again, to the one before that.

        No gate is asked: what comes back was allowed once, and a rollback must not wait; `evidence` is kept.
        Variants that are archived, or serve at a higher stage by now, are passed over. The present holder goes
        back to `candidate`.

        Raises NothingToRollBackError, MoveRefusedError (the holder is not `expected_current`, with a record),
        StageError, InvalidNameError, InvalidValueError.
        """
        _check(cell, stage, actor, note)
        if stage not in HELD_STAGES:
            raise StageError(f"{stage!r} is not a stage that one variant holds")
        with self._catalog.write() as tx:
            holder = _holder(tx, cell, stage)
            number, variant, restores = _earlier_hold(tx, cell, stage, holder)
            lost = not isinstance(expected_current, Unset) and expected_current != holder
            now_at = _stage_of(tx, cell, variant)
            record = self._record(
                tx,
                DecisionRecord(
                    kind="rollback",
                    cell=cell,
                    variant=variant,
                    commit=_commit_of(tx, cell, variant),
                    from_stage=now_at,
                    to_stage=stage,
                    holder=holder,
                    actor=actor,
                    note=note,
                    evidence=dict(evidence),
                    policy=None,
                    restores=restores,
                    verdict="refused" if lost else "allowed",
                    reason=lost_swap(stage, holder) if lost else f"held {stage} before",
                    previous=_last_decision(tx, cell),
                    decided_at=datetime.now(UTC),
                    expected=expected_current,
                ),
            )
            if record.allowed:
                _place(tx, record)
                if now_at in HELD_STAGES:
                    _hold(tx, cell, now_at, None, record.id)
                tx.execute(
                    "UPDATE stage_holds SET undone = true WHERE cell = ? AND stage = ? AND number > ?",
                    [cell, stage, number],
                )
                _point_refs(tx, record)
        if not record.allowed:
            raise MoveRefusedError(record)
        return record

    def current(self, cell: str) -> dict[HeldStage, Variant | None]:
        """Who holds each stage of a cell; None where the base answers."""
        rows = dict(self._catalog.query("SELECT stage, variant FROM stage_variants WHERE cell = ?", [cell]))
        return {stage: Variant.parse(rows[stage]) if stage in rows else None for stage in HELD_STAGES}

    def assignments(self, cell: str | None = None, *, stages: Sequence[Stage] = STAGES) -> tuple[Assignment, ...]:
        """Where every variant stands, of all cells or of one, at any or at some stages; by cell and variant.

        For what all robots are served, name HELD_STAGES: candidates pile up.
        """
        if cell is None:
            rows = self._catalog.query(
                "SELECT cell, variant, commit, stage, decision FROM stage_variants "
                "WHERE list_contains(?::VARCHAR[], stage) ORDER BY cell, variant",
                [list(stages)],
            )
        else:
            found = self._catalog.query(
                "SELECT cell, variant, commit, stage, decision FROM stage_variants WHERE cell = ? ORDER BY variant",
                [cell],
            )
            rows = [row for row in found if row[3] in stages]
        return tuple(Assignment(row[0], Variant.parse(row[1]), *row[2:]) for row in rows)

    def history(self, cell: str, limit: int = 100) -> tuple[DecisionRecord, ...]:
        """The decisions about a cell, newest first, refused ones among them."""
        rows = self._catalog.query(
            "SELECT record FROM decisions WHERE cell = ? ORDER BY number DESC LIMIT ?", [cell, limit]
        )
        return tuple(DecisionRecord.parse(row[0].encode()) for row in rows)

    def named(self, cell: str) -> set[str]:
        """The versions that decisions about a cell name: what was deleted since is among them."""
        rows = self._catalog.query(
            "SELECT DISTINCT json_extract_string(record, '$.variant') FROM decisions WHERE cell = ?", [cell]
        )
        return {row[0].rpartition("@")[2] for row in rows if row[0]}

    def decision(self, decision_id: Digest) -> DecisionRecord:
        """The decision of this id. Raises NotFoundError."""
        rows = self._catalog.query("SELECT record FROM decisions WHERE id = ?", [decision_id])
        if not rows:
            raise NotFoundError(f"there is no decision {decision_id}")
        return DecisionRecord.parse(rows[0][0].encode())

    def _pinned(self, variant: Variant) -> Digest:
        ref = self._repos.ref(variant.repo, variant.version)
        if ref.kind != "tag":
            raise StageError(f"{variant} is a branch; a variant is named by a tag, which never moves")
        return ref.commit

    def _record(self, tx: Cursor, record: DecisionRecord) -> DecisionRecord:
        # The blob first: a row without its blob could not be proved, a blob without its row harms nobody.
        document = record.document()
        self._blobs.put_bytes(document)
        tx.execute(
            "INSERT INTO decisions (id, cell, record) VALUES (?, ?, ?)",
            [record.id, record.cell, document.decode()],
        )
        for observer in self.observers:
            observer(tx, record)
        if self._sign is not None:
            keyid, signature = self._sign(SEALED + record.id.encode())
            tx.execute("INSERT INTO decision_seals VALUES (?, ?, ?)", [record.id, keyid, signature.hex()])
        return record


def sensible(request: MoveRequest, expected: Variant | Unset | None) -> Verdict | None:
    """A refusal that needs no gate, or None."""
    if request.from_stage == request.to_stage:
        return Verdict(False, f"it is at {request.to_stage} already")
    if request.from_stage == "archived" and request.to_stage != "candidate":
        return Verdict(False, "it is archived; move it to candidate first")
    if not isinstance(expected, Unset) and expected != request.holder:
        return Verdict(False, lost_swap(request.to_stage, request.holder))
    found = request.evidence.get(LOOK)
    if found and request.to_stage in HELD_STAGES:
        return Verdict(False, f"it cannot serve: {found}")
    return None


def lost_swap(stage: Stage, holder: Variant | None) -> str:
    """The sentence of a refusal because somebody else was quicker."""
    return f"{stage} is held by {holder or 'nobody'}, not by whom the caller expected"


def _place(tx: Cursor, record: DecisionRecord) -> None:
    """Put the record's variant where it says; the present holder, if another, goes back to candidate."""
    if record.holder is not None:
        tx.execute(
            "UPDATE stage_variants SET stage = 'candidate', decision = ? WHERE cell = ? AND variant = ?",
            [record.id, record.cell, str(record.holder)],
        )
    tx.execute(
        "INSERT INTO stage_variants VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET commit = excluded.commit, stage = excluded.stage, decision = excluded.decision",
        [record.cell, str(record.variant), record.commit, record.to_stage, record.id],
    )


def _point_refs(tx: Cursor, record: DecisionRecord) -> None:
    """Make the stages' refs, in the repos that the decision concerns, name what serves the cell now."""
    rows = tx.execute("SELECT stage, variant, commit FROM stage_variants WHERE cell = ?", [record.cell]).fetchall()
    held = {stage: (Variant.parse(variant).repo, commit) for stage, variant, commit in rows if stage in HELD_STAGES}
    for repo in {record.variant.repo, *([record.holder.repo] if record.holder else [])}:
        key = rows_.key_of(tx, repo)
        for stage in HELD_STAGES:
            name = stage_ref(repo, record.cell, stage)
            holder, commit = held.get(stage, (None, None))
            if holder == repo and commit is not None:
                rows_.set_ref(tx, key, Ref(name, "stage", commit))
            else:
                tx.execute("DELETE FROM refs WHERE repo = ? AND name = ? AND kind = 'stage'", [key, name])


def _hold(tx: Cursor, cell: str, stage: Stage, variant: Variant | None, decision: Digest) -> None:
    tx.execute(
        "INSERT INTO stage_holds (cell, stage, variant, decision, undone) VALUES (?, ?, ?, ?, false)",
        [cell, stage, None if variant is None else str(variant), decision],
    )


def _holder(tx: Cursor, cell: str, stage: Stage) -> Variant | None:
    if stage not in HELD_STAGES:
        return None
    rows = tx.execute("SELECT stage, variant FROM stage_variants WHERE cell = ?", [cell]).fetchall()
    return next((Variant.parse(variant) for at, variant in rows if at == stage), None)


def _earlier_hold(tx: Cursor, cell: str, stage: HeldStage, holder: Variant | None) -> tuple[int, Variant, Digest]:
    """The log's row to go back to: its number, its variant and its decision."""
    rows = tx.execute(
        "SELECT h.number, h.variant, h.decision, v.stage FROM stage_holds h "
        "JOIN stage_variants v ON v.cell = h.cell AND v.variant = h.variant "
        "WHERE h.cell = ? AND h.stage = ? AND NOT h.undone AND v.stage <> 'archived' ORDER BY h.number DESC",
        [cell, stage],
    ).fetchall()
    # Taking the fleet's variant for beta would leave the fleet with the base.
    higher = HELD_STAGES[HELD_STAGES.index(stage) + 1 :]
    for number, text, decision, now_at in rows:
        variant = Variant.parse(text)
        if variant != holder and now_at not in higher:
            return number, variant, decision
    raise NothingToRollBackError(cell, stage)


def _stage_of(tx: Cursor, cell: str, variant: Variant) -> Stage | None:
    row = _state(tx, cell, variant)
    stage: Stage | None = row[0] if row else None
    return stage


def _commit_of(tx: Cursor, cell: str, variant: Variant) -> Digest:
    row = _state(tx, cell, variant)
    if row is None:
        raise StageError(f"cell {cell!r} has no variant {variant}")
    return str(row[1])


def _state(tx: Cursor, cell: str, variant: Variant) -> tuple[Any, ...] | None:
    return tx.execute(
        "SELECT stage, commit FROM stage_variants WHERE cell = ? AND variant = ?", [cell, str(variant)]
    ).fetchone()


def _last_decision(tx: Cursor, cell: str) -> Digest | None:
    row = tx.execute("SELECT id FROM decisions WHERE cell = ? ORDER BY number DESC LIMIT 1", [cell]).fetchone()
    return None if row is None else str(row[0])


def _check(cell: str, stage: Stage, actor: str, note: str) -> None:
    check_name(cell, "cell")
    if stage not in STAGES:
        raise StageError(f"{stage!r} is no stage; there are: {', '.join(STAGES)}")
    if not actor or len(actor) > MAX_ACTOR:
        raise InvalidValueError("actor", actor, f"must have 1 to {MAX_ACTOR} characters")
    if len(note) > MAX_NOTE:
        raise InvalidValueError("note", note, f"must have at most {MAX_NOTE} characters")
