"""A hub whose catalog breaks while it runs ends, so that it is started again, and what it starts on is whole."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from hub.client.client import HubClient
from hub.error_table import EXIT_FAILURE
from hub.settings import Settings
from hub.stack.processes import stop
from registry.folder import CATALOG_FILE
from tests.hub.material import start_hub, write_base_files
from tests.registry.catalog.test_catalog_indexes import BARE, process

# Branches that only the log knows, and a checkpoint before DuckDB looks at their index: some versions lose them there.
BRANCHES = """
for k in range(20):
    execute(f"INSERT INTO refs (repo, name, kind, commit) SELECT key, 'b{k}', 'branch', repeat('0', 64) "
            "FROM repos WHERE name = 'dock'")
"""
CHECKPOINT = """
execute("SET checkpoint_threshold = '1KB'")
execute("CREATE TABLE other (n INTEGER)")
for k in range(100): execute(f"INSERT INTO other VALUES ({k})")
execute("DROP TABLE other")
"""


@pytest.mark.timeout(900)
def test_a_hub_with_a_broken_catalog_ends_and_starts_whole(tmp_path: Path) -> None:
    base, log = write_base_files(tmp_path / "base"), tmp_path / "hub.log"
    settings = Settings.load({}, data=tmp_path / "data", base_source=base).on_free_ports()
    hub = start_hub(settings, log)
    with HubClient.of(settings) as client:
        client.ensure_repo("dataset", "acme/dock")
    assert stop(hub, grace_seconds=30) == 0
    catalog = settings.data / CATALOG_FILE
    process(BARE, catalog, BRANCHES)
    process(BARE, catalog, CHECKPOINT)

    hub = start_hub(settings, log)
    headers = {"Authorization": f"Bearer {settings.client_token()}"}
    branch = f"{settings.url}/api/datasets/acme/dock/branch/b3"
    try:
        refused = httpx.delete(branch, headers=headers, timeout=60)
        if refused.is_success:
            pytest.skip("this DuckDB keeps its indexes by itself")
        assert refused.status_code == 503
        assert refused.json() == {"error": "the catalog has to be opened again; try once more in a moment"}
        assert hub.wait(60) == EXIT_FAILURE, "who watches it knows that it did not end by wish"
    finally:
        stop(hub, grace_seconds=30)
    assert "Failed to delete all rows from index" in log.read_text()

    hub = start_hub(settings, log)
    try:
        assert httpx.delete(branch, headers=headers, timeout=60).is_success
        with HubClient.of(settings) as client:
            assert {ref.name for ref in client.refs("dataset", "acme/dock")} == {f"b{k}" for k in range(20)} - {"b3"}
    finally:
        assert stop(hub, grace_seconds=30) == 0, log.read_text()
