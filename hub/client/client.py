"""The typed client of the REST service, used by the commands, the worker and the job process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from hub.client.calls import CHUNK, JSON_HEADERS, away, check_answer, chunks_of, decoded, sha256_of, split_name
from hub.client.labels import LabelCalls
from hub.client.production import ProductionCalls
from hub.client.provenance import ProvenanceCalls
from hub.client.refresh import RefreshCalls
from hub.client.service import ServiceCalls
from hub.client.webhooks import WebhookCalls
from hub.errors import HubAnswerError, HubUnavailableError, InputError
from hub.schemas import core as s

ProgressCallback = Callable[[int, int], None]
"""Called with (files done, files in all)."""

__all__ = ["HubClient", "ProgressCallback", "sha256_of", "split_name"]


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


class HubClient(ServiceCalls, ProductionCalls, LabelCalls, ProvenanceCalls, RefreshCalls, WebhookCalls):
    """One connection pool to one hub. Raises `HubAnswerError` (it said no) and `HubUnavailableError`."""

    # Cells, repositories, files

    def health(self) -> s.Health:
        return self._call("GET", "/health", s.Health)

    def cells(self) -> list[s.Cell]:
        return [cell for page in self._pages("/cells", list[s.Cell]) for cell in page]

    def create_cell(self, name: str, description: str = "", *, team: str = "", classes: Sequence[str] = ()) -> s.Cell:
        asked = {"name": name, "description": description, "team": team, "classes": list(classes)}
        return self._call("POST", "/cells", s.Cell, asked)

    def change_cell(
        self,
        name: str,
        *,
        description: str | None = None,
        team: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> s.Cell:
        asked = {"description": description, "team": team, "classes": None if classes is None else list(classes)}
        return self._call("PATCH", f"/cells/{quote(name, safe='')}", s.Cell, asked)

    def delete_cell(self, name: str) -> None:
        self._send("DELETE", f"/cells/{quote(name, safe='')}")

    def repos(self, type_: s.RepoType | None = None) -> list[s.Repo]:
        wanted: dict[str, str] = {"type": type_} if type_ else {}
        return [repo for page in self._pages("/repos", list[s.Repo], wanted) for repo in page]

    def ensure_repo(self, type_: s.RepoType, name: str) -> None:
        """Create the repository unless it is there."""
        namespace, short = split_name(name)
        self._call("PUT", f"/repos/{type_}/{namespace}/{short}", s.Repo)

    def refs(self, type_: s.RepoType, name: str) -> list[s.Ref]:
        return self._call("GET", f"/repos/{type_}/{name}/refs", list[s.Ref])

    def tree(self, type_: s.RepoType, name: str, revision: str) -> s.Tree:
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
        """Make `folder` hold the files of a revision; files that are there already (by digest) stay."""
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
        """Make the repository's `main` hold exactly what `folder` holds. Only blobs the hub lacks travel."""
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

    # Users and tokens

    def put_user(self, name: str, *, fullname: str = "", teams: list[str] | None = None) -> s.User:
        body = {"fullname": fullname, "teams": teams}
        return self._call("PUT", f"/users/{quote(name, safe='')}", s.User, body)

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
        body = {"name": name, "scopes": scopes, "user": user, "team": team, "seconds": seconds, "value": value}
        return self._call("POST", "/tokens", s.NewToken, body).token

    def tokens(self) -> list[s.Token]:
        return self._call("GET", "/tokens", list[s.Token])

    def revoke_token(self, token_id: str) -> None:
        self._send("DELETE", f"/tokens/{quote(token_id, safe='')}")

    # Jobs

    def finetune(self, request: s.FinetuneIn) -> s.Job:
        return self._call("POST", "/finetunes", s.Job, request)

    def jobs(self, *, limit: int | None = None, **wanted: str) -> list[s.Job]:
        """Newest first; `wanted`: `state`, `cell`, `team`."""
        return [job for page in self._pages("/jobs", list[s.Job], wanted, limit=limit) for job in page]

    def job(self, job_id: str) -> s.Job:
        return self._call("GET", f"/jobs/{job_id}", s.Job)

    def cancel(self, job_id: str) -> s.Job:
        return self._call("POST", f"/jobs/{job_id}/cancel", s.Job)

    def retry(self, job_id: str) -> s.Job:
        return self._call("POST", f"/jobs/{job_id}/retry", s.Job)

    def events(self, job_id: str, after: int = 0) -> Iterator[s.JobEvent]:
        """What happened to a job, from the start until its end, across broken connections."""
        failures, ended = 0, False
        while True:
            try:
                for event in self._event_stream(job_id, after):
                    after, failures = event.seq, 0
                    ended = event.kind == "state" and event.data["state"] in s.FINAL_STATES
                    yield event
                # The hub ends a stream with its job; a job that was tried again has more than one end behind it.
                if ended and self.job(job_id).state in s.FINAL_STATES:
                    return
            except (httpx.HTTPError, HubUnavailableError) as error:
                failures += 1
                if failures > 10:
                    raise HubUnavailableError(str(self._http.base_url), error) from error
            time.sleep(min(0.2 * 2**failures, 5.0))

    def _event_stream(self, job_id: str, after: int) -> Iterator[s.JobEvent]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        timeout = httpx.Timeout(60.0, read=60.0)  # the hub sends a comment every few seconds
        with self._http.stream("GET", f"/api/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                check_answer(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield msgspec.json.decode(line[5:], type=s.JobEvent)

    # The worker's and the job's side

    def claim(self, worker: str) -> s.Claim | None:
        response = self._send(
            "POST", "/jobs/claim", content=msgspec.json.encode({"worker": worker}), headers=JSON_HEADERS
        )
        return None if response.status_code == 204 else decoded(response, s.Claim)

    def heartbeat(self, job_id: str, worker: str, attempt: int) -> s.Heartbeat:
        return self._call("POST", f"/jobs/{job_id}/heartbeat", s.Heartbeat, {"worker": worker, "attempt": attempt})

    def release(self, job_id: str, worker: str, attempt: int, reason: str, *, crashed: bool) -> s.Job:
        body = {"worker": worker, "attempt": attempt, "reason": reason[:4000], "crashed": crashed}
        return self._call("POST", f"/jobs/{job_id}/release", s.Job, body)

    def report(self, job_id: str, progress: s.ProgressIn) -> s.Heartbeat:
        return self._call("POST", f"/jobs/{job_id}/progress", s.Heartbeat, progress)

    def finish(self, job_id: str, *, commit: str, deck: str, metrics: dict[str, Any]) -> s.Job:
        body = {"commit": commit, "deck": deck, "metrics": metrics}
        return self._call("POST", f"/jobs/{job_id}/finish", s.Job, body)

    def fail(self, job_id: str, error: str) -> s.Job:
        return self._call("POST", f"/jobs/{job_id}/fail", s.Job, {"error": error[:8000]})

    # Models

    def models(self) -> s.Models:
        pages = list(self._pages("/models", s.Models))
        return s.Models(bases=pages[0].bases, variants=[one for page in pages for one in page.variants])

    def variant(self, name: str) -> s.Version:
        """`name`: `<cell>@v3`."""
        cell, _, version = name.partition("@")
        return self._call("GET", f"/models/{quote(cell, safe='')}/{quote(version, safe='')}", s.Version)

    def promote(
        self,
        name: str,
        *,
        stage: str = "fleet",
        note: str = "",
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> s.Moved:
        """`expected`: the version that has the stage now (None: the base); refused if another one has it."""
        cell, _, version = name.partition("@")
        route = f"/models/{quote(cell, safe='')}/{quote(version, safe='')}/promote"
        body: dict[str, str | None] = {"stage": stage, "note": note}
        if not isinstance(expected, msgspec.UnsetType):
            body["expected"] = expected
        return self._call("POST", route, s.Moved, body)

    def rollback(
        self,
        cell: str,
        *,
        stage: str = "fleet",
        note: str = "",
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> s.Moved:
        """`expected`: the version to roll back; refused if another one has the stage by now."""
        body: dict[str, str | None] = {"stage": stage, "note": note}
        if not isinstance(expected, msgspec.UnsetType):
            body["expected"] = expected
        return self._call("POST", f"/models/{quote(cell, safe='')}/rollback", s.Moved, body)

    def routing(self) -> dict[str, Any]:
        return self._call("GET", "/routing", dict[str, Any])


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
