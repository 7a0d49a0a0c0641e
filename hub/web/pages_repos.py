"""A repository as the protocol keeps it: its files, how to get them, and what was left out or refused."""

from __future__ import annotations

from litestar import Response, get

from hub.errors import InputError
from hub.migrations.tables import timestamp
from hub.protocol.views import oid_of
from hub.web.dependencies import Parts, Text
from hub.web.guards import WebRequest, identity_of
from hub.web.render import page
from registry.errors import RevisionNotFoundError
from registry.repos.repos import MAIN
from registry.types import RepoId

MAX_FILES = 500
_KINDS = ("model", "dataset")


@get("/repos/{kind:str}/{namespace:str}/{name:str}", sync_to_thread=True)
def one_repo(request: WebRequest, web: Parts, kind: Text, namespace: Text, name: Text) -> Response[str]:
    """For whoever may see the repository."""
    if kind not in _KINDS:
        raise InputError(f"a repository is a model or a dataset, no {kind}")
    hf = web.services.hf
    repo = RepoId("model" if kind == "model" else "dataset", namespace, name)
    info = hf.access.find(repo, identity_of(request), "read").info
    try:
        commit = hf.registry.repos.resolve(info.id, f"refs/heads/{MAIN}")
        files = hf.registry.repos.tree(info.id, commit.id)
    except RevisionNotFoundError:
        commit, files = None, ()
    address = web.services.settings.url
    prefix = "datasets/" if info.id.type == "dataset" else ""
    return page(
        request,
        "repo.html",
        here="datasets" if info.id.type == "dataset" else "cells",
        repo=str(info.id),
        kind=info.id.type,
        files=[(file.path, file.size) for file in files[:MAX_FILES]],
        more=max(0, len(files) - MAX_FILES),
        commit=oid_of(commit.id) if commit else "",
        clone=f"git clone {address}/{prefix}{info.id}",
        notices=[(one.kind, one.path, one.reason, one.who, timestamp(one.happened_at)) for one in hf.notices.of(info)],
    )
