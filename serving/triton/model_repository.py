"""Writes the Triton model repository. It names no path of this machine, so the same folder can be mounted into the
official Triton container: there, `PARCELHUB_SERVING` names the mounted serving folder and parcelhub is on PYTHONPATH.
"""

from __future__ import annotations

from pathlib import Path

MODEL = "segmenter"
# No dynamic_batching: Triton hands each request over as it comes, and serving/triton/scheduler.py makes the batches.
# The text outputs are UINT8 and not STRING; serving/triton/backend.py says why. KIND_CPU is about where Triton puts
# the input tensors: images are decoded and resized on the CPU, and the model itself takes a GPU where there is one.
_CONFIG = """\
name: "segmenter"
backend: "python"
max_batch_size: 1
input [
  { name: "image" data_type: TYPE_UINT8 dims: [ -1 ] optional: true allow_ragged_batch: true },
  { name: "pixels" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] optional: true allow_ragged_batch: true }
]
output [
  { name: "scores" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "size" data_type: TYPE_INT32 dims: [ 2 ] },
  { name: "labels" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "masks" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "served_by" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "request_id" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "instead_of" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "camera" data_type: TYPE_UINT8 dims: [ -1 ] },
  { name: "novelty" data_type: TYPE_UINT8 dims: [ -1 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

_MODEL = '''\
"""Triton looks here for TritonPythonModel; it lives in parcelhub."""

from serving.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_model_repository(root: Path) -> Path:
    """Write `root/segmenter/{config.pbtxt,1/model.py}` and return `root`."""
    version = root / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    (root / MODEL / "config.pbtxt").write_text(_CONFIG)
    (version / "model.py").write_text(_MODEL)
    return root
