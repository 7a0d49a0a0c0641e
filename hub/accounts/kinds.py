"""What kinds of identities there are, and the scopes that their tokens carry."""

from __future__ import annotations

from enum import StrEnum

ROBOT_SCOPE = "robot"
SITE_SCOPE = "site"
CELL_SCOPE = "cell:"
TEAM_SCOPE = "team:"


class Scope(StrEnum):
    """What a person's token may do. A job process has `job:<id>` instead, which is none of these."""

    READ = "read"
    CONTRIBUTE = "contribute"
    FINETUNE = "finetune"
    PROMOTE = "promote"
    ADMIN = "admin"


class Kind(StrEnum):
    """What an identity is. What each kind may do with which route is in `hub.http.access_policy`."""

    PERSON = "person"
    TEAM = "team"
    """A program of one team, without a person behind it."""
    ROBOT = "robot"
    SITE = "site"
    """What runs beside Triton: it sends what was observed, and fetches what the hub wishes."""
    JOB = "job"
    OPERATOR = "operator"
    ANONYMOUS = "anonymous"
    """Nobody known: no token, or one whose scopes make it none of the others."""


def kind_of_name(name: str, user: str | None) -> Kind:
    """The kind of whom a name alone is known, and the user behind it."""
    if user is not None:
        return Kind.PERSON
    word = name.partition(":")[0] if ":" in name else ""
    return {"job": Kind.JOB, "robot": Kind.ROBOT, "site": Kind.SITE, "team": Kind.TEAM}.get(word, Kind.OPERATOR)
