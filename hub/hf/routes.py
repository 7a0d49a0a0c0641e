"""All of the protocol's handlers, as one router without a prefix: the protocol owns its addresses."""

from __future__ import annotations

import secrets

from litestar import Router
from litestar.datastructures import MutableScopeHeaders
from litestar.di import Provide
from litestar.types import Message, Scope

from hub.hf import accounts, commits, discussion_routes, files, git_routes, lfs, lfs_admin, more, repos, trees
from hub.hf.context import TokenMiddleware, protocol_of, repo_of_path
from hub.hf.problems import answer_error
from hub.hf.xet import XetTokenController
from hub.http.dependencies import services_of


def router() -> Router:
    """The routes; they find their parts in the application's services."""
    return Router(
        "/",
        route_handlers=[
            accounts.whoami,
            accounts.user_overview,
            accounts.validate_yaml,
            repos.create_repo,
            repos.delete_repo,
            repos.move_repo,
            repos.RepoInfoController,
            repos.ReaderController,
            trees.TreeController,
            trees.HistoryController,
            commits.CommitController,
            discussion_routes.DiscussionController,
            files.model_file,
            files.dataset_file,
            lfs.model_batch,
            lfs.dataset_batch,
            lfs.verify,
            lfs.put_object,
            lfs.get_object,
            lfs.put_part,
            lfs.complete,
            lfs_admin.LargeFileController,
            XetTokenController,
            *git_routes.HANDLERS,
            *more.HANDLERS,
        ],
        dependencies={
            "hf": Provide(protocol_of, sync_to_thread=False),
            "services": Provide(services_of, sync_to_thread=False),
            "repo": Provide(repo_of_path, sync_to_thread=False),
        },
        middleware=[TokenMiddleware],
        exception_handlers={Exception: answer_error},
        include_in_schema=False,
    )


async def add_request_id(message: Message, scope: Scope) -> None:  # noqa: ARG001  # a hook's signature
    """Give every answer an id: clients show it with errors."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        headers.setdefault("X-Request-Id", secrets.token_hex(12))
