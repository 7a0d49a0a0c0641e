"""Package scenes with exact instance masks: the fast compositing generator.

A scene is a small 3-D world (packages and things that are not packages) seen by a pinhole camera and painted
back to front into a picture and an instance-id map, so that every mask is exact by construction.

Public: `SceneGenerator`, `Scene`, `Look`, `BROAD`, `LABELS`, `write_demo_cell`.
"""

from finetune.scenes.cells import write_demo_cell
from finetune.scenes.generator import LABELS, Scene, SceneGenerator
from finetune.scenes.look import BROAD, Look

__all__ = ["BROAD", "LABELS", "Look", "Scene", "SceneGenerator", "write_demo_cell"]
