"""The dataset check for pages: run once per revision, one at a time, in a process of its own.

Pictures of strangers are decoded there, not in the hub; it is the same command that people run on their own machine.
"""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Literal

import msgspec

from hub.processes import parcelhub_command
from hub.settings import Settings
from registry.blobs import BlobStore
from registry.repos import Repos
from registry.types import RepoId

log = logging.getLogger("parcelhub.web.quality")

MAX_SECONDS = 3600.0
MAX_WAITING = 50
State = Literal["none", "waiting", "running"]


class Finding(msgspec.Struct, frozen=True):
    """One kind of trouble; `files` are places as `image` or `image: detail`."""

    severity: str
    check: str
    message: str
    count: int = 1
    files: list[str] = []


class Quality(msgspec.Struct, frozen=True):
    """What the check found, or the reason (`problem`) why it could not look."""

    images: int = 0
    instances: int = 0
    findings: list[Finding] = []
    problem: str = ""


class _Checked(msgspec.Struct, frozen=True):
    quality: Quality | None = None


class QualityRuns:
    """Checks of revisions, by the digest of their tree. Use from any number of threads."""

    def __init__(self, folder: Path, repos: Repos, blobs: BlobStore, settings: Settings) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._repos = repos
        self._blobs = blobs
        self._settings = settings
        self._waiting: queue.Queue[tuple[RepoId, str, str] | None] = queue.Queue(MAX_WAITING)
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

    def start(self, repo: RepoId, commit: str) -> None:
        """Have a revision checked, unless it is being checked or the queue is full."""
        tree = self._tree(repo, commit)
        with self._lock:
            if tree in self._states or self._closing:
                return
            try:
                self._waiting.put_nowait((repo, commit, tree))
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
            repo, commit, tree = item
            self._states[tree] = "running"
            try:
                self._keep(tree, self._check(repo, commit))
            except Exception as error:
                log.exception("the check of %s@%s failed", repo, commit[:12])
                self._keep(tree, Quality(problem=f"The check did not end well ({type(error).__name__})."))
            finally:
                self._states.pop(tree, None)

    def _check(self, repo: RepoId, commit: str) -> Quality:
        with tempfile.TemporaryDirectory(prefix="check-", dir=self._folder) as temporary:
            folder = Path(temporary) / repo.name
            for entry in self._repos.tree(repo, commit):
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._blobs.export_to(entry.sha256, target)
            command = parcelhub_command("dataset", "check", str(folder), "--quality", "--json")
            environment = {**os.environ, **self._settings.environment()}
            with self._lock:
                if self._closing:
                    return Quality(problem="The hub was stopped.")
                self._process = subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
                )
            try:
                out, err = self._process.communicate(timeout=MAX_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
                return Quality(problem="The check took too long and was stopped.")
        try:
            checked = msgspec.json.decode(out, type=_Checked)
        except msgspec.DecodeError:
            checked = _Checked()
        if checked.quality is not None:
            return checked.quality
        return Quality(problem=_sentence(err.decode("utf-8", "replace"), temporary) or "The dataset cannot be read.")

    def _keep(self, tree: str, quality: Quality) -> None:
        partial = self._file(tree).with_suffix(".part")
        partial.write_bytes(msgspec.json.encode(quality))
        partial.replace(self._file(tree))

    def _tree(self, repo: RepoId, commit: str) -> str:
        return self._repos.resolve(repo, commit).tree

    def _file(self, tree: str) -> Path:
        return self._folder / f"{tree}.json"


def _sentence(text: str, folder: str) -> str:
    """What the command said, without the names of our folders."""
    return text.replace(folder + "/", "").replace(folder, "").strip()[-4000:]
