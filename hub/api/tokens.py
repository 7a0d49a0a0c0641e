"""Users and their tokens; the operator's part."""

from __future__ import annotations

from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from hub import schemas as s
from hub.api.auth import requires
from hub.api.parts import Hub, Text
from hub.errors import InputError
from hub.tables import timestamp
from hub.tokens import Scope, TokenInfo
from hub.users import User


class UserController(Controller):
    """People and robots with tokens of their own."""

    path = "/users"
    tags = ("accounts",)
    guards = (requires(Scope.ADMIN),)

    @put("/{name:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def put_user(self, services: Hub, name: Text, data: JSONBody[s.UserIn]) -> s.User:
        """Make a user, or change one."""
        return _user(services.users.put(name, fullname=data.fullname, email=data.email, teams=data.teams))

    @get("/{name:str}", sync_to_thread=True)
    def get_user(self, services: Hub, name: Text) -> s.User:
        """One user."""
        return _user(services.users.get(name))


@put("/teams/{name:str}", sync_to_thread=True, guards=[requires(Scope.ADMIN)], tags=["accounts"])
def put_team(services: Hub, name: Text, data: JSONBody[s.TeamIn]) -> s.TeamIn:
    """Give a team, which is a namespace that several users may write, a name for people to read."""
    services.users.name_team(name, data.fullname)
    return data


class TokenController(Controller):
    """Tokens. Values are shown once, when they are made."""

    path = "/tokens"
    tags = ("accounts",)
    guards = (requires(Scope.ADMIN),)

    @get(sync_to_thread=True)
    def list_tokens(self, services: Hub) -> list[s.Token]:
        """All tokens but those of jobs, oldest first."""
        return [_token(info) for info in services.tokens.all()]

    @post(sync_to_thread=True)
    def create_token(self, services: Hub, data: JSONBody[s.TokenIn]) -> s.NewToken:
        """Make a token, or take one over that was made elsewhere."""
        if data.user is not None:
            services.users.get(data.user)
            if "admin" in data.scopes:
                raise InputError("a user's token cannot be the operator's; leave the user out")
        user = services.users.get(data.user).name if data.user else None
        value = services.tokens.issue(data.name, data.scopes, seconds=data.seconds, user=user, value=data.value)
        return s.NewToken(token=value)

    @delete("/{token_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def revoke_token(self, services: Hub, token_id: Text) -> None:
        """End a token, at once."""
        services.tokens.revoke(token_id)


def _user(user: User) -> s.User:
    return s.User(name=user.name, fullname=user.fullname, email=user.email, teams=list(user.teams))


def _token(info: TokenInfo) -> s.Token:
    return s.Token(
        id=info.id,
        name=info.name,
        user=info.user,
        scopes=list(info.scopes),
        created_at=timestamp(info.created_at),
        expires_at=None if info.expires_at is None else timestamp(info.expires_at),
    )
