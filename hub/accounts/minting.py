"""Making tokens for people: a token gives no scope and no lifetime that it has not itself, through whatever door."""

from __future__ import annotations

import time

from hub.accounts.tokens import OF_THE_HUB, TEAM_SCOPE, Identity, Kind, Scope, Tokens
from hub.accounts.users import Users
from hub.errors import ForbiddenError, InputError
from hub.schemas.core import TokenIn
from registry.types import check_name


def mint(tokens: Tokens, users: Users, who: Identity, asked: TokenIn) -> str:
    """Make the token: the operator for anybody, people for themselves, with no more scopes than they use now.

    Returns its value. Raises ForbiddenError, InputError, UnknownUserError, InvalidNameError.
    """
    user, team = asked.user, asked.team
    if not who.may(Scope.ADMIN):
        if who.kind is not Kind.PERSON or user not in (None, who.user) or asked.value is not None or team is not None:
            raise ForbiddenError(f"the token {who.name!r} lacks the scope 'admin'")
        user = who.user
        for scope in asked.scopes:
            who.require(Scope(scope))
    require_lifetime(who, asked.seconds)
    if user is not None:
        user = users.get(user).name
    if "admin" in asked.scopes and (user is not None or team is not None):
        raise InputError("a user's or team's token cannot be the operator's; leave the user and the team out")
    scopes: list[str] = list(asked.scopes)
    if team is not None:
        if user is not None:
            raise InputError("a token is a user's or a team's, not both")
        check_name(team, "team")
        if team.lower() in OF_THE_HUB:
            raise InputError(f"{team!r} is a reserved name")
        scopes.append(TEAM_SCOPE + team.lower())
    return tokens.issue(asked.name, scopes, seconds=asked.seconds, user=user, value=asked.value, known=True)


def require_lifetime(who: Identity, seconds: float | None) -> None:
    """Raise ForbiddenError if something that lasts `seconds` (None: for ever) outlives the token that makes it."""
    if who.expires_at is None:
        return
    left = who.expires_at - time.time()
    if seconds is None or seconds > left:
        raise ForbiddenError(
            f"the token {who.name!r} ends in {max(0.0, left):.0f} seconds; what it makes cannot last longer"
        )
