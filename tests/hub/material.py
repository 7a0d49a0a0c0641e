"""Small real things for the tests: a base model with random weights, a dataset of coloured rectangles."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import safetensors.numpy

from hub.locks import port_is_free
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn, stop

COLOURS = ((60, 140, 200), (80, 180, 90), (190, 120, 60))


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def start(
    command: str, settings: Settings, log: Path, ready: Callable[[], bool], *, seconds: float
) -> subprocess.Popen[bytes]:
    """`parcelhub <command>` as a process that is ready; its words go to the end of `log`, and are shown if it dies."""
    with log.open("ab") as words:
        process = spawn(parcelhub_command(command), env=settings.environment(), stdout=words)

    def up() -> bool:
        assert process.poll() is None, log.read_text()
        return ready()

    try:
        wait_for(up, seconds)
    except BaseException:
        stop(process, grace_seconds=10)
        raise
    return process


def start_hub(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """A hub process that listens, without Triton and without a worker."""

    def listens() -> bool:
        return settings.admin_token_file.exists() and not port_is_free(settings.host, settings.port)

    return start("hub", settings, log, listens, seconds=400)


@contextmanager
def running_hub(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`start_hub`, and in the end it has to stop as it should."""
    process = start_hub(settings, log)
    try:
        yield process
    finally:
        ended = stop(process, grace_seconds=20)
    assert ended == 0, log.read_text()


def start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    """`parcelhub worker`. Its jobs take their share of the cores: beside other tests they would hardly move."""
    return spawn(parcelhub_command("worker"), env=replace(settings, jobs_give_way=0).environment())


@contextmanager
def running_worker(settings: Settings) -> Iterator[None]:
    """A worker of that hub, as a process of its own: checks of datasets are jobs, too."""
    worker = start_worker(settings)
    try:
        yield
    finally:
        stop(worker, grace_seconds=30)


def tiny_weights(content: bytes) -> bytes:
    """A safetensors file whose one tensor has these bytes."""
    return safetensors.numpy.save({"tensor": np.frombuffer(content, np.uint8)})


def write_tiny_base(folder: Path, *, seed: int = 0, family: str = "parcelseg") -> Path:
    """A base that loads, answers and can be fine-tuned, in well under a second."""
    import torch

    from finetune.models.model import Architecture, new_base, save_base

    architecture = Architecture(
        family=family, image_size=64, hidden_size=32, layers=3, heads=2, blocks=1, queries=10, spare_labels=3
    )
    model = new_base(architecture, ["box", "bag"], seed=seed)
    save_base(model, folder, card="# A base with random weights\n", dtype=torch.float32)
    return folder


def write_base_files(folder: Path, *, mark: bytes = b"") -> Path:
    """The files of a base. Its weights are no weights: the hub stores and serves files, it never loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "eomt", "id2label": {"0": "box"}}')
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(tiny_weights(b"weights" + mark))
    (folder / "README.md").write_text("# A base\n")
    return folder


def write_rectangles(folder: Path, *, images: int = 12, seed: int = 0) -> Path:
    """A YOLO-seg dataset: each image has three rectangles of class `box` on a grey floor."""
    rng = np.random.default_rng(seed)
    pictures, labels = folder / "train" / "images", folder / "train" / "labels"
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(images):
        image = rng.normal(120, 12, (96, 128, 3)).clip(0, 255).astype(np.uint8)
        lines = []
        for slot, colour in enumerate(COLOURS):
            x0, y0 = 6 + 40 * slot + int(rng.integers(0, 8)), int(rng.integers(6, 40))
            x1, y1 = x0 + int(rng.integers(18, 30)), y0 + int(rng.integers(24, 46))
            cv2.rectangle(image, (x0, y0), (x1, y1), colour, thickness=-1)
            corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
            lines.append("0 " + " ".join(f"{x / 128:.5f} {y / 96:.5f}" for x, y in corners))
        cv2.imwrite(str(pictures / f"{number:03}.png"), image)
        (labels / f"{number:03}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("train: train/images\nnames: ['box']\nnc: 1\n")
    return folder


def write_variant(folder: Path, base_commit: str, mark: str, *, base: str = "base/universal@v1") -> tuple[Path, bytes]:
    """The files of a variant as a job uploads them (no adapter in them: the hub never loads one), and its deck."""
    deck = json.dumps({"mark": mark}).encode()
    repo, _, revision = base.partition("@")
    origin = {"repo": repo, "revision": revision, "commit": base_commit}
    document = {"base": origin, "labels": {"box": "carton"}, "rank": 4, "deck": hashlib.sha256(deck).hexdigest()}
    folder.mkdir(parents=True)
    (folder / "variant.json").write_text(json.dumps(document))
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4}))
    (folder / "adapter_model.safetensors").write_bytes(tiny_weights(b"weights " + mark.encode()))
    (folder / "README.md").write_text(f"# Variant {mark}\n")
    return folder, deck
