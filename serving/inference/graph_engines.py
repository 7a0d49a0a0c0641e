"""The network as an exported graph, run by ONNX Runtime or OpenVINO (the `engines` extra).

Two graphs: the base's, with one input `pixels` [B, 3, S, S], and one for variants with a second input `blocks`
[B, 1 + r, width], the rows' adapters as `slot_layers.BlockLayout` packs them. So one graph serves every variant there
will be. B is dynamic in both, r is too; ONNX opset as the exporter's default.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from serving.families.types import InstanceModel, Prediction
from serving.inference.adapters import AdapterBank, PinnedRows
from serving.inference.runners import ROWS_AT_ONCE, EngineChoice, joined

Array = npt.NDArray[np.float32]


class EngineMissing(Exception):  # noqa: N818 - it is a reason to choose another engine, not a failure
    """An engine cannot be used here: its package is missing, or it does not take this network."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Side of the model's square and width of an adapter's block."""

    size: int
    width: int


class Session(Protocol):
    """A graph that an engine has loaded."""

    def __call__(self, inputs: dict[str, Array]) -> tuple[Array, Array]:
        """(masks, scores), as arrays of the caller's own."""


class _Traced(nn.Module):
    """What the exporter sees: adapters are an argument."""

    def __init__(self, model: InstanceModel, bank: AdapterBank) -> None:
        super().__init__()
        self.model = model
        self._bank = bank

    def forward(self, pixels: torch.Tensor, blocks: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        with self._bank.tracing(blocks):
            said = self.model.answer(pixels)
        return said.masks, said.scores


def export_onnx(model: InstanceModel, bank: AdapterBank, size: int, path: Path, *, adapters: bool) -> Path:
    """Write the float32 network as ONNX to `path`, with or without the input `blocks`. Raises EngineMissing."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401 - the exporter needs both
    except ImportError as error:
        raise EngineMissing(f"{error.name} is not installed (pip install parcelhub[engines])") from error
    if next(model.parameters()).dtype != torch.float32 or next(model.parameters()).device.type != "cpu":
        raise EngineMissing("only a float32 network on a CPU is exported")
    batch = torch.export.Dim("batch", min=1, max=1024)
    inputs: dict[str, torch.Tensor] = {"pixels": torch.randn(2, 3, size, size)}
    shapes: dict[str, dict[int, Any]] = {"pixels": {0: batch}}
    if adapters:
        inputs["blocks"] = torch.randn(2, 1 + bank.max_rank, bank.layout.width) * 0.01
        shapes["blocks"] = {0: batch, 1: torch.export.Dim("rows", min=2, max=1024)}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Traced(model, bank).eval(),
                tuple(inputs.values()),
                path,
                input_names=list(inputs),
                output_names=["masks", "scores"],
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises many types
        first = (str(error).splitlines() or [""])[0]
        raise EngineMissing(f"the network cannot be exported: {type(error).__name__}: {first[:200]}") from error
    return path


class GraphRunner:
    """Runs the two graphs of a base, a few rows at a time.

    With `sizes`, parts of a batch are padded to one of these numbers of rows, and ranks to a power of two: for engines
    that want their shapes fixed.
    """

    def __init__(
        self, name: str, precision: str, base: Session, adapted: Session, shape: Shape, *, sizes: tuple[int, ...] = ()
    ) -> None:
        self.name, self.precision = name, precision
        self._base, self._adapted, self._shape = base, adapted, shape
        self._sizes = sizes

    def run(self, pixels: torch.Tensor, pinned: PinnedRows | None) -> Prediction:
        """Predict on normalised pictures float32 [B, 3, S, S]."""
        said = []
        for start in range(0, len(pixels), ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, len(pixels))
            rows = next((size for size in self._sizes if size >= stop - start), stop - start)
            inputs = {"pixels": _padded(pixels[start:stop], rows)}
            blocks = pinned.blocks(start, stop) if pinned is not None else None
            if blocks is not None:
                depth = 1 + _power_of_two(blocks.shape[1] - 1) if self._sizes else blocks.shape[1]
                inputs["blocks"] = _padded(blocks, rows, depth)
            masks, scores = self._base(inputs) if blocks is None else self._adapted(inputs)
            said.append(Prediction(torch.from_numpy(masks)[: stop - start], torch.from_numpy(scores)[: stop - start]))
        return joined(said)

    def warm_up(self) -> None:
        """Compile the fixed shapes, those of adapters for rank 8; another rank's first batch waits for its own."""
        for rows in self._sizes:
            pixels = np.zeros((rows, 3, self._shape.size, self._shape.size), np.float32)
            self._base({"pixels": pixels})
            self._adapted({"pixels": pixels, "blocks": np.zeros((rows, 9, self._shape.width), np.float32)})


def _padded(values: torch.Tensor, rows: int, depth: int | None = None) -> Array:
    """The first axis grown to `rows` by zeros, the second to `depth`."""
    depth = values.shape[1] if depth is None else depth
    if values.shape[:2] == (rows, depth):
        return values.contiguous().numpy()
    grown = values.new_zeros(rows, depth, *values.shape[2:])
    grown[: values.shape[0], : values.shape[1]] = values
    return grown.numpy()


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def make_graph_runner(choice: EngineChoice, model: InstanceModel, bank: AdapterBank, size: int) -> GraphRunner:
    """Export both graphs and load them. Raises EngineMissing."""
    with tempfile.TemporaryDirectory(prefix="parcelhub-export-") as place:
        base = export_onnx(model, bank, size, Path(place) / "base.onnx", adapters=False)
        adapted = export_onnx(model, bank, size, Path(place) / "adapted.onnx", adapters=True)
        shape = Shape(size, bank.layout.width)
        if choice.engine == "onnxruntime":
            return GraphRunner("onnxruntime", "float32", _onnxruntime(base), _onnxruntime(adapted), shape)
        precision = "bfloat16" if choice.dtype(torch.device("cpu"), _family(model)) == torch.bfloat16 else "float32"
        sessions = _openvino(base, precision), _openvino(adapted, precision)
        return GraphRunner("openvino", precision, *sessions, shape, sizes=(1, 2, 4, 8))


def _family(model: InstanceModel) -> str:
    return str(getattr(model.config, "model_type", ""))


def _onnxruntime(path: Path) -> Session:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineMissing("onnxruntime is not installed (pip install parcelhub[engines])") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Array]) -> tuple[Array, Array]:
        masks, scores = session.run(["masks", "scores"], inputs)
        return masks, scores

    return run


def _openvino(path: Path, precision: str) -> Session:
    try:
        import openvino
    except ImportError as error:
        raise EngineMissing("openvino is not installed (pip install parcelhub[engines])") from error
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    graph = core.read_model(path.read_bytes(), b"")
    compiled: dict[tuple[tuple[int, ...], ...], Any] = {}

    def request(shapes: dict[str, tuple[int, ...]]) -> Any:  # noqa: ANN401 - untyped in the library
        # Static shapes run an eighth faster than dynamic ones; there are few, since rows go a few at a time.
        key = tuple(shapes.values())
        if key not in compiled:
            fixed = graph.clone()
            fixed.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled[key] = core.compile_model(fixed, "CPU", settings).create_infer_request()
        return compiled[key]

    def run(inputs: dict[str, Array]) -> tuple[Array, Array]:
        found = request({name: values.shape for name, values in inputs.items()})
        said = found.infer(inputs, share_inputs=True)
        return said["masks"].copy(), said["scores"].copy()

    return run
