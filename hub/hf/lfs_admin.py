"""A repo's large files as a whole: what they are, copies to other repos, and removal from all history."""

from __future__ import annotations

from typing import Any

from litestar import Controller, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.errors import InputError
from hub.hf import schemas
from hub.hf.context import Hf, HubRequest, Repo, open_repo, repo_id
from hub.protocol.service import HubProtocol
from hub.protocol.views import Json, is_large, time_of
from registry.repos.purge import purge
from registry.types import RepoInfo


class LargeFileController(Controller):
    """What lies behind the pointers."""

    path = "/api/{kind:str}/{namespace:str}/{name:str}/lfs-files"

    @get("/", sync_to_thread=True)
    def list_files(self, hf: Hf, request: HubRequest, repo: Repo) -> list[Json]:
        """Every large file that a ref still shows, each once."""
        return _listed(hf, open_repo(hf, request, repo, "read"))

    @post("/batch", sync_to_thread=True, status_code=HTTP_200_OK)
    def remove(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.LfsFilesBatch]) -> Json:
        """Take files out of the repo's whole history."""
        info = open_repo(hf, request, repo, "manage")
        if not data.deletions.rewrite_history:
            raise InputError("files that a history names cannot go without rewriting it")
        purge(hf.registry.catalog, hf.registry.repos, hf.registry.blobs, info.id, data.deletions.sha)
        return {"success": True}

    @post("/duplicate", sync_to_thread=True, status_code=HTTP_200_OK)
    def duplicate(self, hf: Hf, request: HubRequest, repo: Repo, data: JSONBody[schemas.CopyFiles]) -> Json:
        """Whether these files may be committed to another repo: no byte moves, both name the same blobs."""
        source = open_repo(hf, request, repo, "download")
        space, slash, short = data.target.name.partition("/")
        if not slash:
            raise InputError("the target must read 'namespace/name'")
        open_repo(hf, request, repo_id(f"{data.target.type}s", space, short), "write")
        failed = []
        for file in data.files:
            held = {holder.key for holder, _ in hf.registry.directory.holders(file.sha256)}
            if source.key not in held:
                failed.append({"sha256": file.sha256, "error": "no file of the source"})
        return {"failed": failed}


def _listed(hf: HubProtocol, info: RepoInfo) -> list[Json]:
    repos = hf.registry.repos
    found: dict[str, dict[str, Any]] = {}
    refs = sorted(repos.refs(info.id), key=lambda ref: (ref.name != "main", ref.kind != "branch", ref.name))
    files, times = repos.trees_of([ref.commit for ref in refs]), repos.times_of([ref.commit for ref in refs])
    for ref in refs:
        for entry in files[ref.commit]:
            if is_large(entry) and entry.sha256 not in found:
                found[entry.sha256] = {
                    "fileOid": entry.sha256,
                    "filename": entry.path,
                    "oid": entry.sha256,
                    "pushedAt": time_of(times[ref.commit]),
                    "ref": ref.name,
                    "size": entry.size,
                }
    return list(found.values())
