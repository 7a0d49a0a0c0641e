"""The client's side of repositories and their files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec

from hub.client.calls import CHUNK, Calls, away, check_answer, chunks_of, sha256_of, split_name
from hub.errors import HubAnswerError, InputError
from hub.schemas import core as s

ProgressCallback = Callable[[int, int], None]
"""Called with (files done, files in all)."""


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


class RepoCalls(Calls):
    """These calls, as part of `HubClient`."""

    def repos(self, type_: s.RepoType | None = None) -> list[s.Repo]:
        """Repositories that the caller sees."""
        wanted: dict[str, str] = {"type": type_} if type_ else {}
        return [repo for page in self._pages("/repos", list[s.Repo], wanted) for repo in page]

    def ensure_repo(self, type_: s.RepoType, name: str) -> None:
        """Create the repository unless it is there."""
        namespace, short = split_name(name)
        self._call("PUT", f"/repos/{type_}/{namespace}/{short}", s.Repo)

    def refs(self, type_: s.RepoType, name: str) -> list[s.Ref]:
        """Branches and tags."""
        return self._call("GET", f"/repos/{type_}/{name}/refs", list[s.Ref])

    def tree(self, type_: s.RepoType, name: str, revision: str) -> s.Tree:
        """The files of a revision."""
        return self._call("GET", f"/repos/{type_}/{name}/tree/{quote(revision, safe='')}", s.Tree)

    def download(self, type_: s.RepoType, name: str, revision: str, path: str, target: Path) -> str:
        """Stream one file of a repository to `target`. Returns its sha256."""
        route = f"/api/v1/repos/{type_}/{name}/files/{quote(revision, safe='')}/{quote(path)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", route) as response:
                if not response.is_success:
                    response.read()
                    check_answer(response)
                with partial.open("wb") as out:
                    for chunk in response.iter_bytes(CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
        except httpx.HTTPError as error:
            raise away(str(self._http.base_url), error) from error
        partial.replace(target)
        return digest.hexdigest()

    def download_tree(
        self,
        type_: s.RepoType,
        name: str,
        revision: str,
        folder: Path,
        progress: ProgressCallback = _silent,
    ) -> s.Tree:
        """Make `folder` hold the files of a revision; files that are there already (by digest) stay. Raises
        HubAnswerError for bytes that arrived wrong."""
        tree = self.tree(type_, name, revision)
        for number, file in enumerate(tree.files, start=1):
            target = folder / file.path
            if not target.is_file() or target.stat().st_size != file.size or sha256_of(target) != file.sha256:
                got = self.download(type_, name, tree.commit, file.path, target)
                if got != file.sha256:
                    raise HubAnswerError(
                        502, "damaged-download", "Damaged download", f"{name}/{file.path}: wrong sha256"
                    )
            progress(number, len(tree.files))
        return tree

    def has_blob(self, digest: str) -> bool:
        """Whether the hub has a blob that the caller may name."""
        response = self._send("HEAD", f"/blobs/{digest}", accept=(404,))
        return response.status_code != 404

    def put_blob(self, source: Path | bytes, digest: str | None = None) -> str:
        """Upload a blob unless the hub has it. Returns its sha256."""
        if digest is None:
            digest = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else sha256_of(source)
        if not self.has_blob(digest):
            content = source if isinstance(source, bytes) else chunks_of(source)
            self._send("PUT", f"/blobs/{digest}", content=content)
        return digest

    def push_folder(
        self,
        type_: s.RepoType,
        name: str,
        folder: Path,
        message: str,
        progress: ProgressCallback = _silent,
    ) -> s.Commit:
        """Make the repository's `main` hold exactly what `folder` holds. Only blobs the hub lacks travel. Raises
        InputError for an empty folder."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
        if not files:
            raise InputError(f"{folder}: no files to push")
        self.ensure_repo(type_, name)
        head = next((ref.commit for ref in self.refs(type_, name) if ref.name == "main"), None)
        before = {f.path: f.sha256 for f in self.tree(type_, name, head).files} if head else {}
        operations: list[dict[str, str]] = []
        for number, path in enumerate(files, start=1):
            inside, digest = path.relative_to(folder).as_posix(), sha256_of(path)
            if before.pop(inside, None) != digest:
                self.put_blob(path, digest)
                operations.append({"op": "put", "path": inside, "sha256": digest})
            progress(number, len(files))
        operations += [{"op": "delete", "path": path} for path in before]
        if not operations and head:
            return self._call("GET", f"/repos/{type_}/{name}/commits/{head}", s.Commit)
        return self.commit(type_, name, message, operations, expected_parent=head)

    def blob(self, digest: str) -> bytes:
        """A small blob, a training deck for instance."""
        return self._send("GET", f"/blobs/{digest}").content

    def commit(
        self,
        type_: s.RepoType,
        name: str,
        message: str,
        operations: list[dict[str, str]],
        *,
        expected_parent: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> s.Commit:
        """Commit uploaded blobs; `expected_parent` is the head it is made on (None: there is none yet)."""
        body: dict[str, object] = {"message": message, "operations": operations}
        if expected_parent is not msgspec.UNSET:
            body["expected_parent"] = expected_parent
        return self._call("POST", f"/repos/{type_}/{name}/commits", s.Commit, body)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
