"""The client's side of users, teams, quotas and tokens."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import core as s
from hub.schemas import resources as r


class AccountCalls(Calls):
    """These calls, as part of `HubClient`."""

    def me(self) -> s.Me:
        """Who the token is, and what it may do."""
        return self._call("GET", "/me", s.Me)

    def put_user(self, name: str, *, fullname: str = "", teams: list[str] | None = None) -> s.User:
        """Make a user, or change the name and teams of one."""
        body = {"fullname": fullname, "teams": teams}
        return self._call("PUT", f"/users/{quote(name, safe='')}", s.User, body)

    def users(self) -> list[s.User]:
        """All users; for the operator."""
        return [user for page in self._pages("/users", list[s.User]) for user in page]

    def create_token(
        self,
        name: str,
        scopes: list[str],
        *,
        user: str | None = None,
        team: str | None = None,
        seconds: float | None = None,
        value: str | None = None,
    ) -> str:
        """Make a token. Returns it: the hub tells it this once."""
        body = {"name": name, "scopes": scopes, "user": user, "team": team, "seconds": seconds, "value": value}
        return self._call("POST", "/tokens", s.NewToken, body).token

    def tokens(self) -> list[s.Token]:
        """The tokens that the caller may see, without their secrets."""
        return self._call("GET", "/tokens", list[s.Token])

    def revoke_token(self, token_id: str) -> None:
        """End a token at once."""
        self._send("DELETE", f"/tokens/{quote(token_id, safe='')}")

    def teams(self) -> list[r.Team]:
        """The caller's teams; all of them for the operator."""
        return [team for page in self._pages("/teams", list[r.Team]) for team in page]

    def team(self, name: str) -> r.Team:
        """One team with its members."""
        return self._call("GET", _team(name), r.Team)

    def put_team(self, name: str, fullname: str) -> r.Team:
        """Make a team, or rename one."""
        return self._call("PUT", _team(name), r.Team, {"fullname": fullname})

    def delete_team(self, name: str) -> None:
        """Remove a team; refused while it has cells."""
        self._send("DELETE", _team(name))

    def set_member(self, team: str, user: str, *, member: bool) -> r.Team:
        """Take a user into a team, or out of it."""
        route = f"{_team(team)}/members/{quote(user, safe='')}"
        return self._call("PUT" if member else "DELETE", route, r.Team)

    def quota(self, team: str) -> r.Quota:
        """A team's limits and what it uses."""
        return self._call("GET", _team(team) + "/quota", r.Quota)

    def set_quota(self, team: str, wanted: r.QuotaIn) -> r.Quota:
        """Change a team's limits; what is not named stays."""
        return self._call("PUT", _team(team) + "/quota", r.Quota, wanted)


def _team(name: str) -> str:
    return f"/teams/{quote(name, safe='')}"
