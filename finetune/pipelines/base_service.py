"""Make a base and judge it: training from scratch, evaluation on looks it has not seen, an honest card."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from finetune.datasets import Sample, read_dataset
from finetune.datasets.classes import map_classes
from finetune.errors import SceneToolError
from finetune.evaluation.calibration import best_pivot, store_pivot
from finetune.evaluation.evaluate import Judgement, collect, evaluate, nameless
from finetune.models.model import base_labels, load_base, save_base
from finetune.report.cards import base_card
from finetune.scenes import BROAD, HELD_OUT, PHYSICAL_HELD_OUT, Look, write_cell
from finetune.scenes.physical.raster import renders
from finetune.training.base import BaseRecipe, train_base
from finetune.training.fit import is_first_process
from finetune.training.loop import Tick
from serving.inference.score_calibration import EVEN
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

OWN = "scenes of the trained looks, new seeds"
# Seeds of the judging scenes, far from any that training draws from.
JUDGES: Mapping[str, tuple[Look, int]] = {
    OWN: (BROAD, 900_001),
    **{f"held-out cell `{name}`": (look, 900_002 + k) for k, (name, look) in enumerate(HELD_OUT.items())},
}
PHYSICAL_JUDGES: Mapping[str, tuple[Look, int]] = {
    f"held-out cell `{name}` (physical)": (look, 900_102 + k)
    for k, (name, look) in enumerate(PHYSICAL_HELD_OUT.items())
}


CALIBRATION_SCENES = 60
"""That many tell the score at which a base does best; a base that is judged on fewer is calibrated on as many."""
PIVOT_SEEDS = 50_000  # the scenes that a pivot is found on are others than those that judge


def make_base(
    recipe: BaseRecipe,
    *,
    workspace: Path,
    out: Path,
    report: Callable[[Tick], None],
    judge_folders: Sequence[Path] = (),
    scenes: int = 150,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Judgement]:
    """Train a base into the folder `out`, judge it, write its card; returns the judgements.

    Under torchrun the first process alone writes, judges and reports; the others return nothing.

    `judge_folders` are datasets beside the built-in scene judges; nothing of any judge is trained on. A killed run goes
    on from `workspace`. Raises DatasetError for a bad judge folder (before training), TrainingError on divergence.
    """
    for folder in judge_folders:
        read_dataset(folder)
    ticks: list[Tick] = []

    def tick(t: Tick) -> None:
        ticks[:] = [t]
        if is_first_process():
            report(t)

    model = train_base(recipe, workspace, report=tick, should_stop=should_stop)
    if not is_first_process():
        return []
    save_base(model, out, card="")
    calibrate_base(out, scenes=min(scenes, CALIBRATION_SCENES))
    judgements = judge_base(out, judge_folders=judge_folders, scenes=scenes)
    card = base_card(recipe, base_labels(model), judgements, steps=ticks[-1].step, seconds=ticks[-1].seconds)
    missing = left_out()
    if missing:
        card += f"\nNot judged on {missing}.\n"
    (out / "README.md").write_text(card, encoding="utf-8")
    return judgements


def calibrate_base(folder: Path, *, scenes: int = CALIBRATION_SCENES) -> float:
    """Find the score at which a base does best on scenes of the trained looks, store it in its `config.json` and return
    it (`serving.inference.score_calibration`). Names do not count: what is shown of an unknown cell is what a base
    outlines. Raises BaseModelError for a folder that is no base.
    """
    load_base(folder)
    document = folder / "config.json"
    store_pivot(document, EVEN)  # the network's own scores are wanted
    look, seed = JUDGES[OWN]
    said: list[Instances] = []
    with tempfile.TemporaryDirectory() as temporary:
        place = write_cell(Path(temporary) / "scenes", look, images=scenes, seed=seed + PIVOT_SEEDS, valid_share=1.0)
        dataset = read_dataset(place)
        labels = {label: label for label in dataset.classes}
        segment = Segmenter.load(folder).segment
        collect(segment, dataset.samples, dataset.classes, label_map=labels, said=said)
        pivot = best_pivot(*nameless(dataset.samples, said)) or EVEN
    store_pivot(document, pivot)
    return pivot


def left_out() -> str | None:
    """Why the cells of the physical tier do not judge here, None when they do."""
    try:
        renders()
    except SceneToolError as error:
        return f"{', '.join(PHYSICAL_JUDGES)}: left out ({error})"
    return None


def judges() -> dict[str, tuple[Look, int]]:
    """The looks and seeds of the scenes that judge on this machine."""
    return {**JUDGES, **({} if left_out() else PHYSICAL_JUDGES)}


def judge_base(folder: Path, *, judge_folders: Sequence[Path] = (), scenes: int = 150) -> list[Judgement]:
    """Zero-shot evaluation of a base folder on scenes and on datasets (their `valid` images where they have a split).

    The base is told which of its classes there are, as a cell tells it. Held-out cells of the physical tier are among
    the scenes where MuJoCo can draw; `left_out` says when they are not.
    """
    labels = base_labels(load_base(folder))
    segmenter = Segmenter.load(folder)
    judgements: list[Judgement] = []
    with tempfile.TemporaryDirectory() as temporary:
        places = []
        for k, (name, (look, seed)) in enumerate(judges().items()):
            place = write_cell(Path(temporary) / str(k), look, images=scenes, seed=seed, valid_share=1.0)
            places.append((name, place))
        places += [(f"`{folder.name}`", folder) for folder in judge_folders]
        for name, place in places:
            dataset = read_dataset(place)
            mapping, _ = map_classes(dataset.classes, labels, shown=dataset.classes, chosen={})
            judged: Sequence[Sample] = [s for s in dataset.samples if s.split == "valid"] or dataset.samples
            names = {label: team for team, label in mapping.items()}
            told = partial(segmenter.segment, classes=tuple(names))
            evaluation = evaluate(told, judged, dataset.classes, label_map=names)
            judgements.append(Judgement(name, evaluation))
    return judgements
