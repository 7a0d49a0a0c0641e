from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry import AddFile, Commit, Registry, RepoId, Variant
from registry.promotion.policy import FIRST
from registry.xet import XetStore

POLICY = FIRST.digest
EVALUATED = {"evaluation": {"AP75": 0.61, "images": 40}}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the first start leaves it, to be copied: to make its tables takes longer than to open it."""
    folder = tmp_path_factory.mktemp("fresh") / "data"
    Registry.open(folder).close()
    return folder


@pytest.fixture
def registry(fresh: Path, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(Path(shutil.copytree(fresh, tmp_path / "data"))) as opened:
        yield opened


@pytest.fixture(params=["folder", "object store"])
def any_place(request: pytest.FixtureRequest, fresh: Path, tmp_path: Path) -> Iterator[Registry]:
    """What is promised of xorbs holds in a folder and in an object store (here one in memory)."""
    url = None if request.param == "folder" else "memory:///"
    if url is None:
        shutil.copytree(fresh, tmp_path / "data")
    with Registry.open(tmp_path / "data", blobs_url=url) as opened:
        yield opened


@pytest.fixture
def store(registry: Registry) -> XetStore:
    return registry.xet


@pytest.fixture
def add(registry: Registry) -> Callable[[str, bytes], AddFile]:
    """Store bytes and give the operation that puts them at a path."""

    def add(path: str, data: bytes) -> AddFile:
        info = registry.blobs.put_bytes(data)
        return AddFile(path, info.sha256, info.size)

    return add


@pytest.fixture
def publish(registry: Registry, add) -> Callable[..., Commit]:
    """Commit one small file to a model repo, made when needed, under a tag."""

    def publish(repo: str, version: str) -> Commit:
        name = RepoId.parse(repo)
        registry.repos.create(name, exist_ok=True)
        op = add("adapter_config.json", f"{repo} {version}".encode())
        return registry.repos.commit(name, [op], message=version, author="tester", tags=[version])

    return publish


@pytest.fixture
def variants(publish) -> list[Variant]:
    """Four published variants of the cell dock-7."""
    for number in range(1, 5):
        publish("cells/dock-7", f"v{number}")
    return [Variant.parse(f"cells/dock-7@v{number}") for number in range(1, 5)]
