"""The people behind tokens: a name, which is also a namespace, and the namespaces of their teams."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hub.errors import InputError, UnknownUserError
from registry.catalog import Catalog
from registry.types import check_name

RESERVED = frozenset(
    {"admin", "api", "base", "cells", "datasets", "lfs", "models", "parcelhub", "schema", "spaces", "v1"}
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


class Users:
    """The user table. Names are unique whatever their case."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

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

    def get(self, name: str) -> User:
        """The user of this name, in any case. Raises UnknownUserError."""
        rows = self._catalog.query(f"{_SELECT} WHERE handle = ?", [name.lower()])
        if not rows:
            raise UnknownUserError(f"there is no user {name!r}")
        return User(rows[0][0], rows[0][1], rows[0][2], tuple(rows[0][3]))


_SELECT = "SELECT name, fullname, email, teams FROM hub_users"
