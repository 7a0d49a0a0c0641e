"""`parcelhub base`: make a universal base from scratch, and judge one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import err, json_option, out, print_json, table
from hub.cli.growth import COMMANDS
from hub.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.evaluation.evaluate import Judgement
    from finetune.training.loop import Tick

judge_option = click.option(
    "--judge",
    "judges",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A dataset to judge on besides the built-in scenes; may be given again. Never trained on.",
)
hidden_size_option = click.option(
    "--hidden-size", type=int, default=192, show_default=True, help="Width; a multiple of 32."
)
layers_option = click.option("--layers", type=int, default=8, show_default=True)
written_option = click.option(
    "--also",
    "written",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A dataset of scenes written before (slower tiers); may be given again.",
)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Whole numbers between commas, none twice. Raises InputError."""
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise InputError(f"--sizes takes whole numbers of pixels between commas, not {text!r}") from error


@click.group()
def base() -> None:
    """The universal base: train one, judge one."""


backgrounds_option = click.option(
    "--backgrounds",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with photographs without any package: what a base learns to leave alone.",
)
background_share_option = click.option(
    "--background-share", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Share of all pictures."
)
photographs_option = click.option(
    "--photographs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A dataset of labelled photographs of one site, with a base's classes; may be given again.",
)
photograph_share_option = click.option(
    "--photograph-share", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Share of all pictures."
)
foundation_option = click.option(
    "--foundation",
    type=click.Choice(["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]),
    help="An encoder that learnt from photographs before (extra: foundation). With --start, its heads are kept.",
)


@base.command("train")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="Folder of the finished base.")
@click.option("--minutes", type=float, help="Time budget; the learning rate follows it.")
@click.option("--steps", type=int, default=100_000, show_default=True, help="At most so many steps.")
@click.option("--batch-size", type=int, default=16, show_default=True)
@click.option("--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches a step.")
@click.option("--learning-rate", type=float, default=1e-3, show_default=True, help="AdamW's, for all but the layers.")
@click.option("--muon-rate", type=float, default=0.015, show_default=True, help="Muon's, for the encoder's matrices.")
@click.option(
    "--family",
    type=click.Choice(["parcelseg", "eomt", "rf_detr", "mask2former", "mask_rcnn"]),
    default="parcelseg",
    show_default=True,
)
@foundation_option
@hidden_size_option
@click.option("--layers", type=int, help="Of the transformer; by default 8, or 2 on a foundation.")
@click.option(
    "--image-size",
    type=click.IntRange(32),
    help="Pixels a side; a multiple of 16. By default the start's, or else 256.",
)
@click.option(
    "--sizes",
    default="",
    metavar="PIXELS,PIXELS,…",
    help="Sides in pixels of which each batch draws one, for a base that stands them all [default: its own alone].",
)
@written_option
@click.option("--also-share", "written_share", type=click.FloatRange(0, 1), default=0.2, show_default=True)
@click.option("--close-ups", type=click.FloatRange(0, 1), default=0.25, show_default=True, help="Share of scenes.")
@click.option(
    "--assets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with photographs of packages, cut out (PNG with alpha; or in box-cutouts below it).",
)
@backgrounds_option
@background_share_option
@photographs_option
@photograph_share_option
@click.option(
    "--pasted", type=click.FloatRange(0, 1), default=0.12, show_default=True, help="Share of scenes made of these."
)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that make scenes.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="A base folder to go on from.")
@click.option("--workspace", type=click.Path(path_type=Path), help="Checkpoints; OUT.work by default. Resumes there.")
@click.option(
    "--ray",
    "ray_workers",
    type=click.IntRange(1),
    metavar="WORKERS",
    help="Train with so many workers of Ray Train, at RAY_ADDRESS or else on this machine (extra: ray).",
)
@judge_option
def train(
    target: Path,
    minutes: float | None,
    steps: int,
    batch_size: int,
    accumulate: int,
    learning_rate: float,
    muon_rate: float,
    family: str,
    foundation: str | None,
    hidden_size: int,
    layers: int | None,
    image_size: int | None,
    sizes: str,
    written: tuple[Path, ...],
    written_share: float,
    close_ups: float,
    assets: Path | None,
    pasted: float,
    backgrounds: Path | None,
    background_share: float,
    photographs: tuple[Path, ...],
    photograph_share: float,
    workers: int,
    seed: int,
    start: Path | None,
    workspace: Path | None,
    ray_workers: int | None,
    judges: tuple[Path, ...],
) -> None:
    """Train a base from scratch on generated scenes, on the GPU where there is one, and write it with its card.

    Several processes of one machine: `torchrun --standalone --nproc-per-node 2 -m hub.cli.main -- base train …`, or
    `--ray 2`. Many machines: start Ray on each, let OUT and the workspace lie on storage that all of them see, and
    train from any of them. A batch is one process's; a worker that dies is replaced and the last checkpoint goes on.

    \b
    Example:
      parcelhub base train --minutes 60 --out ./my-base
      parcelhub scenes write --tier physical --images 1400 --size 256 --out ./physical --workers 2
      parcelhub base train --minutes 60 --start ./my-base --also ./physical --seed 2 --out ./better-base
      parcelhub base train --minutes 60 --start ./better-base --image-size 320 --seed 3 --out ./finer-base
      parcelhub base train --minutes 60 --start ./finer-base --sizes 256,320,448 --out ./steady-base
      parcelhub base train --minutes 30 --start ./finer-base --backgrounds ./empty-halls --out ./calmer-base
      parcelhub base train --minutes 30 --start ./calmer-base --photographs ./dock --out ./real-base
      parcelhub base train --minutes 90 --foundation efficientnet-lite0 --start ./my-base --out ./founded-base
      RAY_ADDRESS=head:6379 parcelhub base train --ray 8 --minutes 60 --out /shared/my-base
      parcelhub base train --minutes 25 --batch-size 128 --hidden-size 384 --workers 14 --out ./my-base
    """
    from finetune.models.model import Architecture, architecture_of, load_base
    from finetune.pipelines.base_service import make_base
    from finetune.training.base import BaseRecipe
    from finetune.training.fit import is_first_process

    depth = layers or (2 if foundation else 8)
    architecture = Architecture(family=family, hidden_size=hidden_size, layers=depth, heads=max(1, hidden_size // 32))
    if start is not None:
        architecture = architecture_of(load_base(start), architecture)
        if foundation:  # the start gives its last layers
            architecture = replace(architecture, layers=depth)
    if image_size is not None:
        architecture = replace(architecture, image_size=image_size)
    recipe = BaseRecipe(
        architecture=architecture,
        start=start,
        foundation=foundation,
        written=written,
        written_share=written_share,
        close_ups=close_ups,
        assets=assets,
        pasted=pasted,
        backgrounds=backgrounds,
        background_share=background_share,
        photographs=photographs,
        photograph_share=photograph_share,
        sizes=parse_sizes(sizes),
        max_steps=steps,
        max_seconds=minutes * 60 if minutes else None,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        muon_rate=muon_rate,
        workers=workers,
        seed=seed,
    )
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("training"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    told = is_first_process()  # the others of torchrun work in silence
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=err, disable=not told) as bar:
        task = bar.add_task("training", total=1.0, note="")

        def report(tick: Tick) -> None:
            note = f"step {tick.step}, loss {tick.loss:.2f}, {tick.images_per_second:.1f} images/s"
            if tick.waited > 0.1:
                note += f", {tick.waited:.0%} of the time waiting for pictures"
            bar.update(task, completed=tick.progress, note=note)
            if not err.is_terminal:
                err.print(f"{tick.progress:.1%} {note}", highlight=False)

        place = workspace or target.with_name(target.name + ".work")
        if ray_workers is None:
            judgements = make_base(recipe, workspace=place, out=target, report=report, judge_folders=judges)
        else:
            from finetune.pipelines.ray_train import RayPlan, make_base_on_ray

            judgements = make_base_on_ray(
                recipe, RayPlan(ray_workers), workspace=place, out=target, report=report, judge_folders=judges
            )
    if told:
        _show(judgements)
        out.print(f"written: {target}")


@base.command("seed")
@click.option("--from", "source", required=True, metavar="ORG/NAME|FOLDER", help="A checkpoint in safetensors.")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="Folder of the finished base.")
@click.option("--map", "pairs", multiple=True, metavar="LABEL=CLASS", help="Start a label from a class of theirs.")
@click.option("--new-head", is_flag=True, help="Accept that no class is mapped; fine-tuning then learns all of them.")
@click.option("--image-size", type=int, help="Pixels a side; by default the checkpoint's.")
@json_option
def seed(
    source: str, target: Path, pairs: tuple[str, ...], new_head: bool, image_size: int | None, as_json: bool
) -> None:
    """Make a public checkpoint of a known family (ParcelSeg, EoMT, RF-DETR-Seg, Mask2Former, Mask R-CNN) a base.

    Names are looked up at the hub of HF_ENDPOINT. Serve it with PARCELHUB_BASE_SOURCE=OUT: the hub publishes it as the
    next version of base/universal.

    \b
    Example:
      parcelhub base seed --from ORG/rf-detr-seg --map box=suitcase --out ./my-base
      PARCELHUB_BASE_SOURCE=./my-base parcelhub up
    """
    import tempfile

    from finetune.models.seed import fetch_checkpoint, seed_base

    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise InputError(f"--map {wrong[0]}: write LABEL=CLASS")
    class_map = dict(pair.split("=", 1) for pair in pairs)
    with tempfile.TemporaryDirectory() as cache:
        folder = fetch_checkpoint(source, Path(cache))
        found = seed_base(folder, target, class_map=class_map, new_head=new_head, image_size=image_size, origin=source)
    if as_json:
        facts = {"family": found.family, "image_size": found.image_size, "mapped": dict(found.mapped)}
        print_json({**facts, "untrained": list(found.fresh), "folder": str(target)})
        return
    out.print(f"a {found.family} for pictures of {found.image_size} pixels")
    for label, name in found.mapped.items():
        out.print(f"  {label} starts from {name}")
    if found.fresh:
        out.print(f"  untrained: {', '.join(found.fresh)}")
    out.print(f"written: {target}")


@base.command("judge")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--scenes", type=int, default=150, show_default=True, help="Scenes of each built-in judge.")
@judge_option
@json_option
def judge(folder: Path, scenes: int, judges: tuple[Path, ...], as_json: bool) -> None:
    """Measure a base zero-shot on scenes it never saw and on datasets.

    \b
    Example:
      parcelhub base judge ./my-base --judge ./dock-7
    """
    from finetune.pipelines.base_service import judge_base

    judgements = judge_base(folder, judge_folders=judges, scenes=scenes)
    if as_json:
        print_json([{"name": j.name, **_facts(j)} for j in judgements])
        return
    _show(judgements)


@base.command("calibrate")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--scenes", type=click.IntRange(10), default=60, show_default=True)
def calibrate(folder: Path, scenes: int) -> None:
    """Find the score at which a base does best and store it, so that its scores are answered with it at 0.5.

    `base train` does this by itself; a base made elsewhere, or seeded, gets it here.

    \b
    Example:
      parcelhub base calibrate ./my-base
    """
    from finetune.pipelines.base_service import calibrate_base

    pivot = calibrate_base(folder, scenes=scenes)
    out.print(f"scores of {pivot:.3f} are answered as 0.5 from now on: written to {folder / 'config.json'}")


def _facts(judgement: Judgement) -> dict[str, float]:
    found = judgement.evaluation
    agnostic = {name: getattr(found, name) for name in ("agnostic_ap", "agnostic_ap50", "agnostic_ap75")}
    return {"images": found.images, "ap": found.ap, "ap50": found.ap50, "ap75": found.ap75, **agnostic}


def _show(judgements: Sequence[Judgement]) -> None:
    from finetune.pipelines.base_service import left_out

    rows = table("zero-shot", "judged on", "images", "AP", "AP50", "AP75", "class-agnostic AP50")
    for judgement in judgements:
        found = judgement.evaluation
        figures = (found.ap, found.ap50, found.ap75, found.agnostic_ap50)
        rows.add_row(judgement.name, str(found.images), *(f"{v:.3f}" for v in figures))
    out.print(rows)
    missing = left_out()
    if missing:
        err.print(missing)


for _command in COMMANDS:
    base.add_command(_command)
