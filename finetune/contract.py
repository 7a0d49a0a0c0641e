"""What a fine-tune is asked, what it tells while it runs and what it leaves: the hub's jobs speak these types."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """What to fine-tune. `dataset_ref` is "team/name@commit", `base_ref` "base/universal@v1"; `images` limits
    training images.
    """

    cell: str
    dataset_ref: str
    base_ref: str
    base_commit: str
    images: int | None = None
    max_seconds: float = 300.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fine-tune is. `step` of `total` within `stage`; rates and times where they mean something."""

    stage: str
    step: int
    total: int
    images_per_second: float | None = None
    eta_seconds: float | None = None
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinetuneResult:
    """A variant's folder (adapter, `variant.json`, card), its deck as canonical JSON, and what was measured."""

    variant_dir: Path
    deck_json: bytes
    metrics: dict[str, Any]
