"""Commits over the protocol: first the question how each file is to come, then the commit, a stream of lines."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import anyio.to_thread
import msgspec
from litestar import Controller, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import require_contributor, signed_in
from hub.errors import UNREADABLE
from hub.hf import schemas
from hub.hf.context import Hf, HubRequest, Repo, Text, flag, open_repo, repo_url
from hub.hf.paths import text
from hub.hf.problems import UnprocessableError
from hub.protocol.attributes import MAX_FILE, Attributes, ignored_files, large_files
from hub.protocol.discussions import pull_number
from hub.protocol.notices import unwanted
from hub.protocol.service import HubProtocol
from hub.protocol.views import REGULAR_LIMIT, Json, oid_of
from registry.canonical import sha256_of
from registry.catalog.cursor import Cursor
from registry.content.names import check_new_path
from registry.errors import (
    BlobNotFoundError,
    InvalidPathError,
    RefConflictError,
    RevisionNotFoundError,
    TooLargeError,
    UnsafeFileError,
)
from registry.repos.git_ids import git_sha1, insert_ids
from registry.repos.repos import MAIN, DeleteFile, DeleteFolder, Operation
from registry.types import UNSET, Digest, FileEntry, RepoId, RepoInfo, Unset, check_path

MAX_LINE = 24 * 1024**2
"""Bytes of one line, and so of what a commit holds in memory; larger files come as large files."""
BUNDLE_BYTES, BUNDLE_LINES = 1024**2, 500
MAX_OPERATIONS = 100_000
MAX_SUMMARY = 2000
_decode_line = msgspec.json.Decoder(schemas.CommitLine).decode


async def lines_of(chunks: AsyncIterator[bytes], limit: int = MAX_LINE) -> AsyncIterator[bytes]:
    """The stream's lines, without empty ones. Raises TooLargeError for one of more than `limit` bytes."""
    pending = bytearray()
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            pending += chunk[start:end]
            _check_line(pending, limit)
            if pending.strip():
                yield bytes(pending)
            pending.clear()
            start = end + 1
        pending += chunk[start:]
        _check_line(pending, limit)
    if pending.strip():
        yield bytes(pending)


def _check_line(pending: bytearray, limit: int) -> None:
    if len(pending) > limit:
        raise TooLargeError(limit)


@dataclass(slots=True)
class Draft:
    """A commit that is being received: the bytes are in the store already, nothing of it is visible."""

    header: schemas.HeaderValue | None = None
    deletions: list[Operation] = field(default_factory=list)
    regular: list[FileEntry] = field(default_factory=list)
    large: list[schemas.LfsFileValue] = field(default_factory=list)
    git_ids: dict[Digest, str] = field(default_factory=dict)
    count: int = 0


def take_lines(hf: HubProtocol, draft: Draft, lines: Sequence[bytes]) -> None:
    """Add lines to the draft, in their order. Raises as `take_line`."""
    for line in lines:
        take_line(hf, draft, line)


def take_line(hf: HubProtocol, draft: Draft, line: bytes) -> None:
    """Add a line to the draft. Raises UnprocessableError, InvalidPathError, BlobStoreError."""
    try:
        parsed = _decode_line(line)
    except UNREADABLE as error:
        raise UnprocessableError(f"line {draft.count + 1}: {error}") from error
    draft.count += 1
    if draft.count - (draft.header is not None) > MAX_OPERATIONS:
        raise UnprocessableError(f"more than {MAX_OPERATIONS} operations")
    match parsed:
        case schemas.HeaderLine(value):
            draft.header = value
        case schemas.FileLine(value):
            check_new_path(check_path(value.path))
            data = _content(value)
            sha256 = sha256_of(data)
            if sha256 not in draft.git_ids:  # the same bytes under many paths are written once
                hf.registry.blobs.put_bytes(data)
                draft.git_ids[sha256] = git_sha1(data)
            draft.regular.append(FileEntry(value.path, sha256, len(data)))
        case schemas.LfsFileLine(value):
            check_new_path(check_path(value.path))
            draft.large.append(value)
        case schemas.DeletedFileLine(value):
            draft.deletions.append(DeleteFile(value.path, or_folder=True))
        case schemas.DeletedFolderLine(value):
            draft.deletions.append(DeleteFolder(value.path.rstrip("/")))


def _content(value: schemas.FileValue) -> bytes:
    if value.encoding == "utf-8":
        return value.content.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(value.content, validate=True)
    except binascii.Error as error:
        raise UnprocessableError(f"{value.path}: the content is no base64") from error


class CommitController(Controller):
    """Writing."""

    path = "/api/{kind:str}/{namespace:str}/{name:str}"

    @post("/preupload/{revision:str}", sync_to_thread=True, status_code=HTTP_200_OK)
    def preupload(
        self,
        hf: Hf,
        request: HubRequest,
        repo: Repo,
        revision: Text,
        data: JSONBody[schemas.Preupload],
    ) -> Json:
        """How each file is to come, and what is there already."""
        info = _open(hf, request, repo, text(revision))
        if flag(request, "create_pr"):
            hf.registry.repos.branch_head(info.id, text(revision))
        files: Sequence[FileEntry] = ()
        try:
            files = hf.registry.repos.tree(info.id, text(revision))
        except RevisionNotFoundError:
            if text(revision) != MAIN:  # of an empty repo, main is no mistake
                raise
        before = {file.path: file for file in files}
        sent = data.git_attributes
        attributes = large_files(sent.encode() if sent else _small(hf, before.get(".gitattributes")))
        ignore = data.git_ignore.encode() if data.git_ignore is not None else _small(hf, before.get(".gitignore"))
        ignored = ignored_files(ignore)
        oids = hf.views.git_oids(before[file.path] for file in data.files if file.path in before)
        answers = []
        left_out: list[tuple[str, str]] = []
        for file in data.files:
            check_new_path(check_path(file.path))
            large = _comes_large(file, attributes)
            reason = unwanted(file.path, file.size, file.sample) if info.id.type == "model" else None
            if reason is not None:
                left_out.append((file.path, reason))
            answer: Json = {
                "path": file.path,
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": reason is not None or ignored.match(file.path),
            }
            if now := before.get(file.path):
                known = now.sha256 if large else oids.get(now.sha256)
                if known:
                    answer["oid"] = known
            answers.append(answer)
        who = signed_in(request.user)
        if who.may_write(info.id.type, str(info.id)):
            hf.notices.add(info, "left out", left_out, who.owner)
        return {"files": answers}

    @post("/commit/{revision:str}", status_code=HTTP_200_OK, request_max_body_size=None)
    async def commit(self, hf: Hf, request: HubRequest, repo: Repo, revision: Text) -> Json:
        """Apply a stream of changes, all or none."""
        info = await anyio.to_thread.run_sync(_open, hf, request, repo, text(revision))
        draft = Draft()
        # Each trip to a thread costs, and most lines are short: they go in bundles.
        bundle: list[bytes] = []
        size = 0
        async for line in lines_of(request.stream()):
            bundle.append(line)
            size += len(line)
            if size >= BUNDLE_BYTES or len(bundle) >= BUNDLE_LINES:
                await anyio.to_thread.run_sync(take_lines, hf, draft, bundle)
                bundle, size = [], 0
        await anyio.to_thread.run_sync(take_lines, hf, draft, bundle)
        return await anyio.to_thread.run_sync(_commit_or_note, hf, request, info, text(revision), draft)


def _open(hf: HubProtocol, request: HubRequest, repo: RepoId, revision: str) -> RepoInfo:
    """For a proposal it is enough to be able to read; its ref is its author's until it is merged."""
    # A proposal is made for a branch; what else the address names, is no place for one, and is refused as such.
    number = None if flag(request, "create_pr") else pull_number(revision)
    if number is None and not flag(request, "create_pr"):
        return open_repo(hf, request, repo, "write")
    who = require_contributor(request.user)
    info = open_repo(hf, request, repo, "download")
    if number is not None and hf.discussions.get(info, number).author != who.owner:
        who.require_write(info.id.type, str(info.id))
    return info


def _small(hf: HubProtocol, entry: FileEntry | None) -> bytes:
    return hf.registry.blobs.read(entry.sha256) if entry is not None and entry.size <= MAX_FILE else b""


def _comes_large(file: schemas.PreuploadFile, attributes: Attributes) -> bool:
    if file.size == 0:
        return False
    if file.size > REGULAR_LIMIT or attributes.match_file(file.path):
        return True
    try:
        sample = base64.b64decode(file.sample, validate=True)
    except binascii.Error:
        return False
    return b"\0" in sample


def _commit_or_note(hf: HubProtocol, request: HubRequest, info: RepoInfo, revision: str, draft: Draft) -> Json:
    """As `_commit`; that a file was refused, and all others with it, is shown on the repo's page as well."""
    try:
        return _commit(hf, request, info, revision, draft)
    except (UnsafeFileError, InvalidPathError) as error:
        who = signed_in(request.user)
        if who.may_write(info.id.type, str(info.id)):
            path = error.path if isinstance(error, UnsafeFileError) else error.value
            hf.notices.add(info, "refused", [(str(path)[:500], str(error))], who.owner)
        raise


def _commit(hf: HubProtocol, request: HubRequest, info: RepoInfo, revision: str, draft: Draft) -> Json:
    who = signed_in(request.user)
    header = draft.header
    if header is None or not header.summary.strip():
        raise UnprocessableError("a commit begins with a header that has a summary")
    repos = hf.registry.repos
    additions = [*draft.regular, *_large_entries(hf, request, draft.large)]
    brought = {entry.sha256: entry.size for entry in additions}
    hf.quota.check(info.id.namespace, brought)
    message = header.summary[:MAX_SUMMARY]
    if header.description:
        message += "\n\n" + header.description[: 9_000 - len(message)]
    parent: Digest | Unset | None = UNSET
    answer: Json = {"success": True}
    if header.parent_commit:
        head = repos.resolve(info.id, revision if revision.startswith("refs/") else f"refs/heads/{revision}").id
        parent = head if head.startswith(header.parent_commit) and len(header.parent_commit) >= 7 else None
        if parent is None:
            raise RefConflictError(info.id, revision, header.parent_commit, head)
    # What goes, goes first: a path may be taken away and given anew in one commit.
    operations = [*draft.deletions, *additions]
    number = pull_number(revision)

    def beside(tx: Cursor) -> None:
        insert_ids(tx, draft.git_ids)
        if number is not None:
            hf.discussions.noting(info, number, message, who.owner)(tx)

    if flag(request, "create_pr"):
        number = None  # the new one's commit is noted by `propose`
        made, commit = hf.discussions.propose(
            info,
            operations,
            title=header.summary[:200],
            description=header.description,
            message=message,
            author=who.owner,
            target=revision or MAIN,
            expected_parent=parent,
            beside=beside,
        )
        answer["pullRequestUrl"] = f"{repo_url(hf, request, info.id)}/discussions/{made.num}"
    else:
        commit = repos.commit(
            info.id,
            operations,
            message=message,
            author=who.owner,
            branch=revision,
            expected_parent=parent,
            beside=beside,
        )
    hf.quota.took(info.id.namespace, brought)
    oid = oid_of(commit.id)
    return answer | {"commitOid": oid, "commitUrl": f"{repo_url(hf, request, info.id)}/commit/{oid}", "hookOutput": ""}


def _large_entries(hf: HubProtocol, request: HubRequest, asked: Sequence[schemas.LfsFileValue]) -> list[FileEntry]:
    """Large files by their sha256, which the caller must have proven to possess. Raises BlobNotFoundError."""
    sizes = hf.ledger.sizes_of(signed_in(request.user), [file.oid for file in asked])
    entries = []
    for file in asked:
        size = sizes[file.oid]
        if size is None or file.size not in (None, size):
            raise BlobNotFoundError(file.oid, claimed=file.size)
        entries.append(FileEntry(file.path, file.oid, size, lfs=size > 0))
    return entries
