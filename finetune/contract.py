"""What a fine-tune is asked, what it tells while it runs and what it leaves: the hub's jobs speak these types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.growth_plan import GrowthPlan


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
    class_map: Mapping[str, str] = field(default_factory=dict)
    """The team's class to a label of the base, where the team says so itself; the rest is found out."""
    curve_share: float = 0.15
    """Share of `max_seconds` that short trainings for the report's learning curve may take; 0 for no curve."""
    image_size: int | None = None
    """Pixels a side that the variant looks at pictures in; by default what suits the sizes of the labels."""
    refit: GrowthPlan | None = None
    """The deck is that of the variant that is put on another base, which judges it on the cell's history."""
    refresh: bool = False
    """The dataset is that of a refresh, with its plan (`finetune.refresh_plan`)."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the cell's variant before this one was made of, for the report to see what was forgotten.

    `variant_dir` is its folder, if it is at hand; `dataset_dir` is the dataset as it was then.
    """

    name: str
    deck_json: bytes
    dataset_dir: Path
    variant_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The variant that a refresh goes on from: its name and its folder (adapter and `variant.json`)."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class RefitFrom:
    """What a refit takes the place of: the variant on its own base, its deck's document, and the cell's past decks.

    `datasets` are folders by (name, commit), `decks` documents by digest.
    """

    start: Start
    base_dir: Path
    base_name: str
    deck_json: bytes
    datasets: Mapping[tuple[str, str], Path]
    decks: Mapping[str, bytes]


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
