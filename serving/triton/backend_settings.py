"""What the environment tells the backend; the launcher writes the same variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from serving.errors import TritonError
from serving.observed.captures import CapturePolicy
from serving.observed.ring import KEY_VARIABLE, RingSettings, read_key
from serving.observed.selectors import chosen
from serving.triton.scheduler import Batching


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Settings of the Triton model.

    Attributes:
        serving: the serving folder. telemetry: where predictions and captures go; None keeps neither.
        threads: of the model's arithmetic; torch decides when None.
        hot: how many variants are kept in memory.
        check_tokens: whether a request needs a robot's token that is good for its cell.
        captures: which frames are kept.
        heartbeat: the file that tells the guard that the backend is alive; None where no guard watches.
        batching: how requests are put together.
        observe: whether cameras are watched, where telemetry is kept.
        ring: of the last frames, for novelty. Its key is read from the environment and never written.
    """

    serving: Path
    telemetry: Path | None = None
    threads: int | None = None
    hot: int = 256
    check_tokens: bool = False
    captures: CapturePolicy = field(default_factory=CapturePolicy)
    heartbeat: Path | None = None
    batching: Batching = field(default_factory=Batching)
    observe: bool = True
    ring: RingSettings = field(default_factory=RingSettings)

    def environment(self) -> dict[str, str]:
        """The variables that `read` reads."""
        return {
            "PARCELHUB_SERVING": str(self.serving.absolute()),
            "PARCELHUB_HOT_VARIANTS": str(self.hot),
            "PARCELHUB_CHECK_TOKENS": "1" if self.check_tokens else "0",
            "PARCELHUB_OBSERVE": "1" if self.observe else "0",
            "PARCELHUB_RING_BYTES": str(self.ring.max_bytes),
            "PARCELHUB_TELEMETRY": str(self.telemetry.absolute()) if self.telemetry else "",
            "PARCELHUB_HEARTBEAT": str(self.heartbeat.absolute()) if self.heartbeat else "",
            "PARCELHUB_TORCH_THREADS": str(self.threads) if self.threads else "",
            "PARCELHUB_CAPTURE_LOW_SCORE": str(self.captures.low_score),
            "PARCELHUB_CAPTURE_SHARE": str(self.captures.share),
            "PARCELHUB_CAPTURE_MAX_BYTES": str(self.captures.max_bytes),
            "PARCELHUB_CAPTURE_MAX_COUNT": str(self.captures.max_count),
            "PARCELHUB_CAPTURE_SELECTORS": ",".join(self.captures.selectors),
            "PARCELHUB_BATCH_ROWS": str(self.batching.rows) if self.batching.rows else "",
            "PARCELHUB_MAX_QUEUE": str(self.batching.max_waiting),
            "PARCELHUB_MAX_QUEUE_BYTES": str(self.batching.max_waiting_bytes),
            "PARCELHUB_MAX_WAIT_S": str(self.batching.max_wait_s),
        }

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Raises TritonError naming the variable that is missing or wrong."""
        folder = environment.get("PARCELHUB_SERVING")
        if not folder:
            raise TritonError("PARCELHUB_SERVING must name the serving folder")
        telemetry, threads = environment.get("PARCELHUB_TELEMETRY"), environment.get("PARCELHUB_TORCH_THREADS")
        heartbeat = environment.get("PARCELHUB_HEARTBEAT")
        rows = environment.get("PARCELHUB_BATCH_ROWS")
        default, queue = CapturePolicy(), Batching()
        try:
            captures = CapturePolicy(
                float(environment.get("PARCELHUB_CAPTURE_LOW_SCORE") or default.low_score),
                float(environment.get("PARCELHUB_CAPTURE_SHARE") or default.share),
                int(environment.get("PARCELHUB_CAPTURE_MAX_BYTES") or default.max_bytes),
                int(environment.get("PARCELHUB_CAPTURE_MAX_COUNT") or default.max_count),
                tuple((environment.get("PARCELHUB_CAPTURE_SELECTORS") or ",".join(default.selectors)).split(",")),
            )
            chosen(captures.selectors)  # a name that nothing has registered is told now, not at the first frame
            return cls(
                Path(folder),
                Path(telemetry) if telemetry else None,
                int(threads) if threads else None,
                int(environment.get("PARCELHUB_HOT_VARIANTS") or 256),
                environment.get("PARCELHUB_CHECK_TOKENS", "0") == "1",
                captures,
                Path(heartbeat) if heartbeat else None,
                Batching(
                    int(rows) if rows else None,
                    int(environment.get("PARCELHUB_MAX_QUEUE") or queue.max_waiting),
                    int(environment.get("PARCELHUB_MAX_QUEUE_BYTES") or queue.max_waiting_bytes),
                    float(environment.get("PARCELHUB_MAX_WAIT_S") or queue.max_wait_s),
                ),
                environment.get("PARCELHUB_OBSERVE", "1") == "1",
                RingSettings(
                    int(environment.get("PARCELHUB_RING_BYTES") or RingSettings().max_bytes),
                    read_key(environment.get(KEY_VARIABLE, "")),
                ),
            )
        except ValueError as error:
            raise TritonError(f"a PARCELHUB_ variable of the backend has no usable value: {error}") from error
