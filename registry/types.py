"""The values that floors pass around: names, files, commits, refs. All frozen, all checked when made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Literal, Self, TypeAlias, get_args

from registry.errors import InvalidNameError, InvalidPathError, InvalidValueError

Digest: TypeAlias = str
"""A sha256, 64 lower-case hex characters."""

RepoType = Literal["model", "dataset"]
RefKind = Literal["branch", "pull", "stage", "tag"]
Gating = Literal["no", "auto", "manual"]
"""Whether readers must be let in: by asking (`auto`), by the owner's word (`manual`), or not at all."""

MAX_NAME = 96
MAX_REF = 200
MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255
MAX_SIZE = 2**62
"""Largest file size in bytes: the catalog keeps sizes, and sums of sizes, in signed 64-bit integers."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
# A ref that reads like a full commit id (ours, or git's) would make a revision mean two things.
_RESERVED_REF = "refs/"
_LOOKS_LIKE_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


_LONG_FORMS: Final[tuple[tuple[str, RefKind], ...]] = (
    ("refs/heads/", "branch"),
    ("refs/tags/", "tag"),
    ("refs/pr/", "pull"),
    ("refs/stages/", "stage"),
)


class Unset(Enum):
    """The type of UNSET, for parameters where None already means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


def check_digest(value: str) -> Digest:
    """`value` itself. Raises InvalidValueError unless it is 64 lower-case hex characters."""
    if not _DIGEST.fullmatch(value):
        raise InvalidValueError("sha256", value, "must be 64 lower-case hex characters")
    return value


def check_name(value: str, what: str = "name") -> str:
    """`value` itself, if it may name a namespace, a repo or a cell.

    Letters, digits, `.`, `_` and `-`; at most 96 characters; neither first nor last a `.` or `-`; no `..` and
    no `--`; not ending in `.git` or `.ipynb` (the hub protocol's own rules). Raises InvalidNameError.
    """
    if not value or len(value) > MAX_NAME:
        raise InvalidNameError(what, value, f"must have 1 to {MAX_NAME} characters")
    if not _NAME.fullmatch(value):
        raise InvalidNameError(what, value, "only letters, digits, '.', '_', '-'; no '.' or '-' at either end")
    if ".." in value or "--" in value:
        raise InvalidNameError(what, value, "must not contain '..' or '--'")
    if value.lower().endswith((".git", ".ipynb")):
        raise InvalidNameError(what, value, "must not end in '.git' or '.ipynb'")
    return value


def check_ref_name(value: str, what: str = "ref") -> str:
    """`value` itself, if it may name a branch or a tag: names as `check_name` has them, joined by `/`.

    At most 200 characters. Raises InvalidNameError, also for what reads like a full commit id, and for names
    under `refs/`, which are the long forms of others.
    """
    if not value or len(value) > MAX_REF:
        raise InvalidNameError(what, value, f"must have 1 to {MAX_REF} characters")
    if _LOOKS_LIKE_COMMIT.fullmatch(value):
        raise InvalidNameError(what, value, "reads like a commit id")
    if value.startswith(_RESERVED_REF):
        raise InvalidNameError(what, value, f"must not begin with {_RESERVED_REF!r}")
    for segment in value.split("/"):
        check_name(segment, what)
    return value


def pull_ref(number: int) -> str:
    """The name of the ref that holds the state which pull request `number` proposes: `refs/pr/7`. Raises
    InvalidNameError unless it is positive."""
    if not 1 <= number < 10**9:
        raise InvalidNameError("pull request", str(number), "must be a positive number")
    return f"{_RESERVED_REF}pr/{number}"


def split_ref(name: str) -> tuple[RefKind | None, str]:
    """What kind a ref's long form says, and the name it is stored under; kind None for a short name.

    `refs/heads/a` is branch `a`, `refs/tags/v1` is tag `v1`; `refs/pr/7`, a pull request's ref, and
    `refs/stages/fleet`, a stage's, are kept as they are.
    """
    for prefix, kind in _LONG_FORMS:
        if name.startswith(prefix) and len(name) > len(prefix):
            return kind, name if kind in ("pull", "stage") else name.removeprefix(prefix)
    return None, name


def check_path(value: str) -> str:
    """`value` itself, if it may be a file's path inside a repo.

    Relative, `/` between segments, at most 1,024 bytes of UTF-8 and 255 per segment; no empty, `.` or `..`
    segment, no backslash, no control character, nothing under `.git`. Raises InvalidPathError.
    """
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise InvalidPathError("path", value, "is not valid Unicode") from error
    if not raw or len(raw) > MAX_PATH_BYTES:
        raise InvalidPathError("path", value, f"must have 1 to {MAX_PATH_BYTES} bytes")
    if "\\" in value:
        raise InvalidPathError("path", value, "must not contain a backslash")
    # One file per line of a manifest is safe only because no path can hold a line break.
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in value):
        raise InvalidPathError("path", value, "must not contain control characters")
    segments = value.split("/")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise InvalidPathError("path", value, f"must not have the segment {segment!r}")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise InvalidPathError("path", value, f"has a segment of more than {MAX_SEGMENT_BYTES} bytes")
    if segments[0].lower() == ".git":
        raise InvalidPathError("path", value, "must not lie under '.git'")
    return value


@dataclass(frozen=True, slots=True, order=True)
class RepoId:
    """A repo's type and name. `str()` gives `namespace/name`; the type is not part of the text. Raises InvalidNameError
    for what is no name."""

    type: RepoType
    namespace: str
    name: str

    def __post_init__(self) -> None:
        if self.type not in get_args(RepoType):
            raise InvalidNameError("repo type", self.type, "must be 'model' or 'dataset'")
        check_name(self.namespace, "namespace")
        check_name(self.name, "repo name")

    @classmethod
    def parse(cls, text: str, type: RepoType = "model") -> Self:  # the field's own name
        """Read `namespace/name`. Raises InvalidNameError."""
        namespace, slash, name = text.partition("/")
        if not slash:
            raise InvalidNameError("repo", text, "must read 'namespace/name'")
        return cls(type, namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def stage_ref(repo: RepoId, cell: str, stage: str) -> str:
    """The name of the ref that says which variant of a repo a stage of a cell has: `refs/stages/fleet`.

    A cell that is served from a repo of another name is named, too: `refs/stages/<cell>/fleet`.
    """
    return f"{_RESERVED_REF}stages/{stage}" if repo.name == cell else f"{_RESERVED_REF}stages/{cell}/{stage}"


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """What is known of a repo besides its history; `created_at` is aware UTC.

    `key` stays the same when the repo is renamed, and is never given to another one.
    """

    id: RepoId
    key: int
    private: bool
    gated: Gating
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a tree: its path, the sha256 of its bytes and their number.

    `lfs` says that the file came as a large file: git would keep a pointer in the tree and the bytes elsewhere. Raises
    InvalidValueError for a path, a digest or a size that cannot be.
    """

    path: str
    sha256: Digest
    size: int
    lfs: bool = False

    def __post_init__(self) -> None:
        check_path(self.path)
        check_digest(self.sha256)
        if not 0 <= self.size <= MAX_SIZE:
            raise InvalidValueError("size", self.size, f"must be between 0 and {MAX_SIZE} bytes")


@dataclass(frozen=True, slots=True)
class Commit:
    """A state of a repo. `id` is the sha256 of the other fields' canonical JSON; `created_at` is aware UTC.

    `tree` is the sha256 of the tree's manifest (`registry.repos.trees`).
    """

    id: Digest
    repo: RepoId
    parent: Digest | None
    message: str
    author: str
    created_at: datetime
    tree: Digest


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a pull request's ref (both move with commits), a tag (never moves), or a stage (moved by decisions
    alone), and the commit that it names."""

    name: str
    kind: RefKind
    commit: Digest


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """A node of the lineage: what it is ("base", "variant", "dataset", "deck", ...), its name, its exact state.

    `revision` is a digest: a commit id, or the sha256 of a blob. Raises InvalidNameError for a name that is empty or
    too long.
    """

    kind: str
    name: str
    revision: Digest

    def __post_init__(self) -> None:
        check_name(self.kind, "artifact kind")
        if not self.name or len(self.name) > MAX_REF:
            raise InvalidNameError("artifact name", self.name, f"must have 1 to {MAX_REF} characters")
        check_digest(self.revision)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}@{self.revision[:12]}"


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """A version of an adapter: a model repo and the tag that pins it. `str()` gives `cells/dock-7@v3`."""

    repo: RepoId
    version: str

    def __post_init__(self) -> None:
        check_ref_name(self.version, "version")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `namespace/name@version`. Raises InvalidNameError."""
        repo, at, version = text.partition("@")
        if not at:
            raise InvalidNameError("variant", text, "must read 'namespace/name@version'")
        return cls(RepoId.parse(repo), version)

    def __str__(self) -> str:
        return f"{self.repo}@{self.version}"
