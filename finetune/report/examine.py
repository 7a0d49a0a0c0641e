"""A model examined on a dataset: the numbers with their intervals, the trust its scores deserve, the worst pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune.datasets import Sample, read_dataset
from finetune.datasets.classes import answered_names, map_classes
from finetune.errors import BaseModelError, DatasetError, DeckError
from finetune.evaluation.calibration import Calibration, best_pivot, calibrate
from finetune.evaluation.evaluate import (
    FOUND_SCORE,
    Evaluation,
    Predict,
    boundary_ap,
    collect,
    nameless,
    rounded,
    score,
)
from finetune.evaluation.ground_truth import Truths
from finetune.models.model import base_labels, load_base
from finetune.report.charts import reliability_chart
from finetune.report.overlays import OverlayRow, write_overlay_page
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

RESAMPLES = 200
WORST = 10


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination found. Finding without naming are the class-agnostic figures of `evaluation`.

    Attributes:
        model, dataset: what was examined, on what.
        evaluation: COCO's numbers with intervals, per class, size and image.
        boundary: AP of boundary IoU.
        calibration: of the scores.
        best_score: from which on answers have the best F1 here; None where no answer is right. Single images and the
            page count answers from it on.
        parts: (AP, AP50, images) of each sequence or split, where the dataset has several.
        boxes_aside, by_box: boxes that were set aside, and whether boxes alone were judged
        (`finetune.evaluation.ground_truth`).
    """

    model: str
    dataset: str
    evaluation: Evaluation
    boundary: float
    calibration: Calibration
    parts: Mapping[str, tuple[float, float, int]]
    best_score: float | None = None
    boxes_aside: int = 0
    by_box: bool = False

    def facts(self) -> dict[str, Any]:
        """Everything as JSON values, numbers rounded to six digits."""
        return rounded(asdict(self))


def examine(
    model: Path,
    data: Path,
    *,
    base: Path | None = None,
    split: str | None = "valid",
    class_map: Mapping[str, str] | None = None,
    out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Examined:
    """Examine a base folder, or a variant folder with the folder of its base, on a dataset.

    `split` is taken where the dataset has it, otherwise all images are. `class_map` overrides how the dataset's classes
    are put onto the model's labels. With `out` a page with the reliability chart and the worst pictures is written
    there. Raises DatasetError, DeckError, BaseModelError and serving's AdapterError.
    """
    dataset = read_dataset(data)
    samples: Sequence[Sample] = [s for s in dataset.samples if split is None or s.split == split] or dataset.samples
    if not any(sample.labels for sample in samples):
        raise DatasetError("no image has a labelled package to measure on", path=data)
    predict, label_map, own = _predictor(model, base, dataset.classes, samples, class_map or {})
    classes = [name for name in dataset.classes if name in set(label_map.values())]
    if not classes:
        raise DeckError(
            f"{data}: none of its classes ({', '.join(dataset.classes)}) is one that {model.name} answers; "
            "put some onto its labels with --map CLASS=LABEL"
        )
    labels = Truths.of(samples, own)
    said: list[Instances] = []
    truths, answers = collect(predict, samples, classes, label_map=label_map, names=own, progress=progress, said=said)
    names = [sample.name for sample in samples]
    best = best_pivot(truths, answers)
    # The worst pictures are the worst at the score that suits this dataset, whoever made the model.
    cut = best if best is not None else FOUND_SCORE
    evaluation = score(
        truths, answers, classes, names, resamples=RESAMPLES, agnostic=nameless(samples, said), found_score=cut
    )
    groups: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        groups.setdefault(sample.sequence or sample.split or "all", []).append(k)
    parts: dict[str, tuple[float, float, int]] = {}
    for name, members in sorted(groups.items()):
        if len(groups) > 1 and any(len(truths[k]) for k in members):
            mine, theirs = [truths[k] for k in members], [answers[k] for k in members]
            part = score(mine, theirs, classes, [names[k] for k in members])
            parts[name] = (part.ap, part.ap50, part.images)
    found = Examined(
        model=model.name,
        dataset=dataset.name,
        evaluation=evaluation,
        boundary=boundary_ap(truths, answers, classes),
        calibration=calibrate(truths, answers),
        best_score=best,
        parts=parts,
        boxes_aside=labels.set_aside,
        by_box=labels.by_box,
    )
    if out is not None:
        by_name = {sample.name: k for k, sample in enumerate(samples)}
        worst = [by_name[image.image] for image in evaluation.per_image[:WORST]]
        rows = [OverlayRow(names[k], samples[k].image, truths[k], answers[k]) for k in worst]
        write_overlay_page(
            out,
            rows,
            summary(found),
            f"{found.model} on {found.dataset}",
            charts={"Do scores mean what they say?": reliability_chart(found.calibration)},
            titles=("answer", "variant"),
            min_score=cut,
        )
        (out / "report.json").write_text(json.dumps(found.facts(), indent=2, sort_keys=True) + "\n")
    return found


def summary(found: Examined) -> dict[str, str]:
    """The lines of the table that people read."""
    e = found.evaluation
    lines = {
        "images, instances": f"{e.images}, {e.instances}",
        "mask AP": _with_interval(e, "ap"),
        "mask AP50": _with_interval(e, "ap50"),
        "mask AP75": _with_interval(e, "ap75"),
        "boundary AP": f"{found.boundary:.3f}",
        "AR at 100": f"{e.ar100:.3f}",
        **{
            f"class-agnostic {title}": _with_interval(e, f"agnostic_{name}")
            for title, name in (("AP", "ap"), ("AP50", "ap50"), ("AP75", "ap75"))
        },
        "calibration error": f"{found.calibration.error:.3f}",
    }
    if found.by_box:
        lines["judged by"] = "boxes: no label has an outline"
    elif found.boxes_aside:
        lines["boxes without an outline"] = f"{found.boxes_aside}, set aside"
    lines |= {f"AP of {name}": f"{value:.3f}" for name, value in {**e.per_class, **e.per_size}.items()}
    lines |= {f"AP, AP50 of {k} ({n} images)": f"{a:.3f}, {b:.3f}" for k, (a, b, n) in found.parts.items()}
    if found.best_score is not None:
        lines["best F1"] = f"take scores from {found.best_score:.2f} on"
    for cut in found.calibration.thresholds:
        lines[f"for {cut.wanted:.0%} right"] = f"take scores from {cut.score:.2f} on; that finds {cut.recall:.0%}"
    return lines


def _with_interval(evaluation: Evaluation, name: str) -> str:
    low, high = evaluation.intervals[name]
    return f"{getattr(evaluation, name):.3f} ({low:.3f} to {high:.3f})"


def _predictor(
    model: Path, base: Path | None, classes: Sequence[str], samples: Sequence[Sample], chosen: Mapping[str, str]
) -> tuple[Predict, dict[str, str], dict[str, str]]:
    """The segmenter's call, its labels to the classes they are judged as, and the dataset's classes to the same."""
    if not (model / "variant.json").is_file():
        shown = {label for sample in samples for label in sample.labels}
        labels = [name for name in base_labels(load_base(model)) if not name.startswith("reserved_")]
        mapping, _ = map_classes(classes, labels, shown=shown & set(labels), chosen=chosen)
        own = answered_names(mapping)
        # A base is told what there is, as a cell tells it (`serving.folder.routing.CellRoute.classes`).
        told = partial(Segmenter.load(model).segment, classes=tuple(mapping.values()))
        return told, {label: own[name] for name, label in mapping.items()}, own
    if base is None:
        raise BaseModelError(f"{model}: a variant needs the folder of its base")
    try:
        variant = json.loads((model / "variant.json").read_text())
        name = f"{variant['base']['repo'].rpartition('/')[2]}@{variant['base']['revision']}"
        answered = [str(label) for label in variant["labels"].values()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{model / 'variant.json'}: does not name a base and labels ({error!r})") from error
    segmenter = Segmenter.load(base, base_name=name)
    segmenter.add_variant(model.name, model)
    meant = {name: chosen.get(name, name) for name in classes}
    own = answered_names({name: label for name, label in meant.items() if label in answered})
    known = {meant[name]: judged for name, judged in own.items()}
    return lambda images: segmenter.segment(images, [model.name] * len(images)), known, own
