"""One engine measured in a process of its own: `python -m benchmarks.serving.probe SPEC`, SPEC and answer in JSON.

A process for each, because memory that one engine took would count for the next.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving.errors import BaseError
from serving.instances import Instances

Kind = Literal["eager", "compile", "onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """What to measure.

    `variants` names variant folders (for the ratios of mixed batches; none leaves them out), `pictures` image files
    whose answers come back. `threads` are of the model's arithmetic.
    """

    kind: Kind
    precision: Precision
    base: str
    base_name: str
    batches: tuple[int, ...] = (1, 8, 32)
    rounds: int = 5
    threads: int = 1
    variants: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """Figures of one engine as plain JSON, and its answers to the pictures."""

    figures: dict[str, Any]
    answers: list[Instances]


def probe(spec: ProbeSpec, *, timeout_s: float = 3600.0) -> Probed:
    """Measure in a child process. Raises BaseError with its last words where that fails."""
    command = [sys.executable, "-m", "benchmarks.serving.probe", json.dumps(asdict(spec))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise BaseError(f"engine {spec.kind} took longer than {timeout_s:.0f} s") from error
    if done.returncode:
        raise BaseError(f"engine {spec.kind}: {(done.stderr.strip().splitlines() or ['no words'])[-1][:300]}")
    document = json.loads(done.stdout.splitlines()[-1])
    answers = [
        Instances(
            one["height"],
            one["width"],
            np.array(one["boxes"], np.float32).reshape(-1, 4),
            np.array(one["scores"], np.float32),
            tuple(one["labels"]),
            tuple(mask.encode("ascii") for mask in one["masks"]),
        )
        for one in document["answers"]
    ]
    return Probed(document["figures"], answers)


def measure(spec: ProbeSpec) -> dict[str, Any]:
    """What the child does."""
    import torch

    from serving.inference.preprocess import decode_image

    torch.set_num_threads(spec.threads)
    before = _resident()
    clock, cpu = time.perf_counter(), time.process_time()
    segmenter = _segmenter(spec)
    figures: dict[str, Any] = {
        "engine": segmenter.engine if spec.kind != "compile" else f"compile {spec.precision}",
        "load_s": round(time.perf_counter() - clock, 2),
        "load_cpu_s": round(time.process_time() - cpu, 2),
    }
    size = segmenter.preprocess.size
    generator = torch.Generator().manual_seed(0)
    for batch in spec.batches:
        pixels = torch.randn(batch, 3, size, size, generator=generator)
        segmenter.forward(pixels, [None] * batch)
        clocks, cpus = [], []
        for _ in range(max(2, spec.rounds if batch < 32 else spec.rounds // 2)):
            clock, cpu = time.perf_counter(), time.process_time()
            segmenter.forward(pixels, [None] * batch)
            clocks.append(time.perf_counter() - clock)
            cpus.append(time.process_time() - cpu)
        figures[f"batch_{batch}"] = {
            "cpu_ms": round(1000 * statistics.median(cpus), 1),
            "ms": round(1000 * statistics.median(clocks), 1),
        }
    if spec.variants:
        from benchmarks.serving.mixing import mixed_ratios

        names = []
        for folder in map(Path, spec.variants):
            segmenter.add_variant(folder.name, folder)
            names.append(folder.name)
        fitting = [batch for batch in spec.batches if batch <= len(names)]
        figures |= mixed_ratios(segmenter, names, batches=fitting, rounds=spec.rounds)
    answers = [segmenter.segment([decode_image(Path(picture).read_bytes())])[0] for picture in spec.pictures]
    figures["resident_mb"] = round((_resident() - before) / 1e6, 1)
    figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)
    return {"figures": figures, "answers": [_plain(answer) for answer in answers]}


def _segmenter(spec: ProbeSpec) -> Any:  # noqa: ANN401 - a Segmenter; torch is imported only in the child
    import torch

    from serving.families.load import load_model
    from serving.inference.runners import EngineChoice
    from serving.inference.segmenter import Segmenter

    folder = Path(spec.base)
    if spec.kind == "compile":
        model = load_model(folder, dtype=getattr(torch, spec.precision)).requires_grad_(False)
        model.compile()
        config = json.loads((folder / "preprocessor_config.json").read_text())
        return Segmenter.from_model(model, config, base_name=spec.base_name)
    choice = EngineChoice(spec.kind, spec.precision)
    segmenter = Segmenter.load(folder, base_name=spec.base_name, device="cpu", engine=choice)
    if not segmenter.engine.startswith(spec.kind):
        raise BaseError(f"{spec.kind} cannot be used here; see the log")
    return segmenter


def _resident() -> int:
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_info().rss)


def _plain(answer: Instances) -> dict[str, Any]:
    return {
        "height": answer.height,
        "width": answer.width,
        "boxes": answer.boxes.tolist(),
        "scores": answer.scores.tolist(),
        "labels": list(answer.labels),
        "masks": [mask.decode("ascii") for mask in answer.masks],
    }


def agreement(ours: Sequence[Instances], reference: Sequence[Instances], *, least: float = 0.3) -> dict[str, float]:
    """How answers agree with the reference's of at least `least`: mean and median IoU with the best overlapping answer,
    the share of them at 0.99 or more, and the mean and largest difference of scores. Where two candidates overlap and
    score alike, a last bit decides which one answers: the median says what becomes of masks, the mean of both."""
    from pycocotools import mask as coco_mask

    overlaps, differences = [], []
    for one, other in zip(ours, reference, strict=True):
        wanted = np.flatnonzero(other.scores >= least)
        if not len(wanted):
            continue
        if not len(one):
            overlaps += [0.0] * len(wanted)
            continue
        table = np.asarray(coco_mask.iou(one.rles(), other.take(wanted).rles(), [0] * len(wanted)))
        best = table.argmax(0)
        overlaps += table[best, np.arange(len(wanted))].tolist()
        differences += np.abs(one.scores[best] - other.scores[wanted]).tolist()
    return {
        "compared": len(overlaps),
        "mean_iou": round(float(np.mean(overlaps)), 4) if overlaps else 1.0,
        "median_iou": round(float(np.median(overlaps)), 4) if overlaps else 1.0,
        "share_at_0.99": round(float(np.mean(np.array(overlaps) >= 0.99)), 4) if overlaps else 1.0,
        "score_mean": round(float(np.mean(differences)), 5) if differences else 0.0,
        "score_max": round(float(np.max(differences)), 5) if differences else 0.0,
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    for field in ("batches", "variants", "pictures"):
        given[field] = tuple(given[field])
    sys.stdout.write("\n" + json.dumps(measure(ProbeSpec(**given))) + "\n")
