"""A real hub and a real Triton over one folder, each a process of its own, with variants that can be promoted."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import psutil  # type: ignore[import-untyped]
import torch

from benchmarks.serving.folder import write_random_variant
from hub.client.client import HubClient
from hub.errors import StackError
from hub.models.bases import NAMESPACE as BASE_NAMESPACE
from hub.models.variants import repo_of
from hub.schemas.core import FinetuneIn, FinishIn
from hub.services import Services
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, signal_group, spawn, stop
from hub.stack.stack import triton_ready
from registry.types import FileEntry, RepoId
from serving.inference.segmenter import Segmenter

START_SECONDS = 600.0
MOVING, STEADY = "moving", "steady"
"""The cell that is promoted and rolled back, and its neighbour, of which nobody ever changes anything."""


class Operated:
    """A context with hub and Triton up, robots' address `settings.triton_grpc`, the operator's client `client`.

    The cell `moving` has three variants: v1 is at `fleet`, v2 is what gets promoted, v3 never is. `steady` has v1 at
    `fleet`. Their weights are random.
    """

    def __init__(self, folder: Path, base: Path, *, rank: int = 8, trials: bool = True) -> None:
        self.folder = folder
        settings = Settings.load({}, data=folder / "data", base_source=base, trials=int(trials), check_robots=0)
        self.settings = settings.on_free_ports()
        self._fill(base, rank)
        self._hub: subprocess.Popen[bytes] | None = None
        self._serve: subprocess.Popen[bytes] | None = None
        self.client: HubClient

    def __enter__(self) -> Self:
        try:
            self.start_hub()
            self.client = HubClient(self.settings.url, self.settings.client_token())
            for cell in (MOVING, STEADY):
                self.client.promote(f"{cell}@v1")
            with (self.folder / "serve.log").open("ab") as log:
                self._serve = spawn(parcelhub_command("serve"), env=self.settings.environment(), stdout=log)
            wait_for(lambda: triton_ready(self.settings), self._running(self._serve, "serve"))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._stop()

    def start_hub(self) -> None:
        """Start the hub and wait until it answers. Raises StackError."""
        with (self.folder / "hub.log").open("ab") as log:
            self._hub = spawn(parcelhub_command("hub"), env=self.settings.environment(), stdout=log)
        with HubClient(self.settings.url, self.settings.client_token()) as client:
            wait_for(lambda: _healthy(client), self._running(self._hub, "hub"))

    def kill_hub(self) -> None:
        """As a power loss ends it."""
        if self._hub is not None:
            signal_group(self._hub.pid, 9)
            self._hub.wait()

    def process(self, name: str) -> psutil.Process | None:
        """Triton's own process whose name begins so, None while there is none."""
        if self._serve is None:
            return None
        for one in psutil.Process(self._serve.pid).children(recursive=True):
            try:
                if one.name().startswith(name[:15]):
                    return one
            except psutil.Error:
                continue
        return None

    def ready(self) -> bool:
        """Whether Triton says that the model answers."""
        return triton_ready(self.settings)

    def _running(self, process: subprocess.Popen[bytes], name: str) -> Callable[[], None]:
        def check() -> None:
            if process.poll() is not None:
                said = (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]
                raise StackError(f"{name} ended with exit status {process.returncode}:\n{said}")

        return check

    def _stop(self) -> None:
        for process in (self._serve, self._hub):
            if process is not None:
                stop(process, grace_seconds=60)

    def _fill(self, base: Path, rank: int) -> None:
        """The variants as jobs leave them: committed, named, vouched for."""
        services = Services.open(self.settings)
        try:
            segmenter = Segmenter.load(base, base_name="bench", device="cpu", slots=2, max_rank=rank)
            generator = torch.Generator().manual_seed(0)
            frames = RepoId("dataset", "bench", "frames")
            services.store.ensure(frames)
            note = services.store.blobs.put_bytes(b"# Frames\n")
            entry = FileEntry("README.md", note.sha256, note.size)
            services.store.repos.commit(frames, [entry], message="frames", author="bench")
            for cell, count in ((MOVING, 3), (STEADY, 1)):
                services.cells.create(cell, "")
                for _ in range(count):
                    self._variant(services, cell, segmenter, rank, generator)
        finally:
            services.close()

    def _variant(
        self, services: Services, cell: str, segmenter: Segmenter, rank: int, generator: torch.Generator
    ) -> None:
        job = services.finetunes.request(FinetuneIn(cell=cell, dataset="bench/frames"), "bench")
        if services.jobs.claim("bench") is None:
            raise StackError("the job of a variant could not be claimed")
        deck = services.store.blobs.put_bytes(msgspec.json.encode({"job": job.id}))
        repo, _, revision = job.spec.base.partition("@")
        document = {
            "base": {
                "repo": repo if "/" in repo else f"{BASE_NAMESPACE}/{repo}",
                "revision": revision,
                "commit": job.spec.base_commit,
            },
            "labels": {label: label for label in segmenter.labels},
            "rank": rank,
            "deck": deck.sha256,
        }
        made = self.folder / "made" / job.id
        write_random_variant(made, segmenter.tuned_layers, document, generator)
        (made / "README.md").write_text(f"# Variant {hashlib.sha256(job.id.encode()).hexdigest()[:8]}\n")
        entries = []
        services.store.ensure(repo_of(cell))
        for path in sorted(made.iterdir()):
            info = services.store.blobs.put_bytes(path.read_bytes())
            entries.append(FileEntry(path.name, info.sha256, info.size))
        commit = services.store.repos.commit(repo_of(cell), entries, message="variant", author="bench")
        # The gate asks for an evaluation before it lets a variant go to `fleet`; nobody measured these.
        metrics = {"base_ap": 0.5, "variant_ap": 0.5}
        services.finetunes.accept(job.id, FinishIn(commit=commit.id, deck=deck.sha256, metrics=metrics))


def wait_for(condition: Callable[[], bool], check: Callable[[], None], seconds: float = START_SECONDS) -> None:
    """Return once the condition holds; `check` raises for what makes waiting vain. Raises StackError in the end."""
    deadline = time.monotonic() + seconds
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise StackError(f"waited in vain for {seconds:.0f} s")
        time.sleep(0.05)


def _healthy(client: HubClient) -> bool:
    from hub.errors import HubError

    try:
        client.health()
    except HubError:
        return False
    return True
