"""What clients ask beside one repo: copies of repos, what a namespace stores, what a team is."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import signed_in
from hub.accounts.tokens import Identity
from hub.errors import ForbiddenError, InputError
from hub.hf import schemas
from hub.hf.context import Hf, HubRequest, Repo, many, next_link, number, open_repo, repo_url
from hub.protocol.service import HubProtocol
from hub.protocol.views import Json, time_of
from registry.errors import RepoExistsError
from registry.repos.repos import MAIN
from registry.types import RepoId, RepoType

PAGE = 100


@post("/api/{kind:str}/{namespace:str}/{name:str}/duplicate", sync_to_thread=True, status_code=HTTP_200_OK)
def duplicate_repo(hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.Duplicate]) -> Response[Json]:
    """Make a repo with another one's files, as its main branch is; no byte is copied, no history taken along."""
    who = signed_in(request.user)
    source = open_repo(hf, request, repo, "download")
    wanted = data.repository or repo.name
    target = RepoId.parse(wanted if "/" in wanted else f"{who.home}/{wanted}", repo.type)
    who.require_write(target.type, str(target))
    asked = data.visibility == "private" if data.visibility else bool(data.private)
    # A copy of what not everybody may read is not for everybody either; its owners may open it, as a step of its own.
    private = asked or source.private or source.gated != "no"
    files = hf.registry.repos.tree(source.id, f"refs/heads/{MAIN}")
    hf.quota.check(target.namespace, {file.sha256: file.size for file in files})
    try:
        hf.registry.repos.create(target, private=private)
    except RepoExistsError:
        message = f"A {target.type} repository called {target} already exists"
        body = {"error": message, "url": repo_url(hf, request, target)}
        return Response(body, status_code=409, headers={"X-Error-Message": message})
    try:
        hf.registry.repos.commit(target, files, message=f"Duplicate from {source.id}", author=who.owner)
    except BaseException:
        hf.registry.repos.delete(target)
        raise
    return Response({"url": repo_url(hf, request, target), "filesCopyPending": False}, status_code=HTTP_200_OK)


@get("/api/settings/repositories", sync_to_thread=True)
def own_repositories(hf: Hf, request: HubRequest) -> Response[list[Json]]:
    """What the caller's own namespace stores."""
    return _stored(hf, request, signed_in(request.user).home)


@get("/api/organizations/{team:str}/settings/repositories", sync_to_thread=True)
def team_repositories(hf: Hf, request: HubRequest, team: FromPath[str]) -> Response[list[Json]]:
    """What a team's namespace stores, for its members."""
    who = signed_in(request.user)
    if who.job is not None or not who.sees(team):
        raise ForbiddenError(f"only members of {team!r} may list what it stores")
    return _stored(hf, request, team)


def _stored(hf: HubProtocol, request: HubRequest, namespace: str) -> Response[list[Json]]:
    kinds: list[RepoType] = ["model", "dataset"]
    if asked := [one for value in many(request, "type", "repoType") for one in value.split(",")]:
        kinds = [kind for kind in kinds if kind in asked]
    term = str(request.query_params.get("search", "")).lower()
    found = []
    for kind in kinds:
        for info in hf.registry.repos.list(kind, prefix="", namespaces=None, limit=1_000_000):
            if info.id.namespace.lower() == namespace.lower() and term in str(info.id).lower():
                found.append(info)
    views: list[Json] = []
    weights: list[int] = []
    for info in found:
        head = hf.registry.directory.head(info.key)
        files = hf.registry.repos.trees_of([head[0]])[head[0]] if head else ()
        times = hf.registry.repos.times_of([head[0]]) if head else {}
        weights.append(sum({file.sha256: file.size for file in files}.values()))
        views.append(
            {
                "id": str(info.id),
                "type": info.id.type,
                "updatedAt": time_of(times[head[0]] if head else info.created_at),
                "visibility": "private" if info.private else "public",
                "storage": weights[-1],
            }
        )
    for view in views:
        view["storagePercent"] = 100.0 * view["storage"] / (sum(weights) or 1)
    views.sort(key=lambda view: (-view["storage"], view["id"]))
    limit = number(request, "limit", PAGE, 1000)
    start = number(request, "skip", 1, 10**9) if request.query_params.get("skip", "0") != "0" else 0
    headers = next_link(hf, request, skip=start + limit) if len(views) > start + limit else None
    return Response(views[start : start + limit], headers=headers)


@get("/api/organizations/{team:str}/overview", sync_to_thread=True)
def team_overview(hf: Hf, request: HubRequest, team: FromPath[str]) -> Json:
    """What people may know of a team."""
    found = hf.users.team(team)
    who = signed_in(request.user)
    return {
        "_id": found.name,
        "name": team,
        "fullname": found.fullname,
        "type": "org",
        "avatarUrl": "",
        "details": "",
        "isEnterprise": False,
        "isVerified": False,
        "isFollowing": False,
        "numUsers": len(found.members),
        "numModels": len(_visible(hf, who, "model", found.name)),
        "numDatasets": len(_visible(hf, who, "dataset", found.name)),
        "numSpaces": 0,
        "numFollowers": 0,
        "numBuckets": 0,
    }


@get("/api/organizations/{team:str}/members", sync_to_thread=True)
def team_members(hf: Hf, request: HubRequest, team: FromPath[str]) -> list[Json]:
    """Who is in a team, for its members."""
    who = signed_in(request.user)
    if who.job is not None or not who.sees(team):
        raise ForbiddenError(f"only members of {team!r} may list them")
    return [
        {"_id": name, "user": name, "fullname": hf.users.get(name).fullname, "avatarUrl": "", "type": "user"}
        for name in hf.users.team(team).members
    ]


def _visible(hf: HubProtocol, who: Identity, kind: RepoType, namespace: str) -> list[Any]:
    readers = hf.access.readers(who)
    if readers is None:
        raise InputError("jobs list nothing")
    return hf.registry.directory.search(kind, readers=readers, namespace=namespace, limit=1_000_000)


HANDLERS = (duplicate_repo, own_repositories, team_repositories, team_overview, team_members)
