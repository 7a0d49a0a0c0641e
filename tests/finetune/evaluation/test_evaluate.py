"""Evaluation: COCO's own numbers, intervals that are right, and the worst image first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finetune.datasets import Sample
from finetune.errors import DatasetError
from finetune.evaluation.evaluate import Evaluation, _document, evaluate, match, score
from serving.instances import Instances
from tests.finetune.folders import write_image

SIDE = 128
CLASSES = ("box", "bag", "never")


INTERVALS = ("ap", "ap50", "ap75", "agnostic_ap", "agnostic_ap50", "agnostic_ap75")


def ellipses(rng: np.random.Generator, count: int, blur: float) -> tuple[Instances, Instances]:
    """Truth of `count` ellipses of all sizes, and an answer that has most of them, moved, mixed up and with ghosts."""
    truth, answer, labels, answers = [], [], [], []
    for k in range(count + 2):
        centre, axes = rng.uniform(10, SIDE - 10, 2), rng.choice([15, 60, 130]) * rng.uniform(0.8, 1.2, 2)
        label = CLASSES[int(rng.integers(2))]
        if k < count:
            truth.append(ellipse(centre, axes))
            labels.append(label)
        if rng.random() < 0.85:
            answer.append(ellipse(centre + rng.normal(0, blur, 2), axes * rng.uniform(0.8, 1.2, 2)))
            answers.append(label if rng.random() < 0.9 else "never")
    scores = rng.random(len(answer))
    empty = np.zeros((0, SIDE, SIDE), bool)
    return (
        Instances.from_masks(np.stack(truth) if truth else empty, labels),
        Instances.from_masks(np.stack(answer) if answer else empty, answers, scores),
    )


def ellipse(centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(canvas, (tuple(centre), tuple(axes), 0.0), 1, cv2.FILLED)
    return canvas.astype(bool)


def pairs(images: int, seed: int, blur: float = 3.0) -> tuple[list[Instances], list[Instances]]:
    rng = np.random.default_rng(seed)
    made = [ellipses(rng, int(rng.integers(0, 7)), blur) for _ in range(images)]
    return [truth for truth, _ in made], [answer for _, answer in made]


def measured(truths: Sequence[Instances], answers: Sequence[Instances], resamples: int = 0) -> Evaluation:
    names = [f"{k}.png" for k in range(len(truths))]
    return score(truths, answers, CLASSES, names, resamples=resamples)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_pycocotools(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    truths, answers = pairs(30, seed, blur=1.0 + 2 * seed)
    ours = measured(truths, answers)
    truth, answer = COCO(), COCO()
    truth.dataset, answer.dataset = _document(truths, CLASSES), _document(answers, CLASSES)
    truth.createIndex()
    answer.createIndex()
    reference = COCOeval(truth, answer, "segm")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    sizes = [ours.per_size[name] for name in ("small", "medium", "large")]
    theirs = reference.stats
    assert [ours.ap, ours.ap50, ours.ap75, *sizes, ours.ar100] == pytest.approx([*theirs[:6], theirs[8]], abs=1e-9)
    precision = reference.eval["precision"][:, :, :, 0, -1]
    assert ours.per_class == pytest.approx({name: precision[:, :, k].mean() for k, name in enumerate(CLASSES[:2])})
    assert ours.instances == len(truth.anns)


def test_perfect_and_empty_answers() -> None:
    truths, _ = pairs(10, 1)
    perfect = measured(truths, truths, resamples=20)
    assert (perfect.ap, perfect.ap50, perfect.ap75, perfect.ar100) == (1, 1, 1, 1)
    assert perfect.intervals == dict.fromkeys(INTERVALS, (1, 1))
    assert all(image.f1 == 1 for image in perfect.per_image)
    nothing = measured(truths, [Instances.empty(SIDE, SIDE)] * 10)
    assert (nothing.ap, nothing.ar100, nothing.per_class) == (0, 0, {"box": 0, "bag": 0})


def test_bootstrap_draws_whole_images() -> None:
    """Accumulating drawn matches again is evaluating the drawn images again."""
    truths, answers = pairs(12, 5)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(25):
        drawn = rng.integers(0, 12, 12)
        again = measured([truths[k] for k in drawn], [answers[k] for k in drawn])
        values.append((again.ap, again.ap50, again.ap75))
    low, high = np.quantile(values, [0.025, 0.975], axis=0)
    intervals = measured(truths, answers, resamples=25).intervals
    assert [intervals[name] for name in ("ap", "ap50", "ap75")] == [
        pytest.approx(pair) for pair in zip(low, high, strict=True)
    ]
    assert measured(truths, answers, resamples=25).intervals == intervals


def test_images_are_scored_worst_first() -> None:
    square = np.zeros((3, SIDE, SIDE), bool)
    square[0, :20, :20] = square[1, 40:60, :20] = square[2, 80:99, :20] = True
    full = Instances.from_masks(square, ["box"] * 3)
    half = Instances.from_masks(square, ["box", "bag", "box"], [0.9, 0.9, 0.3])
    empty = Instances.empty(SIDE, SIDE)
    images = measured([full, full, empty], [full, half, empty]).per_image
    assert [(i.image, i.found, i.missed, i.extra) for i in images] == [
        ("1.png", 1, 2, 1),
        ("0.png", 3, 0, 0),
        ("2.png", 0, 0, 0),
    ]
    assert [i.f1 for i in images] == [pytest.approx(2 / 5), 1, 1]


def test_an_instance_is_matched_once_by_the_surest_answer() -> None:
    square = np.zeros((1, SIDE, SIDE), bool)
    square[0, :20, :20] = True
    answer = Instances.from_masks(square.repeat(2, 0), ["box", "box"], [0.6, 0.8])
    assert list(match(Instances.from_masks(square, ["box"]), answer)) == [(0, 1)]


# --- evaluate ---------------------------------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> list[Sample]:
    truths, _ = pairs(count, 3)
    return [
        Sample(
            write_image(folder / f"{k}.png", width=SIDE, height=SIDE, seed=k),
            SIDE,
            SIDE,
            truth.labels,
            truth.masks,
        )
        for k, truth in enumerate(truths)
    ]


def test_evaluate_feeds_batches_and_maps_labels(tmp_path: Path) -> None:
    samples = photographs(tmp_path, 5)
    waiting = list(samples)
    sizes, steps = [], []

    def predict(images: Sequence[np.ndarray]) -> list[Instances]:
        assert all(image.shape == (SIDE, SIDE, 3) for image in images)
        sizes.append(len(images))
        answers = []
        for _ in images:
            truth = waiting.pop(0).truth()
            to_model = {"box": "carton", "bag": "unmapped"}
            labels = tuple(to_model[label] for label in truth.labels)
            answers.append(Instances(SIDE, SIDE, truth.boxes, truth.scores, labels, truth.masks))
        return answers

    result = evaluate(
        predict,
        samples,
        CLASSES,
        label_map={"carton": "box"},
        batch_size=2,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert sizes == [2, 2, 1]
    assert steps == [(2, 5), (4, 5), (5, 5)]
    assert result.per_class == {"box": 1, "bag": 0}
    assert result.ap == pytest.approx(0.5)
    only_boxes = evaluate(lambda i: [Instances.empty(SIDE, SIDE)] * len(i), samples, ["box"], label_map={})
    assert only_boxes.instances < result.instances


def test_evaluate_refuses_what_it_cannot_measure(tmp_path: Path) -> None:
    samples = photographs(tmp_path, 2)
    with pytest.raises(DatasetError, match="none of the 2 images has an instance of pallet"):
        evaluate(lambda _: [], samples, ["pallet"], label_map={})
    with pytest.raises(ValueError, match=r"0\.png is 7x7"):
        evaluate(lambda i: [Instances.empty(7, 7)] * len(i), samples, CLASSES, label_map={})


def test_json_is_plain_and_repeatable() -> None:
    truths, answers = pairs(6, 2)
    data = measured(truths, answers, resamples=5).to_json()
    assert data == measured(truths, answers, resamples=5).to_json()
    assert Evaluation.from_json(data).to_json() == data
    document = json.loads(data)
    assert set(document["intervals"]) == set(INTERVALS)
    assert document["per_image"][0].keys() == {"image", "f1", "found", "missed", "extra"}
