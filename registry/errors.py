"""Every error this floor raises, in one hierarchy, so that a caller maps them in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class RefusedDecision(Protocol):
    """What an error says of a decision: `registry.stage_types.DecisionRecord` has all of it and more."""

    @property
    def id(self) -> str:
        """The digest of the record."""

    @property
    def cell(self) -> str:
        """The cell whose stage was to change."""

    @property
    def variant(self) -> object:
        """The variant that was to move; its `str` is `name@version`."""

    @property
    def to_stage(self) -> str | None:
        """Where it was to move."""

    @property
    def reason(self) -> str:
        """Why it did not, in one sentence."""


class RegistryError(Exception):
    """Root of this floor's errors."""


class InvalidValueError(RegistryError):
    """Raised when a value cannot be stored: the parent of every complaint about what the caller wrote."""

    def __init__(self, what: str, value: object, reason: str) -> None:
        self.what, self.value, self.reason = what, value, reason
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{what} {shown}: {reason}")


class InvalidNameError(InvalidValueError):
    """Raised when a namespace, repo, branch, tag or cell name breaks the naming rules."""


class InvalidPathError(InvalidValueError):
    """Raised when a file path is unsafe, too long, or clashes with another path of the same tree."""


class UnsafeFileError(InvalidValueError):
    """Raised when a commit would bring in a file that could run code, or is not what its name says."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__("file", path, reason)


class InvalidRangeError(RegistryError):
    """Raised when a byte range does not lie inside the blob."""

    def __init__(self, sha256: str, start: int, end: int | None, size: int) -> None:
        self.sha256, self.start, self.end, self.size = sha256, start, end, size
        super().__init__(f"bytes [{start}, {end}) do not lie inside blob {sha256[:12]} of {size} bytes")


class NotFoundError(RegistryError):
    """Raised when a named thing is not there: the parent of the four kinds below."""


class RepoNotFoundError(NotFoundError):
    """Raised when no repo has this type and name."""

    def __init__(self, repo: object) -> None:
        self.repo = str(repo)
        super().__init__(f"there is no repo {self.repo!r}")


class RevisionNotFoundError(NotFoundError):
    """Raised when a revision is no branch, no tag and no (unambiguous) commit id of the repo."""

    def __init__(self, repo: object, revision: str, reason: str = "no such branch, tag or commit") -> None:
        self.repo, self.revision = str(repo), revision
        super().__init__(f"{self.repo}@{revision}: {reason}")


class EntryNotFoundError(NotFoundError):
    """Raised when a revision has no file at this path."""

    def __init__(self, repo: object, revision: str, path: str) -> None:
        self.repo, self.revision, self.path = str(repo), revision, path
        super().__init__(f"{self.repo}@{revision} has no file {path!r}")


class BlobNotFoundError(NotFoundError):
    """Raised when the store holds no blob of this digest, or holds it with another size than claimed."""

    def __init__(self, sha256: str, *, claimed: int | None = None, actual: int | None = None) -> None:
        self.sha256, self.claimed, self.actual = sha256, claimed, actual
        text = f"there is no blob {sha256}"
        if actual is not None:
            text = f"blob {sha256} has {actual} bytes, not {claimed}"
        super().__init__(text)


class ConflictError(RegistryError):
    """Raised when the registry's state does not allow the change: the parent of the kinds below."""


class RepoExistsError(ConflictError):
    """Raised when a repo is created a second time."""

    def __init__(self, repo: object) -> None:
        self.repo = str(repo)
        super().__init__(f"the repo {self.repo!r} exists")


class RepoInUseError(ConflictError):
    """Raised when a repo cannot be deleted because robots are served from it."""

    def __init__(self, repo: object, reason: str) -> None:
        self.repo, self.reason = str(repo), reason
        super().__init__(f"{self.repo} cannot be deleted: {reason}")


class RefExistsError(ConflictError):
    """Raised when a tag would have to move, or a new ref's name is taken."""

    def __init__(self, repo: object, name: str, commit: str) -> None:
        self.repo, self.name, self.commit = str(repo), name, commit
        super().__init__(f"{self.repo} already has {name!r}, at {commit[:12]}")


class RefProtectedError(ConflictError):
    """Raised when a branch or tag may not be deleted."""

    def __init__(self, repo: object, name: str, reason: str) -> None:
        self.repo, self.name, self.reason = str(repo), name, reason
        super().__init__(f"{self.repo}: {name!r} cannot be deleted: {reason}")


class RefConflictError(ConflictError):
    """Raised when a branch is not where the caller expected it: the compare-and-swap is lost."""

    def __init__(self, repo: object, branch: str, expected: str | None, actual: str | None) -> None:
        self.repo, self.branch, self.expected, self.actual = str(repo), branch, expected, actual
        super().__init__(
            f"{self.repo}: {branch!r} is at {_short(actual)}, not at {_short(expected)}; "
            "read the new head and try again"
        )


class LineageCycleError(ConflictError):
    """Raised when an edge would make an artifact its own ancestor."""

    def __init__(self, child: object, parent: object) -> None:
        self.child, self.parent = str(child), str(parent)
        super().__init__(f"{self.parent} already descends from {self.child}")


class DigestMismatchError(RegistryError):
    """Raised when bytes do not hash to the digest they were announced or stored under."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected, self.actual = expected, actual
        super().__init__(f"the bytes hash to {actual}, not to {expected}")


class TooLargeError(RegistryError):
    """Raised when a stream holds more bytes than its caller allowed."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(f"more than the {max_bytes} bytes allowed")


class BlobStoreError(RegistryError):
    """Raised when the blob store itself fails: a bad URL, refused credentials, a full disk."""


class BackupError(RegistryError):
    """Raised when there is no such backup, it cannot be read, or it cannot be restored there."""


class CatalogError(RegistryError):
    """Raised when the catalog file cannot be used or a statement fails."""


class CatalogBrokenError(CatalogError):
    """Raised when DuckDB has given up on the open catalog: nothing can be read or written until it is opened again.

    What was acknowledged is in the file and its log. `reason` is DuckDB's own account, which may hold values of rows.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__("the catalog has to be opened again; try once more in a moment")


class CatalogLockedError(CatalogError):
    """Raised when another process, or this one, already has the catalog open."""

    def __init__(self, path: Path, holder: str) -> None:
        self.path, self.holder = path, holder
        super().__init__(
            f"the catalog {path} is already open ({holder}); one process owns it: "
            "stop that process, or send it your requests"
        )


class CatalogTooNewError(CatalogError):
    """Raised when the catalog was written by a newer version of the code."""

    def __init__(self, path: Path, name: str, found: int, known: int) -> None:
        self.path, self.name, self.found, self.known = path, name, found, known
        super().__init__(
            f"the catalog {path} is at {name!r} version {found} and this code knows only {known}; "
            "install the newer parcelhub that wrote it"
        )


class XetError(RegistryError):
    """Parent of the errors of the Xet content store."""


class XetFormatError(XetError):
    """Raised when a xorb or a shard breaks its format, or a hash in it is not that of the bytes."""

    def __init__(self, what: str, reason: str) -> None:
        self.what, self.reason = what, reason
        super().__init__(f"{what} {reason}")


class XetProofError(XetError):
    """Raised when a shard names bytes without proving that the sender knows them."""

    def __init__(self, file: str, reason: str) -> None:
        self.file, self.reason = file, reason
        super().__init__(f"the shard does not prove that you have the bytes of file {file[:16]}: {reason}")


class UnknownXorbError(XetError):
    """Raised when a shard builds on xorbs that are not stored (any more)."""

    def __init__(self, xorbs: tuple[str, ...]) -> None:
        self.xorbs = xorbs
        super().__init__(
            f"the shard builds on {len(xorbs)} xorbs that are not stored, {xorbs[0][:16]} for one; upload once more"
        )


class XetFileNotFoundError(NotFoundError):
    """Raised when no file of this Xet hash is registered."""

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(f"there is no Xet file {file}")


class StatementError(ConflictError):
    """Raised when no statement that is true and that a trusted key vouches for speaks of a published version."""

    def __init__(self, repo: object, commit: str, reason: str) -> None:
        self.repo, self.commit, self.reason = str(repo), commit, reason
        super().__init__(f"{self.repo}@{commit[:12]} is not vouched for: {reason}")


class KeyRingError(RegistryError):
    """Raised when the hub's signing keys are missing, unreadable, or readable by others."""


class PolicyError(InvalidValueError):
    """Raised when a promotion policy is not one: the sentence says where."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__("policy", where, reason)


class StageError(ConflictError):
    """Raised when a stage move makes no sense, before any gate is asked."""


class MoveRefusedError(StageError):
    """Raised when a move was refused, by the gate or by the state; the decision record says why."""

    def __init__(self, record: RefusedDecision) -> None:
        self.record = record
        target = f"{record.cell}: {record.variant} to {record.to_stage}"
        super().__init__(f"{target} was refused: {record.reason} (decision {record.id[:12]})")


class NothingToRollBackError(StageError):
    """Raised when a stage of a cell has no earlier variant to go back to."""

    def __init__(self, cell: str, stage: str) -> None:
        self.cell, self.stage = cell, stage
        super().__init__(f"cell {cell!r} has no earlier variant at {stage!r}")


def _short(commit: str | None) -> str:
    return "no commit" if commit is None else commit[:12]
