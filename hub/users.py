"""The people behind tokens: a name, which is also a namespace, and the namespaces of their teams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hub.errors import InputError, UnknownTeamError, UnknownUserError
from registry.catalog import Catalog, Cursor
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
        """Take a user away, with all their tokens; what they made stays. Raises UnknownUserError."""
        user = self.get(name)
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_tokens WHERE user_name = ?", [user.name])
            db.execute("DELETE FROM hub_users WHERE name = ?", [user.name])
            for hook in self.gone_hooks:
                hook(db, user.name.lower())

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
        one = self.get(user)
        others = [name for name in one.teams if name.lower() != known.name]
        self.put(one.name, teams=[*others, known.name] if member else others)
        return self.team(team)

    def delete_team(self, name: str) -> None:
        """Take a team away: its name, its limits and everybody's membership; its datasets stay. UnknownTeamError."""
        team = self.team(name)
        for member in team.members:
            one = self.get(member)
            self.put(member, teams=[other for other in one.teams if other.lower() != team.name])
        with self._catalog.write() as db:
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
