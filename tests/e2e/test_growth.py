"""The base grows with everything real: offered, checked, tested, trained, judged and moved to, whatever is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from finetune.datasets import read_dataset, write_dataset
from hub.client.client import HubClient
from hub.errors import HubAnswerError, HubUnavailableError
from hub.schemas.core import FinetuneIn
from hub.schemas.growth import Contribution, GrowthPolicyIn, GrowthPolicySet, GrowthRun
from hub.settings import Settings
from tests.e2e.conftest import job_process
from tests.hub.material import start_hub, wait_for, write_rectangles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
TINY = GrowthPolicyIn(
    enabled=True, min_images=8, min_contributions=1, min_hours_between=0, accept_unsure=True, value_steps=4,
    base_steps=40, batch=2, refit_minutes=0.05, per_cell=4, tolerance=1.0,
)  # fmt: skip


def write_small_base(folder: Path) -> Path:
    """A base of the scenes' own labels that trains and answers in seconds."""
    import torch

    from finetune.models.model import Architecture, new_base, save_base
    from finetune.scenes import LABELS

    shape = Architecture(image_size=64, hidden_size=32, layers=3, heads=2, blocks=1, queries=10, spare_labels=3)
    save_base(new_base(shape, LABELS, seed=0), folder, card="# A small base\n", dtype=torch.float32)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("growth")
    base = write_small_base(folder / "base")
    return Settings.load(
        {}, data=folder / "data", base_source=base, lease_seconds=20.0, look_seconds=1.0
    ).on_free_ports()


def push(client: HubClient, folder: Path, name: str, *, images: int, seed: int) -> None:
    short = name.rpartition("/")[2]
    source = write_rectangles(folder / f"{short}-source", images=images, seed=seed)
    write_dataset(read_dataset(source), folder / short, licence="cc0-1.0")
    client.push_folder("dataset", name, folder / short, f"{images} images")


def offer(client: HubClient) -> Contribution | None:
    try:
        return next(iter(client.contributions("bolt/yard")), None)
    except (HubUnavailableError, HubAnswerError):  # it may be starting again
        return None


def newest(client: HubClient) -> GrowthRun | None:
    try:
        return next(iter(client.growths()), None)
    except (HubUnavailableError, HubAnswerError):
        return None


def test_from_an_offer_to_cells_on_the_next_base_over_kill_9(
    settings: Settings, hubs: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    with HubClient.of(settings) as client:
        client.create_cell("dock-7", team="acme")
        push(client, tmp_path, "acme/dock-7", images=12, seed=1)
        first = client.finetune(FinetuneIn(cell="dock-7", dataset="acme/dock-7", max_minutes=0.05))
        wait_for(lambda: client.job(first.id).state in ("finished", "failed"), seconds=900)
        assert client.job(first.id).version == "dock-7@v1", client.job(first.id).error
        client.set_growth_policy(GrowthPolicySet(policy=TINY))
        push(client, tmp_path, "bolt/yard", images=8, seed=2)
        client.offer_dataset("bolt/yard", offered=True, note="all that we have")
        wait_for(lambda: (one := offer(client)) is not None and one.state in ("accepted", "refused"), seconds=900)
        one = offer(client)
        assert one is not None and one.state == "accepted", one
        assert one.verdict in ("helps", "unsure") and one.low is not None, "it was measured on dock-7"
        assert "1 other cell" in " ".join(each.reason for each in one.moments)

        wait_for(lambda: (run := newest(client)) is not None and run.job is not None, seconds=120)
        run = newest(client)
        assert run is not None and run.by_rule and run.job is not None

        def trains() -> bool:
            progress = client.job(str(run.job)).progress
            return progress is not None and progress["stage"] == "train"

        wait_for(trains, seconds=600)
        child = job_process(run.job)
        hubs[-1].kill()
        hubs[-1].wait()
        assert child is not None
        child.kill()
        hubs.append(start_hub(settings, settings.data / "hub-again.log"))
        wait_for(lambda: (it := newest(client)) is not None and it.state not in ("training", "refitting"), seconds=1200)

        (done,) = client.growths()
        assert (done.id, done.state, done.base) == (run.id, "finished", "base/universal@v2"), done
        job = client.job(str(done.job))
        assert job.attempt >= 2 and job.crashes >= 1, "it was killed, and went on"
        (cell,) = done.cells
        assert (cell.cell, cell.state, cell.version) == ("dock-7", "moved", "dock-7@v2"), cell
        assert client.variant("dock-7@v2").base == "base/universal@v2"
        assert cell.difference is not None
        (told,) = client.contributions("bolt/yard")
        assert told.credits[0].base == "base/universal@v2" and told.credits[0].images == 8
        titles = [step.title for step in reversed(client.timeline("dock-7", kind="growth"))]
        assert titles[0].startswith("The base grows") and titles[-1].startswith("The growth to"), titles
