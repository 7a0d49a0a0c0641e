"""A hub that is told to stop says so, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.settings import Settings
from hub.stack.processes import stop
from tests.hub.material import start_hub, write_base_files


@pytest.mark.slow
def test_a_hub_that_is_told_to_stop_ends_without_a_wall_of_text(tmp_path: Path) -> None:
    settings = Settings.load(
        {}, data=tmp_path / "data", base_source=write_base_files(tmp_path / "base")
    ).on_free_ports()
    settings.data.mkdir()
    log = tmp_path / "hub.log"
    process = start_hub(settings, log)
    assert stop(process, grace_seconds=20) == 0
    last = log.read_text().splitlines()[-1]
    assert "Finished server process" in last, last
