"""Who may read, download and write which repo."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from hub.accounts.privacy import CELLS, CellPrivacy
from hub.accounts.tokens import Identity, Kind, Scope
from hub.errors import ForbiddenError, GatedError, UnauthorizedError
from registry.catalog.catalog import Catalog
from registry.errors import RepoNotFoundError
from registry.repos.directory import Directory, Found, Readers
from registry.types import RepoId, RepoInfo

Need = Literal["read", "download", "write", "manage"]
ReaderStatus = Literal["pending", "accepted", "rejected"]


class Access:
    """The rules. A repo that somebody may not read does not exist for them."""

    def __init__(
        self,
        catalog: Catalog,
        directory: Directory,
        *,
        anonymous: bool,
        cells: CellPrivacy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cells = cells
        self._catalog = catalog
        self._directory = directory
        self._anonymous = anonymous
        self._now = now

    def find(self, repo: RepoId, who: Identity | None, need: Need) -> Found:
        """The repo, if `who` (None: anonymous) may do to it what they need to.

        Raises RepoNotFoundError, GatedError, UnauthorizedError, ForbiddenError.
        """
        found = self._directory.find(repo)
        info = found.info
        if not self.may_read(who, info):
            raise RepoNotFoundError(repo)
        if need == "download" and not self.may_download(who, info):
            raise GatedError(info.id.type, info.id)
        if need in ("write", "manage"):
            if who is None:
                raise UnauthorizedError("a token is needed to change a repository")
            if need == "manage":
                who.require_manage(str(info.id))
            else:
                who.require_write(info.id.type, str(info.id))
        return found

    def may_read(self, who: Identity | None, info: RepoInfo) -> bool:
        """Whether the repo exists for `who`: for a robot none does, for a job those that its token names."""
        match who.kind if who is not None else Kind.ANONYMOUS:
            case Kind.OPERATOR:
                return True
            case Kind.JOB:
                return who is not None and who.given(info.id.type, str(info.id))
            case Kind.PERSON | Kind.TEAM:
                if self._cells is not None and _is_cell(info):
                    return self._cells.sees(who, info.id.name)
                return not info.private or (who is not None and who.sees(info.id.namespace))
            case Kind.ANONYMOUS:
                hidden = self._cells is not None and _is_cell(info) and not self._cells.sees(None, info.id.name)
                return who is None and self._anonymous and not info.private and not hidden
            case Kind.ROBOT | Kind.SITE:
                return False

    def may_download(self, who: Identity | None, info: RepoInfo) -> bool:
        """Whether `who` may have the bytes of the repo's files."""
        if not self.may_read(who, info):
            return False
        if info.gated == "no" or (who is not None and who.kind is Kind.JOB):
            return True
        if who is None:
            return False
        return who.sees(info.id.namespace) or self.reader_status(info, who.owner) == "accepted"

    def readers(self, who: Identity | None) -> Readers | None:
        """How `who` sees a listing; None if not at all."""
        if who is None:
            return Readers() if self._anonymous else None
        if who.kind is Kind.OPERATOR:
            return Readers(everything=True)
        if who.kind not in (Kind.PERSON, Kind.TEAM):
            return None
        also = self._cells.listed(who) if self._cells is not None else frozenset()
        return Readers(namespaces=who.namespaces, also=also)

    # Readers of gated repos

    def reader_status(self, info: RepoInfo, user: str) -> ReaderStatus | None:
        """Where a user's wish to read a gated repo stands."""
        rows = self._catalog.query("SELECT status FROM hub_readers WHERE repo = ? AND user_name = ?", [info.key, user])
        return rows[0][0] if rows else None

    def set_reader(self, info: RepoInfo, user: str, status: ReaderStatus) -> None:
        """Let a user in, keep them out, or note that they ask."""
        with self._catalog.write() as tx:
            tx.execute(
                "INSERT INTO hub_readers VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET status = excluded.status, changed_at = excluded.changed_at",
                [info.key, user, status, self._now()],
            )

    def ask(self, info: RepoInfo, who: Identity) -> ReaderStatus:
        """Ask to read a gated repo: `auto` lets in at once, `manual` waits for the owners' word."""
        if (status := self.reader_status(info, who.owner)) is None:
            status = "accepted" if info.gated == "auto" else "pending"
            self.set_reader(info, who.owner, status)
        return status

    def readers_of(self, info: RepoInfo, status: ReaderStatus) -> list[tuple[str, float]]:
        """Users with this status, and since when (epoch seconds), oldest first."""
        rows = self._catalog.query(
            "SELECT user_name, changed_at FROM hub_readers WHERE repo = ? AND status = ? ORDER BY changed_at",
            [info.key, status],
        )
        return [(row[0], row[1]) for row in rows]

    def all_readers(self, info: RepoInfo) -> list[str]:
        """All users who ever asked, or were let in or refused."""
        rows = self._catalog.query("SELECT user_name FROM hub_readers WHERE repo = ?", [info.key])
        return [row[0] for row in rows]


def _is_cell(info: RepoInfo) -> bool:
    return info.id.type == "model" and info.id.namespace.lower() == CELLS


def signed_in(who: Identity | None) -> Identity:
    """Raises UnauthorizedError for anonymous callers."""
    if who is None:
        raise UnauthorizedError("Invalid username or password.")
    return who


def require_contributor(who: Identity | None) -> Identity:
    """Whoever may write somewhere may propose changes elsewhere. Raises UnauthorizedError, ForbiddenError."""
    known = signed_in(who)
    if known.kind is Kind.JOB:
        raise ForbiddenError("jobs make no proposals")
    known.require(Scope.CONTRIBUTE)
    return known
