"""Whole datasets to the hub and from it: several files at a time, and on again after whatever broke in between."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from hub.client.calls import sha256_of
from hub.client.client import HubClient
from hub.errors import HubAnswerError, HubUnavailableError, InputError
from hub.schemas import core as s
from hub.schemas import resources as r
from registry.types import check_path

T = TypeVar("T")
Report = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""

PARALLEL = 4
PATIENCE_SECONDS = 180.0
"""How long a hub that does not answer is waited for: a restart, not an outage."""
_STEP = 4 * 1024**2
"""Bytes of one part of a large file: what is lost at most when a connection breaks."""


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def push_folder(
    client: HubClient,
    name: str,
    folder: Path,
    message: str,
    *,
    private: bool = True,
    progress: Report = _silent,
    patience: float = PATIENCE_SECONDS,
) -> s.Commit:
    """Make the dataset hold exactly the files of `folder`; hidden ones stay. Only what the hub lacks travels.

    A push that was interrupted goes on when it is started again. Raises HubAnswerError, HubUnavailableError,
    and InputError for a folder without files.
    """
    paths = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if not paths:
        raise InputError(f"{folder}: no files to push")
    with ThreadPoolExecutor(2) as pool:  # hashing is outside Python's lock
        digests = list(pool.map(sha256_of, paths.values()))
    files = [
        r.ManifestFile(path=inside, size=path.stat().st_size, sha256=digest)
        for (inside, path), digest in zip(paths.items(), digests, strict=True)
    ]
    source = dict(zip(digests, paths.values(), strict=True))
    upload = _patient(lambda: client.start_upload(name, files, message, private=private), patience)
    sender = _Sender(client, upload, source, progress, patience)
    for _ in range(3):  # a file may be gone again: the hub was set back, or its content was refused and sent anew
        if upload.commit is not None or not upload.missing:
            break
        sender.send(upload.missing)
        upload = _patient(partial(client.upload, upload.id), patience)
    return _patient(lambda: client.commit_upload(upload.id), patience)


class _Sender:
    """Sends files of one upload, and counts their bytes."""

    def __init__(
        self, client: HubClient, upload: r.Upload, source: dict[str, Path], progress: Report, patience: float
    ) -> None:
        self._client = client
        self._upload = upload
        self._source = source
        self._progress = progress
        self._patience = patience
        self._done = upload.bytes - sum(file.size - file.received for file in upload.missing)
        self._tell(0)

    def send(self, missing: Sequence[r.MissingFile]) -> None:
        with ThreadPoolExecutor(PARALLEL) as pool:
            futures = [pool.submit(self._file, file) for file in missing]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                for future in futures:
                    future.cancel()
                raise

    def _file(self, file: r.MissingFile) -> None:
        at = file.received
        step = self._upload.part_bytes if file.size <= self._upload.part_bytes and at == 0 else _STEP
        while True:
            with self._source[file.sha256].open("rb") as content:
                content.seek(at)
                data = content.read(step)
            try:
                answer = _patient(
                    lambda at=at, data=data: self._client.put_file(  # type: ignore[misc]
                        self._upload.id, file.sha256, data, offset=at, total=file.size
                    ),
                    self._patience,
                )
            except HubAnswerError as error:
                if error.slug != "upload-state":
                    raise
                # A part arrived whose answer did not: ask where to go on.
                now = _patient(lambda: self._client.upload(self._upload.id), self._patience)
                found = next((one for one in now.missing if one.sha256 == file.sha256), None)
                if found is not None and found.received == at:
                    raise
                at = file.size if found is None else found.received
                step = _STEP
                if found is None:
                    return
                continue
            self._tell(answer.received - at)
            at = answer.received
            if answer.complete:
                return

    def _tell(self, more: int) -> None:
        self._done += more
        self._progress(min(self._done, self._upload.bytes), self._upload.bytes)


def pull_folder(client: HubClient, name: str, revision: str, folder: Path, *, progress: Report = _silent) -> s.Tree:
    """Make `folder` hold the files of a dataset's revision; those that are there already (by digest) stay.

    Other files of the folder are left alone. Raises HubAnswerError for a file that came damaged.
    """
    tree = client.tree("dataset", name, revision)
    total, done = sum(file.size for file in tree.files), 0
    progress(0, total)

    def fetch(file: s.File) -> int:
        check_path(file.path)  # it becomes a path of this disk, whoever the hub is
        target = folder / file.path
        if not _holds(target, file):
            got = _patient(lambda: client.download("dataset", name, tree.commit, file.path, target), PATIENCE_SECONDS)
            if got != file.sha256:
                target.unlink(missing_ok=True)
                raise HubAnswerError(502, "damaged-download", "Damaged download", f"{name}/{file.path}: wrong sha256")
        return file.size

    with ThreadPoolExecutor(PARALLEL) as pool:
        for size in pool.map(fetch, tree.files):
            done += size
            progress(done, total)
    return tree


def _holds(path: Path, file: s.File) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _patient(call: Callable[[], T], patience: float) -> T:
    """The call's answer, tried again while nobody answers, or the hub says that it cannot now."""
    deadline = time.monotonic() + patience
    pause = 0.2
    while True:
        try:
            return call()
        except HubUnavailableError:
            if time.monotonic() > deadline:
                raise
        except HubAnswerError as error:
            if error.status not in (502, 503) or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, 5.0)
