"""Accounts: users, teams with their quotas, and tokens."""

from __future__ import annotations

from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from hub.accounts.minting import mint
from hub.accounts.tokens import Identity, Scope, TokenInfo
from hub.accounts.users import Team, User
from hub.client.accounts import AccountCalls
from hub.errors import UnknownTeamError, UnknownTokenError
from hub.http.access_policy import ACCOUNT, OPERATOR, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.migrations.tables import timestamp
from hub.schemas import core as s
from hub.schemas import resources as r
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged


@get("/me", sync_to_thread=True, tags=["accounts"])
def get_me(request: HubRequest) -> s.Me:
    """Whose token this is, and what it may do."""
    who = identity_of(request)
    return s.Me(name=who.owner, user=who.user, token=who.name, scopes=sorted(who.scopes), teams=sorted(who.namespaces))


class UserController(Controller):
    """People and robots with tokens of their own."""

    path = "/users"
    tags = ("accounts",)
    guards = (requires(Scope.ADMIN),)

    @get(sync_to_thread=True)
    def list_users(
        self, services: Hub, request: HubRequest, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[s.User]]:
        """All users, by name."""
        found = [_user(user) for user in services.users.page(limit=limit + 1, after=after)]
        return paged(request, found, limit, lambda user: user.name)

    @put("/{name:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def put_user(self, services: Hub, name: Text, data: JSONBody[s.UserIn]) -> s.User:
        """Make a user, or change one."""
        return _user(services.users.put(name, fullname=data.fullname, email=data.email, teams=data.teams))

    @get("/{name:str}", sync_to_thread=True)
    def get_user(self, services: Hub, name: Text) -> s.User:
        """One user."""
        return _user(services.users.get(name))

    @delete("/{name:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def delete_user(self, services: Hub, name: Text) -> None:
        """Take a user away, with all their tokens."""
        services.users.delete(name)


class TeamController(Controller):
    """Teams: namespaces that several users may write. Their cells, datasets and jobs count for one quota."""

    path = "/teams"
    tags = ("accounts",)

    @get(sync_to_thread=True)
    def list_teams(
        self, services: Hub, request: HubRequest, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[r.Team]]:
        """The caller's teams, by name; all of them for the operator."""
        who = identity_of(request)
        only = None if _sees_all(who) else who.namespaces
        found = [_team(team) for team in services.users.teams(limit=limit + 1, after=after, only=only)]
        return paged(request, found, limit, lambda team: team.name)

    @get("/{name:str}", sync_to_thread=True)
    def get_team(self, services: Hub, request: HubRequest, name: Text) -> r.Team:
        """One team and its members."""
        _require_insight(identity_of(request), name)
        return _team(services.users.team(name))

    @put("/{name:str}", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.ADMIN)])
    def put_team(self, services: Hub, name: Text, data: JSONBody[s.TeamIn]) -> r.Team:
        """Make a team, or give one another name for people to read."""
        services.users.name_team(name, data.fullname)
        return _team(services.users.team(name))

    @delete("/{name:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT, guards=[requires(Scope.ADMIN)])
    def delete_team(self, services: Hub, name: Text) -> None:
        """Take a team away; its datasets and cells stay."""
        services.users.delete_team(name)

    @put("/{name:str}/members/{user:str}", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.ADMIN)])
    def add_member(self, services: Hub, name: Text, user: Text) -> r.Team:
        """Take a user into a team."""
        return _team(services.users.set_member(name, user, True))

    @delete(
        "/{name:str}/members/{user:str}", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.ADMIN)]
    )
    def remove_member(self, services: Hub, name: Text, user: Text) -> r.Team:
        """Take a user out of a team."""
        return _team(services.users.set_member(name, user, False))

    @get("/{name:str}/quota", sync_to_thread=True)
    def get_quota(self, services: Hub, request: HubRequest, name: Text) -> r.Quota:
        """What a team may use, and what it uses; a user's own namespace is a team, too."""
        _require_insight(identity_of(request), name)
        return services.quotas.get(name)

    @put("/{name:str}/quota", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.ADMIN)])
    def put_quota(self, services: Hub, name: Text, data: JSONBody[r.QuotaIn]) -> r.Quota:
        """Give a team limits of its own; null is the hub's default."""
        return services.quotas.set(name, data)


class TokenController(Controller):
    """Tokens. Values are shown once, when they are made."""

    path = "/tokens"
    tags = ("accounts",)

    @get(sync_to_thread=True)
    def list_tokens(self, services: Hub, request: HubRequest) -> list[s.Token]:
        """The caller's tokens, oldest first; for the operator all but those of jobs."""
        who = identity_of(request)
        found = [_token(info) for info in services.tokens.all()]
        return found if who.may(Scope.ADMIN) else [token for token in found if token.user == who.user and who.user]

    @post(sync_to_thread=True)
    def create_token(self, services: Hub, request: HubRequest, data: JSONBody[s.TokenIn]) -> s.NewToken:
        """Make a token: the operator for anybody, users for themselves and with no more scopes than they use now."""
        value = mint(services.tokens, services.users, identity_of(request), data)
        user = data.user or identity_of(request).user
        note(request, name=data.name, user=user, scopes=list(data.scopes))
        return s.NewToken(token=value)

    @delete("/{token_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def revoke_token(self, services: Hub, request: HubRequest, token_id: Text) -> None:
        """End a token, at once."""
        who = identity_of(request)
        if not who.may(Scope.ADMIN):
            own = {info.id for info in services.tokens.all() if who.user and info.user == who.user}
            if token_id not in own:
                raise UnknownTokenError(f"there is no token {token_id!r}")
        services.tokens.revoke(token_id)


def _sees_all(who: Identity) -> bool:
    return who.sees_all


def _require_insight(who: Identity, team: str) -> None:
    if not _sees_all(who) and team.lower() not in who.namespaces:
        raise UnknownTeamError(f"there is no team {team!r}")


def _user(user: User) -> s.User:
    return s.User(name=user.name, fullname=user.fullname, email=user.email, teams=list(user.teams))


def _team(team: Team) -> r.Team:
    return r.Team(name=team.name, fullname=team.fullname, members=list(team.members))


def _token(info: TokenInfo) -> s.Token:
    return s.Token(
        id=info.id,
        name=info.name,
        user=info.user,
        scopes=list(info.scopes),
        created_at=timestamp(info.created_at),
        expires_at=None if info.expires_at is None else timestamp(info.expires_at),
    )


RESOURCE = register(
    Resource(
        "accounts",
        [get_me, UserController, TeamController, TokenController],
        rules=grouped(
            ("", ACCOUNT, "GET /me, GET /tokens, POST /tokens, DELETE /tokens/{token_id}"),
            ("/teams", ACCOUNT, "GET, GET /{name}, GET /{name}/quota"),
            ("/users", OPERATOR, "GET, PUT /{name}, GET /{name}, DELETE /{name}"),
            ("/teams/{name}", OPERATOR, "PUT, DELETE, PUT /quota, PUT /members/{user}, DELETE /members/{user}"),
        ),
        calls=AccountCalls,
    )
)
