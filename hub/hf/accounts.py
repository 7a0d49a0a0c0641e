"""Who am I, and what clients ask beside repos."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Response, get, post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import signed_in
from hub.accounts.tokens import Identity, Scope
from hub.errors import UnknownUserError
from hub.hf import schemas
from hub.hf.cards import problems_of
from hub.hf.context import Hf, HubRequest


@get("/api/whoami-v2", sync_to_thread=True)
def whoami(hf: Hf, request: HubRequest) -> dict[str, Any]:
    """The user of the token."""
    who = signed_in(request.user)
    fullname, email, teams = who.owner, "", tuple(sorted(who.teams))
    try:
        if who.user:
            user = hf.users.get(who.user)
            fullname, email, teams = user.fullname, user.email, user.teams
    except UnknownUserError:
        pass
    role = "write" if who.may(Scope.CONTRIBUTE) else "read"
    return {
        "type": "user",
        "id": who.owner,
        "name": who.owner,
        "fullname": fullname,
        "email": email,
        "emailVerified": bool(email),
        "isPro": False,
        "canPay": False,
        "periodEnd": None,
        "avatarUrl": "",
        "orgs": [_team(team, fullname, who) for team, fullname in hf.users.team_names(teams).items()],
        "auth": {"type": "access_token", "accessToken": {"displayName": who.name, "role": role}},
    }


def _team(name: str, fullname: str, who: Identity) -> dict[str, Any]:
    return {
        "type": "org",
        "id": name.lower(),
        "name": name,
        "fullname": fullname,
        "isEnterprise": False,
        "avatarUrl": "",
        "roleInOrg": "write" if who.may(Scope.CONTRIBUTE) else "read",
    }


@get("/api/users/{user:str}/overview", sync_to_thread=True)
def user_overview(hf: Hf, user: FromPath[str], request: HubRequest) -> dict[str, Any]:
    """What users may know of one another."""
    signed_in(request.user)
    found = hf.users.get(user)
    return {
        "_id": found.name,
        "user": found.name,
        "fullname": found.fullname,
        "type": "user",
        "avatarUrl": "",
        "isPro": False,
        "orgs": [],
    }


@post("/api/validate-yaml", sync_to_thread=True, status_code=HTTP_200_OK)
def validate_yaml(request: HubRequest, data: JSONBody[schemas.ValidateYaml]) -> Response[Any]:
    """Whether a README's head can be used; told as JSON, or as lines of text to whom asks for that."""
    errors, warnings = problems_of(data.content, data.repo_type)
    if request.headers.get("accept", "").startswith("text/plain"):
        lines = [f"- Error: {one}" for one in errors] + [f"- Warning: {one}" for one in warnings]
        return Response("\n".join(lines), status_code=400 if errors else HTTP_200_OK, media_type=MediaType.TEXT)
    body = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return Response(body, status_code=400 if errors else HTTP_200_OK)
