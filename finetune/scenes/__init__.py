"""Package scenes with exact instance masks, in three tiers.

The fast one: a small 3-D world (packages and things that are not packages) seen by a pinhole camera and painted back
to front
into a picture and an instance-id map, so that every mask is exact by construction. The physical one (`physical/`):
bodies that
MuJoCo lets fall, drawn by its renderer. The path-traced one: the same settled worlds through Mitsuba. The libraries
of the latter two are extras and imported when they are used.

Public: `SceneGenerator`, `Scene`, `Look`, the looks `BROAD`, `HELD_OUT`, `WAREHOUSE` and `PHYSICAL_HELD_OUT`, `LABELS`,
`CELLS`, `ScenePlan`, `TIERS`, `looks_of`, `write_scenes`, `write_cell`; `physical.generator.PhysicalGenerator`.
"""

from finetune.scenes.cells import CELLS, write_cell
from finetune.scenes.generator import LABELS, Scene, SceneGenerator
from finetune.scenes.look import BROAD, CARDINAL, DEMO_CELL, HELD_OUT, ROBIN, Look
from finetune.scenes.physical.look import PHYSICAL_HELD_OUT, WAREHOUSE, PhysicalLook
from finetune.scenes.plan import TIERS, ScenePlan, Tier, looks_of
from finetune.scenes.writing import is_unfinished, write_scenes

__all__ = [
    "BROAD",
    "CARDINAL",
    "CELLS",
    "DEMO_CELL",
    "HELD_OUT",
    "LABELS",
    "PHYSICAL_HELD_OUT",
    "ROBIN",
    "TIERS",
    "WAREHOUSE",
    "Look",
    "PhysicalLook",
    "Scene",
    "SceneGenerator",
    "ScenePlan",
    "Tier",
    "is_unfinished",
    "looks_of",
    "write_cell",
    "write_scenes",
]
