"""Bearer tokens and what they allow. The catalog keeps only the SHA-256 of a token."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hub.accounts.kinds import CELL_SCOPE as CELL_SCOPE
from hub.accounts.kinds import ROBOT_SCOPE as ROBOT_SCOPE
from hub.accounts.kinds import SITE_SCOPE as SITE_SCOPE
from hub.accounts.kinds import TEAM_SCOPE as TEAM_SCOPE
from hub.accounts.kinds import Kind as Kind
from hub.accounts.kinds import Scope as Scope
from hub.accounts.kinds import kind_of_name
from hub.errors import ForbiddenError, InputError, UnauthorizedError, UnknownTokenError, UnknownUserError
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.durable import write_file

log = logging.getLogger("parcelhub.hub")

PREFIX = "hf_"
"""What the official clients ask of a token; older ones begin with `ph_` and stay good."""
ID_LENGTH = 12
_IMPORTABLE = re.compile(r"[A-Za-z0-9_-]{24,200}")
_JOB = "job:"
_WRITE = "write:"
_READ = "read:"
_BLOB = "blob:"
OF_THE_HUB = frozenset({"base", "cells"})
"""Namespaces of repositories that no user or team has, whatever it is called."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks, and what they may do.

    A token of a user (`user` is set) writes only in that user's own namespace and in those of their teams (lower
    case), one of a team in that team's. One that the operator made without a user writes what its scopes say,
    whatever the namespace. `told_kind` is for who is known by name alone; else the scopes say the kind.
    `expires_at`: epoch seconds, None for a token without an end.
    """

    name: str
    scopes: frozenset[str]
    user: str | None = None
    teams: frozenset[str] = frozenset()
    expires_at: float | None = None
    told_kind: Kind | None = None

    @classmethod
    def known_as(cls, name: str, user: str | None, kind: Kind | None = None) -> Identity:
        """Somebody by name alone, as links and ledgers know them: no scope goes with it. A job stays a job, for which
        nothing exists that it was not given. Without `kind` the name says it: those of jobs, robots and teams begin
        with a word and a colon, which nobody can choose."""
        kind = kind or kind_of_name(name, user)
        teams = frozenset({name.split(":")[1].lower()}) if kind is Kind.TEAM and name.count(":") else frozenset()
        return cls(name, frozenset({name}) if kind is Kind.JOB else frozenset(), user, teams, told_kind=kind)

    @property
    def kind(self) -> Kind:
        """The kind: the least that the scopes allow, so that a token of several kinds has the rights of the lesser."""
        if self.told_kind is not None:
            return self.told_kind
        if ROBOT_SCOPE in self.scopes:
            return Kind.ROBOT
        if SITE_SCOPE in self.scopes:
            return Kind.SITE
        if self.job is not None:
            return Kind.JOB
        if Scope.ADMIN in self.scopes:
            return Kind.OPERATOR
        if self.user is not None:
            return Kind.PERSON
        if any(scope.startswith(TEAM_SCOPE) for scope in self.scopes):
            return Kind.TEAM
        return Kind.OPERATOR if self.scopes and self.scopes <= frozenset(Scope) else Kind.ANONYMOUS

    @property
    def sees_all(self) -> bool:
        """Whether everything of every team exists for this token: the operator's alone."""
        return self.kind is Kind.OPERATOR

    def may(self, scope: Scope) -> bool:
        """`admin` may everything; people, teams and the operator may read; a robot may not, and a job what it is
        given."""
        if self.kind not in (Kind.PERSON, Kind.TEAM, Kind.OPERATOR):
            return False
        return scope is Scope.READ or bool({scope, Scope.ADMIN} & self.scopes)

    @property
    def robot_cells(self) -> frozenset[str] | None:
        """The cells that a robot's token is for ("*": every one); None for all other tokens."""
        return self._cells if ROBOT_SCOPE in self.scopes else None

    @property
    def site_cells(self) -> frozenset[str] | None:
        """The cells that a site's token is for ("*": every one); None for all other tokens."""
        return self._cells if self.kind is Kind.SITE else None

    @property
    def _cells(self) -> frozenset[str]:
        return frozenset(one.removeprefix(CELL_SCOPE) for one in self.scopes if one.startswith(CELL_SCOPE))

    def require(self, scope: Scope) -> None:
        """Pass if the token has the scope. Raises ForbiddenError."""
        if not self.may(scope):
            raise ForbiddenError(f"the token {self.name!r} lacks the scope {scope.value!r}")

    @property
    def job(self) -> str | None:
        """The job whose process this is."""
        return next((scope.removeprefix(_JOB) for scope in self.scopes if scope.startswith(_JOB)), None)

    def given(self, type_: str, repo: str) -> bool:
        """Whether a job's token was made for reading this repository."""
        return f"{_READ}{type_}/{repo}".lower() in self.scopes

    @property
    def blobs(self) -> frozenset[str]:
        """The blobs that a job's token was made for, those it uploads itself aside."""
        return frozenset(scope.removeprefix(_BLOB) for scope in self.scopes if scope.startswith(_BLOB))

    @property
    def owner(self) -> str:
        """Whose name stands on commits, and who has proven to possess a blob."""
        if self.user is None and self.kind is Kind.TEAM and not self.name.startswith(TEAM_SCOPE):
            return f"{TEAM_SCOPE}{self.home}:{self.name}"  # two teams may call their tokens alike
        return self.user or self.name

    @property
    def home(self) -> str:
        """The namespace that is meant where none is named: the user's own, or the team's."""
        if self.kind is Kind.TEAM:
            return min(self.namespaces, default=self.name)
        return self.user or self.name

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces that are the caller's own, in lower case; those of the hub itself are nobody's."""
        if self.kind is Kind.TEAM:
            named = {scope.removeprefix(TEAM_SCOPE) for scope in self.scopes if scope.startswith(TEAM_SCOPE)}
            return (self.teams | named) - OF_THE_HUB
        return (self.teams | {self.user.lower()}) - OF_THE_HUB if self.user else frozenset()

    def may_write(self, type_: str, repo: str) -> bool:
        """Whether `require_write` is content."""
        try:
            self.require_write(type_, repo)
        except ForbiddenError:
            return False
        return True

    def require_write(self, type_: str, repo: str) -> None:
        """Users and teams write in their namespaces; contributors of the operator's write datasets; a job writes its
        own cell's repository; the rest is the operator's. Raises ForbiddenError."""
        if self.kind in (Kind.PERSON, Kind.TEAM):
            self._require_namespace(repo)
        elif self.kind is Kind.JOB:
            # Without a type it is a model: tokens of jobs that an older hub started.
            if not {f"{_WRITE}{type_}/{repo}", _WRITE + repo if type_ == "model" else ""} & self.scopes:
                raise ForbiddenError(f"the token {self.name!r} lacks the scope: a job writes what it was made for")
        elif type_ == "dataset":
            self.require(Scope.CONTRIBUTE)
        else:
            self.require(Scope.ADMIN)

    def require_manage(self, repo: str) -> None:
        """Renaming, deleting and opening a repository is its owners' part, and the operator's."""
        if self.kind in (Kind.PERSON, Kind.TEAM):
            self._require_namespace(repo)
        else:
            self.require(Scope.ADMIN)

    def _require_namespace(self, repo: str) -> None:
        namespace = repo.partition("/")[0]
        if not self.may(Scope.ADMIN) and namespace.lower() not in self.namespaces:
            raise ForbiddenError(f"{self.owner!r} has no write access to the namespace {namespace!r}")
        self.require(Scope.CONTRIBUTE)

    @property
    def seen(self) -> frozenset[str] | None:
        """The namespaces (lower case) whose private repositories exist for this token; None: all of them do.

        A job's sees what it is `given`.
        """
        return None if self.sees_all else self.namespaces

    def sees(self, namespace: str) -> bool:
        """Whether private repositories of the namespace exist for this token (`seen`)."""
        return self.seen is None or namespace.lower() in self.seen

    def owns(self, team: str) -> bool:
        """Whether the team's things are this token's to change, as far as its scopes go."""
        return self.sees_all or team.lower() in self.namespaces

    def require_team(self, team: str, what: str) -> None:
        """Raises ForbiddenError unless the caller may act for the team; a thing without a team is every person's."""
        if self.kind not in (Kind.PERSON, Kind.TEAM, Kind.OPERATOR):
            raise ForbiddenError(f"{what} is for people to change, and {self.name!r} is a {self.kind}'s token")
        if team and not self.owns(team):
            raise ForbiddenError(f"{what} belongs to the team {team!r}, which {self.owner!r} is not in")

    def require_upload(self) -> None:
        """Blobs are nobody's until a commit names them; whoever may commit somewhere may upload."""
        if self.job is None:
            self.require(Scope.CONTRIBUTE)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A token as it may be shown: `id` names it, and tells nothing of its value; times in epoch seconds."""

    id: str
    name: str
    user: str | None
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float | None


class Tokens:
    """The token table."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def issue(
        self,
        name: str,
        scopes: Iterable[str],
        *,
        seconds: float | None = None,
        user: str | None = None,
        value: str | None = None,
        known: bool = False,
    ) -> str:
        """Make a token. It is returned this once and cannot be recovered.

        `value` takes over a token that was made elsewhere, of another hub for instance. Raises InputError if that
        one could be guessed or is known already; with `known`, UnknownUserError if the user is not there by then: who
        gets the name later must not inherit a token.
        """
        if value is not None and not _IMPORTABLE.fullmatch(value):
            raise InputError("a token taken over needs 24 to 200 letters, digits, '-' or '_'")
        with self._catalog.write() as db:
            if value and db.execute("SELECT 1 FROM hub_tokens WHERE sha256 = ?", [_sha256(value)]).fetchone():
                raise InputError("this token is known already")
            if known and user and not db.execute("SELECT 1 FROM hub_users WHERE name = ?", [user]).fetchone():
                raise UnknownUserError(f"there is no user {user!r}")
            return self._issue(db, name, scopes, seconds, user, value)

    def all(self) -> list[TokenInfo]:
        """All tokens but those of jobs, oldest first."""
        rows = self._catalog.query(
            "SELECT sha256, name, user_name, scopes, created_at, expires_at FROM hub_tokens "
            "WHERE NOT starts_with(name, ?) ORDER BY created_at, sha256",
            [_JOB],
        )
        return [TokenInfo(row[0][:ID_LENGTH], row[1], row[2], tuple(row[3].split()), row[4], row[5]) for row in rows]

    def revoke(self, id_: str) -> None:
        """End a token. Raises UnknownTokenError, also for an id that is not of full length."""
        with self._catalog.write() as db:
            gone = db.execute(
                "DELETE FROM hub_tokens WHERE left(sha256, ?) = ? AND NOT starts_with(name, ?) RETURNING name",
                [ID_LENGTH, id_, _JOB],
            ).fetchall()
        if not gone:
            raise UnknownTokenError(f"there is no token {id_!r}")

    def issue_for_job(
        self,
        db: Cursor,
        job_id: str,
        cell: str,
        *,
        writes: Iterable[str] = (),
        reads: Iterable[str] = (),
        blobs: Iterable[str] = (),
        seconds: float,
    ) -> str:
        """The token of one run of a job's process, which may write to its cell's repository and to those in `writes`
        (`dataset/acme/dock-7`), read these and `reads`, and get the bytes of `blobs` (sha256), and nothing else.

        Part of the transaction that claims the job; the tokens of earlier runs stop working.
        """
        self.revoke_job(db, job_id)
        writes = {*writes, *([f"model/cells/{cell}"] if cell else [])}
        scopes = {_JOB + job_id, *(_WRITE + name for name in writes), *(_BLOB + digest for digest in blobs)}
        scopes |= {(_READ + name).lower() for name in (*reads, *writes)}
        return self._issue(db, _JOB + job_id, scopes, seconds)

    def revoke_job(self, db: Cursor, job_id: str) -> None:
        """A run that ended, or that lost its lease, can no longer speak for the job."""
        db.execute("DELETE FROM hub_tokens WHERE name = ?", [_JOB + job_id])

    def shift_jobs(self, db: Cursor, seconds: float) -> None:
        """The clock leapt ahead: the tokens of runs are good for as long as they were."""
        db.execute("UPDATE hub_tokens SET expires_at = expires_at + ? WHERE starts_with(name, ?)", [seconds, _JOB])

    def issue_in(self, db: Cursor, name: str, scopes: Iterable[str]) -> str:
        """As `issue`, as a part of the caller's transaction."""
        return self._issue(db, name, scopes, None)

    def _issue(
        self,
        db: Cursor,
        name: str,
        scopes: Iterable[str],
        seconds: float | None,
        user: str | None = None,
        value: str | None = None,
    ) -> str:
        token, now = value or PREFIX + secrets.token_urlsafe(32), self._now()
        expires = None if seconds is None else now + seconds
        row = [_sha256(token), name, " ".join(sorted(scopes)), now, expires, user]
        columns = "sha256, name, scopes, created_at, expires_at, user_name"
        db.execute(f"INSERT INTO hub_tokens ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)  # noqa: S608  # a constant
        return token

    def identify(self, token: str) -> Identity:
        """Whose token this is. Raises UnauthorizedError if it is nobody's, or expired."""
        return self.of_digest(_sha256(token))

    def of_digest(self, digest: str) -> Identity:
        """Whose token has this SHA-256, for sessions, which keep no token. Raises UnauthorizedError, as `identify`."""
        with self._catalog.read() as db:
            row = db.execute(
                "SELECT sha256, name, scopes, expires_at, user_name FROM hub_tokens WHERE sha256 = ?", [digest]
            ).fetchone()
            teams = row and row[4] and db.execute("SELECT teams FROM hub_users WHERE name = ?", [row[4]]).fetchone()
        # The lookup is by the hash of a 256-bit random token, so its timing tells nothing about any token;
        # the comparison is constant-time as well, whatever the catalog's equality does.
        if row is None or not hmac.compare_digest(row[0], digest):
            raise UnauthorizedError("unknown token")
        if row[3] is not None and row[3] < self._now():
            raise UnauthorizedError("expired token")
        names = frozenset(team.lower() for team in (teams or [()])[0])
        return Identity(row[1], frozenset(row[2].split()), row[4], names, row[3])

    def seconds_left(self, who: Identity) -> float | None:
        """How long the token behind an identity is good for; None without an end."""
        return None if who.expires_at is None else max(0.0, who.expires_at - self._now())

    def ensure_admin(self, file: Path) -> None:
        """At the first start make the admin token and leave it, for its owner alone, to local commands.

        A hub whose file was lost gets a new token; the old one stops working.
        """
        if file.is_file() and self._is_admin(file.read_text(encoding="ascii").strip()):
            return
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_tokens WHERE name = 'admin'")
            token = self._issue(db, "admin", {Scope.ADMIN}, None)
        leave_token(file, token)
        # Once, and not the token itself: logs are read by more people than the file.
        log.info("the operator's token is in %s; sign in with it at /ui/", file.absolute())

    def _is_admin(self, token: str) -> bool:
        try:
            return self.identify(token).may(Scope.ADMIN)
        except UnauthorizedError:
            return False


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def leave_token(file: Path, token: str) -> None:
    """Write a token, durably, into a file that its owner alone may read."""
    write_file(file, f"{token}\n".encode("ascii"), mode=0o600)
