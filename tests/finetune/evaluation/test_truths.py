"""Labels that are boxes and classes that are one: what an answer is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finetune.datasets import Sample
from finetune.datasets.deck import Deck
from finetune.evaluation.evaluate import evaluate, score
from finetune.evaluation.ground_truth import Truths, as_boxes
from finetune.report.report import Judged, evaluations, report_facts, sentences
from serving.instances import Instances, encode_masks
from tests.finetune.folders import HEIGHT, WIDTH, write_image

BOXED = (("box_only", True),)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def sample(
    folder: Path, masks: Sequence[np.ndarray], labels: Sequence[str], boxed: Sequence[bool], k: int = 0
) -> Sample:
    image = write_image(folder / f"{k}.png", seed=k)
    attributes = tuple(BOXED if one else () for one in boxed)
    return Sample(image, WIDTH, HEIGHT, tuple(labels), encode_masks(np.stack(masks)), attributes=attributes)


def answer(masks: Sequence[np.ndarray], labels: Sequence[str], scores: Sequence[float]) -> Instances:
    return Instances.from_masks(np.stack(masks), labels, scores)


def test_boxes_beside_outlines_are_neither_asked_for_nor_held_against_an_answer(tmp_path: Path) -> None:
    one = sample(tmp_path, [square(2, 2, 10), square(20, 10, 12)], ["box", "box"], [False, True])
    found = answer(
        # right; inside the box; of another class inside the box; outside of everything
        [square(2, 2, 10), disc(26, 16, 5), disc(26, 16, 5), square(33, 1, 5)],
        ["box", "box", "bag", "box"],
        [0.9, 0.8, 0.7, 0.6],
    )
    truths = Truths.of([one], {"box": "box", "bag": "bag"})
    assert (len(truths.judged[0]), truths.set_aside, truths.by_box) == (1, 1, False)
    assert truths.fit(0, found).scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    measured = evaluate(lambda _: [found], [one], ["box"], label_map={"box": "box"})
    assert (measured.instances, measured.ap) == (1, 1.0), "the surest answer finds all there is"
    (image,) = measured.per_image
    assert (image.found, image.missed, image.extra) == (1, 0, 1)


def test_it_is_what_coco_does_with_regions_that_it_ignores(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    samples, answers = [], []
    for k in range(30):
        places = [(int(x), int(y)) for x, y in rng.integers(0, (26, 16), (4, 2))]
        boxed = [False, *(rng.random(3) < 0.5)]
        samples.append(sample(tmp_path, [square(x, y, 9) for x, y in places], ["box"] * 4, boxed, k))
        moved = [
            (x + int(dx), y + int(dy)) for (x, y), (dx, dy) in zip(places, rng.integers(0, 4, (4, 2)), strict=True)
        ]
        answers.append(answer([square(x, y, 9) for x, y in moved], ["box"] * 4, rng.random(4)))
    truths = Truths.of(samples, {"box": "box"})
    mine = [truths.fit(k, found) for k, found in enumerate(answers)]
    ours = score(truths.judged, mine, ["box"], [str(k) for k in range(30)])
    truth, claims = COCO(), COCO()
    records = [
        {"image_id": k, "category_id": 1, "segmentation": rle, "area": 81, "iscrowd": int(box), "bbox": [0, 0, 9, 9]}
        for k, one in enumerate(samples, 1)
        for rle, box in zip(one.truth().rles(), one.box_only, strict=True)
    ]
    said = [
        {"image_id": k, "category_id": 1, "segmentation": rle, "area": 81, "iscrowd": 0, "score": float(value)}
        for k, one in enumerate(answers, 1)
        for rle, value in zip(one.rles(), one.scores, strict=True)
    ]
    for document, listed in ((truth, records), (claims, said)):
        document.dataset = {
            "images": [{"id": k, "height": HEIGHT, "width": WIDTH} for k in range(1, 31)],
            "annotations": [{"id": n} | record for n, record in enumerate(listed, 1)],
            "categories": [{"id": 1, "name": "box"}],
        }
        document.createIndex()
    coco = COCOeval(truth, claims, "segm")
    coco.params.iouThrs = np.array([0.5])
    coco.evaluate()
    coco.accumulate()
    theirs = coco.eval["precision"][0, :, 0, 0, -1].mean()
    assert truths.set_aside > 20 and 0.3 < theirs < 1
    assert ours.ap50 == pytest.approx(theirs, abs=1e-6)


def test_a_holdout_of_boxes_alone_is_judged_by_boxes(tmp_path: Path) -> None:
    one = sample(tmp_path, [square(4, 4, 14)], ["box"], [True])
    found = answer([disc(11, 11, 8), np.zeros((HEIGHT, WIDTH), np.bool_)], ["box", "box"], [0.9, 0.2])
    truths = Truths.of([one], {"box": "box"})
    assert (truths.by_box, truths.set_aside, len(truths.judged[0])) == (True, 0, 1)
    boxed = as_boxes(found)
    assert boxed.areas().tolist() == [15 * 15, 0] and (boxed.boxes == found.boxes).all()
    measured = evaluate(lambda _: [found], [one], ["box"], label_map={"box": "box"})
    assert measured.ap == pytest.approx(0.8, abs=0.01), "a disc's box of 15 x 15 around one of 14 x 14: IoU 0.87"


def test_classes_that_are_one_are_judged_as_one(tmp_path: Path) -> None:
    one = sample(tmp_path, [square(2, 2, 10), square(20, 10, 12)], ["carton", "crate"], [False, False])
    found = answer([square(2, 2, 10), square(20, 10, 12)], ["carton", "carton"], [0.9, 0.8])
    names = {"carton": "carton", "crate": "carton"}
    measured = evaluate(lambda _: [found], [one], ["carton"], label_map={"carton": "carton"}, names=names)
    assert (measured.ap, measured.instances, dict(measured.per_class)) == (1.0, 2, {"carton": 1.0})


@pytest.mark.parametrize(
    ("boxed", "merges", "said"),
    [
        ([False, True], {}, "1 label of the holdout is a box without an outline"),
        ([True, True], {}, "All labels of the holdout are boxes"),
        (
            [False, False],
            {"box": ["box", "crate"]},
            "“box” and “crate” are one class here, answered and judged as “box”",
        ),
    ],
)
def test_the_report_says_so(tmp_path: Path, boxed: list[bool], merges: dict[str, list[str]], said: str) -> None:
    own = {"box": "box", "crate": "box"}
    samples = [
        sample(
            tmp_path, [square(2, 2, 10), square(20, 10, 12)], ["box", "crate"], boxed if k == 0 else [boxed[0]] * 2, k
        )
        for k in range(2)
    ]
    truths = Truths.of(samples, own)
    judged = Judged(tuple(samples), truths.judged, truths.judged, truths.judged, ("box",), own)
    base, variant = evaluations(judged)
    facts = report_facts(
        judged,
        base,
        variant,
        cell="a",
        recipe={},
        merges=merges,
        forgot=[],
        forgot_note="",
        curve=None,
        curve_note="",
        quality=None,
        losses=[],
        seconds={},
    )
    assert any(said in line for line in sentences(facts))
    assert facts["boxes"]["set_aside"] == truths.set_aside


def test_what_either_deck_merges_is_judged_as_one_on_earlier_data() -> None:
    from finetune.report.service import _judged_as

    def deck(class_map: dict[str, str], merged: dict[str, str]) -> Deck:
        return Deck("acme/x", None, ("a",), ("b",), (1.0,), class_map, merged=merged)

    plain = deck({"carton": "box", "crate": "reserved_0", "tube": "cylinder"}, {})
    both = deck({"carton": "box", "crate": "box", "bag": "poly_bag"}, {"box": "crate"})
    assert _judged_as(plain, plain) == {"carton": "carton", "crate": "crate", "tube": "tube"}
    assert _judged_as(plain, both) == {"carton": "crate", "crate": "crate"}
    assert _judged_as(both, plain) == {"carton": "carton", "crate": "carton"}
