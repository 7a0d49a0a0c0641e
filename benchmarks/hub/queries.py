"""How long it takes to answer what a hub is asked most, on a registry of many models: over HTTP, and without."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.hub.crash import Victim, victim_settings
from benchmarks.hub.fill import Filled, dataset_of, fill, name_of, put, variant_of
from benchmarks.hub.uploads import Uploader
from hub.migrations.tables import HUB
from hub.migrations.tables_rollout import ROLLOUT
from registry import AddFile, Readers, Registry

EVERYTHING: Final = Readers(everything=True)
_WARM: Final = 3
Progress = Callable[[str, int, int], None]
Calls = dict[str, Callable[[random.Random], object]]


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of many calls of one kind."""

    p50: float
    p99: float
    most: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timed:
        """Median, p99 and maximum of at least one call, given in seconds."""
        ordered = sorted(1000 * one for one in seconds)
        last = len(ordered) - 1
        return cls(ordered[last // 2], ordered[round(0.99 * last)], ordered[-1], len(ordered))


@dataclass(slots=True)
class RegistryFigures:
    """What was measured, milliseconds by the name of the call, and on what."""

    filled: Filled
    catalog_bytes: int
    start_seconds: float = 0.0
    direct: dict[str, Timed] = field(default_factory=dict)
    http: dict[str, Timed] = field(default_factory=dict)
    cards_seconds: float = 0.0
    load: float = 0.0


def bench_registry(folder: Path, *, models: int, versions: int, calls: int, progress: Progress) -> RegistryFigures:
    """Fill `folder/data`, as far as it is not, and measure. Raises what the registry and the hub raise."""
    settings = victim_settings(folder)
    with _opened(settings.data) as registry:
        filled = fill(
            registry, models=models, versions=versions, progress=lambda done, total: progress("models", done, total)
        )
        figures = RegistryFigures(filled, (settings.data / "catalog.duckdb").stat().st_size, load=os.getloadavg()[0])
        deck = registry.repos.resolve(name_of(0), "v1").id  # `fill` calls its deck so
        _measure(figures.direct, _direct(registry, models, versions), calls, progress, "direct")
    victim = Victim(settings)
    try:
        figures.start_seconds = victim.seconds
        with contextlib.closing(Uploader(settings.url, settings.client_token(), timeout=3600)) as client:
            progress("cards", 0, 1)
            started = time.perf_counter()
            for _ in client.pages("/api/models?limit=1000"):
                pass  # the first listing of everything
            figures.cards_seconds = time.perf_counter() - started
            _measure(figures.http, _http(client, models, versions, deck), calls, progress, "http")
    finally:
        victim.stop()
    return figures


@contextlib.contextmanager
def _opened(data: Path) -> Iterator[Registry]:
    with Registry.open(data, extra_migrations=[HUB, ROLLOUT]) as registry:
        yield registry


def _measure(
    into: dict[str, Timed],
    calls: dict[str, Callable[[random.Random], object]],
    count: int,
    progress: Progress,
    how: str,
) -> None:
    for at, (name, call) in enumerate(calls.items()):
        progress(f"{how}: {name}", at, len(calls))
        dice, times = random.Random(11), []
        for number in range(-_WARM, count):
            started = time.perf_counter()
            call(dice)
            if number >= 0:
                times.append(time.perf_counter() - started)
        into[name] = Timed.of(times)


def _direct(registry: Registry, models: int, versions: int) -> Calls:
    repos, directory, lineage = registry.repos, registry.directory, registry.lineage

    def tag(dice: random.Random) -> str:
        return f"v{dice.randint(1, versions)}"

    def model(dice: random.Random) -> int:
        return dice.randrange(models)

    def commit(dice: random.Random) -> object:
        files = [put(registry, f"{name}.bin", dice.randbytes(3000)) for name in "abc"]
        return repos.commit(name_of(model(dice)), files, message="one more", author="bench")

    def commit_alone(dice: random.Random) -> object:
        file = AddFile("a.bin", known.sha256, known.size)
        return repos.commit(name_of(model(dice)), [file], message=f"{dice.random()}", author="bench")

    known = put(registry, "a.bin", b"known")
    first = repos.resolve(name_of(0), "v1")
    return {
        "info": lambda dice: directory.find(name_of(model(dice))),
        "resolve a tag": lambda dice: repos.resolve(name_of(model(dice)), tag(dice)),
        "tree": lambda dice: repos.tree(name_of(model(dice)), tag(dice)),
        "one file": lambda dice: repos.entry(name_of(model(dice)), tag(dice), "README.md"),
        "refs": lambda dice: repos.refs(name_of(model(dice))),
        "history of 50": lambda dice: repos.history(name_of(model(dice)), "main", 50),
        "list by name": lambda _: directory.search("model", readers=EVERYTHING, limit=100),
        "list, newest first": lambda _: directory.search("model", readers=EVERYTHING, order="modified", limit=100),
        "search": lambda dice: directory.search(
            "model", readers=EVERYTHING, terms=[f"cell-{model(dice):05d}"], limit=100
        ),
        "lineage up": lambda _: lineage.ancestors(variant_of(0, 1, first)),
        "lineage down": lambda dice: lineage.descendants(dataset_of(model(dice))),
        "commit of one stored blob": commit_alone,
        "three new blobs and their commit": commit,
    }


def _http(client: Uploader, models: int, versions: int, deck: str) -> Calls:
    def repo(dice: random.Random) -> str:
        return str(name_of(dice.randrange(models)))

    def version(dice: random.Random) -> str:
        return f"v{dice.randint(1, versions)}"

    client.ensure_repo("bench/commits")
    return {
        "info": lambda dice: client.get(f"/api/models/{repo(dice)}"),
        "tree": lambda dice: client.get(f"/api/models/{repo(dice)}/tree/{version(dice)}"),
        "refs": lambda dice: client.get(f"/api/models/{repo(dice)}/refs"),
        "history of 50": lambda dice: client.get(f"/api/models/{repo(dice)}/commits/main"),
        "download a small file": lambda dice: client.read_model(repo(dice), version(dice), "adapter_config.json"),
        "list 100 by name": lambda _: client.get("/api/models?limit=100"),
        "list 100, newest first": lambda _: client.get("/api/models?limit=100&sort=lastModified"),
        "search": lambda dice: client.get(f"/api/models?limit=100&search=cell-{dice.randrange(models):05d}"),
        "filter by tag": lambda dice: client.get(f"/api/models?limit=100&filter=group-{dice.randrange(100)}"),
        "lineage up": lambda _: client.get(f"/api/v1/provenance/lineage?name={deck}"),
        "lineage down": lambda _: client.get(f"/api/v1/provenance/lineage?name={deck}&direction=down"),
        "commit of a small file": lambda dice: client.upload(
            "bench/commits", f"{dice.randrange(500)}.bin", dice.randbytes(3000), "commit"
        ),
    }
