"""Kills a hub at random moments under load, and looks for everything that it acknowledged.

The load: uploads (commits, LFS, Xet), outcomes, promotions, and changes of who is in which team.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import httpx
import psutil  # type: ignore[import-untyped]

from benchmarks.hub.crash_state import StateLoad, fill_cell
from benchmarks.hub.uploads import UPLOAD_ROUTES, Acknowledged, Uploader, noise
from hub.client.maintenance import MaintenanceClient
from hub.errors import StackError
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, signal_group, spawn, stop

_START_SECONDS: Final = 300.0
_KILL: Final = 9


@dataclass(slots=True)
class CrashResult:
    """What came of the kills.

    `restart_seconds` are from the start of the process to its first answer, `restart_cpu_seconds` what it computed in
    that time: on a busy machine they are far apart. `first_start_seconds` are those of the first start.
    `acknowledged` are commits; `outcomes`, `promotions` and `memberships` changes of state that were acknowledged.
    """

    rounds: int = 0
    acknowledged: int = 0
    by_way: dict[str, int] = field(default_factory=dict)
    cut_off: int = 0
    lost: list[str] = field(default_factory=list)
    torn_refs: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    first_start_seconds: float = 0.0
    restart_seconds: list[float] = field(default_factory=list)
    restart_cpu_seconds: list[float] = field(default_factory=list)
    outcomes: int = 0
    promotions: int = 0
    memberships: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, torn or damaged."""
        return not (self.lost or self.torn_refs or self.damage)


class Victim:
    """A hub process over one data folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        with (settings.data.parent / "hub.log").open("ab") as log:
            started = time.perf_counter()
            self._process = spawn(parcelhub_command("hub"), env=settings.environment(), stdout=log)
        try:
            self._await(started)
        except BaseException:
            self.kill()
            raise
        self.seconds = time.perf_counter() - started
        times = psutil.Process(self._process.pid).cpu_times()
        self.cpu_seconds = times.user + times.system

    def _await(self, started: float) -> None:
        with httpx.Client(timeout=5) as client:
            while True:
                if self._process.poll() is not None:
                    ended = self._process.returncode
                    raise StackError(f"the hub ended with {ended}; see hub.log beside its data folder")
                with contextlib.suppress(httpx.HTTPError):
                    if client.get(f"{self.settings.url}/api/v1/health").is_success:
                        return
                if time.perf_counter() - started > _START_SECONDS:
                    raise StackError(f"the hub did not answer within {_START_SECONDS:.0f} s")
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Of the process that runs now; another one after each start."""
        return self._process.pid

    def kill(self) -> None:
        """As a power loss ends it."""
        signal_group(self._process.pid, _KILL)
        self._process.wait()

    def stop(self) -> None:
        """As an operator ends it."""
        stop(self._process, grace_seconds=60)


def victim_settings(folder: Path) -> Settings:
    """Settings of a hub that nobody else uses."""
    return Settings.load({}, data=folder / "data").on_free_ports()


def run_crashes(
    folder: Path,
    *,
    rounds: int,
    clients: int = 4,
    seed: int = 7,
    longest: float = 3.0,
    report: Callable[[int, CrashResult], None] | None = None,
) -> CrashResult:
    """Kill a hub over `folder/data` so many times. Raises StackError if it does not start again."""
    result, dice = CrashResult(), random.Random(seed)
    everything: list[Acknowledged] = []
    # Verdicts of the hub's own would move what the clients move.
    settings = replace(victim_settings(folder), trials=0)
    fill_cell(settings)
    victim = Victim(settings)
    result.first_start_seconds = victim.seconds
    token = settings.client_token()
    state = StateLoad(settings, token, clients=2)
    state.prepare()
    for number in range(1, rounds + 1):
        known = len(state.kept.outcomes)
        state.start(dice)
        made, cut_off = _load(settings.url, token, clients, dice, victim, dice.uniform(0.05, longest))
        state.join()
        everything += made
        result.rounds, result.cut_off = number, result.cut_off + cut_off
        result.acknowledged = len(everything)
        victim = Victim(settings)
        result.restart_seconds.append(victim.seconds)
        result.restart_cpu_seconds.append(victim.cpu_seconds)
        _check(settings, token, made, result, quick=True)
        result.lost += state.check(known, everything=False)
        kept = state.kept
        result.outcomes, result.promotions, result.memberships = len(kept.outcomes), len(kept.promotions), kept.changes
        if report is not None:
            report(number, result)
    _check(settings, token, everything, result, quick=False)
    result.lost += state.check(0, everything=True)
    victim.stop()
    for way in UPLOAD_ROUTES:
        result.by_way[way] = sum(f".{way}" in one.path for one in everything)
    return result


def _load(
    url: str, token: str, clients: int, dice: random.Random, victim: Victim, seconds: float
) -> tuple[list[Acknowledged], int]:
    """Upload from several clients until the hub is killed; what it acknowledged, and how many uploads it did not."""
    made: list[Acknowledged] = []
    cut_off = [0]
    seeds = [dice.random() for _ in range(clients)]
    begun = threading.Event()

    def work(number: int) -> None:
        own = random.Random(seeds[number])
        # Two clients to a repo, so that commits race on one branch.
        repo = f"crash/repo-{number // 2}"
        uploader = Uploader(url, token)
        with contextlib.closing(uploader):
            try:
                uploader.ensure_repo(repo)
                while True:
                    way = own.choice(UPLOAD_ROUTES)
                    path = f"{own.getrandbits(64):016x}.{way}"
                    made.append(uploader.upload(repo, path, noise(own), way))
                    begun.set()
            except httpx.HTTPError:
                cut_off[0] += 1
                begun.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    begun.wait()
    time.sleep(seconds)
    victim.kill()
    for thread in threads:
        thread.join()
    return made, cut_off[0]


def _check(settings: Settings, token: str, wanted: Sequence[Acknowledged], result: CrashResult, *, quick: bool) -> None:
    with contextlib.closing(Uploader(settings.url, token)) as uploader:
        for one in wanted:
            try:
                data = uploader.read(one.repo, one.commit, one.path)
            except httpx.HTTPError as error:
                result.lost.append(f"{one}: {error}")
                continue
            if hashlib.sha256(data).hexdigest() != one.sha256:
                result.lost.append(f"{one}: other bytes")
        for repo in sorted({one.repo for one in wanted}):
            try:
                (head,) = [ref["targetCommit"] for ref in uploader.get(f"/api/datasets/{repo}/refs")["branches"]]
                history = {commit["id"] for commit in uploader.pages(f"/api/datasets/{repo}/commits/main?limit=1000")}
            except (httpx.HTTPError, ValueError) as error:
                result.torn_refs.append(f"{repo}: {error}")
                continue
            if head not in history or {one.commit for one in wanted if one.repo == repo} - history:
                result.torn_refs.append(f"{repo}: main does not lead to every acknowledged commit")
    with MaintenanceClient.of(replace(settings, token=token)) as care:
        found = care.fsck(quick=quick)
    result.damage += [f"{one['kind']} {one['name']}: {one['detail']}" for one in found.findings]
