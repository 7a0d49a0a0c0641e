"""Discussions and pull requests of a repo: numbered, with what was said and done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from hub.errors import InputError
from registry.catalog import Catalog, Cursor
from registry.errors import NotFoundError, RefConflictError
from registry.repos import DeleteFile, Operation, Repos
from registry.types import Commit, FileEntry, RepoInfo, pull_ref

Status = Literal["open", "closed", "merged", "draft"]
MERGE_ATTEMPTS = 10


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


class Discussions:
    """The discussions of all repos."""

    def __init__(self, catalog: Catalog, repos: Repos, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._repos = repos
        self._now = now
        self._merging = threading.Lock()

    def open(
        self, info: RepoInfo, title: str, description: str, author: str, *, pull_from: str | None = None
    ) -> Discussion:
        """Begin one; with `pull_from` (a branch) a pull request, whose ref starts where that branch is."""
        with self._catalog.write() as tx:
            row = tx.execute("SELECT max(num) FROM hub_discussions WHERE repo = ?", [info.key]).fetchone()
            num = (row[0] if row and row[0] else 0) + 1
            made = Discussion(num, title, author, "open", pull_from is not None, pull_from, self._now())
            tx.execute(
                "INSERT INTO hub_discussions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [info.key, num, title, author, made.status, made.pull, made.target, made.created_at],
            )
            if description or not made.pull:
                self._say(tx, info, num, "comment", author, _comment(description))
        if pull_from is not None:
            self._repos.pull(info.id, num, pull_from)
        return made

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

    def rename(self, info: RepoInfo, num: int, title: str, author: str) -> Event:
        """Raises NotFoundError."""
        with self._catalog.write() as tx:
            before = self._in(tx, info, num)
            tx.execute("UPDATE hub_discussions SET title = ? WHERE repo = ? AND num = ?", [title, info.key, num])
            return self._say(tx, info, num, "title-change", author, {"from": before.title, "to": title})

    def set_status(self, info: RepoInfo, num: int, status: Status, author: str) -> Event:
        """Raises NotFoundError, InputError for one that is merged already."""
        with self._catalog.write() as tx:
            if self._in(tx, info, num).status == "merged":
                raise InputError("a merged pull request stays merged")
            return self._become(tx, info, num, status, author)

    def note_commit(self, info: RepoInfo, num: int, commit: Commit, oid: str) -> None:
        """A commit was made on the pull request's ref."""
        subject = commit.message.partition("\n")[0]
        self._add(info, num, "commit", commit.author, {"subject": subject, "oid": oid})

    def merge(self, info: RepoInfo, num: int, author: str) -> Commit:
        """Bring what a pull request changed since it began to its target, as one commit.

        Raises NotFoundError, InputError if it cannot be merged, MergeConflictError.
        """
        with self._merging:  # one at a time: what was looked at is what is changed, and nothing is merged twice
            for attempt in range(MERGE_ATTEMPTS):
                found = self.get(info, num)
                if not found.pull or found.target is None or found.status != "open":
                    raise InputError("only an open pull request can be merged")
                head = self._repos.resolve(info.id, f"refs/heads/{found.target}").id
                operations = self._changes(info, found)
                message = f"{found.title} (#{num})"
                try:
                    commit = self._repos.commit(
                        info.id, operations, message=message, author=author, branch=found.target, expected_parent=head
                    )
                except RefConflictError:  # somebody pushed in between: their files are compared as well
                    if attempt == MERGE_ATTEMPTS - 1:
                        raise
                    continue
                break
            with self._catalog.write() as tx:
                self._become(tx, info, num, "merged", author)
        return commit

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

    def _become(self, tx: Cursor, info: RepoInfo, num: int, status: Status, author: str) -> Event:
        tx.execute("UPDATE hub_discussions SET status = ? WHERE repo = ? AND num = ?", [status, info.key, num])
        return self._say(tx, info, num, "status-change", author, {"status": status})

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
        return event


_SELECT = "SELECT num, title, author, status, pull, target, created_at FROM hub_discussions WHERE repo = ?"


def _comment(text: str) -> dict[str, Any]:
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def pull_number(ref: str) -> int | None:
    """The number in `refs/pr/7`; None for any other ref."""
    number = ref.removeprefix("refs/pr/")
    return int(number) if ref.startswith("refs/pr/") and number.isdecimal() and len(number) < 9 else None
