"""Discussions and pull requests over the protocol."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import require_contributor
from hub.errors import ForbiddenError
from hub.hf import schemas
from hub.hf.context import Hf, HubRequest, Repo, decode, number, open_repo, repo_url
from hub.migrations.tables import timestamp
from hub.protocol.discussions import Discussion, Event
from hub.protocol.service import HubProtocol
from hub.protocol.views import Json, oid_of
from registry.repos.repos import MAIN
from registry.types import RepoId, RepoInfo

Number = FromPath[int]
PAGE = 50


class DiscussionController(Controller):
    """What is said and proposed."""

    path = "/api/{kind:str}/{namespace:str}/{name:str}/discussions"

    @get("/", sync_to_thread=True)
    def list_discussions(self, hf: Hf, request: HubRequest, repo: Repo) -> Json:
        """A page, newest first."""
        info = open_repo(hf, request, repo, "read")
        start = (number(request, "p", 0, 10**6) if request.query_params.get("p", "0") != "0" else 0) * PAGE
        wanted = {"pull_request": True, "discussion": False}.get(str(request.query_params.get("type", "")))
        status = request.query_params.get("status")
        author = request.query_params.get("author")
        found = [
            one
            for one in hf.discussions.all(info)
            if (wanted is None or one.pull is wanted)
            and (status in (None, "all") or (one.status == "open") is (status == "open"))
            and author in (None, one.author)
        ]
        page = found[start : start + PAGE]
        return {"discussions": [_brief(info, one) for one in page], "count": len(found), "start": start}

    @post("/", sync_to_thread=True, status_code=HTTP_200_OK)
    def create(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.NewDiscussion]) -> Json:
        """Begin one."""
        who = require_contributor(request.user)
        info = open_repo(hf, request, repo, "read")
        pull_from = MAIN if data.pull_request else None
        made = hf.discussions.open(info, data.title, data.description, who.owner, pull_from=pull_from)
        url = f"{repo_url(hf, request, info.id)}/discussions/{made.num}"
        return {"num": made.num, "url": url, "pullRequest": made.pull}

    @get("/{num:int}", sync_to_thread=True)
    def details(self, hf: Hf, request: HubRequest, repo: Repo, num: Number) -> Json:
        """One, with all that was said and done."""
        info = open_repo(hf, request, repo, "read")
        found = hf.discussions.get(info, num)
        view: Json = _brief(info, found) | {"events": [_event(event) for event in hf.discussions.events(info, num)]}
        if found.pull:
            changes: Json = {"base": found.target}
            merged = [one for one in view["events"] if one["data"].get("status") == "merged"]
            if merged and merged[-1]["data"].get("commit"):
                changes["mergeCommitId"] = merged[-1]["data"]["commit"]
            view |= {"changes": changes, "filesWithConflicts": [], "diff": ""}
        return view

    @post("/{num:int}/comment", sync_to_thread=True, status_code=HTTP_200_OK)
    def comment(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        num: Number,
        data: JSONBody[schemas.NewComment],
    ) -> Json:
        """Say something."""
        who = require_contributor(request.user)
        info = open_repo(hf, request, repo, "read")
        return {"newMessage": _event(hf.discussions.comment(info, num, data.comment, who.owner))}

    @post("/{num:int}/comment/{comment:int}/edit", sync_to_thread=True, status_code=HTTP_200_OK)
    def edit_comment(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        num: Number,
        comment: Number,
        data: JSONBody[schemas.EditedComment],
    ) -> Json:
        """Give a comment another text."""
        who = require_contributor(request.user)
        info = open_repo(hf, request, repo, "read")
        return {"updatedComment": _event(hf.discussions.edit(info, num, comment, data.content, who.owner))}

    @post("/{num:int}/comment/{comment:int}/hide", sync_to_thread=True, status_code=HTTP_200_OK)
    def hide_comment(self, hf: Hf, request: HubRequest, repo: Repo, num: Number, comment: Number) -> Json:
        """Take a comment's text away for good."""
        who = require_contributor(request.user)
        info = open_repo(hf, request, repo, "read")
        owner = who.may_write(info.id.type, str(info.id))
        return {"updatedComment": _event(hf.discussions.hide(info, num, comment, who.owner, owner=owner))}

    @post("/{num:int}/status", sync_to_thread=True, status_code=HTTP_200_OK)
    def status(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        num: Number,
        data: JSONBody[schemas.NewStatus],
    ) -> Json:
        """Open or close."""
        info, author = _owned(hf, request, repo, num)
        event = hf.discussions.set_status(info, num, data.status, author, data.comment or "")
        return {"newStatus": _event(event)}

    @post("/{num:int}/title", sync_to_thread=True, status_code=HTTP_200_OK)
    def title(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        num: Number,
        data: JSONBody[schemas.NewTitle],
    ) -> Json:
        """Rename."""
        info, author = _owned(hf, request, repo, num)
        return {"newTitle": _event(hf.discussions.rename(info, num, data.title, author))}

    @post("/{num:int}/merge", status_code=HTTP_200_OK)
    async def merge(self, hf: Hf, request: HubRequest, repo: Repo, num: Number) -> Json:
        """Bring a pull request's changes to its target; the body is optional."""
        asked = decode(await request.body(), schemas.Merge)
        return await anyio.to_thread.run_sync(_merge, hf, request, repo, num, asked)


def _merge(hf: HubProtocol, request: HubRequest, repo: RepoId, num: int, asked: schemas.Merge) -> Json:
    who = require_contributor(request.user)
    info = open_repo(hf, request, repo, "write")
    commit = hf.discussions.merge(info, num, who.owner, asked.comment or "")
    return {"mergeCommitOid": oid_of(commit.id), "newStatus": {"status": "merged"}}


def _owned(hf: HubProtocol, request: HubRequest, repo: RepoId, num: int) -> tuple[RepoInfo, str]:
    """For whoever began it, and for those who may write to the repo."""
    who = require_contributor(request.user)
    info = open_repo(hf, request, repo, "read")
    if hf.discussions.get(info, num).author != who.owner and not who.may_write(info.id.type, str(info.id)):
        raise ForbiddenError("only its author and the repository's owners may change a discussion")
    return info, who.owner


def _brief(info: RepoInfo, one: Discussion) -> Json:
    return {
        "num": one.num,
        "title": one.title,
        "author": {"name": one.author},
        "status": one.status,
        "isPullRequest": one.pull,
        "createdAt": timestamp(one.created_at),
        "repo": {"name": str(info.id), "type": info.id.type},
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "id": f"{event.seq}",
        "type": event.kind,
        "author": {"name": event.author},
        "createdAt": timestamp(event.happened_at),
        "data": event.data,
    }
