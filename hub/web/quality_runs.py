"""The dataset check for pages: run once per revision, one at a time, in a process of its own.

Pictures of strangers are decoded there, not in the hub; it is the same command that people run on their own machine.
What was uploaded in a browser is first brought into the form that the hub stores, as `dataset push` does before it
sends anything: images and COCO annotations, one revision on from the files as they came.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from hub.jobs.plain_text import plain
from hub.settings import Settings
from hub.stack.processes import parcelhub_command
from registry.blobs.blobs import BlobStore
from registry.durable import write_file
from registry.errors import RefConflictError
from registry.repos.repos import DeleteFile, Operation, Repos
from registry.types import FileEntry, RepoId

log = logging.getLogger("parcelhub.web.quality")

MAX_SECONDS = 3600.0
MAX_WAITING = 50
CARD = "README.md"
_NAMED = 20
State = Literal["none", "waiting", "running"]


class Finding(msgspec.Struct, frozen=True):
    """One kind of trouble; `files` are places as `image` or `image: detail`."""

    severity: str
    check: str
    message: str
    count: int = 1
    files: list[str] = []


class Quality(msgspec.Struct, frozen=True):
    """What the check found, or the reason (`problem`) why it could not look; `notes` is what was left out or repaired
    when the files were uploaded and read.
    """

    images: int = 0
    instances: int = 0
    findings: list[Finding] = []
    problem: str = ""
    notes: list[str] = []


class _Checked(msgspec.Struct, frozen=True):
    quality: Quality | None = None


class _Read(msgspec.Struct, frozen=True):
    format: str
    images: int
    warnings: list[str] = []
    lost: list[str] = []


class _Wanted(NamedTuple):
    repo: RepoId
    commit: str
    tree: str
    convert_for: str
    left_out: Mapping[str, str]


class _GaveUpError(Exception):
    """Raised with the sentence to show where a check cannot go on."""


class QualityRuns:
    """Checks of revisions, by the digest of their tree. Use from any number of threads."""

    def __init__(self, folder: Path, repos: Repos, blobs: BlobStore, settings: Settings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._repos = repos
        self._blobs = blobs
        self._settings = settings
        self._waiting: queue.Queue[_Wanted | None] = queue.Queue(MAX_WAITING)
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    def found(self, repo: RepoId, commit: str) -> Quality | None:
        """What a finished check said."""
        try:
            return msgspec.json.decode(self._file(self._tree(repo, commit)).read_bytes(), type=Quality)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def state(self, repo: RepoId, commit: str) -> State:
        """Whether a check waits or runs."""
        return self._states.get(self._tree(repo, commit), "none")

    def start(
        self,
        repo: RepoId,
        commit: str,
        *,
        convert_for: str = "",
        left_out: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Have a revision checked, unless it is being checked or the queue is full.

        With `convert_for`, the author of the revision that comes of it, it is brought into the hub's form before.
        `left_out` are pictures that did not come with it, each with the reason: labels may speak of them.
        """
        tree = self._tree(repo, commit)
        with self._lock:
            if tree in self._states or self._closing:
                return
            try:
                self._waiting.put_nowait(_Wanted(repo, commit, tree, convert_for, left_out))
            except queue.Full:
                return
            self._states[tree] = "waiting"
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dataset-check", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop; a check that runs is given up."""
        with self._lock:
            self._closing = True
            if self._process is not None:
                self._process.kill()
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(timeout=10)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None and not self._closing:
            self._states[item.tree] = "running"
            known = {item.tree}
            tree = item.tree
            notes: list[str] = []
            try:
                commit = item.commit
                if item.convert_for:
                    notes = _left_out(item.left_out)
                    commit, more = self._convert(item.repo, commit, item.convert_for, item.left_out)
                    notes += more
                    tree = self._tree(item.repo, commit)
                    known.add(tree)
                    self._states[tree] = "running"
                else:
                    notes = self._notes(tree)
                self._keep(tree, msgspec.structs.replace(self._check(item.repo, commit), notes=notes))
            except _GaveUpError as error:
                self._keep(tree, Quality(problem=str(error), notes=notes))
            except Exception as error:
                log.exception("the check of %s@%s failed", item.repo, item.commit[:12])
                self._keep(tree, Quality(problem=f"The check did not end well ({type(error).__name__})."))
            finally:
                for one in known:
                    self._states.pop(one, None)

    def _check(self, repo: RepoId, commit: str) -> Quality:
        """Raises _GaveUpError."""
        with self._at_hand(repo, commit) as folder:
            out, err = self._run("dataset", "check", str(folder), "--quality", "--json")
        try:
            checked = msgspec.json.decode(out, type=_Checked)
        except msgspec.DecodeError:
            checked = _Checked()
        if checked.quality is not None:
            return checked.quality
        return Quality(problem=_sentence(err, str(folder.parent)) or "The dataset cannot be read.")

    def _notes(self, tree: str) -> list[str]:
        """What was noted when these files were read first: a later check does not read them again."""
        try:
            return msgspec.json.decode(self._file(tree).read_bytes(), type=Quality).notes
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def _convert(self, repo: RepoId, commit: str, author: str, left_out: Mapping[str, str]) -> tuple[str, list[str]]:
        """Commit a revision in the hub's form, and answer its commit, the same one if it is in that form already, and
        what was left out or repaired on the way.

        Raises _GaveUpError for files that are no dataset, and where somebody else has changed the dataset meanwhile.
        """
        with self._at_hand(repo, commit) as folder:
            # To whoever reads the labels, a picture that was left out is one that is damaged: it is left out with them.
            for name in left_out:
                stub = folder / name
                with suppress(OSError):  # a name that is a folder here
                    stub.parent.mkdir(parents=True, exist_ok=True)
                    stub.touch(exist_ok=True)
            target = folder.with_name(f"{folder.name}.converted")
            out, err = self._run(
                "dataset", "convert", str(folder), str(target), "--to", "coco", "--leave-out-damaged", "--json"
            )
            if not target.is_dir():
                raise _GaveUpError(_sentence(err, str(folder.parent)) or "The dataset cannot be read.")
            read = msgspec.json.decode(out, type=_Read)
            before = {entry.path: entry for entry in self._repos.tree(repo, commit)}
            entries = {}
            for path in sorted(target.rglob("*")):
                if path.is_file():
                    name = path.relative_to(target).as_posix()
                    with path.open("rb") as file:
                        info = self._blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
                    entries[name] = FileEntry(name, info.sha256, info.size)
        if card := before.get(CARD):
            entries[CARD] = card
        operations: list[Operation] = [DeleteFile(path) for path in before if path not in entries]
        operations += [one for one in entries.values() if before.get(one.path) != one]
        told = [line for line in read.warnings if not (left_out and "the file is empty" in line)]
        notes = [plain(line) for line in (*told, *(f"lost: {one}" for one in read.lost))]
        if not operations:
            return commit, notes
        message = f"Read as {read.format}: {read.images:,} images"
        try:
            made = self._repos.commit(repo, operations, message=message, author=author, expected_parent=commit)
        except RefConflictError:
            raise _GaveUpError("The dataset was changed while it was read; check it again.") from None
        return made.id, notes

    @contextmanager
    def _at_hand(self, repo: RepoId, commit: str) -> Iterator[Path]:
        """A revision's files in a folder of the dataset's name, which may be written beside."""
        with tempfile.TemporaryDirectory(prefix="check-", dir=self._folder) as temporary:
            folder = Path(temporary) / repo.name
            folder.mkdir()
            for entry in self._repos.tree(repo, commit):
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._blobs.export_to(entry.sha256, target)
            yield folder

    def _run(self, *command: str) -> tuple[bytes, str]:
        """What the command prints: (output, errors). Raises _GaveUpError where it takes too long or the hub ends."""
        # What it says ends on a page: no colours and no bars.
        environment = {**os.environ, **self._settings.environment(), "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200"}
        environment.pop("FORCE_COLOR", None)
        with self._lock:
            if self._closing:
                raise _GaveUpError("The hub was stopped.")
            self._process = subprocess.Popen(
                parcelhub_command(*command),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
        try:
            out, err = self._process.communicate(timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise _GaveUpError("The check took too long and was stopped.") from None
        return out, err.decode("utf-8", "replace")

    def _keep(self, tree: str, quality: Quality) -> None:
        write_file(self._file(tree), msgspec.json.encode(quality))

    def _tree(self, repo: RepoId, commit: str) -> str:
        return self._repos.resolve(repo, commit).tree

    def _file(self, tree: str) -> Path:
        return self._folder / f"{tree}.json"


def _left_out(pictures: Mapping[str, str]) -> list[str]:
    """What the browser left out, in a line."""
    if not pictures:
        return []
    shown = "; ".join(f"{path} ({why})" if why else path for path, why in list(pictures.items())[:_NAMED])
    more = f"; and {len(pictures) - _NAMED:,} more" if len(pictures) > _NAMED else ""
    return [f"{len(pictures):,} damaged picture{'' if len(pictures) == 1 else 's'} left out: {shown}{more}"]


def _sentence(text: str, folder: str) -> str:
    """What the command said, without the names of our folders."""
    said = plain(text).replace(folder + "/", "").replace(folder, "").strip()
    return said.removeprefix("error: ")[-4000:]
