"""Trees, refs and histories over the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs

import anyio.to_thread
from litestar import Controller, Response, delete, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import signed_in
from hub.hf import schemas
from hub.hf.context import Hf, HubRequest, Repo, Text, decode, flag, many, next_link, number, open_repo
from hub.hf.paths import text
from hub.hf.problems import UnprocessableError
from hub.protocol.service import HubProtocol
from hub.protocol.views import Json, Node, commit_view, nodes_of, oid_of, refs_view
from registry.errors import EntryNotFoundError, RefExistsError, RevisionNotFoundError
from registry.repos.repos import MAIN
from registry.types import Commit, FileEntry, RepoId, RepoInfo

PAGE, PAGE_EXPANDED, PAGE_COMMITS = 1000, 50, 50
MAX_WALK = 300
"""Commits that are looked through for the last change of a file."""
WALK_AT_ONCE = 50
REPO = "/api/{kind:str}/{namespace:str}/{name:str}"


class TreeController(Controller):
    """What a revision holds."""

    path = REPO

    @get("/tree/{revision:str}", sync_to_thread=True)
    def root(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text) -> Response[list[Json]]:
        """The root folder."""
        return _listing(hf, request, open_repo(hf, request, repo, "read"), revision, "")

    @get("/tree/{revision:str}/{path:path}", sync_to_thread=True)
    def folder(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text, path: Text) -> Response[list[Json]]:
        """A folder."""
        info = open_repo(hf, request, repo, "read")
        return _listing(hf, request, info, revision, text(path))

    @post("/paths-info/{revision:str}", status_code=HTTP_200_OK)
    async def paths_info(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text) -> list[Json]:
        """Files and folders by their paths; unknown ones are left out."""
        body = await request.body()
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            try:
                form = parse_qs(body.decode(), max_num_fields=4000)
            except (ValueError, UnicodeDecodeError) as error:
                raise UnprocessableError(str(error)) from error
            expand = form.get("expand", ["false"])[-1].lower() in ("true", "1")
            asked = schemas.PathsInfo(form.get("paths", []), expand)
        else:
            asked = decode(body, schemas.PathsInfo)
        if len(asked.paths) > PAGE:
            raise UnprocessableError(f"at most {PAGE} paths")
        return await anyio.to_thread.run_sync(_paths_info, hf, request, repo, text(revision), asked)


def _paths_info(
    hf: HubProtocol, request: HubRequest, repo: RepoId, revision: str, asked: schemas.PathsInfo
) -> list[Json]:
    info = open_repo(hf, request, repo, "read")
    commit = hf.registry.repos.resolve(info.id, revision)
    files = hf.registry.repos.tree(info.id, commit.id)
    wanted = {path.strip("/") for path in asked.paths}
    nodes = [node for node in nodes_of(files, "", recursive=True) if node.path in wanted]
    return hf.views.tree(nodes, _last_changes(hf, info, commit, nodes) if asked.expand else None)


def _listing(hf: HubProtocol, request: HubRequest, info: RepoInfo, revision: str, folder: str) -> Response[list[Json]]:
    commit = hf.registry.repos.resolve(info.id, text(revision))
    files = hf.registry.repos.tree(info.id, commit.id)
    nodes = nodes_of(files, folder, recursive=flag(request, "recursive"))
    if folder and not nodes:
        raise EntryNotFoundError(info.id, commit.id, folder)
    expand = flag(request, "expand")
    limit = number(request, "limit", PAGE_EXPANDED if expand else PAGE, PAGE)
    if cursor := request.query_params.get("cursor"):
        nodes = [node for node in nodes if node.path.encode() > str(cursor).encode()]
    page, rest = nodes[:limit], nodes[limit:]
    headers = next_link(hf, request, cursor=page[-1].path) if rest else {}
    headers["X-Repo-Commit"] = oid_of(commit.id)
    last = _last_changes(hf, info, commit, page) if expand else None
    return Response(hf.views.tree(page, last), headers=headers)


def _last_changes(hf: HubProtocol, info: RepoInfo, commit: Commit, nodes: Sequence[Node]) -> dict[str, Commit]:
    """The newest commit that changed each of these; of old ones, the oldest that was looked at."""

    def states(files: Sequence[FileEntry]) -> dict[str, str]:
        return {node.path: node.folder_oid or str(node.entry) for node in nodes_of(files, "", recursive=True)}

    history = hf.registry.repos.history(info.id, commit.id, MAX_WALK)
    last: dict[str, Commit] = {}
    open_paths = {node.path for node in nodes}
    now = states(hf.registry.repos.tree(info.id, commit.id))
    trees: dict[str, tuple[FileEntry, ...]] = {}
    for at, (newer, older) in enumerate(zip(history, [*history[1:], None], strict=True)):
        if not open_paths:
            break
        if older is not None and older.tree == newer.tree:
            continue
        if older is not None and older.id not in trees:
            trees = hf.registry.repos.trees_of([each.id for each in history[at + 1 : at + 1 + WALK_AT_ONCE]])
        before = states(trees[older.id]) if older else {}
        changed = {path for path in open_paths if now.get(path) != before.get(path)}
        last |= dict.fromkeys(changed, newer)
        open_paths -= changed
        now = before
    return last | dict.fromkeys(open_paths, history[-1])


class HistoryController(Controller):
    """Refs and commits."""

    path = REPO

    @get("/refs", sync_to_thread=True)
    def list_refs(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """Branches, tags, and pull requests if asked for."""
        info = open_repo(hf, request, repo, "read")
        pulls = flag(request, "include_prs") or flag(request, "include_pull_requests")
        return refs_view(hf.registry.repos.refs(info.id), pulls=pulls)

    @get("/commits/{revision:str}", sync_to_thread=True)
    def list_commits(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text) -> Response[list[Json]]:
        """Newest first."""
        info = open_repo(hf, request, repo, "read")
        start = str(request.query_params.get("cursor", text(revision)))
        limit = number(request, "limit", PAGE_COMMITS, PAGE)
        found = hf.registry.repos.history(info.id, start, limit + 1)
        formatted = "formatted" in many(request, "expand", "expand[]")
        headers = {"X-Total-Count": str(len(found))} if len(found) <= limit else {}
        if len(found) > limit:
            headers |= next_link(hf, request, cursor=oid_of(found[limit].id))
        return Response([commit_view(commit, formatted=formatted) for commit in found[:limit]], headers=headers)

    @post("/branch/{branch:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def create_branch(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        branch: Text,
        data: JSONBody[schemas.NewBranch],
    ) -> Json:
        """Start a branch."""
        info = open_repo(hf, request, repo, "write")
        wanted = text(branch).removeprefix("refs/heads/")
        heads = {ref.name: ref.commit for ref in hf.registry.repos.refs(info.id) if ref.kind == "branch"}
        if wanted in heads:
            raise RefExistsError(info.id, wanted, heads[wanted])
        hf.registry.repos.branch(info.id, wanted, data.starting_point or f"refs/heads/{MAIN}")
        return {}

    @delete("/branch/{branch:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def delete_branch(self, hf: Hf, request: HubRequest, repo: Repo, branch: Text) -> Json:
        """Take a branch away."""
        info = open_repo(hf, request, repo, "write")
        hf.registry.repos.delete_ref(info.id, text(branch).removeprefix("refs/heads/"), "branch")
        return {}

    @post("/tag/{revision:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def create_tag(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        revision: Text,
        data: JSONBody[schemas.NewTag],
    ) -> Json:
        """Tag a revision."""
        info = open_repo(hf, request, repo, "write")
        commit = hf.registry.repos.resolve(info.id, text(revision))
        tags = {ref.name: ref.commit for ref in hf.registry.repos.refs(info.id) if ref.kind == "tag"}
        if data.tag in tags:
            raise RefExistsError(info.id, data.tag, tags[data.tag])
        hf.registry.repos.tag(info.id, data.tag, commit.id)
        return {}

    @delete("/tag/{tag:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def delete_tag(self, hf: Hf, request: HubRequest, repo: Repo, tag: Text) -> Json:
        """Take a tag away."""
        info = open_repo(hf, request, repo, "write")
        hf.registry.repos.delete_ref(info.id, text(tag), "tag")
        return {}

    @post("/super-squash/{branch:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def squash(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        branch: Text,
        data: JSONBody[schemas.Squash],
    ) -> Json:
        """Replace a branch's history by one commit."""
        info = open_repo(hf, request, repo, "manage")
        ref = text(branch)
        heads = {ref.name for ref in hf.registry.repos.refs(info.id) if ref.kind != "tag"}
        if ref.removeprefix("refs/heads/") not in heads:
            raise RevisionNotFoundError(info.id, ref)
        message = data.message or f"Super-squash branch '{ref}'"
        author = signed_in(request.user).owner
        commit = hf.registry.repos.squash(info.id, ref, message=message, author=author)
        return {"commitId": oid_of(commit.id)}
