"""What runs a network's forward pass: PyTorch itself, or an exported graph. Which one is chosen, and said, here.

PARCELHUB_ENGINE is auto, eager, onnxruntime or openvino; PARCELHUB_PRECISION auto, float32 or bfloat16. `auto` is the
best of what docs/benchmarks.md measured: eager, in bfloat16 on a CPU that is quicker in it. An engine that is asked
for and cannot run (its package is missing, its export fails) falls back to eager, with a warning.
"""

from __future__ import annotations

import logging

from serving.families.types import InstanceModel
from serving.inference.adapters import AdapterBank
from serving.inference.runners import EagerRunner, EngineChoice, Runner

log = logging.getLogger(__name__)


def make_runner(choice: EngineChoice, model: InstanceModel, bank: AdapterBank, size: int) -> Runner:
    """The runner that `choice` asks for, or eager where that cannot be had; `size` is the side of the model's square.

    On a CUDA device `auto` captures CUDA graphs.
    """
    device = next(model.parameters()).device
    if choice.engine == "auto" and device.type == "cuda":
        from serving.inference.cuda_engine import CudaGraphRunner

        return CudaGraphRunner(model, bank, size)
    if choice.engine in ("auto", "eager"):
        return EagerRunner(model)
    from serving.inference.graph_engines import EngineMissing, make_graph_runner

    try:
        return make_graph_runner(choice, model, bank, size)
    except EngineMissing as error:
        log.warning("engine %s cannot be used, eager is: %s", choice.engine, error)
        return EagerRunner(model)
