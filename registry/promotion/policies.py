"""Which policy is in force, every one there was, and who approved of which move."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from registry.blobs.blobs import BlobStore
from registry.canonical import JSON
from registry.catalog.catalog import Catalog, from_db, to_db
from registry.catalog.cursor import Cursor
from registry.errors import BlobNotFoundError, DigestMismatchError, InvalidValueError, PolicyError
from registry.promotion.gates import EvidenceGate
from registry.promotion.policy import Policy
from registry.stage_types import Gate, MoveRequest, Stage, Verdict
from registry.types import Digest, Variant

MAX_NOTE = 2000


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A policy, and since when and by whom it is in force; `set_by` "" is the one that a registry starts with."""

    digest: Digest
    document: bytes
    set_by: str
    set_at: datetime | None


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's word that a variant, at this very commit, may move to a stage."""

    variant: Variant
    commit: Digest
    stage: Stage
    by: str
    note: str
    given_at: datetime

    def evidence(self) -> dict[str, JSON]:
        """As a decision record keeps it."""
        return {
            "by": self.by,
            "commit": self.commit,
            "stage": self.stage,
            "note": self.note,
            "given_at": self.given_at.isoformat(timespec="microseconds"),
        }


def gate_of(document: bytes) -> Gate:
    """The gate that a stored policy describes. Raises PolicyError."""
    try:
        value = json.loads(document)
        if isinstance(value, dict) and value.get("gate") == "evidence":
            return EvidenceGate({stage: tuple(names) for stage, names in value["demands"].items()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise PolicyError("policy", "is no policy") from error
    return Policy.parse(value)


class Policies:
    """The policies of a registry. It is a gate: each request is judged by the policy that it names."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, default: bytes) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._default = default
        self._gate: Callable[[Digest], Gate] = lru_cache(maxsize=64)(self._read_gate)

    def __call__(self, request: MoveRequest) -> Verdict:
        """Judge by the policy of the request. Raises BlobNotFoundError, PolicyError."""
        return self._gate(request.policy)(request)

    def current(self) -> PolicyInForce:
        """The policy in force; its bytes are a blob."""
        rows = self._catalog.query("SELECT digest, set_by, set_at FROM policies ORDER BY number DESC LIMIT 1")
        if not rows:
            return PolicyInForce(self._blobs.put_bytes(self._default).sha256, self._default, "", None)
        digest, set_by, set_at = rows[0]
        return PolicyInForce(digest, self._blobs.read(digest), set_by, from_db(set_at))

    def history(self) -> tuple[tuple[Digest, str, datetime], ...]:
        """Every policy that was set, newest first: digest, by whom, when."""
        rows = self._catalog.query("SELECT digest, set_by, set_at FROM policies ORDER BY number DESC")
        return tuple((row[0], row[1], from_db(row[2])) for row in rows)

    def set(self, policy: Policy, by: str) -> PolicyInForce:
        """Put a policy in force. Decisions that were made stay under theirs."""
        blob = self._blobs.put_bytes(policy.document)
        with self._catalog.write() as tx:
            tx.execute(
                "INSERT INTO policies (digest, set_by, set_at) VALUES (?, ?, ?)",
                [blob.sha256, by, to_db(datetime.now(UTC))],
            )
        return self.current()

    def approve(
        self, cell: str, variant: Variant, commit: Digest, stage: Stage, *, by: str, note: str = ""
    ) -> Approval:
        """Note that `by` approves of a move; twice is once. Raises InvalidValueError."""
        if len(note) > MAX_NOTE:
            raise InvalidValueError("note", note, f"must have at most {MAX_NOTE} characters")
        with self._catalog.write() as tx:
            # Asked and written as one: two clicks at once are one approval, not the two that a policy may want.
            there = tx.execute(
                "SELECT note, given_at FROM approvals WHERE cell = ? AND variant = ? AND commit = ? AND stage = ?"
                " AND approver = ? AND used_by IS NULL",
                [cell, str(variant), commit, stage, by],
            ).fetchone()
            if there is not None:
                return Approval(variant, commit, stage, by, there[0], from_db(there[1]))
            now = datetime.now(UTC)
            tx.execute(
                "INSERT INTO approvals (cell, variant, commit, stage, approver, note, given_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [cell, str(variant), commit, stage, by, note, to_db(now)],
            )
        return Approval(variant, commit, stage, by, note, now)

    def approvals(self, cell: str, variant: Variant, commit: Digest, stage: Stage) -> tuple[Approval, ...]:
        """What was approved and is not used up by a move that was made, oldest first."""
        rows = self._catalog.query(
            "SELECT variant, commit, stage, approver, note, given_at FROM approvals "
            "WHERE cell = ? AND variant = ? AND commit = ? AND stage = ? AND used_by IS NULL ORDER BY number",
            [cell, str(variant), commit, stage],
        )
        return tuple(
            Approval(Variant.parse(name), at, to, by, note, from_db(given)) for name, at, to, by, note, given in rows
        )

    def use(self, cell: str, variant: Variant, commit: Digest, stage: Stage, decision: Digest) -> None:
        """The move was made: its approvals are good for no other one."""
        with self._catalog.write() as tx:
            self.use_in(tx, cell, variant, commit, stage, decision)

    @staticmethod
    def use_in(tx: Cursor, cell: str, variant: Variant, commit: Digest, stage: Stage, decision: Digest) -> None:
        """As `use`, in the transaction that makes the move: its approvals are good for no other one."""
        tx.execute(
            "UPDATE approvals SET used_by = ? "
            "WHERE cell = ? AND variant = ? AND commit = ? AND stage = ? AND used_by IS NULL",
            [decision, cell, str(variant), commit, stage],
        )

    def _read_gate(self, digest: Digest) -> Gate:
        try:
            document = self._blobs.read(digest)
        except DigestMismatchError as error:
            raise PolicyError(digest[:12], "its stored bytes are damaged") from error
        except BlobNotFoundError:
            if digest == EvidenceGate().policy_digest:
                return EvidenceGate()
            raise
        return gate_of(document)
