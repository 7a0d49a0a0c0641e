"""Scene cells on disk: datasets of robot cells, written as a team would bring them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from finetune.scenes.look import HELD_OUT, Look
from finetune.scenes.physical.look import PHYSICAL_HELD_OUT, PhysicalLook
from finetune.scenes.plan import ScenePlan
from finetune.scenes.writing import write_scenes

CELLS: Mapping[str, Look] = {**HELD_OUT, **PHYSICAL_HELD_OUT}
"""The cells that no base is trained on, of every tier, by name."""
MANY = 16
"""So many physical scenes are worth the start of several processes, which takes as long as a few scenes."""
MOST_PROCESSES = 8
"""Each takes half a gigabyte."""


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

    A physical look is drawn by the physical tier, many by a process a core. Pictures are JPEGs of `size` pixels a side;
    the dataset card (README.md) has what it takes to make the set again. The same arguments write the same bytes.
    `progress` is told how many pictures there are. Raises SceneToolError when a library of the look's tier is missing.
    """
    physical = isinstance(look, PhysicalLook)
    plan = ScenePlan(look, images, seed, "physical" if physical else "fast", size, valid_share)
    workers = min(MOST_PROCESSES, os.cpu_count() or 1) if physical and images >= MANY else 0
    return write_scenes(folder, plan, workers=workers, progress=progress)
