"""`parcelhub scenes`: write a dataset of generated scenes, or look at some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import counting, debug_option, out, write_picture
from hub.errors import InputError

if TYPE_CHECKING:
    from finetune.scenes import Look

SHEET = (4, 6)  # rows, columns

look_argument = click.argument("look", metavar="LOOK")
seed_option = click.option("--seed", type=click.IntRange(0), default=1, show_default=True)


@click.group()
def scenes() -> None:
    """Generated scenes of packages with exact masks. LOOK is `broad` or a held-out cell: demo, robin, cardinal."""


@scenes.command("write")
@look_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--images", type=click.IntRange(2), default=120, show_default=True)
@click.option("--size", type=click.IntRange(64, 1023), default=384, show_default=True, help="Pixels a side.")
@click.option("--valid-share", type=click.FloatRange(0, 1), default=1 / 3, show_default="a third")
@seed_option
@debug_option
def write(look: str, folder: Path, images: int, size: int, valid_share: float, seed: int) -> None:
    """Write a dataset (COCO) with its card. The same options write the same bytes.

    \b
    Example:
      parcelhub scenes write robin ./robin --images 300 --seed 7
    """
    from finetune.scenes import write_cell

    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty")
    chosen = _look(look)
    with counting("writing scenes") as progress:
        write_cell(
            folder,
            chosen,
            images=images,
            seed=seed,
            size=size,
            valid_share=valid_share,
            progress=lambda done: progress(done, images),
        )
    out.print(f"written: {folder} ({images} images)")


@scenes.command("show")
@look_argument
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--size", type=click.IntRange(64, 512), default=256, show_default=True, help="Pixels a side of each.")
@seed_option
@debug_option
def show(look: str, picture: Path, size: int, seed: int) -> None:
    """Draw a sheet of scenes with their masks outlined.

    \b
    Example:
      parcelhub scenes show cardinal ./cardinal.png
    """
    import numpy as np

    from finetune.overlays import draw_instances
    from finetune.scenes import SceneGenerator
    from serving.instances import Instances

    generator = SceneGenerator(_look(look), size=size, seed=seed)
    rows, columns = SHEET
    drawn = []
    for number in range(rows * columns):
        scene = generator.scene(number)
        found = Instances.from_masks(scene.masks(), list(scene.labels))
        drawn.append(draw_instances(scene.image, found, scores=False))
    sheet = np.concatenate([np.concatenate(drawn[k * columns : (k + 1) * columns], 1) for k in range(rows)])
    write_picture(picture, sheet)
    out.print(f"written: {picture}")


def _look(name: str) -> Look:
    from finetune.scenes import BROAD, HELD_OUT

    known = {"broad": BROAD, **HELD_OUT}
    if name not in known:
        raise InputError(f"there is no look {name!r}; there are {', '.join(known)}")
    return known[name]
