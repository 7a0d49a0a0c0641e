"""Every engine that can run a base here, side by side: speed, memory, and whether it says the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.folder import BASE, make_folder
from benchmarks.serving.probe import Kind, Precision, Probed, ProbeSpec, agreement, probe
from finetune.datasets.read import read_dataset
from finetune.datasets.types import Sample
from finetune.evaluation.evaluate import ANY, nameless, score
from finetune.scenes.cells import write_cell
from serving.errors import BaseError

CANDIDATES: tuple[tuple[Kind, Precision], ...] = (
    ("eager", "float32"),
    ("eager", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
COMPILED: tuple[tuple[Kind, Precision], ...] = (("compile", "float32"), ("compile", "bfloat16"))


def compare_engines(
    base: Path,
    *,
    data: Path | None,
    images: int,
    batches: Sequence[int],
    rounds: int,
    compiled: bool,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A row for each engine, eager float32 first, which the others are compared with.

    `data` is a dataset folder whose `valid` images (all, where it has no split) are answered; scenes by default. AP is
    without names, as what the base outlines. Engines that cannot run have their reason under `error`.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="parcelhub-engines-") as place:
        make_folder(Path(place) / "serving", base, variants=max(batches), rank=8)
        samples = _samples(data, images, Path(place) / "scenes")
        variants = sorted(str(path) for path in (Path(place) / "serving" / "variants").iterdir())
        reference: Probed | None = None
        for kind, precision in (*CANDIDATES, *(COMPILED if compiled else ())):
            say(f"{kind} {precision}")
            spec = ProbeSpec(
                kind,
                precision,
                str(Path(place) / "serving" / "base" / BASE),
                BASE,
                batches=tuple(batches),
                rounds=rounds,
                variants=() if kind == "compile" else tuple(variants),
                pictures=tuple(str(sample.image) for sample in samples),
            )
            try:
                found = probe(spec)
            except BaseError as error:
                rows.append({"engine": f"{kind} {precision}", "error": str(error)})
                if reference is None:
                    raise
                continue
            reference = reference or found
            ap = score(*nameless(samples, found.answers), [ANY], [sample.name for sample in samples]).ap
            rows.append({**found.figures, **agreement(found.answers, reference.answers), "ap": round(ap, 4)})
    return rows


def _samples(data: Path | None, images: int, place: Path) -> list[Sample]:
    if data is None:
        from finetune.pipelines.base_service import judges

        look, seed = next(iter(judges().values()))
        data = write_cell(place, look, images=images, seed=seed, valid_share=1.0)
    found = read_dataset(data).samples
    judged = [sample for sample in found if sample.split == "valid"] or list(found)
    return judged[:images]
