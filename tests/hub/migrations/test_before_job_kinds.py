"""A data folder that was written before jobs had kinds opens with its queue, and its jobs go on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from hub.schemas.core import FinetuneIn, FinetuneSpec, RefreshTrainingSpec
from hub.services import Services
from hub.settings import Settings
from registry.types import RepoId
from tests.hub.material import write_base_files

WRITTEN = Path(__file__).parents[2] / "registry" / "data" / "before-job-kinds.tar.xz"
FRAMES = RepoId("dataset", "acme", "frames")


def test_the_queue_is_read_and_goes_on(tmp_path: Path) -> None:
    with tarfile.open(WRITTEN) as archive:
        archive.extractall(tmp_path, filter="data")
    said = json.loads((tmp_path / "said.json").read_text())
    settings = Settings.load({}, data=tmp_path / "data", base_source=write_base_files(tmp_path / "base"))
    for _ in range(2):  # and opened again nothing is left to do
        services = Services.open(settings)
        kinds = {job.id: job.spec.kind for job in services.jobs.all()}
        assert kinds == {said["finished"]: "finetune", said["queued"]: "finetune", said["refresh"]: "refresh"}
        rows = services.registry.catalog.query("SELECT id, kind, json_extract_string(spec, '$.kind') FROM hub_jobs")
        assert {row[0]: (row[1], row[2]) for row in rows} == {job: (kind, kind) for job, kind in kinds.items()}
        waits, refresh = services.jobs.get(said["queued"]).spec, services.jobs.get(said["refresh"]).spec
        assert type(waits) is FinetuneSpec and waits.seed == 5 and waits.earlier is not None and waits.images is None
        assert type(refresh) is RefreshTrainingSpec and refresh.refresh is not None and refresh.refresh.run == "r1"
        found = services.quality.found(FRAMES, "main")
        assert found is not None and (found.images, found.notes) == (3, ["one note"])
        if services.jobs.get(said["queued"]).state == "queued":
            # The request is the same as before there were kinds: no second job works on it.
            again = services.finetunes.request(FinetuneIn(cell="dock-7", dataset="acme/frames", seed=5), "admin")
            assert again.id == said["queued"]
            claim = services.jobs.claim("w", ["finetune"])
            assert claim is not None and claim.job.id == said["queued"]
        services.close()
