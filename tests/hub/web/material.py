"""A signed-in browser without a browser, and a hub with something to show."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from litestar.testing import TestClient

from finetune.datasets import read_dataset, write_dataset
from hub.client.client import HubClient
from hub.jobs.kinds import Work, kind_of
from hub.schemas.core import FinetuneIn, FinishIn, Job, ProgressIn
from hub.services import Services
from registry.types import FileEntry, RepoId
from tests.hub.conftest import SharedTransport
from tests.hub.material import write_rectangles, write_variant

EVIL = "<script>alert(1)</script>"


class Browser:
    """Follows the forms of pages as a browser would: fields that a page hid in a form go with it."""

    def __init__(self, client: TestClient[Any]) -> None:
        self.client = client

    def get(self, address: str, status: int = 200, **more: Any) -> str:
        answer = self.client.get(address, follow_redirects=False, **more)
        assert answer.status_code == status, answer.text[:2000]
        return answer.text

    def csrf(self, page: str = "/ui/settings") -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get(page))
        assert found
        return found[1]

    def post(self, address: str, fields: dict[str, str], status: int = 303, **more: Any) -> Any:
        data = {"csrf": self.csrf()} | fields
        answer = self.client.post(address, data=data, follow_redirects=False, **more)
        assert answer.status_code == status, answer.text[:2000]
        return answer

    def sign_in(self, token: str, *, back: str = "", status: int = 303) -> Any:
        self.client.cookies.clear()
        form = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get("/ui/sign-in"))
        assert form
        fields = {"csrf": form[1], "token": token, "next": back}
        answer = self.client.post("/ui/sign-in", data=fields, follow_redirects=False)
        assert answer.status_code == status, answer.text[:2000]
        return answer


def push_rectangles(client: HubClient, name: str, folder: Path, *, images: int = 8, class_name: str = "box") -> str:
    """A small dataset at the hub, in the form that the hub stores. Returns its commit."""
    source = write_rectangles(folder / "source", images=images)
    (source / "data.yaml").write_text(f"train: train/images\nnames: [{json.dumps(class_name)}]\nnc: 1\n")
    write_dataset(read_dataset(source), folder / "stored", licence="cc0-1.0")
    return client.push_folder("dataset", name, folder / "stored", "frames").id


def finish_job(services: Services, job: Job, folder: Path, mark: str) -> str:
    """Answer a job as its process would, with a report in the variant's repository. Returns the variant's name."""
    claim = services.jobs.claim("w1")
    assert claim is not None and claim.job.id == job.id
    services.jobs.progress(job.id, ProgressIn(stage="train", step=1, total=2, metrics={"loss": 2.0}))
    variant, deck = write_variant(folder, job.spec.base_commit, mark)
    for name, text in report_files(services, job, mark).items():
        (variant / name).write_text(text)
    repo = RepoId("model", "cells", job.spec.cell)
    services.store.repos.create(repo, exist_ok=True)
    entries = []
    for path in sorted(variant.iterdir()):
        info = services.store.blobs.put_bytes(path.read_bytes())
        entries.append(FileEntry(path.name, info.sha256, info.size))
    services.store.blobs.put_bytes(deck)
    commit = services.store.repos.commit(repo, entries, message="made", author="job")
    metrics = {"base_ap50": 0.4, "variant_ap50": 0.8, "base_ap": 0.2, "variant_ap": 0.5, "summary": [f"Better {EVIL}"]}
    answer = FinishIn(commit=commit.id, deck=hashlib.sha256(deck).hexdigest(), metrics=metrics)
    return str(services.finetunes.accept(job.id, answer).version)


def made_variant(services: Services, folder: Path, *, cell: str, dataset: str, mark: str) -> str:
    """A variant with its job, deck, report and lineage."""
    if cell not in {one.name for one in services.cells.all()}:
        services.cells.create(cell, "")
    seed = int(hashlib.sha256(mark.encode()).hexdigest()[:6], 16)
    job = services.finetunes.request(FinetuneIn(cell=cell, dataset=dataset, seed=seed), "admin")
    return finish_job(services, job, folder, mark)


def report_files(services: Services, job: Job, mark: str) -> dict[str, str]:
    """`report.json`, `report.html` and `predictions.json` about images of the job's dataset."""
    dataset = RepoId.parse(job.spec.dataset, "dataset")
    found = services.datasets.images
    images = found.page(found.of(dataset, job.spec.dataset_commit).number, limit=3)
    names = [image.file.rpartition("/")[2] for image in images]
    score = {"ap": 0.5, "ap50": 0.8, "ap75": 0.4, "intervals": {"ap50": [0.7, 0.9]}}
    report = {
        "verdict": "better",
        "sentences": [f"The variant {mark} finds more. {EVIL}"],
        "base": score | {"ap50": 0.4},
        "variant": score,
        "per_size": [{"name": "small", "base": 0.1, "variant": 0.2}],
        "label_next": [{"sentence": "Small packages: 3 of 4 were missed.", "images": names[:1]}],
        "worst": [{"image": name, "found": 1, "missed": 2, "extra": 0} for name in names],
        "losses": [[1, 3.0], [2, 2.0], [3, 1.5]],
        "recipe": {"seed": job.spec.seed},
    }
    mask = {"label": "box", "counts": "PPYo0d0R2000000000000000000000000000"}
    shown = [
        {"name": name, "width": 128, "height": 96, "truth": [mask], "base": [], "variant": [mask | {"score": 0.9}]}
        for name in names
    ]
    return {
        "report.json": json.dumps(report),
        "report.html": f"<!doctype html><title>x</title><script>alert(1)</script><p>{mark}</p>",
        "predictions.json": json.dumps({"classes": ["box"], "images": shown}),
    }


def work_off(raw: TestClient[Any]) -> list[Job]:
    """Run every queued job as its process would, with the token of its own run and over REST. Returns them, ended."""
    services: Services = raw.app.state.services
    done = []
    while (claim := services.jobs.claim("w1")) is not None:
        with (
            HubClient("http://testserver.local", claim.token, transport=SharedTransport(raw._transport)) as client,
            tempfile.TemporaryDirectory() as folder,
        ):
            work = Work(client, client.job(claim.job.id), Path(folder), lambda _: None, lambda: False)
            answer = kind_of(work.job.spec).run(work)
            done.append(
                client.finish(claim.job.id, commit=answer.commit, deck=answer.deck, metrics=dict(answer.metrics))
            )
    return done
