"""Writes the Triton model repository. It names no path of this machine, so the same folder can be mounted into the
official Triton container: there, `PARCELHUB_SERVING` names the mounted serving folder and parcelhub is on PYTHONPATH.
"""

from __future__ import annotations

from pathlib import Path

MODEL = "segmenter"
MAX_BATCH = 32

# The text outputs are UINT8 and not STRING; serving/triton/backend.py says why. KIND_CPU is about where Triton puts
# the input tensors: images are decoded and resized on the CPU, and the model itself takes a GPU where there is one.
_CONFIG = """\
name: "{model}"
backend: "python"
max_batch_size: {max_batch}
input [
  {{ name: "image" data_type: TYPE_UINT8 dims: [ -1 ] optional: true allow_ragged_batch: true }},
  {{ name: "pixels" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] optional: true allow_ragged_batch: true }}
]
output [
  {{ name: "scores" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] }},
  {{ name: "size" data_type: TYPE_INT32 dims: [ 2 ] }},
  {{ name: "labels" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "masks" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "served_by" data_type: TYPE_UINT8 dims: [ -1 ] }},
  {{ name: "request_id" data_type: TYPE_UINT8 dims: [ -1 ] }}
]
dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""

_MODEL = '''\
"""Triton looks here for TritonPythonModel; it lives in parcelhub."""

from serving.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_model_repository(root: Path, *, max_batch: int = MAX_BATCH, queue_delay_us: int = 1000) -> Path:
    """Write `root/segmenter/{config.pbtxt,1/model.py}` and return `root`.

    `queue_delay_us` is how long Triton may hold the first request of a batch back for others to join it.
    """
    version = root / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    config = _CONFIG.format(model=MODEL, max_batch=max_batch, delay_us=queue_delay_us)
    (root / MODEL / "config.pbtxt").write_text(config)
    (version / "model.py").write_text(_MODEL)
    return root
