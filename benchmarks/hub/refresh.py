"""How long a refresh takes, from new labels to a candidate: `python -m benchmarks.hub.refresh`.

A cell of a look that no base was trained on gets a variant of its own; then new labelled images of another seed come
in, and the rule takes them up. Everything is real: a hub process, a worker, job processes, the shipped base. Prints
one JSON object: seconds from the push of the labels to the candidate, what the job's stages took, the machine's load,
and what became of the cell's history.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.hub.api import READY_SECONDS
from finetune.datasets import read_dataset
from finetune.scenes import HELD_OUT, write_cell
from hub.cli.dataset import push_dataset
from hub.client.client import HubClient
from hub.errors import StackError
from hub.locks import port_is_free
from hub.schemas.core import FinetuneIn
from hub.schemas.refresh import RefreshPolicyIn, RefreshPolicySet
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn, stop

CELL = "dock-7"


def measure(
    folder: Path, *, look: str, images: int, first: int, first_minutes: float, minutes: float
) -> dict[str, object]:
    """One refresh in `folder`. Raises StackError where a process does not come up or a job fails."""
    settings = Settings.load({}, data=folder / "data").on_free_ports()
    settings.data.mkdir(parents=True)
    hub = spawn(parcelhub_command("hub"), env=settings.environment())
    worker = None
    try:
        _wait(lambda: settings.admin_token_file.exists() and not port_is_free(settings.host, settings.port), "the hub")
        worker = spawn(parcelhub_command("worker"), env=settings.environment())
        with HubClient.of(settings) as client:
            client.create_cell(CELL, team="acme")
            _push(client, folder, "acme/dock-7", look, first, seed=11)
            job = client.finetune(FinetuneIn(cell=CELL, dataset="acme/dock-7", max_minutes=first_minutes))
            _wait(lambda: client.job(job.id).state in ("finished", "failed"), "the first variant", 3600)
            if client.job(job.id).version is None:
                raise StackError(f"the first variant was not made: {client.job(job.id).error}")
            policy = RefreshPolicyIn(min_labels=images, min_hours_between=0, max_minutes=minutes)
            client.set_refresh_policy(CELL, RefreshPolicySet(policy=policy))
            load = os.getloadavg()
            began = time.monotonic()
            _push(client, folder, "acme/dock-7-labels", look, images, seed=12)
            pushed = time.monotonic()
            _wait(lambda: any(one.state in ("offered", "failed") for one in client.refresh(CELL).runs), "it", 3600)
            ended = time.monotonic()
            (run,) = client.refresh(CELL).runs
            made = client.job(str(run.job))
            history = made.metrics.get("history", {})
            return {
                "state": run.state,
                "version": run.version,
                "reason": run.reason if run.version is None else "",
                "minutes_from_push": round((ended - began) / 60, 2),
                "minutes_from_pushed": round((ended - pushed) / 60, 2),
                "job_seconds": round(made.used_seconds, 1),
                "stages": made.metrics.get("seconds"),
                "budget_minutes": minutes,
                "load_before": load,
                "load_after": os.getloadavg(),
                "cores": os.cpu_count(),
                "steps": made.metrics.get("steps"),
                "kept": made.metrics.get("kept_share"),
                "told": history.get("told"),
                "slices": history.get("slices"),
                "new": history.get("new"),
                "lost": history.get("lost_count"),
                "won": history.get("won_count"),
            }
    finally:
        for each in (worker, hub):
            if each is not None:
                stop(each, grace_seconds=60)


def _push(client: HubClient, folder: Path, name: str, look: str, images: int, *, seed: int) -> None:
    place = write_cell(folder / f"scenes-{seed}", HELD_OUT[look], images=images, seed=seed, valid_share=0.25)
    push_dataset(client, read_dataset(place), name, f"{images} images", progress=lambda *_: None)


def _wait(condition: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(f"{what} did not come in {seconds:.0f} s")
        time.sleep(0.5)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--look", default=next(iter(HELD_OUT)), choices=sorted(HELD_OUT))
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--first", type=int, default=60, help="images of the first variant")
    parser.add_argument("--first-minutes", type=float, default=3.0)
    parser.add_argument("--minutes", type=float, default=6.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="parcelhub-refresh-") as folder:
        found = measure(
            Path(folder),
            look=asked.look,
            images=asked.images,
            first=asked.first,
            first_minutes=asked.first_minutes,
            minutes=asked.minutes,
        )
    print(json.dumps(found, indent=1))  # noqa: T201  # its one product


if __name__ == "__main__":
    main()
