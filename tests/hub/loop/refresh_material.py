"""A cell with labels, and jobs that are answered as their processes would."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from finetune.datasets import read_dataset, write_dataset
from finetune.refresh_plan import RefreshPlan
from hub.client.client import HubClient
from hub.schemas.core import FinetuneIn, FinishIn, Job
from hub.services import Services
from registry.types import FileEntry, RepoId
from tests.hub.material import write_rectangles, write_variant

CELL, LABELS, DECK = "dock-7", "acme/dock-7-labels", "acme/dock-7-refresh"
GOOD = {
    "variant_ap50": 0.9, "variant_ap50_low": 0.85, "base_ap50": 0.4, "gain_ap50_low": 0.4, "gain_ap50_high": 0.6,
    "found": 95, "missed": 5, "extra": 4, "base_found": 40, "images_holdout": 20, "holdout_packages": 100,
    "images_train": 60, "steps": 500, "train_seconds": 300.0,
}  # fmt: skip


def slice_(name: str, difference: float = 0.0) -> dict[str, Any]:
    """What was measured on an earlier holdout that is large enough to tell."""
    low, high = difference - 0.01, difference + 0.01
    return {"name": name, "images": 40, "packages": 200, "difference": difference, "low": low, "high": high}


def push_labels(
    client: HubClient, folder: Path, *, images: int = 8, seed: int, name: str = LABELS, kind: str = "box"
) -> str:
    """More labelled images into a dataset, as another person's commit on top. Returns the commit."""
    place = folder / f"labels-{seed}-{name.rpartition('/')[2]}"
    source = write_rectangles(place / "source", images=images, seed=seed)
    (source / "data.yaml").write_text(f"train: train/images\nnames: [{json.dumps(kind)}]\nnc: 1\n")
    for each in sorted((source / "train").rglob("*.*")):
        each.rename(each.with_name(f"s{seed}-{each.name}"))
    there = folder / f"all-{name.replace('/', '-')}"
    old = read_dataset(there / "stored").samples if there.exists() else ()
    new = read_dataset(source)
    merged = type(new)(name, tuple(dict.fromkeys([*_classes(there), *new.classes])), (*old, *new.samples))
    write_dataset(merged, place / "stored", licence="cc0-1.0")
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(place, there)
    return client.push_folder("dataset", name, there / "stored", f"{images} more labels").id


def _classes(there: Path) -> tuple[str, ...]:
    return read_dataset(there / "stored").classes if there.exists() else ()


def plan_of(services: Services, commit: str, dataset: str = DECK) -> RefreshPlan:
    """The plan in a refresh's dataset."""
    import msgspec

    repo = RepoId.parse(dataset, "dataset")
    entry = services.store.repos.entry(repo, commit, "refresh.json")
    return msgspec.json.decode(services.store.blobs.read(entry.sha256), type=RefreshPlan)


def answer(services: Services, job: Job, folder: Path, *, train: list[str], holdout: list[str], **more: Any) -> str:
    """Answer a job with a variant of such a deck. Returns the variant's name."""
    claim = services.jobs.claim("w1")
    assert claim is not None and claim.job.id == job.id
    variant, _ = write_variant(folder, job.spec.base_commit, job.id, base=job.spec.base)
    deck = json.dumps(
        {
            "dataset": job.spec.dataset,
            "commit": job.spec.dataset_commit,
            "train": train,
            "holdout": holdout,
            "class_map": {"box": "box"},
        }
    ).encode()
    document = json.loads((variant / "variant.json").read_text()) | {"deck": hashlib.sha256(deck).hexdigest()}
    (variant / "variant.json").write_text(json.dumps(document))
    repo = RepoId("model", "cells", job.spec.cell)
    services.store.repos.create(repo, exist_ok=True)
    entries = []
    for path in sorted(variant.iterdir()):
        info = services.store.blobs.put_bytes(path.read_bytes())
        entries.append(FileEntry(path.name, info.sha256, info.size))
    services.store.blobs.put_bytes(deck)
    commit = services.store.repos.commit(repo, entries, message="made", author="job")
    told = FinishIn(commit=commit.id, deck=hashlib.sha256(deck).hexdigest(), metrics=GOOD | more)
    return str(services.finetunes.accept(job.id, told).version)


def first_variant(services: Services, client: HubClient, folder: Path) -> str:
    """The cell's first variant: of 8 images, the last two judge."""
    push_labels(client, folder, seed=100, name="acme/dock-7")
    job = services.finetunes.request(FinetuneIn(cell=CELL, dataset="acme/dock-7"), "ann")
    names = [f"s100-{k:03}.png" for k in range(8)]
    return answer(services, job, folder / "v1", train=names[:6], holdout=names[6:])


def finish_refresh(services: Services, run: str, folder: Path, *slices: dict[str, Any], history: bool = True) -> str:
    """Answer the job of a refresh. Returns the variant's name."""
    one = services.refreshes.get(CELL, run)
    assert one.job is not None and one.dataset_commit is not None
    plan = plan_of(services, one.dataset_commit)
    fresh = [name for each in plan.new for name in each]
    train, holdout = [*fresh[:-2], *plan.replay], [*fresh[-2:], *plan.judge]
    document = {"run": run, "start": plan.start, "tolerance": 0.02, "slices": list(slices)}
    told = {"told": "as measured", "worse": [s["name"] for s in slices if s["difference"] < -0.03]}
    more = {"history": document | told} if history else {}
    return answer(services, services.jobs.get(one.job), folder / f"refresh-{run}", train=train, holdout=holdout, **more)
