"""A data folder that was written before the modules moved into rooms opens as it was left."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from litestar.testing import TestClient

from hub.app import create_app
from hub.client.client import HubClient
from hub.settings import Settings
from registry.backup.audit import audit_cell
from tests.hub.conftest import SharedTransport
from tests.hub.material import write_base_files

WRITTEN = Path(__file__).parents[2] / "registry" / "data" / "before-rooms.tar.xz"


def test_everything_is_there(tmp_path: Path) -> None:
    with tarfile.open(WRITTEN) as archive:
        archive.extractall(tmp_path, filter="data")
    said: dict[str, Any] = json.loads((tmp_path / "said.json").read_text())
    settings = Settings.load({}, data=tmp_path / "data", base_source=write_base_files(tmp_path / "base"))
    with TestClient(create_app(settings)) as raw:
        client = HubClient(
            "http://testserver.local", settings.client_token(), transport=SharedTransport(raw._transport)
        )
        assert [cell.name for cell in client.cells()] == ["dock-7"]
        assert [job.id for job in client.jobs()] == said["jobs"]
        assert sorted(file.path for file in client.tree("dataset", "acme/frames", "main").files) == said["files"]
        routing = client.routing()
        assert (routing["base"], routing["cells"], routing["digests"]) == (
            said["routing"]["base"],
            said["routing"]["cells"],
            said["routing"]["digests"],
        )
        assert client.variant(said["variant"]).commit
        services = raw.app.state.services
        assert [one.id for one in services.registry.stages.history("dock-7")] == said["decisions"]
        assert services.audit.verify().whole
        assert len(services.audit.page(limit=100)) >= said["audit"]
        assert audit_cell(services.registry, "dock-7").ok
        assert not services.registry.examine().damaged
