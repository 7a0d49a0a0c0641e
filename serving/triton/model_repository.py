"""Writes the Triton model repository. It names no path of this machine, so the same folder can be mounted into the
official Triton container: there, `PARCELHUB_SERVING` names the mounted serving folder and parcelhub is on PYTHONPATH.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MODEL = "segmenter"
MAX_BATCH = 32
ROBOT_PRIORITY, BULK_PRIORITY = 1, 2
"""Priorities of requests: robots, who say nothing, go before bulk work (evaluation, labelling), which says 2."""


@dataclass(frozen=True, slots=True)
class Batching:
    """Triton's dynamic batcher and its queue. `parcelhub bench batching` measures what suits a machine.

    Attributes:
        max_batch: most requests in one batch.
        queue_delay_us: how long the first request of a batch may be held back for others to join it.
        preferred: batch sizes that are sent at once when they are reached; empty: the delay alone decides.
        max_queue: requests beyond this are rejected at once: they would wait past any robot's deadline.
        max_wait_us: a request that waited this long is rejected; one that names a shorter `timeout` sooner.
    """

    max_batch: int = MAX_BATCH
    queue_delay_us: int = 0
    preferred: tuple[int, ...] = ()
    max_queue: int = 256
    max_wait_us: int = 10_000_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_batch <= 1024 or any(not 1 <= size <= self.max_batch for size in self.preferred):
            raise ValueError(f"batch sizes must be 1 to {self.max_batch}: {self}")
        if min(self.queue_delay_us, self.max_queue, self.max_wait_us) < 0:
            raise ValueError(f"delays and lengths must not be negative: {self}")


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
dynamic_batching {{
  max_queue_delay_microseconds: {delay_us}
{preferred}  priority_levels: 2
  default_priority_level: 1
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: {max_wait_us}
    allow_timeout_override: true
    max_queue_size: {max_queue}
  }}
}}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""

_MODEL = '''\
"""Triton looks here for TritonPythonModel; it lives in parcelhub."""

from serving.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_model_repository(root: Path, batching: Batching | None = None) -> Path:
    """Write `root/segmenter/{config.pbtxt,1/model.py}` and return `root`."""
    chosen = batching or Batching()
    version = root / MODEL / "1"
    version.mkdir(parents=True, exist_ok=True)
    preferred = f"  preferred_batch_size: [ {', '.join(map(str, chosen.preferred))} ]\n" if chosen.preferred else ""
    config = _CONFIG.format(
        model=MODEL,
        max_batch=chosen.max_batch,
        delay_us=chosen.queue_delay_us,
        preferred=preferred,
        max_wait_us=chosen.max_wait_us,
        max_queue=chosen.max_queue,
    )
    (root / MODEL / "config.pbtxt").write_text(config)
    (version / "model.py").write_text(_MODEL)
    return root
