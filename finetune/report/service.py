"""From a trained variant to its report: all measuring that is not the two evaluations on the holdout, and the files."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.contract import Earlier, Progress
from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.deck import Deck
from finetune.datasets.quality import check_quality
from finetune.errors import DatasetError, DeckError
from finetune.evaluation.evaluate import FOUND_SCORE, Evaluation, Predict, bootstrap, collect, score
from finetune.evaluation.learning_curve import LearningCurve
from finetune.evaluation.weight_interpolation import Answers, best_of, blend_adapter, scale_adapter, scaled_copy
from finetune.report.page import render_report
from finetune.report.report import RESAMPLES, Forgetting, Judged, forgetting, predictions, report_facts, to_json
from finetune.scenes import BROAD, write_cell
from serving.errors import AdapterError
from serving.inference.segmenter import RESERVED, Segmenter
from serving.instances import Instances

REPORT, PAGE, PREDICTIONS = "report.json", "report.html", "predictions.json"
FILES = (REPORT, PAGE, PREDICTIONS)
SCENES, SCENES_SEED, SCENES_SIZE = 32, 910_001, 256
MAX_EARLIER = 100
MAX_UNLABELLED = 60
_BATCH = 8

LOOK = "look"  # the name of variants that are looked at and gone again

FloatArray = npt.NDArray[np.float64]
Report = Callable[[Progress], None]


@dataclass
class Stopwatch:
    """Seconds that each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a `with` block; a stage that is timed again is added up. It counts where the block raises, too."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - start, 2)


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant that is measured and waits for its report: the segmenter holds it under `name`."""

    segmenter: Segmenter
    name: str
    deck: Deck
    dataset: Dataset
    judged: Judged
    base: Evaluation
    variant: Evaluation


def write_report(
    measured: Measured,
    folder: Path,
    *,
    cell: str,
    recipe: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
    curve: LearningCurve | None,
    curve_note: str,
    earlier: Earlier | None,
    watch: Stopwatch,
    report: Report,
    history: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `report.json`, `report.html` and `predictions.json` to `folder`; returns the facts. `history` is what
    `finetune.report.history` measured, of a refresh."""
    steps = 4
    report(Progress("report", 0, steps, message="looking over the dataset"))
    with watch("quality"):
        quality = check_quality(measured.dataset)
    report(Progress("report", 1, steps, message="what the variant forgot"))
    forgot: list[Forgetting] = []
    notes: list[str] = []
    with watch("forgetting"):
        looks = [_on_scenes(measured), *([] if history else [_on_earlier(measured, earlier)])]
        for found, note in looks:
            forgot += [found] if found else []
            notes += [note] if note else []
    report(Progress("report", 2, steps, message="images without labels"))
    with watch("unlabelled"):
        unlabelled = _unlabelled(measured)
    with watch("facts"):
        facts = report_facts(
            measured.judged,
            measured.base,
            measured.variant,
            cell=cell,
            recipe=recipe,
            merges=measured.deck.merges,
            forgot=forgot,
            forgot_note=" ".join(notes),
            curve=curve,
            curve_note=curve_note,
            quality=quality,
            losses=losses,
            seconds=watch.seconds,
            warnings=measured.dataset.warnings,
            unlabelled=unlabelled,
            history=history,
        )
    report(Progress("report", 3, steps, message="drawing"))
    with watch("drawing"):
        page = render_report(facts, measured.judged)
        worst = [one.image for one in measured.variant.per_image]
        shown = to_json(predictions(measured.judged, worst))
    facts["seconds"] = dict(watch.seconds)
    for name, text in ((REPORT, to_json(facts)), (PAGE, page), (PREDICTIONS, shown)):
        (folder / name).write_text(text, "utf-8")
    report(Progress("report", steps, steps, message="report written"))
    return facts


def answers_of(segmenter: Segmenter, variant: str | None, labels: Iterable[str] = ()) -> Predict:
    """The segmenter as a predictor of one variant, or of the base, which is told that there are `labels` and no others
    (all of its own by default)."""
    classes = tuple(labels)
    return lambda images: segmenter.segment(images, [variant] * len(images), classes=classes)


def answers_on(
    samples: Sequence[Sample],
    deck: Deck,
    predict: Predict,
    labels: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Instances], Answers]:
    """The samples' annotations and what `predict` answers, in the classes that the deck is judged by; `labels` puts
    what it answers onto them. Classes that no train image shows are not what was asked for."""
    said: list[Instances] = []
    truths, found = collect(
        predict, samples, deck.answered, label_map=labels, names=deck.answers, progress=progress, said=said
    )
    return truths, Answers(tuple(found), tuple(said))


def judge(
    segmenter: Segmenter,
    variant: str,
    samples: Sequence[Sample],
    deck: Deck,
    progress: Callable[[str, int, int], None],
) -> Judged:
    """Run base and variant over labelled images."""
    same = {team: team for team in deck.answered}
    found = []
    # The base answers in its own labels, the variant in the team's.
    for who, title, labels in ((None, "base", deck.label_map), (variant, "variant", same)):
        predict = answers_of(segmenter, who, labels)
        found.append(answers_on(samples, deck, predict, labels, partial(progress, title)))
    (truths, base), (_, mine) = found
    return Judged(
        tuple(samples), tuple(truths), base.judged, mine.judged, deck.answered, deck.answers, base.said, mine.said
    )


def keep_best(
    segmenter: Segmenter,
    variant: str,
    folder: Path,
    judged: Judged,
    deck: Deck,
    progress: Callable[[str, int, int], None],
    start: Path | None = None,
) -> tuple[float, Judged]:
    """How much of what it learnt the variant in `folder` keeps, 1.0 for all; it is left so there and in the segmenter.
    `judged` has what all of it answers; `start` is the adapter that it went on from, where that was not the base."""
    same = {team: team for team in judged.classes}

    def look(share: float) -> Answers:
        with scaled_copy(folder, share, start) as place:
            segmenter.add_variant(LOOK, place)
        told = partial(progress, f"variant with {share:.0%} of what it learnt")
        return answers_on(judged.samples, deck, answers_of(segmenter, LOOK), same, told)[1]

    whole = Answers(judged.variant, judged.variant_said)
    kept, answers = best_of(judged.samples, judged.truths, judged.classes, whole, look)
    segmenter.remove_variant(LOOK)
    if kept != 1.0:
        if start is None:
            scale_adapter(folder, kept)
        else:
            blend_adapter(folder, start, kept)
        segmenter.add_variant(variant, folder)
    return kept, replace(judged, variant=answers.judged, variant_said=answers.said)


def short_training(segmenter: Segmenter, folder: Path, judged: Judged, deck: Deck) -> tuple[float, FloatArray]:
    """AP50 of the variant in `folder` on the holdout, and of drawn holdouts, float64 [RESAMPLES]."""
    segmenter.add_variant(LOOK, folder)
    try:
        same = {team: team for team in judged.classes}
        _, answers = answers_on(judged.samples, deck, answers_of(segmenter, LOOK), same)
    finally:
        segmenter.remove_variant(LOOK)
        shutil.rmtree(folder, ignore_errors=True)
    whole = score(judged.truths, answers.judged, judged.classes, judged.names).ap50
    return whole, bootstrap(judged.truths, answers.judged, judged.classes, resamples=RESAMPLES)[:, 1]


# --- forgetting -------------------------------------------------------------------------------------------------------


def _on_scenes(measured: Measured) -> tuple[Forgetting | None, str]:
    """Base and variant on scenes like those that the base is judged on, in the classes that both can answer."""
    own = {team: base for team, base in measured.deck.class_map.items() if not base.startswith(RESERVED)}
    note = "The shared base itself is unchanged: other cells are not affected by this variant."
    with tempfile.TemporaryDirectory(prefix="parcelhub-scenes-") as temporary:
        place = write_cell(
            Path(temporary) / "scenes", BROAD, images=SCENES, seed=SCENES_SEED, size=SCENES_SIZE, valid_share=1.0
        )
        samples = read_dataset(place).samples
        classes = tuple(sorted({label for s in samples for label in s.labels} & set(own.values())))
        if not classes:
            return None, note + " None of your classes is one that the base knows, so nothing could be forgotten."
        maps: tuple[tuple[str | None, dict[str, str]], ...] = (
            (None, {label: label for label in classes}),
            (measured.name, {team: base for team, base in own.items() if base in classes}),
        )
        truths: list[Instances] = []
        answers = []
        for who, labels in maps:
            truths, found = collect(answers_of(measured.segmenter, who, labels), samples, classes, label_map=labels)
            answers.append(found)
    what = f"the base's own evaluation ({SCENES} made-up scenes, {', '.join(classes)})"
    return forgetting(what, truths, answers[0], answers[1], classes), note


def _on_earlier(measured: Measured, earlier: Earlier | None) -> tuple[Forgetting | None, str]:
    """The variant beside the cell's earlier one (or the base) on the holdout that judged the earlier one."""
    if earlier is None:
        return None, "The cell has no earlier data to compare on."
    trained = set(measured.deck.train)
    try:
        deck = Deck.from_json(earlier.deck_json)
        dataset = read_dataset(earlier.dataset_dir, check_images=False)
    except (DeckError, DatasetError) as error:
        return None, f"The cell's earlier data could not be read ({error})."
    wanted = set(deck.holdout) - (trained if deck.dataset == measured.deck.dataset else set())
    samples = [s for s in dataset.samples if s.name in wanted][:MAX_EARLIER]
    own = _judged_as(deck, measured.deck)
    classes = tuple(dict.fromkeys(own.values()))
    if not any(label in own for s in samples for label in s.labels):
        return None, "The holdout of the cell's earlier data shares no image or class with this variant's task."
    before: str | None = None
    labels = {deck.class_map[team]: name for team, name in own.items()}
    if earlier.variant_dir is not None:
        try:
            measured.segmenter.add_variant("earlier", earlier.variant_dir)
            before, labels = "earlier", {deck.answers[team]: name for team, name in own.items()}
        except AdapterError:
            before = None  # on another base: the base is what it can be compared with
    earlier_one = answers_of(measured.segmenter, before, labels)
    truths, first = collect(earlier_one, samples, classes, label_map=labels, names=own)
    mine = {measured.deck.answers[team]: name for team, name in own.items()}
    _, second = collect(answers_of(measured.segmenter, measured.name), samples, classes, label_map=mine, names=own)
    who = f"variant {earlier.name}" if before else "the base"
    return forgetting(f"the cell's earlier data, against {who}", truths, first, second, classes), ""


def _judged_as(earlier: Deck, now: Deck) -> dict[str, str]:
    """The classes that both decks have, each to the one it is judged as: what either deck merges is one class."""
    own = {team: now.answers[team] for team in earlier.class_map if team in now.class_map}
    for several in earlier.merges.values():
        names = {own[team] for team in several if team in own}
        own = {team: min(names) if name in names else name for team, name in own.items()}
    return own


def _unlabelled(measured: Measured) -> list[tuple[str, int]]:
    """(image, confident answers) of images without any label in which the variant is sure to see packages."""
    empty = [sample for sample in measured.dataset.samples if not sample.labels][:MAX_UNLABELLED]
    found: list[tuple[str, int]] = []
    predict = answers_of(measured.segmenter, measured.name)
    for start in range(0, len(empty), _BATCH):
        batch = empty[start : start + _BATCH]
        for sample, answer in zip(batch, predict([one.read_image() for one in batch]), strict=True):
            sure = len(answer.filter(FOUND_SCORE))
            if sure:
                found.append((sample.name, sure))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))
