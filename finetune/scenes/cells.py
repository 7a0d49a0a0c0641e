"""Scene cells on disk: datasets of robot cells, written as a team would bring them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune.scenes.look import DEMO_CELL, Look
from finetune.scenes.physical.look import PhysicalLook
from finetune.scenes.plan import ScenePlan
from finetune.scenes.writing import write_scenes


def write_cell(
    folder: Path,
    look: Look,
    *,
    images: int,
    seed: int,
    size: int = 384,
    valid_share: float = 1 / 3,
    progress: Callable[[int], None] = lambda _done: None,
) -> Path:
    """Write `images` scenes of one look as COCO (exact RLE masks), `train` first and then `valid`; returns `folder`.

    A physical look is drawn by the physical tier. Pictures are JPEGs of `size` pixels a side; the dataset card
    (README.md)
    has what it takes to make the set again. The same arguments write the same bytes. `progress` is told how many
    pictures there are. Raises SceneToolError when a library of the look's tier is missing.
    """
    tier = "physical" if isinstance(look, PhysicalLook) else "fast"
    plan = ScenePlan(look, images, seed, tier, size, valid_share)  # type: ignore[arg-type]
    return write_scenes(folder, plan, progress=progress)


def write_demo_cell(folder: Path, *, images: int = 60, seed: int = 7) -> Path:
    """The dataset of a cell whose colours, prints and floor the base has never seen; two thirds are `train`."""
    return write_cell(folder, DEMO_CELL, images=images, seed=seed)
