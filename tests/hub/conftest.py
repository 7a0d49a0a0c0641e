"""A real registry, a real hub over it, and clients of that hub, all in a temporary folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from hub.app import create_app
from hub.client.client import HubClient
from hub.migrations.tables import HUB
from hub.services import Services
from hub.settings import Settings
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from tests.hub.material import running_hub, write_base_files

# Answers of tiny random networks are compared here, which bfloat16 would change by more than a wrong row does.
os.environ.setdefault("PARCELHUB_PRECISION", "float32")

RESERVE = 1024**2
"""Bytes that a hub keeps free. The usual 64 MiB would be written by each test."""


class SharedTransport(httpx.BaseTransport):
    """The application's transport, for several clients: closing one of them leaves it open."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.handle_request = inner.handle_request


def same_base(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files of a base."""
    return {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    base = write_base_files(tmp_path / "base")
    limits = {"max_blob_bytes": 4_000_000, "reserve_bytes": RESERVE}
    return Settings.load({}, data=tmp_path / "data", base_source=base, lease_seconds=2.0, **limits)


@pytest.fixture(scope="session")
def fresh_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with all tables and no row, to be copied."""
    path = tmp_path_factory.mktemp("fresh") / "catalog.duckdb"
    Catalog.open(path, [REGISTRY, HUB]).close()
    return path


@pytest.fixture
def catalog(fresh_catalog: Path, tmp_path: Path) -> Iterator[Catalog]:
    path = Path(shutil.copyfile(fresh_catalog, tmp_path / "catalog.duckdb"))
    with Catalog.open(path, [REGISTRY, HUB]) as catalog:
        yield catalog


@pytest.fixture(scope="session")
def application() -> Iterator[Litestar]:
    """The application, built once: that takes longer than most tests. Each test says what it opens."""
    made = create_app(Settings.load({}))
    yield made
    made.state.clear()  # what it opened last goes before the interpreter does


@pytest.fixture(scope="session")
def fresh_data(application: Litestar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as the first start on `write_base_files` leaves it, to be copied."""
    folder = tmp_path_factory.mktemp("fresh")
    base = write_base_files(folder / "base")
    application.state.settings = Settings.load({}, data=folder / "data", base_source=base, reserve_bytes=RESERVE)
    with TestClient(application):
        pass
    return folder / "data"


@pytest.fixture
def raw(settings: Settings, application: Litestar, fresh_data: Path) -> Iterator[TestClient[Any]]:
    """The application, without a token."""
    if not settings.data.exists() and same_base(settings.base_source, fresh_data.parent / "base"):
        shutil.copytree(fresh_data, settings.data, symlinks=True)
    application.state.settings = settings
    with TestClient(application, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def services(raw: TestClient[Any]) -> Services:
    services: Services = raw.app.state.services
    return services


@pytest.fixture
def admin(raw: TestClient[Any], settings: Settings) -> dict[str, str]:
    return {"Authorization": f"Bearer {settings.client_token()}"}


@pytest.fixture
def as_job(raw: TestClient[Any]) -> Callable[[str], HubClient]:
    """Clients of the application with any token."""
    return lambda token: HubClient("http://testserver.local", token, transport=SharedTransport(raw._transport))


@pytest.fixture
def client(as_job: Callable[[str], HubClient], settings: Settings) -> Iterator[HubClient]:
    """The operator's client."""
    with as_job(settings.client_token()) as client:
        yield client


@pytest.fixture
def dataset(client: HubClient, tmp_path: Path) -> str:
    """A dataset repository that nothing here reads."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "README.md").write_text("# Frames\n")
    client.push_folder("dataset", "acme/dock", folder, "frames")
    return "acme/dock"


@pytest.fixture(scope="session")
def live_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A hub as a process of its own, without Triton and without a worker."""
    folder = tmp_path_factory.mktemp("live")
    base = write_base_files(folder / "base")
    settings = Settings.load({}, data=folder / "data", base_source=base, lease_seconds=6.0).on_free_ports()
    with running_hub(settings, folder / "hub.log"):
        yield settings
