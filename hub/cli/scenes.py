"""`parcelhub scenes`: write a dataset of generated scenes, or look at some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import counting, debug_option, write_picture
from hub.cli.common import out as console
from hub.errors import InputError

if TYPE_CHECKING:
    from finetune.scenes import Look, Tier

SHEET = (4, 6)  # rows, columns

TIERS = ("fast", "physical", "path")

tier_option = click.option(
    "--tier",
    type=click.Choice(TIERS),
    default="fast",
    show_default=True,
    help="Who draws: fast (composited), physical (MuJoCo) or path (Mitsuba).",
)
assets_option = click.option(
    "--assets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of COLLADA meshes with textures, for the physical tiers (extra: assets).",
)
samples_option = click.option(
    "--samples", type=click.IntRange(1, 4096), default=24, show_default=True, help="Traced paths a pixel (path tier)."
)
seed_option = click.option("--seed", type=click.IntRange(0), default=1, show_default=True)


@click.group()
def scenes() -> None:
    """Generated scenes of packages with exact masks.

    The fast tier knows the looks `broad` and the held-out cells demo, robin and cardinal. The physical tiers know
    `warehouse` and the held-out cells gantry and dock; they need the extras `physical` (MuJoCo, and OpenGL without a
    display: libegl1 with libgl1-mesa-dri, or libosmesa6 with MUJOCO_GL=osmesa) and `pathtraced` (Mitsuba, five times
    faster with LLVM 16 or newer, for example libllvm19).
    """


@scenes.command("write")
@click.argument("look_given", metavar="[LOOK]", required=False)
@click.argument("folder_given", metavar="[FOLDER]", required=False, type=click.Path(path_type=Path))
@tier_option
@click.option("--look", help="A look of the tier [default: what bases train on].")
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--images", type=click.IntRange(2), default=120, show_default=True)
@click.option("--size", type=click.IntRange(64, 1023), default=384, show_default=True, help="Pixels a side.")
@click.option("--valid-share", type=click.FloatRange(0, 1), default=1 / 3, show_default="a third")
@click.option("--workers", type=click.IntRange(0, 256), default=0, show_default=True, help="Processes; 0 is this one.")
@samples_option
@assets_option
@seed_option
@debug_option
def write(
    look_given: str | None,
    folder_given: Path | None,
    tier: Tier,
    look: str | None,
    out: Path | None,
    images: int,
    size: int,
    valid_share: float,
    workers: int,
    samples: int,
    assets: Path | None,
    seed: int,
) -> None:
    """Write a dataset (COCO) with its card. The same options write the same bytes; a killed run goes on where it was.

    \b
    Example:
      parcelhub scenes write robin ./robin --images 300 --seed 7
      parcelhub scenes write --tier physical --look gantry --images 200 --seed 7 --workers 2 --out ./gantry
    """
    from finetune.scenes import ScenePlan, is_unfinished, write_scenes

    folder = out or folder_given
    if folder is None:
        raise InputError("name the folder to write: --out FOLDER")
    if folder.exists() and any(folder.iterdir()) and not is_unfinished(folder):
        raise InputError(f"{folder}: not empty")
    chosen = _look(look or look_given, tier)
    if assets is not None and tier == "fast":
        raise InputError("the fast tier takes no --assets")
    plan = ScenePlan(chosen, images, seed, tier, size, valid_share, assets, samples)
    with counting("writing scenes") as progress:
        write_scenes(folder, plan, workers=workers, progress=lambda done: progress(done, images))
    console.print(f"written: {folder} ({images} images)")


@scenes.command("show")
@click.argument("look", metavar="LOOK")
@click.argument("picture", type=click.Path(path_type=Path, dir_okay=False))
@tier_option
@click.option("--size", type=click.IntRange(64, 512), default=256, show_default=True, help="Pixels a side of each.")
@samples_option
@assets_option
@seed_option
@debug_option
def show(look: str, picture: Path, tier: Tier, size: int, samples: int, assets: Path | None, seed: int) -> None:
    """Draw a sheet of scenes with their masks outlined.

    \b
    Example:
      parcelhub scenes show cardinal ./cardinal.png
      parcelhub scenes show dock ./dock.png --tier physical
    """
    import numpy as np

    from finetune.report.overlays import draw_instances
    from finetune.scenes import ScenePlan
    from serving.instances import Instances

    rows, columns = SHEET
    plan = ScenePlan(_look(look, tier), rows * columns, seed, tier, size, assets=assets, samples=samples)
    drawer = plan.drawer()
    drawn = []
    with counting("drawing scenes") as progress:
        for number in range(rows * columns):
            scene = drawer.scene(number)
            found = Instances.from_masks(scene.masks(), list(scene.labels))
            drawn.append(draw_instances(scene.image, found, scores=False))
            progress(number + 1, rows * columns)
    sheet = np.concatenate([np.concatenate(drawn[k * columns : (k + 1) * columns], 1) for k in range(rows)])
    write_picture(picture, sheet)
    console.print(f"written: {picture}")


def _look(name: str | None, tier: Tier) -> Look:
    from finetune.scenes import looks_of

    known = looks_of(tier)
    if name is None:
        return next(iter(known.values()))
    if name not in known:
        raise InputError(f"the {tier} tier has no look {name!r}; it has {', '.join(known)}")
    return known[name]
