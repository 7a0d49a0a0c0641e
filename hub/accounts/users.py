"""The people behind tokens: a name, which is also a namespace, and the namespaces of their teams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hub.accounts.tokens import TEAM_SCOPE
from hub.errors import InputError, InUseError, UnknownTeamError, UnknownUserError
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.types import check_name

RESERVED = frozenset(
    {"admin", "api", "base", "cells", "datasets", "lfs", "models", "parcelhub", "schema", "spaces", "ui", "v1"}
    | {"xet", "xet-fetch"}
)
"""Names with a meaning of their own, in addresses or in the registry."""
MAX_TEAMS = 100
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class User:
    """A person or a robot with tokens."""

    name: str
    fullname: str
    email: str
    teams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Team:
    """A namespace that several users may write; `name` in lower case."""

    name: str
    fullname: str
    members: tuple[str, ...]


class Users:
    """The user table. Names are unique whatever their case."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now
        self.gone_hooks: list[Callable[[Cursor, str], None]] = []
        """Called inside the transaction that takes a user or a team away, with its name in lower case."""

    def put(self, name: str, *, fullname: str = "", email: str = "", teams: Iterable[str] | None = None) -> User:
        """Make a user, or change one: empty texts and `teams` None leave what is there.

        Raises InvalidNameError, InputError.
        """
        check_name(name, "user")
        wanted = None if teams is None else tuple(dict.fromkeys(teams))
        for team in wanted or ():
            check_name(team, "team")
        if name.lower() in RESERVED:
            raise InputError(f"{name!r} is a reserved name")
        if len(wanted or ()) > MAX_TEAMS or max(len(fullname), len(email)) > MAX_TEXT:
            raise InputError(f"at most {MAX_TEAMS} teams and {MAX_TEXT} characters of name and address")
        with self._catalog.write() as db:
            row = db.execute(f"{_SELECT} WHERE handle = ?", [name.lower()]).fetchone()
            before = User(row[0], row[1], row[2], tuple(row[3])) if row else User(name, name, "", ())
            user = User(
                before.name,
                fullname or before.fullname,
                email or before.email,
                before.teams if wanted is None else wanted,
            )
            db.execute(
                "INSERT INTO hub_users VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "fullname = excluded.fullname, email = excluded.email, teams = excluded.teams",
                [user.name, user.name.lower(), user.fullname, user.email, list(user.teams), self._now()],
            )
        return user

    def name_team(self, team: str, fullname: str) -> None:
        """Give a team a name for people to read. Raises InvalidNameError, InputError."""
        check_name(team, "team")
        if len(fullname) > MAX_TEXT:
            raise InputError(f"at most {MAX_TEXT} characters of name")
        with self._catalog.write() as db:
            db.execute("INSERT OR REPLACE INTO hub_teams VALUES (?, ?)", [team.lower(), fullname])

    def team_names(self, teams: Iterable[str]) -> dict[str, str]:
        """What people call these teams; a team without such a name is called as it is written."""
        wanted = list(teams)
        rows = self._catalog.query(
            "SELECT handle, fullname FROM hub_teams WHERE handle IN (SELECT unnest(?::VARCHAR[]))",
            [[team.lower() for team in wanted]],
        )
        known = dict(rows)
        return {team: known.get(team.lower(), team) for team in wanted}

    def page(self, *, limit: int, after: str = "") -> list[User]:
        """At most `limit` users by name, those behind `after`."""
        rows = self._catalog.query(f"{_SELECT} WHERE handle > ? ORDER BY handle LIMIT ?", [after.lower(), limit])
        return [User(row[0], row[1], row[2], tuple(row[3])) for row in rows]

    def delete(self, name: str) -> None:
        """Take a user away, with all their tokens, rights and unfinished uploads; what they made stays.

        Nothing is left that another user of the same name would inherit, but for the repositories of the namespace.
        Raises UnknownUserError.
        """
        with self._catalog.write() as db:
            row = db.execute(f"{_SELECT} WHERE handle = ?", [name.lower()]).fetchone()
            if row is None:
                raise UnknownUserError(f"there is no user {name!r}")
            known = str(row[0])
            db.execute("DELETE FROM hub_tokens WHERE user_name = ?", [known])
            db.execute("DELETE FROM hub_possessions WHERE owner = ?", [f"user:{known}"])
            db.execute("DELETE FROM hub_readers WHERE user_name = ?", [known])
            for table in ("hub_uploads", "hub_reservations"):
                db.execute(f"DELETE FROM {table} WHERE owner = ?", [f"user:{known}"])  # noqa: S608  # one of two
            db.execute("DELETE FROM hub_quotas WHERE team = ?", [known.lower()])
            db.execute("DELETE FROM hub_users WHERE name = ?", [known])
            for hook in self.gone_hooks:
                hook(db, known.lower())

    def teams(self, *, limit: int, after: str = "", only: Iterable[str] | None = None) -> list[Team]:
        """At most `limit` teams by name, those behind `after`: named ones, and those that a user is in.

        `only`: of these alone.
        """
        where, params = "handle > ?", [after.lower()]
        if only is not None:
            where += " AND list_contains(?::VARCHAR[], handle)"
            params.append(sorted(team.lower() for team in only))  # type: ignore[arg-type]
        rows = self._catalog.query(
            "WITH members AS (SELECT name, unnest(teams) AS team FROM hub_users), known AS ("  # noqa: S608
            "SELECT handle FROM hub_teams UNION SELECT DISTINCT lower(team) FROM members) "
            "SELECT handle, coalesce((SELECT fullname FROM hub_teams t WHERE t.handle = known.handle), handle),"
            " coalesce((SELECT list(name ORDER BY name) FROM members WHERE lower(team) = known.handle), [])"
            f" FROM known WHERE {where} ORDER BY handle LIMIT ?",
            [*params, limit],
        )
        return [Team(row[0], row[1], tuple(row[2])) for row in rows]

    def team(self, name: str) -> Team:
        """Raises UnknownTeamError."""
        found = self.teams(limit=1, only=[name])
        if not found:
            raise UnknownTeamError(f"there is no team {name!r}")
        return found[0]

    def set_member(self, team: str, user: str, member: bool) -> Team:
        """Take a user into a team, or out of it. Raises UnknownUserError, UnknownTeamError, InputError."""
        known = self.team(team)
        with self._catalog.write() as db:
            if not _is_team(db, known.name):
                raise UnknownTeamError(f"there is no team {team!r}")
            # Read where it is written: two changes of one user's teams at once must both be there afterwards.
            row = db.execute(f"{_SELECT} WHERE handle = ?", [user.lower()]).fetchone()
            if row is None:
                raise UnknownUserError(f"there is no user {user!r}")
            others = [name for name in row[3] if name.lower() != known.name]
            if member and len(others) >= MAX_TEAMS:
                raise InputError(f"{row[0]!r} is in {len(others)} teams; at most {MAX_TEAMS} are allowed")
            _set_teams(db, row[0], [*others, known.name] if member else others)
        found = self.teams(limit=1, only=[team])
        return found[0] if found else Team(known.name, known.fullname, ())  # it had no name, and no other member

    def delete_team(self, name: str) -> None:
        """Take a team away: its name, its limits, its own tokens and everybody's membership; its datasets stay.

        Raises UnknownTeamError, and InUseError while it has cells: another team of the name would have them.
        """
        team = self.team(name)
        with self._catalog.write() as db:
            cells = db.execute("SELECT name FROM hub_cells WHERE lower(team) = ? ORDER BY name", [team.name]).fetchall()
            if cells:
                raise InUseError(f"the team {team.name!r} has the cell {cells[0][0]!r}; give it to another team first")
            scope = TEAM_SCOPE + team.name
            db.execute("DELETE FROM hub_tokens WHERE list_contains(string_split(scopes, ' '), ?)", [scope])
            for member, _, _, teams in db.execute(f"{_SELECT} WHERE len(teams) > 0").fetchall():
                left = [other for other in teams if other.lower() != team.name]
                if len(left) != len(teams):
                    _set_teams(db, member, left)
            db.execute("DELETE FROM hub_teams WHERE handle = ?", [team.name])
            db.execute("DELETE FROM hub_quotas WHERE team = ?", [team.name])
            for hook in self.gone_hooks:
                hook(db, team.name.lower())

    def get(self, name: str) -> User:
        """The user of this name, in any case. Raises UnknownUserError."""
        rows = self._catalog.query(f"{_SELECT} WHERE handle = ?", [name.lower()])
        if not rows:
            raise UnknownUserError(f"there is no user {name!r}")
        return User(rows[0][0], rows[0][1], rows[0][2], tuple(rows[0][3]))


_SELECT = "SELECT name, fullname, email, teams FROM hub_users"


def _set_teams(db: Cursor, name: str, teams: list[str]) -> None:
    # One statement that puts the row in place: DuckDB turns an update of a list into a delete and an insert, which a
    # unique index refuses within one transaction.
    db.execute(
        "INSERT INTO hub_users SELECT name, handle, fullname, email, ?::VARCHAR[], created_at FROM hub_users"
        " WHERE name = ? ON CONFLICT (name) DO UPDATE SET teams = excluded.teams",
        [teams, name],
    )


def _is_team(db: Cursor, handle: str) -> bool:
    """Whether the team has a name of its own, or a member."""
    row = db.execute(
        "SELECT 1 FROM hub_teams WHERE handle = ? UNION ALL SELECT 1 FROM hub_users"
        " WHERE list_contains(list_transform(teams, lambda one: lower(one)), ?) LIMIT 1",
        [handle, handle],
    ).fetchone()
    return row is not None
