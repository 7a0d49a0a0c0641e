"""Package scenes with exact instance masks: the fast compositing generator.

A scene is a small 3-D world (packages and things that are not packages) seen by a pinhole camera and painted
back to front into a picture and an instance-id map, so that every mask is exact by construction.

Public: `SceneGenerator`, `Scene`, `Look`, the looks `BROAD` and `HELD_OUT`, `LABELS`, `write_cell`,
`write_demo_cell`.
"""

from finetune.scenes.cells import write_cell, write_demo_cell
from finetune.scenes.generator import LABELS, Scene, SceneGenerator
from finetune.scenes.look import BROAD, CARDINAL, DEMO_CELL, HELD_OUT, ROBIN, Look

__all__ = [
    "BROAD",
    "CARDINAL",
    "DEMO_CELL",
    "HELD_OUT",
    "LABELS",
    "ROBIN",
    "Look",
    "Scene",
    "SceneGenerator",
    "write_cell",
    "write_demo_cell",
]
