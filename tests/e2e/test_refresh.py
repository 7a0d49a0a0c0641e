"""A refresh with everything real: new labels come in, the rule trains on them, whatever is killed meanwhile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hub.cli.dataset import push_dataset, read
from hub.client.client import HubClient
from hub.errors import HubAnswerError, HubUnavailableError
from hub.schemas.core import FinetuneIn
from hub.schemas.refresh import RefreshPolicyIn, RefreshPolicySet, RefreshRun
from hub.settings import Settings
from tests.e2e.conftest import job_process
from tests.hub.material import start_hub, wait_for, write_rectangles, write_tiny_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LABELS = "acme/dock-7-labels"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("refresh")
    base = write_tiny_base(folder / "base")
    return Settings.load(
        {}, data=folder / "data", base_source=base, lease_seconds=20.0, look_seconds=1.0
    ).on_free_ports()


def push(client: HubClient, folder: Path, name: str, *, images: int, seed: int) -> None:
    source = write_rectangles(folder / f"{name.rpartition('/')[2]}-{seed}", images=images, seed=seed)
    push_dataset(client, read(source), name, f"{images} images", progress=lambda *_: None)


def newest(client: HubClient) -> RefreshRun | None:
    try:
        return next(iter(client.refresh("dock-7").runs), None)
    except (HubUnavailableError, HubAnswerError):  # it may be starting again
        return None


def test_from_new_labels_to_a_candidate_over_kill_9(
    settings: Settings, hubs: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with HubClient.of(settings) as client:
        client.create_cell("dock-7", team="acme")
        push(client, tmp_path, "acme/dock-7", images=12, seed=1)
        first = client.finetune(FinetuneIn(cell="dock-7", dataset="acme/dock-7", max_minutes=0.05))
        wait_for(lambda: client.job(first.id).state in ("finished", "failed"), seconds=900)
        assert client.job(first.id).version == "dock-7@v1", client.job(first.id).error
        policy = RefreshPolicyIn(min_labels=8, min_hours_between=0, max_minutes=0.1)
        client.set_refresh_policy("dock-7", RefreshPolicySet(policy=policy, note="few are enough here"))
        push(client, tmp_path, LABELS, images=10, seed=2)

        def trains() -> bool:
            run = newest(client)
            return run is not None and run.job is not None and job_process(run.job) is not None

        wait_for(trains, seconds=600)
        run = newest(client)
        assert run is not None and run.job is not None and run.by_rule

        def works() -> bool:
            progress = client.job(str(run.job)).progress
            return progress is not None and progress["stage"] == "train"

        wait_for(works, seconds=600)
        child = job_process(run.job)
        hubs[-1].kill()
        hubs[-1].wait()
        assert child is not None
        child.kill()
        hubs.append(start_hub(settings, settings.data / "hub-again.log"))
        wait_for(lambda: (one := newest(client)) is not None and one.state not in ("building", "training"), seconds=900)

        (done,) = client.refresh("dock-7").runs
        assert (done.id, done.state, done.version) == (run.id, "offered", "dock-7@v2"), done.reason
        job = client.job(str(done.job))
        assert job.attempt >= 2 and job.crashes >= 1, "it was killed, and went on"
        assert len([one for one in client.jobs() if one.spec.refresh]) == 1
        variant = client.variant("dock-7@v2")
        assert variant.stage == "candidate"
        target = tmp_path / "history.json"
        client.download("model", "cells/dock-7", variant.commit, "history.json", target)
        told = json.loads(target.read_text())
        assert (told["start"], told["run"]) == ("dock-7@v1", run.id)
        (one,) = told["slices"]
        assert (one["name"], one["images"]) == ("dock-7@v1", 3)
        assert one["ap50_before"] >= 0 and told["new"]["images"] == 2
        client.download("model", "cells/dock-7", variant.commit, "adapter_config.json", tmp_path / "config.json")
        client.download("model", "cells/dock-7", variant.commit, "report.html", tmp_path / "report.html")
        assert "It went on from dock-7@v1" in (tmp_path / "report.html").read_text()
        steps = client.timeline("dock-7")
        titles = [step.title for step in reversed(steps)]
        wanted = (
            "Labels came into acme/dock-7-labels",
            "A refresh on 10 new images began",
            f"Training {job.id} was queued",
            "v2 is a candidate",
        )
        places = [next(k for k, title in enumerate(titles) if title.startswith(each)) for each in wanted]
        assert places == sorted(places), titles
        assert all(step.reason or step.kind == "promotion" for step in steps if step.kind == "refresh")
