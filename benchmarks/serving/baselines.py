"""Ways to serve many variants of one base, side by side: `python -m benchmarks.serving.baselines SPEC` measures one of
them.

- `bank`: ours, mixed batches of up to 32 rows
- `merged_models`: a merged model per cell, all in one process, a request at a time
- `merged_processes`: a merged model per cell, each a process of its own, as Triton's Python backend runs models
- `peft_mixed`: PEFT's `adapter_names`, mixed batches of up to 32 rows
- `peft_switching`: PEFT's `set_adapter` before each request

Each in a process of its own with one thread, same base and precision, the same requests: every cell as often as any
other. Memory is what the process (for `merged_processes` all of them, shared pages counted once) holds at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil  # type: ignore[import-untyped]

from benchmarks.serving.load import quantile

Baseline = Literal["bank", "merged_models", "merged_processes", "peft_mixed", "peft_switching"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
BATCH = 32
SPARE_BYTES = 3 * 1024**3


@dataclass(frozen=True, slots=True)
class BaselineSpec:
    """One measurement: `variants` are variant folders, one for each cell; `rounds` times every cell asks."""

    way: Baseline
    base: str
    base_name: str
    variants: tuple[str, ...]
    rounds: int = 2
    processes: int = 32


def run_baseline(spec: BaselineSpec, *, timeout_s: float = 7200.0) -> dict[str, Any]:
    """Figures of one way, or `{"error": …}` with its last words."""
    if spec.way == "merged_processes":
        return _processes(spec)
    command = [sys.executable, "-m", "benchmarks.serving.baselines", json.dumps(asdict(spec))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {timeout_s:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no words"])[-1][:300]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(spec: BaselineSpec) -> dict[str, Any]:
    """What the child does."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    answer, rows = _answerer(spec)
    made = time.process_time() - started
    cells = len(spec.variants)
    requests = [number % cells for number in range(max(cells, rows) * spec.rounds)]
    answer(requests[:rows])
    latencies, cpu = [], time.process_time()
    for start in range(0, len(requests), rows):
        part = requests[start : start + rows]
        clock = time.perf_counter()
        answer(part)
        latencies += [time.perf_counter() - clock] * len(part)
    cpu = time.process_time() - cpu
    return {
        "cells": cells,
        "rows_at_once": rows,
        "requests": len(requests),
        "ready_cpu_s": round(made, 1),
        "cpu_ms_per_image": round(1000 * cpu / len(requests), 1),
        "per_cpu_second": round(len(requests) / cpu, 2),
        "p50_ms": round(1000 * quantile(latencies, 0.5), 1),
        "p99_ms": round(1000 * quantile(latencies, 0.99), 1),
        "resident_mb": round(psutil.Process().memory_info().rss / 1e6, 1),
    }


Answer = Callable[[Sequence[int]], object]
"""Answers one batch: the cell of each row."""


def _answerer(spec: BaselineSpec) -> tuple[Answer, int]:
    """How the way answers, and how many rows it takes at once."""
    import torch

    from serving.families.load import load_model
    from serving.inference.segmenter import Segmenter

    base, folders = Path(spec.base), [Path(one) for one in spec.variants]
    rows = min(BATCH, len(folders))
    if spec.way == "bank":
        segmenter = Segmenter.load(base, base_name=spec.base_name, device="cpu", hot=len(folders))
        for folder in folders:
            segmenter.add_variant(folder.name, folder)
        pixels = _pixels(rows, segmenter.preprocess.size)
        return lambda cells: segmenter.forward(pixels[: len(cells)], [folders[cell].name for cell in cells]), rows
    size = int(json.loads((base / "preprocessor_config.json").read_text())["size"]["longest_edge"])
    if spec.way == "merged_models":
        models = [_merged(base, folder) for folder in folders]
        pixels = _pixels(1, size)

        def one_by_one(cells: Sequence[int]) -> None:
            with torch.inference_mode():
                for cell in cells:
                    models[cell].answer(pixels)

        return one_by_one, 1
    from peft import PeftModel

    network = load_model(base)
    peft_model = PeftModel.from_pretrained(network, folders[0], adapter_name="0").eval()
    for number, folder in enumerate(folders[1:], start=1):
        peft_model.load_adapter(folder, adapter_name=str(number))
    pixels = _pixels(rows, size)

    def mixed(cells: Sequence[int]) -> None:
        with torch.inference_mode():
            peft_model(pixel_values=pixels[: len(cells)], adapter_names=[str(cell) for cell in cells])

    def switching(cells: Sequence[int]) -> None:
        with torch.inference_mode():
            for cell in cells:
                peft_model.set_adapter(str(cell))
                peft_model(pixel_values=pixels[:1])

    return (mixed, rows) if spec.way == "peft_mixed" else (switching, 1)


def _merged(base: Path, folder: Path) -> Any:  # noqa: ANN401 - untyped in the library
    from peft import PeftModel

    from serving.families.load import load_model

    return PeftModel.from_pretrained(load_model(base), folder).merge_and_unload().eval()


def _pixels(rows: int, size: int) -> Any:  # noqa: ANN401 - a torch tensor; torch is imported only in the child
    import torch

    return torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))


# --- a process for each model -----------------------------------------------------------------------------------------


def _processes(spec: BaselineSpec) -> dict[str, Any]:
    """Start a process for each cell, as many as are allowed and fit into memory, and ask each of them in turn."""
    running: list[subprocess.Popen[str]] = []
    try:
        for folder in spec.variants[: spec.processes]:
            if psutil.virtual_memory().available < SPARE_BYTES:
                break
            single = BaselineSpec("merged_models", spec.base, spec.base_name, (folder,))
            command = [sys.executable, "-m", "benchmarks.serving.baselines", json.dumps(asdict(single)), "stay"]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.append(process)
            _line(process)
        if not running:
            return {"error": "not one process fits into memory"}
        latencies, cpu = [], 0.0
        for _ in range(spec.rounds):
            for process in running:
                clock = time.perf_counter()
                cpu += float(_ask(process))
                latencies.append(time.perf_counter() - clock)
        held = sum(psutil.Process(process.pid).memory_full_info().pss for process in running)
    except ChildProcessError as error:
        return {"error": str(error)}
    finally:
        for process in running:
            process.kill()
            process.wait()
    measured, cells = len(running), len(spec.variants)
    return {
        "cells": cells,
        "processes": measured,
        "extrapolated": measured < cells,
        "rows_at_once": 1,
        "cpu_ms_per_image": round(1000 * cpu / len(latencies), 1),
        "per_cpu_second": round(len(latencies) / cpu, 2) if cpu else 0.0,
        "p50_ms": round(1000 * quantile(latencies, 0.5), 1),
        "p99_ms": round(1000 * quantile(latencies, 0.99), 1),
        "resident_mb": round(held / 1e6 * cells / measured, 1),
    }


def _ask(process: subprocess.Popen[str]) -> str:
    if process.stdin is None:
        raise ValueError("the process was started without a pipe")
    process.stdin.write("\n")
    process.stdin.flush()
    return _line(process)


def _line(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise ChildProcessError("a model's process ended")
    return line


def _stay(spec: BaselineSpec) -> None:
    """The child that holds one model: says when it is ready, then answers each line with its CPU seconds."""
    import torch

    torch.set_num_threads(1)
    answer, _ = _answerer(spec)
    answer([0])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        started = time.process_time()
        answer([0])
        sys.stdout.write(f"{time.process_time() - started}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asked = BaselineSpec(**{**given, "variants": tuple(given["variants"])})
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if sys.argv[2:] == ["stay"]:
        _stay(asked)
    else:
        sys.stdout.write("\n" + json.dumps(measure(asked)) + "\n")
