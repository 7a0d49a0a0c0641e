"""Many clients at once against one, and a large file: rates, errors, torn commits, and the hub's memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks.hub.crash import Victim, victim_settings
from benchmarks.hub.uploads import Acknowledged, Uploader
from hub.client.maintenance import MaintenanceClient

MIB: Final = 1024**2
_FILE: Final = 20_000
Report = Callable[[str], None]


@dataclass(slots=True)
class ClientFigures:
    """What was measured. Rates are commits a second; sizes are bytes."""

    clients: int
    one_rate: float = 0.0
    all_rate: float = 0.0
    commits: int = 0
    errors: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    large_bytes: int = 0
    copy_mib_s: float = 0.0
    upload_mib_s: float = 0.0
    download_mib_s: float = 0.0
    memory_start: int = 0
    memory_clients: int = 0
    memory_large: int = 0


class _Memory:
    """Watches the resident memory of a process, ten times a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def bench_clients(folder: Path, *, clients: int, seconds: float, large_mib: int, report: Report) -> ClientFigures:
    """Measure on a hub over `folder/data`. Raises StackError if it does not start."""
    settings = victim_settings(folder)
    figures = ClientFigures(clients)
    victim = Victim(settings)
    try:
        token = settings.client_token()
        figures.memory_start = psutil.Process(victim.pid).memory_info().rss
        report("one client")
        done = _commits(settings.url, token, 1, seconds, figures.errors)
        figures.one_rate = len(done) / seconds
        report(f"{clients} clients")
        with _Memory(victim.pid) as memory:
            more = _commits(settings.url, token, clients, seconds, figures.errors)
        figures.all_rate, figures.commits = len(more) / seconds, len(done) + len(more)
        figures.memory_clients = memory.most
        with contextlib.closing(Uploader(settings.url, token)) as reader:
            for one in random.Random(3).sample(more, min(len(more), 200)):
                if hashlib.sha256(reader.read(one.repo, one.commit, one.path)).hexdigest() != one.sha256:
                    figures.damage.append(f"{one}: other bytes")
        report("examination")
        with MaintenanceClient.of(replace(settings, token=token)) as care:
            found = care.fsck(quick=False)
        figures.damage += [f"{one['kind']} {one['name']}: {one['detail']}" for one in found.findings]
        if large_mib:
            report(f"a file of {large_mib} MiB")
            with _Memory(victim.pid) as memory:
                _large(folder, settings.url, token, large_mib * MIB, figures)
            figures.memory_large = memory.most
    finally:
        victim.stop()
    return figures


def _commits(url: str, token: str, clients: int, seconds: float, errors: list[str]) -> list[Acknowledged]:
    """Commits of one small file each, every client to a repo of its own; what was acknowledged in that time."""
    made: list[Acknowledged] = []
    gate = threading.Barrier(clients + 1)
    until = [0.0]

    def work(number: int) -> None:
        own = random.Random(number)
        repo = f"bench/{clients}-{number}"
        with contextlib.closing(Uploader(url, token)) as uploader:
            try:
                uploader.ensure_repo(repo)
                gate.wait()
                while time.perf_counter() < until[0]:
                    path = f"{own.randrange(50)}.bin"
                    made.append(uploader.upload(repo, path, own.randbytes(_FILE), "commit"))
            except httpx.HTTPError as error:
                errors.append(f"client {number}: {error!r}")
                gate.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    until[0] = time.perf_counter() + 3600
    with contextlib.suppress(threading.BrokenBarrierError):
        gate.wait()
    until[0] = time.perf_counter() + seconds
    for thread in threads:
        thread.join()
    return made


def _large(folder: Path, url: str, token: str, size: int, figures: ClientFigures) -> None:
    """Up over LFS, down again; beside the rate at which this machine copies the same file and hashes it."""
    source, copy = folder / "large.bin", folder / "copy.bin"
    hasher = hashlib.sha256()
    with source.open("wb") as out:
        for _ in range(size // MIB):
            piece = os.urandom(MIB)
            hasher.update(piece)
            out.write(piece)
    sha256, repo = hasher.hexdigest(), "bench/large"
    started = time.perf_counter()
    digest = hashlib.sha256()
    with source.open("rb") as file, copy.open("wb") as out:
        while piece := file.read(MIB):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    figures.large_bytes = size
    figures.copy_mib_s = size / MIB / (time.perf_counter() - started)
    with contextlib.closing(Uploader(url, token, timeout=3600)) as client:
        client.ensure_repo(repo)
        started = time.perf_counter()
        made = client.upload_file(repo, "large.bin", source, sha256, size)
        figures.upload_mib_s = size / MIB / (time.perf_counter() - started)
        started = time.perf_counter()
        found = client.download(repo, made.commit, "large.bin", copy)
        figures.download_mib_s = size / MIB / (time.perf_counter() - started)
    if found != sha256:
        figures.damage.append("the large file came back with other bytes")
    source.unlink()
    copy.unlink()
