"""What happens to repos, told inside the transaction that does it: whoever listens writes rows that stand or fall with
the change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from registry.catalog.cursor import Cursor
from registry.types import Commit, Ref, RepoId

ChangeKind: TypeAlias = Literal[
    "created", "deleted", "renamed", "settings", "commit", "ref-created", "ref-deleted", "squashed"
]


@dataclass(frozen=True, slots=True)
class RepoChange:
    """One change. `repo` is the repo's name after it (of a deleted one, its last), `before` the name it had.

    A `commit` is told with the ref that it moved and its commits, oldest first.
    """

    kind: ChangeKind
    repo: RepoId
    ref: Ref | None = None
    commits: Sequence[Commit] = ()
    before: RepoId | None = None


Observer: TypeAlias = Callable[[Cursor, RepoChange], None]
"""May be called again for one change, as `Catalog.run` does its work again. Of a repo that goes the rows are there."""
