"""Replaying decisions: each one about a cell is made again from what digests lead to, and compared with what was kept.

Believed is nothing but the trusted keys and the code. The catalog says only where to begin: which decision is the
last. From there each record is read as a blob under its own digest, names the one before it, the policy that judged it
and the evidence that it was judged by; the gate judges once more, and the stages that follow from all records are
compared with those that robots are served by.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.errors import BlobNotFoundError, DigestMismatchError, NotFoundError, RegistryError, StageError
from registry.promotion.policies import gate_of
from registry.promotion.stages import SEALED, lost_swap, sensible
from registry.stage_types import HELD_STAGES, DecisionRecord, MoveRequest, Stage, Verdict
from registry.types import Digest, Unset, Variant, check_digest, stage_ref

if TYPE_CHECKING:
    from registry.provenance.keys import KeyRing
    from registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be: about which decision, version or file, which kind, and in words."""

    subject: str
    problem: str
    detail: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it: how many decisions were replayed, what differs, and what could only be noted."""

    cell: str
    decisions: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.findings


@dataclass(slots=True)
class _Replay:
    """The state of a cell as the records made it."""

    at: dict[str, Stage] = field(default_factory=dict)
    commits: dict[str, Digest] = field(default_factory=dict)
    decided: dict[str, Digest] = field(default_factory=dict)
    holds: dict[str, list[tuple[str | None, Digest]]] = field(default_factory=dict)

    def holder(self, stage: Stage) -> Variant | None:
        if stage not in HELD_STAGES:
            return None
        return next((Variant.parse(name) for name, where in self.at.items() if where == stage), None)

    def earlier(self, stage: Stage, holder: Variant | None) -> tuple[int, str, Digest] | None:
        """The hold that a rollback goes back to: its place in the log, the variant, its decision."""
        higher = HELD_STAGES[HELD_STAGES.index(stage) + 1 :]
        log = self.holds.get(stage, [])
        for place in range(len(log) - 1, -1, -1):
            name, decision = log[place]
            where = self.at.get(name) if name is not None else None
            if name is None or where is None or where == "archived" or name == _text(holder) or where in higher:
                continue
            return place, name, decision
        return None

    def apply(self, record: DecisionRecord) -> None:
        """Do what an allowed record did."""
        name, before = str(record.variant), self.at.get(str(record.variant))
        if record.holder is not None:
            self.at[str(record.holder)] = "candidate"
            self.decided[str(record.holder)] = record.id
        self.at[name], self.commits[name], self.decided[name] = record.to_stage, record.commit, record.id
        if before in HELD_STAGES:
            self.holds.setdefault(before, []).append((None, record.id))
        if record.kind == "move" and record.to_stage in HELD_STAGES:
            self.holds.setdefault(record.to_stage, []).append((name, record.id))


def audit_cell(registry: Registry, cell: str, ring: KeyRing | None = None) -> Audit:
    """Replay every decision about a cell; with a `ring`, also who vouched for them.

    Nothing is changed, and damage is a finding, not an error. Raises CatalogError and BlobStoreError alone.
    """
    return _Auditor(registry, cell, ring).run()


class _Auditor:
    def __init__(self, registry: Registry, cell: str, ring: KeyRing | None) -> None:
        self._registry = registry
        self._cell = cell
        self._ring = ring
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._replay = _Replay()

    def run(self) -> Audit:
        rows = self._registry.catalog.query(
            "SELECT d.id, d.record, s.keyid, s.signature FROM decisions d "
            "LEFT JOIN decision_seals s ON s.decision = d.id WHERE d.cell = ? ORDER BY d.number",
            [self._cell],
        )
        listed = {row[0]: row for row in rows}
        chain = self._chain(rows[-1][0] if rows else None)
        for left_out in (id_ for id_ in listed if id_ not in {record.id for record in chain}):
            self._found(left_out, "outside-the-chain", "the catalog lists it, and no later decision builds on it")
        sealed_before = False
        for record in chain:
            row = listed.get(record.id)
            if row is None:
                self._found(record.id, "not-listed", "it is in the chain, and the catalog does not list it")
            elif row[1].encode() != record.document():
                self._found(record.id, "record-differs", "the catalog's copy is not what its digest leads to")
            sealed_before = self._check_seal(record, row, sealed_before=sealed_before)
            self._check(record)
        self._check_state()
        return Audit(self._cell, len(chain), tuple(self._findings), tuple(self._notes))

    def _chain(self, newest: Digest | None) -> list[DecisionRecord]:
        """The records, oldest first, from the newest one back."""
        found: list[DecisionRecord] = []
        seen: set[Digest] = set()
        at = newest
        while at is not None and at not in seen:
            seen.add(at)
            record = self._read(at)
            if record is None:
                break
            found.append(record)
            at = record.previous
        return found[::-1]

    def _read(self, id_: Digest) -> DecisionRecord | None:
        try:
            data = self._registry.blobs.read(check_digest(id_))
            record = DecisionRecord.parse(data)
        except BlobNotFoundError:
            self._found(id_, "missing", "its record is not in the store")
        except DigestMismatchError:
            self._found(id_, "tampered", "its record's bytes were changed: they have another digest than its name")
        except (ValueError, KeyError, TypeError, RegistryError) as error:
            self._found(id_, "not-a-record", f"what its digest leads to is no decision record ({type(error).__name__})")
        else:
            if record.document() == data and record.cell == self._cell:
                return record
            self._found(id_, "not-a-record", "what its digest leads to is another cell's, or not as we write it")
        return None

    def _check_seal(self, record: DecisionRecord, row: tuple[str, ...] | None, *, sealed_before: bool) -> bool:
        """Whether decisions from here on must be signed."""
        if self._ring is None:
            return False
        if row is None or row[2] is None:
            if sealed_before:
                self._found(record.id, "unsigned", "it is not signed, and one before it is")
            else:
                self._notes.append(f"decision {record.id[:12]} was made before this hub signed its decisions")
            return sealed_before
        message = SEALED + record.id.encode()
        if not self._ring.trusts(row[2]):
            self._found(record.id, "foreign-key", f"it is signed by a key that is not trusted ({row[2][:12]})")
        elif not self._ring.believes(row[2], message, _bytes(row[3])):
            self._found(record.id, "forged", "its signature is not that of this record")
        return True

    def _check(self, record: DecisionRecord) -> None:
        """One record against the state that those before it made."""
        state, name = self._replay, str(record.variant)
        before, holder = state.at.get(name), state.holder(record.to_stage)
        if record.from_stage != before:
            said = f"it says that {name} came from {record.from_stage}; it was at {before}"
            self._found(record.id, "state-differs", said)
        if record.holder != holder:
            said = f"it says that {record.to_stage} was held by {_text(record.holder)}; it was {_text(holder)}"
            self._found(record.id, "state-differs", said)
        if name in state.commits and state.commits[name] != record.commit:
            self._found(record.id, "commit-differs", f"{name} was another commit before")
        self._check_evidence(record)
        verdict = self._judge(record)
        if verdict is not None and (verdict.allowed, verdict.reason) != (record.allowed, record.reason):
            now = "allows" if verdict.allowed else "refuses"
            self._found(
                record.id,
                "verdict-differs",
                f"it was {record.verdict} ({record.reason}); judged again, the same policy and evidence {now} it"
                f" ({verdict.reason})",
            )
        if record.allowed:
            if record.kind == "rollback" and (back := state.earlier(record.to_stage, holder)):
                state.apply(record)
                log = state.holds.get(record.to_stage, [])
                # What came after the hold that is in force again is undone; a hold of another stage is not touched.
                state.holds[record.to_stage] = log[: back[0] + 1]
            else:
                state.apply(record)

    def _judge(self, record: DecisionRecord) -> Verdict | None:
        """The verdict once more; None where it cannot be had."""
        lost = not isinstance(record.expected, Unset) and record.expected != record.holder
        if record.kind == "rollback":
            back = self._replay.earlier(record.to_stage, record.holder) if record.to_stage in HELD_STAGES else None
            if back is None or (back[1], back[2]) != (str(record.variant), record.restores):
                self._found(record.id, "rollback-differs", f"{record.variant} was not what a rollback goes back to")
            if record.schema == 1 and not record.allowed:
                return None  # what its caller expected was not kept
            reason = lost_swap(record.to_stage, record.holder) if lost else f"held {record.to_stage} before"
            return Verdict(not lost, reason)
        if record.policy is None:
            self._found(record.id, "no-policy", "a move is judged by a policy, and it names none")
            return None
        request = MoveRequest(
            record.cell,
            record.variant,
            record.commit,
            record.from_stage,
            record.to_stage,
            record.holder,
            record.actor,
            record.evidence,
            record.policy,
        )
        if said := sensible(request, record.expected):
            return said
        if record.schema == 1 and not record.allowed and record.reason == lost_swap(record.to_stage, record.holder):
            return None
        try:
            gate = gate_of(self._registry.blobs.read(check_digest(record.policy)))
        except BlobNotFoundError:
            self._found(record.id, "policy-missing", f"its policy {record.policy[:12]} is not in the store")
        except DigestMismatchError:
            self._found(record.id, "policy-changed", f"the bytes of its policy {record.policy[:12]} were changed")
        except RegistryError as error:
            self._found(record.id, "policy-changed", f"what its policy's digest leads to is none: {error}")
        else:
            return gate(request)
        return None

    def _check_evidence(self, record: DecisionRecord) -> None:
        """What the evidence names by digest must be there, whole."""
        deck = record.evidence.get("deck")
        if not isinstance(deck, str) or not deck:
            return
        try:
            self._registry.blobs.read(check_digest(deck))
        except BlobNotFoundError:
            self._found(record.id, "evidence-missing", f"the deck {deck[:12]} of its evidence is not in the store")
        except DigestMismatchError:
            self._found(record.id, "evidence-changed", f"the bytes of its evidence's deck {deck[:12]} were changed")
        except RegistryError:
            self._found(record.id, "evidence-changed", "the deck of its evidence is no digest")

    def _check_state(self) -> None:
        """The stages, the tags and the refs as they are against those that the records lead to."""
        state = self._replay
        now = {str(one.variant): one for one in self._registry.stages.assignments(self._cell)}
        for name in sorted(set(now) | set(state.at)):
            one = now.get(name)
            if one is None or name not in state.at:
                where = "the decisions" if one is None else "the catalog"
                self._found(name, "stage-differs", f"only {where} know of it")
            elif (one.stage, one.commit, one.decision) != (
                state.at[name],
                state.commits.get(name),
                state.decided.get(name),
            ):
                said = f"the catalog has it at {one.stage}, the decisions lead to {state.at[name]}"
                self._found(
                    name, "stage-differs", said if one.stage != state.at[name] else "at another commit or decision"
                )
            self._check_tag(Variant.parse(name), state.commits.get(name))
        for stage in HELD_STAGES:
            holder = state.holder(stage)
            if holder is not None and (commit := state.commits.get(str(holder))):
                self._check_ref(holder, stage, commit)

    def _check_tag(self, variant: Variant, commit: Digest | None) -> None:
        try:
            tag = self._registry.repos.ref(variant.repo, f"refs/tags/{variant.version}")
        except NotFoundError:
            self._found(str(variant), "tag-missing", "the tag that names it is gone")
            return
        if commit is not None and tag.commit != commit:
            self._found(str(variant), "tag-moved", f"its tag names {tag.commit[:12]}, the decisions {commit[:12]}")

    def _check_ref(self, variant: Variant, stage: Stage, commit: Digest) -> None:
        name = stage_ref(variant.repo, self._cell, stage)
        try:
            ref = self._registry.repos.ref(variant.repo, name)
        except (NotFoundError, StageError):
            self._found(name, "ref-differs", f"there is no such ref, and {variant} has the stage")
            return
        if ref.commit != commit:
            self._found(name, "ref-differs", f"it names {ref.commit[:12]}, the decisions lead to {commit[:12]}")

    def _found(self, subject: str, problem: str, detail: str) -> None:
        self._findings.append(Finding(subject, problem, detail))


def _text(variant: Variant | None) -> str | None:
    return None if variant is None else str(variant)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
