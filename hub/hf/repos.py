"""Repos over the protocol: making, renaming, settings, deleting, what they are, and the listing."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import ReaderStatus, signed_in
from hub.errors import UNREADABLE, InputError
from hub.hf import schemas
from hub.hf.context import KINDS, Hf, HubRequest, Repo, Text, flag, many, next_link, number, open_repo, repo_url
from hub.hf.paths import text
from hub.hf.problems import NotOfferedError, not_offered
from hub.migrations.tables import timestamp
from hub.protocol.attributes import default_attributes
from hub.protocol.service import HubProtocol
from hub.protocol.views import Json, info_view, oid_of
from registry.errors import NotFoundError, RepoExistsError, RepoNotFoundError, RevisionNotFoundError
from registry.repos.cards import Card
from registry.repos.directory import Listed, Order
from registry.repos.listing_cache import read_card
from registry.repos.repos import MAIN
from registry.types import Commit, FileEntry, Gating, RepoId, RepoInfo

FIRST_COMMIT = "initial commit"
MAX_PAGE = 1000
_ORDERS: dict[str, Order] = {"lastModified": "modified", "createdAt": "created"}
_ALWAYS = ("_id", "id")
_FULL = ("siblings", "sha", "lastModified")


def named(request: HubRequest, asked: schemas.CreateRepo | schemas.DeleteRepo) -> RepoId:
    """The repo a body names: its organization or the name's own prefix, else the caller's namespace."""
    who = signed_in(request.user)
    prefix, slash, name = asked.name.rpartition("/")
    namespace = asked.organization or (prefix if slash else who.home)
    return RepoId(_type(asked.type), namespace, name)


def _type(asked: str | None) -> Any:  # noqa: ANN401  # one of two words, narrowed by RepoId itself
    if asked not in (None, "model", "dataset"):
        raise InputError(f"this hub keeps models and datasets, no {asked}")
    return asked or "model"


@post("/api/repos/create", sync_to_thread=True, status_code=HTTP_200_OK)
def create_repo(hf: Hf, request: HubRequest, data: JSONBody[schemas.CreateRepo]) -> Response[Json]:
    """Create a repo with its first commit; 409 if it is there."""
    repo = named(request, data)
    who = signed_in(request.user)
    try:
        existing = hf.registry.directory.find(repo)
        taken = not existing.moved
    except RepoNotFoundError:
        taken = False
    if taken and hf.access.may_read(who, existing.info):
        url = repo_url(hf, request, existing.info.id)
        if not who.may_write(repo.type, str(repo)):
            who.require_write(repo.type, str(repo))
        message = f"You already created this {repo.type} repo: {existing.info.id}"
        return Response({"error": message, "url": url}, status_code=409, headers={"X-Error-Message": message})
    who.require_write(repo.type, str(repo))
    private = data.visibility == "private" if data.visibility else bool(data.private)
    info = hf.registry.repos.create(repo, private=private)
    content = default_attributes(repo.type)
    blob = hf.registry.blobs.put_bytes(content)
    entry = FileEntry(".gitattributes", blob.sha256, blob.size)
    hf.registry.repos.commit(repo, [entry], message=FIRST_COMMIT, author=who.owner)
    return Response(
        {"url": repo_url(hf, request, repo), "name": str(repo), "id": f"{info.key:024x}"}, status_code=HTTP_200_OK
    )


@delete("/api/repos/delete", sync_to_thread=True, status_code=HTTP_200_OK)
def delete_repo(hf: Hf, request: HubRequest, data: JSONBody[schemas.DeleteRepo]) -> Json:
    """Delete a repo."""
    found = hf.access.find(named(request, data), request.user, "manage")
    if found.moved:  # an old name is good for reading, not for deleting what has another one now
        raise RepoNotFoundError(data.name)
    hf.registry.repos.delete(found.info.id)
    return {}


@post("/api/repos/move", sync_to_thread=True, status_code=HTTP_200_OK)
def move_repo(hf: Hf, request: HubRequest, data: JSONBody[schemas.MoveRepo]) -> Response[Json]:
    """Rename a repo; its old name leads to the new one."""
    who = signed_in(request.user)
    source = RepoId.parse(data.from_repo, _type(data.type))
    target = RepoId.parse(data.to_repo, _type(data.type))
    found = hf.access.find(source, who, "manage")
    who.require_manage(str(target))
    who.require_write(target.type, str(target))
    try:
        hf.registry.directory.move(found.info.id, target)
    except RepoExistsError:
        message = f"A {target.type} repository called {target} already exists"
        return Response({"error": message}, status_code=409, headers={"X-Error-Message": message})
    return Response({"url": repo_url(hf, request, target)}, status_code=HTTP_200_OK)


class RepoInfoController(Controller):
    """One repo, and all of a kind."""

    path = "/api/{kind:str}"

    @get("/", sync_to_thread=True)
    def list_repos(self, hf: Hf, request: HubRequest, kind: Text) -> Response[list[Json]]:
        """Search."""
        if kind not in KINDS:
            raise NotOfferedError(not_offered(f"/api/{kind}"))
        readers = hf.access.readers(request.user)
        if readers is None:
            signed_in(None)
        assert readers is not None  # noqa: S101  # signed_in raised
        limit, offset = number(request, "limit", MAX_PAGE, MAX_PAGE), int(number(request, "offset", 1, 10**9))
        offset = offset if "offset" in request.query_params else 0
        gated = {"true": True, "false": False}.get(str(request.query_params.get("gated", "")).lower())
        search: dict[str, Any] = {
            "readers": readers,
            "terms": many(request, "search"),
            "namespace": request.query_params.get("author"),
            "gated": gated,
            "order": _ORDERS.get(str(request.query_params.get("sort", "")), "modified"),
        }
        tags = [tag for value in many(request, "filter", "tags") for tag in value.split(",") if tag]
        pipeline = request.query_params.get("pipeline_tag")
        search |= {"tags": tags, "pipeline_tag": str(pipeline) if pipeline else None}
        page = hf.registry.directory.search(KINDS[kind], limit=limit + 1, offset=offset, **search)
        more = len(page) > limit
        page = page[:limit]
        expand = many(request, "expand", "expand[]")
        full = flag(request, "full")
        files: dict[str, tuple[FileEntry, ...]] = {}
        if full or "siblings" in expand:
            files = hf.registry.repos.trees_of([one.head for one in page if one.head is not None])
        views = [_listed(hf, request, one, files.get(one.head or "")) for one in page]
        return Response(views, headers=next_link(hf, request, offset=offset + limit, limit=limit) if more else None)

    @get("/{namespace:str}/{name:str}", sync_to_thread=True)
    def repo_info(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """A repo as its main branch is."""
        info = open_repo(hf, request, repo, "read")
        try:
            commit = hf.registry.repos.resolve(info.id, f"refs/heads/{MAIN}")
        except RevisionNotFoundError:  # made, and nothing pushed yet
            commit = None
        return _info(hf, request, info, commit)

    @get("/{namespace:str}/{name:str}/revision/{revision:str}", sync_to_thread=True)
    def repo_info_at(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text) -> Json:
        """A repo as it is, or was, at a revision."""
        info = open_repo(hf, request, repo, "read")
        return _info(hf, request, info, hf.registry.repos.resolve(info.id, text(revision)))

    @put("/{namespace:str}/{name:str}/settings", sync_to_thread=True, status_code=HTTP_200_OK)
    def change_settings(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.Settings]) -> Json:
        """Who may see the repo."""
        info = open_repo(hf, request, repo, "manage")
        private = data.visibility == "private" if data.visibility else data.private
        gated: Gating | None = None
        if data.gated is not None:
            gated = data.gated if isinstance(data.gated, str) else ("auto" if data.gated else "no")
        info = hf.registry.directory.configure(info.id, private=private, gated=gated)
        return {"private": info.private, "gated": False if info.gated == "no" else info.gated}

    @get("/{namespace:str}/{name:str}/auth-check", sync_to_thread=True)
    def auth_check(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """Whether the caller may have the repo's files."""
        open_repo(hf, request, repo, "download")
        return {}

    @get("/{namespace:str}/{name:str}/auth-check/write", sync_to_thread=True)
    def auth_check_write(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """Whether the caller may write."""
        open_repo(hf, request, repo, "write")
        return {}


def _listed(hf: HubProtocol, request: HubRequest, one: Listed, files: tuple[FileEntry, ...] | None) -> Json:
    """A repo in a listing; `files` are shown if they were asked for."""
    view = info_view(one.info, one.head, one.modified, one.card)
    if files is not None:
        view["siblings"] = hf.views.siblings(files, blobs=False)
    if expand := many(request, "expand", "expand[]"):
        return {key: view[key] for key in (*_ALWAYS, *expand) if key in view}
    if not flag(request, "full") and not flag(request, "cardData"):
        view.pop("cardData", None)
    return view


class ReaderController(Controller):
    """Who may read a gated repo."""

    path = "/api/{kind:str}/{namespace:str}/{name:str}"

    @post("/ask-access", sync_to_thread=True, status_code=HTTP_200_OK)
    def ask(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """Ask to be let in."""
        who = signed_in(request.user)
        info = open_repo(hf, request, repo, "read")
        return {"status": hf.access.ask(info, who)}

    @get("/user-access-request/{status:str}", sync_to_thread=True)
    def readers(self, hf: Hf, request: HubRequest, repo: Repo, status: Text) -> list[Json]:
        """Users who ask, were let in, or were refused."""
        info = open_repo(hf, request, repo, "manage")
        if status not in ("pending", "accepted", "rejected"):
            raise InputError(f"{status!r} is no status of a reader")
        found = hf.access.readers_of(info, status)  # type: ignore[arg-type]  # one of three words, checked above
        return [
            {
                "requestId": request_id(info, user),
                "user": {"user": user, "fullname": user, "_id": user},
                "status": status,
                "timestamp": timestamp(since),
            }
            for user, since in found
        ]

    @post("/user-access-request/grant", sync_to_thread=True, status_code=HTTP_200_OK)
    def grant(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.ReaderChange]) -> Json:
        """Let a user in who did not ask."""
        info = open_repo(hf, request, repo, "manage")
        if info.gated == "no":
            raise InputError("the repository is not gated: whoever may see it may read it")
        if data.user is None:
            raise InputError("name a user")
        return _set_reader(hf, info, hf.users.get(data.user).name, "accepted")

    @post("/user-access-request/handle", sync_to_thread=True, status_code=HTTP_200_OK)
    def handle(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.ReaderChange]) -> Json:
        """Let a user in who asked, or not; by name, or by the id of what they asked."""
        info = open_repo(hf, request, repo, "manage")
        if (data.user is None) is (data.request_id is None):
            raise InputError("name a user, or a request by its id")
        if data.user is not None:
            user = hf.users.get(data.user).name
        else:
            known = {request_id(info, name): name for name in hf.access.all_readers(info)}
            user = known.get(data.request_id or "", "")
        if not user or hf.access.reader_status(info, user) is None:
            raise NotFoundError("there is no such access request")
        return _set_reader(hf, info, user, data.status)


def request_id(info: RepoInfo, user: str) -> str:
    """The name of a user's wish to read a repo: 24 hex characters, the same as long as the repo lives."""
    return hashlib.sha256(f"access\0{info.key}\0{user}".encode()).hexdigest()[:24]


def _set_reader(hf: HubProtocol, info: RepoInfo, user: str, status: ReaderStatus) -> Json:
    if hf.access.reader_status(info, user) == status:
        raise InputError(f"the request of {user!r} is {status} already")
    hf.access.set_reader(info, user, status)
    return {}


def _info(hf: HubProtocol, request: HubRequest, info: RepoInfo, commit: Commit | None) -> Json:
    files = hf.registry.repos.tree(info.id, commit.id) if commit else ()
    expand = many(request, "expand", "expand[]")
    modified = commit.created_at if commit else info.created_at
    view = info_view(info, commit.id if commit else None, modified, _card(hf, info, commit, files))
    view["siblings"] = hf.views.siblings(files, blobs=flag(request, "blobs"))
    view["usedStorage"] = sum(file.size for file in files)
    view["sha"] = oid_of(commit.id) if commit else None
    if info.id.type == "model":
        view["spaces"] = []
        if config := _config(hf, files):
            view["config"] = config
        if weights := hf.weights.of(files):
            view["safetensors"] = weights
    if expand:
        return {key: view[key] for key in (*_ALWAYS, *expand) if key in view}
    return view


def _card(hf: HubProtocol, info: RepoInfo, commit: Commit | None, files: tuple[FileEntry, ...]) -> Card:
    """What a state says of itself: kept for the main branch, read for any other."""
    if commit is None:
        return Card()
    head = hf.registry.directory.head(info.key)
    return head[1] if head is not None and head[0] == commit.id else read_card(hf.registry.blobs, files)


def _config(hf: HubProtocol, files: tuple[FileEntry, ...]) -> Json | None:
    """What people look for in a model's `config.json`."""
    entry = next((file for file in files if file.path == "config.json"), None)
    if entry is None or entry.size > 1024**2:
        return None
    try:
        config = msgspec.json.decode(hf.registry.blobs.read(entry.sha256), type=dict[str, Any])
    except UNREADABLE:
        return None
    return {key: config[key] for key in ("architectures", "model_type") if key in config}
