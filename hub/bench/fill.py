"""A registry of many models with many versions each, made through the same calls that every commit goes through."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from safetensors.numpy import save

from registry import AddFile, Artifact, Commit, CommitDraft, Edge, Registry, RepoId

POOL: Final = 512
"""Distinct adapter files: versions share them, as no query looks into them."""
DATASETS: Final = 200
LINEAGE_EVERY: Final = 10
"""Every so manieth version of a model has its lineage recorded."""
_LINEAGE_BATCH: Final = 2000

BASE: Final = Artifact("base", "base/universal@v1", hashlib.sha256(b"base/universal@v1").hexdigest())

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Filled:
    """What a registry was filled with, and how long it took."""

    models: int
    versions: int
    seconds: float
    commit_seconds: float


def name_of(number: int) -> RepoId:
    """The repo of model `number`."""
    return RepoId("model", f"team-{number % 100:02d}", f"cell-{number:05d}")


def dataset_of(number: int) -> Artifact:
    """The dataset that model `number` was trained on."""
    name = f"team-{number % DATASETS:03d}/frames"
    return Artifact("dataset", name, hashlib.sha256(name.encode()).hexdigest())


def card(number: int) -> bytes:
    """A README with tags to filter by: `group-7` is on every hundredth model."""
    tags = ["lora", f"group-{number % 100}", f"site-{number % 7}"]
    head = ["---", "library_name: peft", "license: apache-2.0", f"tags: {json.dumps(tags)}"]
    return "\n".join([*head, "base_model: base/universal", "---", f"# Cell {number}", ""]).encode()


def put(registry: Registry, path: str, data: bytes) -> AddFile:
    """Store bytes; the operation that puts them at a path."""
    info = registry.blobs.put_bytes(data)
    return AddFile(path, info.sha256, info.size)


def fill(registry: Registry, *, models: int, versions: int, progress: Progress) -> Filled:
    """Add models `0..models-1`, as far as they are not there: each one's history is one batch of commits."""
    started = time.perf_counter()
    dice = random.Random(7)
    adapters = [
        put(registry, "adapter_model.safetensors", save({"lora": np.full((8, 8), number, np.float32)}))
        for number in range(POOL)
    ]
    for number in range(DATASETS):  # lineage names what is stored
        registry.blobs.put_bytes(dataset_of(number).name.encode(), expected=dataset_of(number).revision)
    registry.blobs.put_bytes(BASE.name.encode(), expected=BASE.revision)
    config = put(registry, "adapter_config.json", b'{"peft_type": "LORA", "r": 8}')
    spent, edges = 0.0, list[Edge]()
    for number in range(models):
        repo = name_of(number)
        registry.repos.create(repo, exist_ok=True)
        if not registry.repos.refs(repo):
            first = [put(registry, "README.md", card(number)), config]
            drafts = [
                CommitDraft(
                    [*(first if version == 1 else ()), dice.choice(adapters)],
                    f"version {version}",
                    "bench",
                    [f"v{version}"],
                )
                for version in range(1, versions + 1)
            ]
            before = time.perf_counter()
            made = registry.repos.commit_all(repo, drafts)
            spent += time.perf_counter() - before
            edges += _lineage(number, made)
        if len(edges) >= _LINEAGE_BATCH or number == models - 1:
            registry.lineage.record(edges)
            edges.clear()
        progress(number + 1, models)
    return Filled(models, versions, time.perf_counter() - started, spent)


def variant_of(number: int, version: int, commit: Commit) -> Artifact:
    """The lineage's node of a version."""
    return Artifact("variant", f"{name_of(number)}@v{version}", commit.id)


def _lineage(number: int, made: Sequence[Commit]) -> list[Edge]:
    edges = []
    for at in range(0, len(made), LINEAGE_EVERY):
        child = variant_of(number, at + 1, made[at])
        deck = Artifact("deck", made[at].id, made[at].id)
        edges += [Edge(child, BASE, "base"), Edge(child, deck, "deck"), Edge(deck, dataset_of(number), "dataset")]
    return edges
