"""Discussions and pull requests of a repo: numbered, with what was said and done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import msgspec

from hub.errors import ForbiddenError, InputError
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import NotFoundError, RefConflictError
from registry.repos.repos import Beside, DeleteFile, Operation, Repos
from registry.types import UNSET, Commit, Digest, FileEntry, RepoInfo, Unset, pull_ref, split_ref

Status = Literal["open", "closed", "merged", "draft"]
MERGE_ATTEMPTS = 10
HIDDEN = "This comment has been hidden"
OID = 40
"""Characters of a commit's id that discussions keep: what clients see."""


class MergeConflictError(InputError):
    """Raised when a pull request changes files that its target has changed otherwise since."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        super().__init__(f"the target has other changes of {', '.join(paths[:10])}")


@dataclass(frozen=True, slots=True)
class Event:
    """Something said or done; `happened_at` in epoch seconds."""

    seq: int
    kind: str
    author: str
    happened_at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Discussion:
    """A discussion; a pull request has the ref `refs/pr/<num>` besides, and a branch it wants to change."""

    num: int
    title: str
    author: str
    status: Status
    pull: bool
    target: str | None
    created_at: float


DiscussionObserver: TypeAlias = Callable[[Cursor, RepoInfo, int, str, Event], None]
"""Told of what was said or done (`comment`, `status-change`, `edited`, ...) inside its transaction."""


class Discussions:
    """The discussions of all repos."""

    def __init__(self, catalog: Catalog, repos: Repos, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._repos = repos
        self._now = now
        self._opening = threading.Lock()
        self.observers: list[DiscussionObserver] = []

    def open(
        self, info: RepoInfo, title: str, description: str, author: str, *, pull_from: str | None = None
    ) -> Discussion:
        """Begin one; with `pull_from` (a branch) a pull request, whose ref starts where that branch is: all or nothing.

        Raises RevisionNotFoundError if `pull_from` is no branch.
        """
        head = None if pull_from is None else self._repos.branch_head(info.id, pull_from)
        with self._opening, self._catalog.write() as tx:
            made = self._discussion(self._next(info), title, author, pull_from)
            self._insert(tx, info, made, description)
            if head is not None:
                self._repos.add_pull(tx, info.id, made.num, head)
        return made

    def propose(
        self,
        info: RepoInfo,
        operations: Sequence[Operation],
        *,
        title: str,
        description: str,
        message: str,
        author: str,
        target: str,
        expected_parent: Digest | Unset | None = UNSET,
        beside: Beside = lambda _: None,
    ) -> tuple[Discussion, Commit]:
        """Open a pull request with its first commit: one transaction, so that a commit that is refused leaves none.

        Raises RevisionNotFoundError if `target` is no branch, and as `Repos.commit`.
        """
        with self._opening:  # the number is known before the commit is made, which takes a while
            made = self._discussion(self._next(info), title, author, target)

            def write(tx: Cursor) -> None:
                self._insert(tx, info, made, description)
                self._say_commit(tx, info, made.num, author, message)
                beside(tx)

            commit = self._repos.commit(
                info.id,
                operations,
                message=message,
                author=author,
                branch=pull_ref(made.num),
                expected_parent=expected_parent,
                start=target,
                beside=write,
            )
        return made, commit

    def _discussion(self, num: int, title: str, author: str, target: str | None) -> Discussion:
        short = None if target is None else split_ref(target)[1]
        return Discussion(num, title, author, "open", target is not None, short, self._now())

    def _next(self, info: RepoInfo) -> int:
        rows = self._catalog.query("SELECT max(num) FROM hub_discussions WHERE repo = ?", [info.key])
        return int(rows[0][0] or 0) + 1

    def _insert(self, tx: Cursor, info: RepoInfo, made: Discussion, description: str) -> None:
        tx.execute(
            "INSERT INTO hub_discussions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [info.key, made.num, made.title, made.author, made.status, made.pull, made.target, made.created_at],
        )
        opened = Event(0, "opened", made.author, made.created_at, {"title": made.title, "pull": made.pull})
        self._tell(tx, info, made.num, "opened", opened)
        if description or not made.pull:
            self._say(tx, info, made.num, "comment", made.author, _comment(description))

    def get(self, info: RepoInfo, num: int) -> Discussion:
        """Raises NotFoundError."""
        rows = self._catalog.query(f"{_SELECT} AND num = ?", [info.key, num])
        if not rows:
            raise NotFoundError(f"there is no discussion {num}")
        return Discussion(*rows[0])

    def all(self, info: RepoInfo) -> list[Discussion]:
        """Newest first."""
        return [Discussion(*row) for row in self._catalog.query(f"{_SELECT} ORDER BY num DESC", [info.key])]

    def events(self, info: RepoInfo, num: int) -> list[Event]:
        """Oldest first."""
        rows = self._catalog.query(
            "SELECT seq, kind, author, happened_at, data FROM hub_discussion_events "
            "WHERE repo = ? AND num = ? ORDER BY seq",
            [info.key, num],
        )
        return [Event(seq, kind, who, at, msgspec.json.decode(data)) for seq, kind, who, at, data in rows]

    def comment(self, info: RepoInfo, num: int, text: str, author: str) -> Event:
        """Raises NotFoundError."""
        self.get(info, num)
        return self._add(info, num, "comment", author, _comment(text))

    def edit(self, info: RepoInfo, num: int, seq: int, text: str, author: str) -> Event:
        """Give a comment another text: its author alone may.

        Raises NotFoundError, ForbiddenError, InputError for one that is hidden.
        """

        def change(event: Event) -> dict[str, Any]:
            if event.author != author:
                raise ForbiddenError("only its author may edit a comment")
            return event.data | {"edited": True, "latest": {"raw": text}}

        return self._change(info, num, seq, change)

    def hide(self, info: RepoInfo, num: int, seq: int, by: str, *, owner: bool) -> Event:
        """Take a comment's text away for good: its author may, and (`owner`) whoever may write to the repo.

        Raises NotFoundError, ForbiddenError, InputError.
        """

        def change(event: Event) -> dict[str, Any]:
            if event.author != by and not owner:
                raise ForbiddenError("only its author and the repository's owners may hide a comment")
            return event.data | {"hidden": True, "hiddenBy": by, "latest": {"raw": HIDDEN}}

        return self._change(info, num, seq, change)

    def _change(self, info: RepoInfo, num: int, seq: int, change: Callable[[Event], dict[str, Any]]) -> Event:
        where = "WHERE repo = ? AND num = ? AND seq = ?"
        with self._catalog.write() as tx:
            row = tx.execute(
                f"SELECT seq, kind, author, happened_at, data FROM hub_discussion_events {where}",  # noqa: S608
                [info.key, num, seq],
            ).fetchone()
            if row is None or row[1] != "comment":
                raise NotFoundError(f"discussion {num} has no comment {seq}")
            event = Event(row[0], row[1], row[2], row[3], msgspec.json.decode(row[4]))
            if event.data.get("hidden"):
                raise InputError("a hidden comment stays as it is")
            data = change(event)
            tx.execute(
                f"UPDATE hub_discussion_events SET data = ? {where}",  # noqa: S608  # a constant
                [msgspec.json.encode(data).decode(), info.key, num, seq],
            )
            self._tell(tx, info, num, "hidden" if data.get("hidden") else "edited", replace(event, data=data))
        return replace(event, data=data)

    def rename(self, info: RepoInfo, num: int, title: str, author: str) -> Event:
        """Raises NotFoundError."""
        with self._catalog.write() as tx:
            before = self._in(tx, info, num)
            self._set(tx, info, num, "title", title)
            return self._say(tx, info, num, "title-change", author, {"from": before.title, "to": title})

    def set_status(self, info: RepoInfo, num: int, status: Status, author: str, comment: str = "") -> Event:
        """Raises NotFoundError, InputError for one that is merged already; the comment is kept or refused with it."""
        with self._catalog.write() as tx:
            self._require_unmerged(tx, info, num)
            if comment:
                self._say(tx, info, num, "comment", author, _comment(comment))
            self._set(tx, info, num, "status", status)
            return self._say(tx, info, num, "status-change", author, {"status": status})

    def _require_unmerged(self, tx: Cursor, info: RepoInfo, num: int) -> None:
        row = tx.execute("SELECT status FROM hub_discussions WHERE repo = ? AND num = ?", [info.key, num]).fetchone()
        if row is None:
            raise NotFoundError(f"there is no discussion {num}")
        if row[0] == "merged":
            raise InputError("a merged pull request stays merged")

    def noting(self, info: RepoInfo, num: int, message: str, author: str) -> Beside:
        """What writes down a commit on the pull request's ref, in the commit's own transaction."""

        def write(tx: Cursor) -> None:
            self._require_unmerged(tx, info, num)
            self._say_commit(tx, info, num, author, message)

        return write

    def _say_commit(self, tx: Cursor, info: RepoInfo, num: int, author: str, message: str) -> None:
        row = tx.execute(
            "SELECT commit FROM refs WHERE repo = ? AND name = ? AND kind = 'pull'", [info.key, pull_ref(num)]
        ).fetchone()
        oid = row[0][:OID] if row else ""
        self._say(tx, info, num, "commit", author, {"subject": message.partition("\n")[0], "oid": oid})

    def merge(self, info: RepoInfo, num: int, author: str, comment: str = "") -> Commit:
        """Bring what a pull request changed since it began to its target, as one commit; all of it or nothing.

        Raises NotFoundError, InputError if it cannot be merged, MergeConflictError.
        """
        for attempt in range(MERGE_ATTEMPTS):
            try:
                return self._merge(info, num, author, comment)
            except RefConflictError:  # somebody pushed in between: their files are compared as well
                if attempt == MERGE_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _merge(self, info: RepoInfo, num: int, author: str, comment: str) -> Commit:
        found = self.get(info, num)
        if not found.pull or found.target is None or found.status != "open":
            raise InputError("only an open pull request can be merged")
        target = found.target
        seen = self._repos.branch_head(info.id, f"refs/heads/{target}")
        operations = self._changes(info, found)

        def write(tx: Cursor) -> None:
            self._require_unmerged(tx, info, num)  # somebody may have been faster
            if comment:
                self._say(tx, info, num, "comment", author, _comment(comment))
            row = tx.execute(
                "SELECT commit FROM refs WHERE repo = ? AND name = ? AND kind = 'branch'", [info.key, target]
            ).fetchone()
            self._set(tx, info, num, "status", "merged")
            data = {"status": "merged", "commit": row[0][:OID] if row else ""}
            self._say(tx, info, num, "status-change", author, data)

        return self._repos.commit(
            info.id,
            operations,
            message=f"{found.title} (#{num})",
            author=author,
            branch=f"refs/heads/{target}",
            expected_parent=seen,
            beside=write,
        )

    def _changes(self, info: RepoInfo, found: Discussion) -> list[Operation]:
        """What the pull request's head has that its starting point had not."""
        ref = pull_ref(found.num)
        proposed = {file.path: file for file in self._repos.tree(info.id, ref)}
        current = {file.path: file for file in self._repos.tree(info.id, f"refs/heads/{found.target}")}
        target_ids = {commit.id for commit in self._repos.history(info.id, f"refs/heads/{found.target}", 10_000)}
        history = self._repos.history(info.id, ref, 10_000)
        start = next((commit.id for commit in history if commit.id in target_ids), None)
        base = {file.path: file for file in self._repos.tree(info.id, start)} if start else {}
        operations: list[Operation] = []
        clashes = []
        for path in sorted(proposed.keys() | base.keys()):
            mine, was, now = proposed.get(path), base.get(path), current.get(path)
            if mine in (was, now):
                continue
            if now != was:
                clashes.append(path)
            operations.append(mine if isinstance(mine, FileEntry) else DeleteFile(path))
        if clashes:
            raise MergeConflictError(clashes)
        return operations

    def _in(self, tx: Cursor, info: RepoInfo, num: int) -> Discussion:
        """As `get`, in the transaction that changes it."""
        row = tx.execute(f"{_SELECT} AND num = ?", [info.key, num]).fetchone()
        if row is None:
            raise NotFoundError(f"there is no discussion {num}")
        return Discussion(*row)

    def _set(self, tx: Cursor, info: RepoInfo, num: int, column: Literal["title", "status"], value: str) -> None:
        tx.execute(
            f"UPDATE hub_discussions SET {column} = ? WHERE repo = ? AND num = ?",  # noqa: S608  # one of two
            [value, info.key, num],
        )

    def _add(self, info: RepoInfo, num: int, kind: str, author: str, data: dict[str, Any]) -> Event:
        with self._catalog.write() as tx:
            return self._say(tx, info, num, kind, author, data)

    def _say(self, tx: Cursor, info: RepoInfo, num: int, kind: str, author: str, data: dict[str, Any]) -> Event:
        row = tx.execute(
            "SELECT max(seq) FROM hub_discussion_events WHERE repo = ? AND num = ?", [info.key, num]
        ).fetchone()
        event = Event((row[0] if row and row[0] else 0) + 1, kind, author, self._now(), data)
        tx.execute(
            "INSERT INTO hub_discussion_events VALUES (?, ?, ?, ?, ?, ?, ?)",
            [info.key, num, event.seq, kind, author, event.happened_at, msgspec.json.encode(data).decode()],
        )
        self._tell(tx, info, num, kind, event)
        return event

    def _tell(self, tx: Cursor, info: RepoInfo, num: int, what: str, event: Event) -> None:
        for observer in self.observers:
            observer(tx, info, num, what, event)


_SELECT = "SELECT num, title, author, status, pull, target, created_at FROM hub_discussions WHERE repo = ?"


def _comment(text: str) -> dict[str, Any]:
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def pull_number(ref: str) -> int | None:
    """The number in `refs/pr/7`; None for any other ref."""
    number = ref.removeprefix("refs/pr/")
    return int(number) if ref.startswith("refs/pr/") and number.isdecimal() and len(number) < 9 else None
