"""A registry of many models with many versions each.

The rows are those that as many commits would have left, and fsck finds nothing; but many models are written in one
transaction, and small files without a trip to the disk for each: filling is not what is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from safetensors.numpy import save

from registry import AddFile, Artifact, Commit, Edge, Registry, RepoId
from registry.blobs.places import key_of
from registry.catalog.catalog import to_db
from registry.errors import RepoNotFoundError
from registry.folder import BLOBS_FOLDER
from registry.repos import repo_rows as rows_
from registry.repos.cards import card_of, read_head
from registry.repos.listing_cache import Head, put_all, source_of
from registry.repos.repos import MAIN
from registry.repos.trees import Tree, build, store

POOL: Final = 512
"""Distinct adapter files: versions share them, as no query looks into them."""
DATASETS: Final = 200
LINEAGE_EVERY: Final = 10
"""Every so manieth version of a model has its lineage recorded."""
_AT_ONCE: Final = 200
"""Models of one transaction."""

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
    """Add models `0..models-1`, as far as they are not there, to a registry whose blobs lie in its own folder."""
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
    missing = [number for number in range(models) if not _there(registry, name_of(number))]
    for at in range(0, len(missing), _AT_ONCE):
        some = missing[at : at + _AT_ONCE]
        before = time.perf_counter()
        made = _write(registry, [_model(registry, number, versions, config, adapters, dice) for number in some])
        spent += time.perf_counter() - before
        for number, commits in zip(some, made, strict=True):
            edges += _lineage(number, commits)
        registry.lineage.record(edges)
        edges.clear()
        progress(min(models, models - len(missing) + at + len(some)), models)
    os.sync()
    return Filled(models, versions, time.perf_counter() - started, spent)


@dataclass(frozen=True, slots=True)
class _Model:
    """A repo that is about to be written: its history, oldest first, and the trees of each commit."""

    repo: RepoId
    commits: Sequence[Commit]
    trees: Sequence[Tree]
    head: Head


def _there(registry: Registry, repo: RepoId) -> bool:
    try:
        registry.repos.get(repo)
    except RepoNotFoundError:
        return False
    return True


def _model(
    registry: Registry, number: int, versions: int, config: AddFile, adapters: Sequence[AddFile], dice: random.Random
) -> _Model:
    repo, readme = name_of(number), card(number)
    first = [_put_quickly(registry, "README.md", readme), config]
    grown = [build([*first, dice.choice(adapters)]) for _ in range(versions)]
    commits: list[Commit] = []
    for version, tree in enumerate(grown, 1):
        parent = commits[-1].id if commits else None
        commits.append(rows_.new_commit(repo, parent, tree.digest, f"version {version}", "bench"))
    files = grown[-1].entries
    said = card_of(read_head(readme.decode()), (file.path for file in files))
    return _Model(repo, commits, grown, Head(commits[-1].id, commits[-1].created_at, source_of(files), said))


def _write(registry: Registry, models: Sequence[_Model]) -> list[Sequence[Commit]]:
    """All of them in one transaction."""
    with registry.catalog.write() as tx:
        keys = [row[0] for row in tx.execute("SELECT nextval('repo_keys') FROM range(?)", [len(models)]).fetchall()]
        now = to_db(datetime.now(UTC))
        keyed = list(zip(keys, models, strict=True))
        tx.insert(
            "repos (key, type, namespace, name, private, gated, created_at)",
            [(key, *rows_.names_of(each.repo), False, "no", now) for key, each in keyed],
        )
        tx.insert("repo_handles", [(rows_.handle_of(each.repo), key) for key, each in keyed])
        store(tx, [tree for each in models for tree in each.trees])
        tx.insert("commits", [row for key, each in keyed for row in _commit_rows(key, each.commits)])
        refs = [
            (key, f"v{version}", "tag", commit.id)
            for key, each in keyed
            for version, commit in enumerate(each.commits, 1)
        ]
        refs += [(key, MAIN, "branch", each.head.commit) for key, each in keyed]
        tx.insert("refs (repo, name, kind, commit)", refs)
        held = {(entry.sha256, key): entry.size for key, each in keyed for tree in each.trees for entry in tree.entries}
        tx.insert("repo_blobs (sha256, repo, size)", [(*place, size) for place, size in held.items()])
        put_all(tx, [(key, each.head) for key, each in keyed])
    return [each.commits for each in models]


def _commit_rows(key: int, commits: Sequence[Commit]) -> Iterator[tuple[object, ...]]:
    for depth, one in enumerate(commits, 1):
        made = to_db(one.created_at)
        yield one.id, key, one.parent, depth, one.tree, one.message, one.author, made


def _put_quickly(registry: Registry, path: str, data: bytes) -> AddFile:
    """As `put`, but durable only when all is synced."""
    sha256 = hashlib.sha256(data).hexdigest()
    place = registry.catalog.path.parent / BLOBS_FOLDER / key_of(sha256)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return AddFile(path, sha256, len(data))


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
