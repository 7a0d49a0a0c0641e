"""The API at size: a filled catalog, a hub process over it, and clocks around calls.

Datasets, cells, repositories and versions are made by the services that make them; rows of which there are many
(images, variants behind the newest of a cell) are written in bulk, in the form that those services give them. Bytes of
images are not there: lists and lookups read the catalog alone.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hub.errors import StackError
from hub.locks import port_is_free
from hub.services import Services
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn, stop
from registry.canonical import JSON
from registry.repos.operations import CommitDraft
from registry.types import Commit, FileEntry, RepoId, Variant

Report = Callable[[str, int, int], None]
"""Told (what is filled, how many, of how many)."""
READY_SECONDS = 300.0
_POOL = 256
"""Distinct adapter files: versions share them, as no query looks into them."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is in the catalog."""

    variants: int = 10_000
    datasets: int = 1_000
    images: int = 1_000_000
    versions_per_cell: int = 20


@dataclass(frozen=True, slots=True)
class Timing:
    """One kind of call: milliseconds at the client, over HTTP on this machine."""

    name: str
    calls: int
    p50: float
    p99: float
    worst: float


@dataclass(frozen=True, slots=True)
class Measured:
    """All of it. `fill_seconds` is how long the filling took."""

    size: Size
    fill_seconds: float
    catalog_bytes: int
    timings: tuple[Timing, ...]

    @property
    def worst_p99(self) -> float:
        """The slowest kind of request's p99, milliseconds."""
        return max(timing.p99 for timing in self.timings)


def measure(size: Size, folder: Path, *, calls: int, report: Report) -> Measured:
    """Fill a hub in `folder` (empty, or filled by an earlier run of the same size), start it, and time calls."""
    settings = Settings.load({}, data=folder / "data").on_free_ports()
    done = folder / "filled.json"
    if not done.exists():
        started = time.monotonic()
        services = Services.open(settings)
        try:
            fill(services, size, report)
        finally:
            services.close()
        done.write_text(json.dumps({"seconds": time.monotonic() - started}))
    seconds = json.loads(done.read_text())["seconds"]
    with (folder / "hub.log").open("wb") as log:
        process = spawn(parcelhub_command("hub"), env=settings.environment(), stdout=log)
    try:
        _wait_for(settings)
        timings = _time_calls(settings, size, calls, report)
    finally:
        stop(process, grace_seconds=20)
    return Measured(size, round(seconds, 1), (settings.data / "catalog.duckdb").stat().st_size, timings)


def fill(services: Services, size: Size, report: Report) -> None:
    """Datasets, images and variants, through the services that write them."""
    readme = services.store.blobs.put_bytes(b"# Made for a benchmark\n")
    each = max(1, size.images // size.datasets)
    sets = []
    for number in range(size.datasets):
        repo = RepoId("dataset", f"team-{number % 50:02}", f"set-{number:05}")
        info = services.registry.repos.create(repo, private=number % 4 == 0, exist_ok=True)
        # Every dataset has a tree of its own, as it would: the file's name differs.
        entry = FileEntry(f"cards/{number:05}.md", readme.sha256, readme.size)
        commit = services.registry.repos.commit(repo, [entry], message="made", author="bench")
        sets.append((info.key, commit.tree))
        report("datasets", number + 1, size.datasets)
    with services.registry.catalog.write() as db:
        db.execute(
            "INSERT INTO hub_image_sets (repo, tree, images, instances, classes, note)"
            " SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[]), ?, ?, ?, ''",
            [[key for key, _ in sets], [tree for _, tree in sets], each, 6 * each, f'{{"box":{6 * each},"bag":0}}'],
        )
        db.execute(
            "INSERT INTO hub_images SELECT s.number, k, format('images/{:06d}-{:06d}.jpg', s.number, k), 1280, 960,"
            " CASE WHEN k % 5 = 0 THEN 'valid' ELSE 'train' END, k % 12, sha256(format('{}-{}', s.number, k)), 250000"
            " FROM hub_image_sets s, range(?) r(k) ORDER BY s.number, k",
            [each],
        )
    report("images", each * size.datasets, each * size.datasets)
    _fill_variants(services, size, report)


def _fill_variants(services: Services, size: Size, report: Report) -> None:
    base = services.bases.newest()
    repo_name, _, revision = base.name.partition("@")
    deck = services.store.blobs.put_bytes(b"{}")
    document = {
        "base": {"repo": repo_name, "revision": revision, "commit": base.commit},
        "labels": {"box": "carton"},
        "rank": 8,
        "deck": deck.sha256,
    }
    written = services.store.blobs.put_bytes(json.dumps(document).encode())
    config = services.store.blobs.put_bytes(b'{"r": 8}')
    cells = -(-size.variants // size.versions_per_cell)
    made = 0
    for cell_number in range(cells):
        cell = f"cell-{cell_number:05}"
        services.cells.create(cell, f"Hall {cell_number % 9}", f"team-{cell_number % 50:02}")
        repo = RepoId("model", "cells", cell)
        services.registry.repos.create(repo, exist_ok=True)
        drafts = []
        for number in range(min(size.versions_per_cell, size.variants - made)):
            weights = services.store.blobs.put_bytes(_weights((made + number) % _POOL))
            files = [
                FileEntry("variant.json", written.sha256, written.size),
                FileEntry("adapter_config.json", config.sha256, config.size),
                FileEntry("adapter_model.safetensors", weights.sha256, weights.size),
            ]
            drafts.append(CommitDraft(files, f"version {number + 1}", "bench", [f"v{number + 1}"]))
        commits = services.registry.repos.commit_all(repo, drafts)
        _place(services, cell, repo, commits, deck.sha256)
        made += len(drafts)
        report("variants", made, size.variants)


def _place(services: Services, cell: str, repo: RepoId, commits: Sequence[Commit], deck: str) -> None:
    """The newest version gets its stage as every variant does; the rows of the others are written at once."""
    newest = Variant(repo, f"v{len(commits)}")
    evidence: dict[str, JSON] = {"deck": deck}
    policy = services.registry.policies.current().digest
    record = services.registry.stages.move(
        cell, newest, "candidate", actor="bench", evidence=evidence, policy_digest=policy, note=""
    )
    metrics = {"base_ap": 0.4, "variant_ap": 0.6, "images_train": 90, "images_holdout": 30}
    services.variants.enlist(cell, newest.version, commits[-1].id, metrics=metrics)
    names = [f"v{number}" for number in range(1, len(commits))]
    ids = [commit.id for commit in commits[:-1]]
    with services.registry.catalog.write() as db:
        db.execute(
            "INSERT INTO stage_variants (cell, variant, commit, stage, decision)"
            " SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), 'archived', ?",
            [cell, [f"{repo}@{name}" for name in names], ids, record.id],
        )
        db.execute(
            "INSERT INTO hub_variants (cell, version, commit, document, dataset, metrics, created_at)"
            " SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), document, dataset, metrics,"
            " created_at - unnest(?::DOUBLE[]) FROM hub_variants WHERE cell = ? AND version = ?",
            [cell, names, ids, [60.0 * (len(names) - k) for k in range(len(names))], cell, newest.version],
        )


def _time_calls(settings: Settings, size: Size, calls: int, report: Report) -> tuple[Timing, ...]:
    headers = {"Authorization": f"Bearer {settings.client_token()}"}
    draw = random.Random(0)
    cells = -(-size.variants // size.versions_per_cell)

    def dataset() -> str:
        number = draw.randrange(size.datasets)
        return f"/datasets/team-{number % 50:02}/set-{number:05}"

    def cell() -> str:
        return f"cell-{draw.randrange(cells):05}"

    each = max(1, size.images // size.datasets)
    kinds: dict[str, Callable[[], str]] = {
        "datasets, a page of 100": lambda: f"/datasets?limit=100&after=team-{draw.randrange(50):02}",
        "datasets by part of the name": lambda: f"/datasets?limit=100&q=set-{draw.randrange(10)}",
        "a dataset": dataset,
        "a dataset's summary": lambda: dataset() + "/summary",
        "images, a page of 100": lambda: dataset() + f"/images?limit=100&after={draw.randrange(-1, each)}",
        "images of one split": lambda: dataset() + "/images?limit=100&split=valid",
        "variants, newest 100": lambda: "/models?limit=100",
        "variants, a page in the middle": lambda: f"/models?limit=100&after={cell()}@v1",
        "variants at a stage": lambda: "/models?limit=100&stage=candidate",
        "a cell's variants": lambda: f"/models/{cell()}",
        "a variant": lambda: f"/models/{cell()}/v1",
        "cells, a page of 100": lambda: f"/cells?limit=100&after={cell()}",
        "a cell": lambda: f"/cells/{cell()}",
        "jobs, newest 100": lambda: "/jobs?limit=100",
        "repositories of one team": lambda: f"/datasets?limit=100&team=team-{draw.randrange(50):02}",
        "the audit log, newest 100": lambda: "/audit?limit=100",
    }
    found = []
    with httpx.Client(base_url=settings.url + "/api/v1", headers=headers, timeout=60) as client:
        for number, (name, route) in enumerate(kinds.items()):
            for _ in range(5):  # the first calls fill caches, as the first minute of a hub does
                _get(client, route())
            times = sorted(_get(client, route()) for _ in range(calls))
            found.append(Timing(name, calls, _quantile(times, 0.5), _quantile(times, 0.99), round(times[-1], 2)))
            report("calls", number + 1, len(kinds))
    return tuple(found)


def _get(client: httpx.Client, route: str) -> float:
    """Milliseconds of one answer. Raises StackError for one that is no success."""
    started = time.perf_counter()
    answer = client.get(route)
    took = (time.perf_counter() - started) * 1000
    if not answer.is_success:
        raise StackError(f"GET {route} was answered {answer.status_code}: {answer.text[:200]}")
    return took


def _quantile(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _wait_for(settings: Settings) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if settings.admin_token_file.exists() and not port_is_free(settings.host, settings.port):
            return
        time.sleep(0.1)
    raise StackError("the hub did not start; see hub.log in the benchmark's folder")


def _weights(mark: int) -> bytes:
    """The smallest safetensors file: one number, another one each time."""
    header = b'{"lora_A":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}'
    return len(header).to_bytes(8, "little") + header + mark.to_bytes(8, "little")


def run(size: Size, *, calls: int, keep: Path | None, report: Report) -> Measured:
    """`measure` in a folder that vanishes, or in `keep`, where a filled catalog is used again."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        return measure(size, keep.absolute(), calls=calls, report=report)
    with tempfile.TemporaryDirectory(prefix="parcelhub-bench-") as folder:
        return measure(size, Path(folder), calls=calls, report=report)


def as_json(found: Measured) -> dict[str, Any]:
    """For `--json`."""
    return {
        "variants": found.size.variants,
        "datasets": found.size.datasets,
        "images": found.size.images,
        "fill_seconds": found.fill_seconds,
        "catalog_bytes": found.catalog_bytes,
        "worst_p99_ms": found.worst_p99,
        "calls": [
            {"call": t.name, "calls": t.calls, "p50_ms": t.p50, "p99_ms": t.p99, "worst_ms": t.worst}
            for t in found.timings
        ],
    }
