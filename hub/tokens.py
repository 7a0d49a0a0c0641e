"""Bearer tokens and what they allow. The catalog keeps only the SHA-256 of a token."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hub.errors import ForbiddenError, UnauthorizedError
from registry.catalog import Catalog, Cursor

PREFIX = "ph_"
_JOB = "job:"
_WRITE = "write:"


class Scope(StrEnum):
    """What a person's token may do. (A job process has `job:<id>` instead, which is none of these.)"""

    READ = "read"
    CONTRIBUTE = "contribute"
    FINETUNE = "finetune"
    PROMOTE = "promote"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and what they may do."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: Scope) -> bool:
        """`admin` may everything; every token, a job's too, may read."""
        return scope is Scope.READ or bool({scope, Scope.ADMIN} & self.scopes)

    def require(self, scope: Scope) -> None:
        if not self.may(scope):
            raise ForbiddenError(f"the token {self.name!r} lacks the scope {scope.value!r}")

    @property
    def job(self) -> str | None:
        """The job whose process this is."""
        return next((scope.removeprefix(_JOB) for scope in self.scopes if scope.startswith(_JOB)), None)

    def require_write(self, type_: str, repo: str) -> None:
        """Contributors write datasets; a job writes its own cell's repository; the rest is the operator's."""
        if type_ == "dataset":
            self.require(Scope.CONTRIBUTE)
        elif _WRITE + repo not in self.scopes:
            self.require(Scope.ADMIN)

    def require_upload(self) -> None:
        """Blobs are nobody's until a commit names them; whoever may commit somewhere may upload."""
        if self.job is None:
            self.require(Scope.CONTRIBUTE)


class Tokens:
    """The token table."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def issue(self, name: str, scopes: Iterable[str], *, seconds: float | None = None) -> str:
        """Make a token. It is returned this once and cannot be recovered."""
        with self._catalog.write() as db:
            return self._issue(db, name, scopes, seconds)

    def issue_for_job(self, db: Cursor, job_id: str, cell: str, *, seconds: float) -> str:
        """The token of one run of a job's process, which may write to its cell's repository.

        Part of the transaction that claims the job; the tokens of earlier runs stop working.
        """
        self.revoke_job(db, job_id)
        return self._issue(db, _JOB + job_id, {_JOB + job_id, _WRITE + f"cells/{cell}"}, seconds)

    def revoke_job(self, db: Cursor, job_id: str) -> None:
        """A run that ended, or that lost its lease, can no longer speak for the job."""
        db.execute("DELETE FROM hub_tokens WHERE name = ?", [_JOB + job_id])

    def _issue(self, db: Cursor, name: str, scopes: Iterable[str], seconds: float | None) -> str:
        token = PREFIX + secrets.token_urlsafe(32)
        now = self._now()
        expires = None if seconds is None else now + seconds
        row = [_sha256(token), name, " ".join(sorted(scopes)), now, expires]
        db.execute("INSERT INTO hub_tokens VALUES (?, ?, ?, ?, ?)", row)
        return token

    def identify(self, token: str) -> Identity:
        """Whose token this is; raises if it is nobody's, or expired."""
        digest = _sha256(token)
        with self._catalog.read() as db:
            row = db.execute(
                "SELECT sha256, name, scopes, expires_at FROM hub_tokens WHERE sha256 = ?", [digest]
            ).fetchone()
        # The lookup is by the hash of a 256-bit random token, so its timing tells nothing about any token;
        # the comparison is constant-time as well, whatever the catalog's equality does.
        if row is None or not hmac.compare_digest(row[0], digest):
            raise UnauthorizedError("unknown token")
        if row[3] is not None and row[3] < self._now():
            raise UnauthorizedError("expired token")
        return Identity(row[1], frozenset(row[2].split()))

    def ensure_admin(self, file: Path) -> None:
        """At the first start make the admin token and leave it, for its owner alone, to local commands.

        A hub whose file was lost gets a new token; the old one stops working.
        """
        if file.is_file() and self._is_admin(file.read_text(encoding="ascii").strip()):
            return
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_tokens WHERE name = 'admin'")
            token = self._issue(db, "admin", {Scope.ADMIN}, None)
        partial = file.with_name(file.name + ".part")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(token + "\n")
        partial.replace(file)

    def _is_admin(self, token: str) -> bool:
        try:
            return self.identify(token).may(Scope.ADMIN)
        except UnauthorizedError:
            return False


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
