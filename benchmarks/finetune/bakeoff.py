"""Which architecture for the base? Every family from random weights, about as large, for the same time, then judged on
held-out cells: zero-shot, adapted by LoRA, how long a forward pass takes, whether it can be exported.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.finetune.experiments import held_out_cell
from benchmarks.finetune.fewshot import train_and_measure, zero_shot
from finetune.datasets import read_dataset
from finetune.errors import BaseModelError
from finetune.models.model import CONFIGS, Architecture, load_base, picture_size, save_base
from finetune.scenes import HELD_OUT
from finetune.training.adapt import recipe_for
from finetune.training.base import BaseRecipe, train_base
from finetune.training.loop import Tick
from serving.families.types import InstanceModel

ROWS = "bakeoff.json"
_CELL_SEED = 8_800
_EXPORT_TOLERANCE = 1e-2


@dataclass(frozen=True, slots=True)
class BakeOffPlan:
    """Each family trains for `seconds` (or `steps`), then LoRA for `lora_seconds` (or `lora_steps`) on `lora_images`
    of the first cell. `holdout` pictures of each cell are judged on. Without a GPU seconds are CPU time, so that other
    work on the machine favours none."""

    families: tuple[str, ...] = tuple(CONFIGS)
    architecture: Architecture = field(default_factory=Architecture)
    seconds: float | None = 720.0
    steps: int = 100_000
    lora_seconds: float | None = 120.0
    lora_steps: int | None = None
    lora_images: int = 50
    cells: tuple[str, ...] = tuple(HELD_OUT)
    holdout: int = 60
    batch_size: int = 16
    workers: int = 1
    seed: int = 1
    repeats: int = 15


@dataclass(frozen=True, slots=True)
class BakeOffRow:
    """What became of one family.

    `cells` maps each cell to AP, AP50, AP75 and class-agnostic AP50 zero-shot; `lora` has the first three before and
    after on the first cell, None where the family takes no adapters; `forward_ms` maps a batch size to the median
    milliseconds of a float32 forward pass; `export` is "ok" or what went wrong.
    """

    family: str
    parameters: int
    images: int
    seconds: float
    cells: Mapping[str, tuple[float, float, float, float]]
    lora: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    forward_ms: Mapping[int, float]
    export: str


def run_bakeoff(
    plan: BakeOffPlan,
    out: Path,
    *,
    report: Callable[[str, float], None] = lambda _what, _share: None,
) -> list[BakeOffRow]:
    """Run the plan; `out` gets a base folder of each family and `bakeoff.json`. A run that was interrupted goes on with
    the first family that is not done. `report` is told what runs and how far it is, 0 to 1.

    Raises BaseModelError for an unknown family, TrainingError when a training diverges.
    """
    unknown = [family for family in plan.families if family not in CONFIGS]
    if unknown:
        raise BaseModelError(f"there is no family {unknown[0]!r}; there are {', '.join(CONFIGS)}")
    out.mkdir(parents=True, exist_ok=True)
    done = _read(out / ROWS)
    for family in plan.families:
        if family not in done:
            done[family] = asdict(_one(family, plan, out, report))
            (out / ROWS).write_text(json.dumps(done, indent=2))
    done = _read(out / ROWS)
    return [_row(done[family]) for family in plan.families]


def _one(family: str, plan: BakeOffPlan, out: Path, report: Callable[[str, float], None]) -> BakeOffRow:
    ticks: list[Tick] = []

    def tick(t: Tick) -> None:
        ticks[:] = [t]
        report(f"{family}: training, loss {t.loss:.2f}", t.progress)

    recipe = BaseRecipe(
        architecture=replace(plan.architecture, family=family),
        max_steps=plan.steps,
        max_seconds=plan.seconds,
        batch_size=plan.batch_size,
        workers=plan.workers,
        seed=plan.seed,
        cpu_seconds=True,
    )
    model = train_base(recipe, out / f"{family}.work", report=tick)
    folder = out / family
    save_base(model, folder, card=f"# {family}, for the bake-off\n", dtype=torch.float32)
    cells = {}
    for name in plan.cells:
        report(f"{family}: judging on {name}", 1.0)
        found = zero_shot(folder, read_dataset(_cell(out, name, plan)), images=None).evaluation
        cells[name] = (found.ap, found.ap50, found.ap75, found.agnostic_ap50)
    lora = None
    if model.adapter_targets is not None:
        report(f"{family}: LoRA", 1.0)
        tune = recipe_for(
            "lora", family, seconds=plan.lora_seconds, steps=plan.lora_steps, seed=plan.seed, cpu_seconds=True
        )
        cell = read_dataset(_cell(out, plan.cells[0], plan))
        adapted = train_and_measure(folder, cell, tune, images=plan.lora_images).evaluation
        lora = (cells[plan.cells[0]][:3], (adapted.ap, adapted.ap50, adapted.ap75))
    report(f"{family}: timing and export", 1.0)
    return BakeOffRow(
        family=family,
        parameters=sum(p.numel() for p in model.parameters()),
        images=ticks[-1].step * plan.batch_size,
        seconds=ticks[-1].seconds,
        cells=cells,
        lora=lora,
        forward_ms={size: forward_milliseconds(model, size, repeats=plan.repeats) for size in (1, 8)},
        export=export_health(load_base(folder)),
    )


def _cell(out: Path, name: str, plan: BakeOffPlan) -> Path:
    """The dataset of a held-out cell: what LoRA trains on, and the holdout."""
    return held_out_cell(out / "cells" / name, name, train=plan.lora_images, holdout=plan.holdout, seed=_CELL_SEED)


def forward_milliseconds(model: InstanceModel, batch: int, *, repeats: int = 15) -> float:
    """Median milliseconds of `model.answer` on random pictures, on the model's device; of CPU time on a CPU."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    side, device = picture_size(model), next(model.parameters()).device
    pixels = torch.randn(batch, 3, side, side, device=device)
    times = []
    with torch.inference_mode():
        model.answer(pixels)
        for _ in range(repeats):
            started = clock()
            model.answer(pixels).scores.cpu()
            times.append((clock() - started) * 1000)
    return statistics.median(times)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # exporters write for terminals


class _Answer(nn.Module):
    """A model's answer as a pair of tensors, which is what exporters take."""

    def __init__(self, model: InstanceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        said = self.model.answer(pixels)
        return said.masks, said.scores


def export_health(model: InstanceModel) -> str:
    """Export to ONNX, run it in ONNX Runtime, compare the scores: "ok (largest difference)" or what went wrong.

    "not tried" where the packages of the `engines` extra are missing.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - the exporter needs it
    except ImportError:
        return "not tried: onnxruntime and onnxscript are not installed"
    side = picture_size(model)
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model.answer(pixels).scores.numpy()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "model.onnx")
        try:
            torch.onnx.export(_Answer(model).eval(), (pixels,), path, dynamo=True, verbose=False)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = [entry.name for entry in session.get_inputs()]
            got = session.run(None, {names[0]: pixels.numpy()})[1]
        except Exception as error:
            said = _COLOURS.sub("", str(error)).strip().partition("\n")[0].partition(". ")[0]
            return f"fails: {type(error).__name__}: {said[:120]}"
    if got.shape != wanted.shape:
        return f"wrong: scores {got.shape} instead of {wanted.shape}"
    difference = float(np.abs(got - wanted).max())
    return f"{'ok' if difference < _EXPORT_TOLERANCE else 'wrong'} (largest difference of scores {difference:.1e})"


def table_of(rows: Sequence[BakeOffRow]) -> str:
    """The rows as a Markdown table, the best mean AP75 over the cells first."""
    lines = [
        "| family | parameters | images seen | AP | AP50 | AP75 | AP50 of any class | LoRA AP75 "
        "| ms, batch 1 | ms, batch 8 | ONNX |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -_mean(row)[2]):
        ap, ap50, ap75, agnostic = _mean(row)
        lora = "none" if row.lora is None else f"{row.lora[0][2]:.3f} -> {row.lora[1][2]:.3f}"
        lines.append(
            f"| {row.family} | {row.parameters / 1e6:.1f} M | {row.images:,} | {ap:.3f} | {ap50:.3f} | {ap75:.3f} "
            f"| {agnostic:.3f} | {lora} | {row.forward_ms[1]:.0f} | {row.forward_ms[8]:.0f} | {row.export} |"
        )
    return "\n".join(lines)


def _mean(row: BakeOffRow) -> tuple[float, float, float, float]:
    """AP, AP50, AP75 and class-agnostic AP50 over the cells."""
    ap, ap50, ap75, agnostic = (statistics.fmean(column) for column in zip(*row.cells.values(), strict=True))
    return ap, ap50, ap75, agnostic


def _read(path: Path) -> dict[str, dict[str, object]]:
    if not path.is_file():
        return {}
    found: dict[str, dict[str, object]] = json.loads(path.read_text())
    return found


def _row(stored: Mapping[str, object]) -> BakeOffRow:
    """From JSON, whose keys are texts."""
    row = BakeOffRow(**stored)  # type: ignore[arg-type]
    return replace(
        row,
        cells={name: (*_three(values[:3]), values[3]) for name, values in row.cells.items()},
        lora=None if row.lora is None else (_three(row.lora[0]), _three(row.lora[1])),
        forward_ms={int(size): ms for size, ms in row.forward_ms.items()},
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    ap, ap50, ap75 = values
    return ap, ap50, ap75
