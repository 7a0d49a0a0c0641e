"""Calibration, boundary AP, charts, and the whole examination of a small base on a small dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.datasets import read_dataset
from finetune.errors import BaseModelError
from finetune.evaluation.calibration import best_pivot, calibrate, hits, store_pivot
from finetune.evaluation.evaluate import any_class, boundary_ap, evaluate, score
from finetune.models.model import new_base, save_base
from finetune.report.charts import Curve, curves_chart, reliability_chart
from finetune.report.examine import examine, summary
from finetune.scenes import BROAD, LABELS, write_cell
from serving.inference.score_calibration import answered
from serving.instances import Instances
from tests.finetune.evaluation.test_evaluate import CLASSES, INTERVALS, SIDE, pairs
from tests.finetune.training.test_training import TINY
from tests.scale import scaled


def squares(count: int, scores: list[float], right: list[bool]) -> tuple[Instances, Instances]:
    """A truth of `count` squares, and one answer per score, on a square where it is right and beside them where not."""
    places = [(8 * (k % 15), 8 * (k // 15)) for k in range(120)]

    def mask(place: int) -> np.ndarray:
        made = np.zeros((SIDE, SIDE), bool)
        x, y = places[place]
        made[y : y + 6, x : x + 6] = True
        return made

    truth = Instances.from_masks(np.stack([mask(k) for k in range(count)]), ["box"] * count)
    drawn = [mask(k if good else 119 - k) for k, good in enumerate(right)]
    return truth, Instances.from_masks(np.stack(drawn), ["box"] * len(drawn), scores)


def test_reliability_counts_what_is_right() -> None:
    truth, answer = squares(20, [0.95] * 10 + [0.35] * 10, [True] * 8 + [False] * 2 + [True] * 3 + [False] * 7)
    found = calibrate([truth], [answer], wanted=(0.5, 0.8, 0.99))
    low, high = found.bins
    assert (low.count, low.right, high.count, high.right) == (10, 0.3, 10, 0.8)
    assert high.score == pytest.approx(0.95)
    assert found.error == pytest.approx((0.15 + 0.05) / 2, abs=1e-6)
    half, most = found.thresholds
    assert (half.wanted, half.score, half.recall) == (0.5, pytest.approx(0.35), 11 / 20)
    assert (most.wanted, most.score, most.precision, most.recall) == (0.8, pytest.approx(0.95), 0.8, 8 / 20)


def test_each_package_is_found_once() -> None:
    truth, answer = squares(2, [0.9, 0.8], [True, True])
    twice = Instances(SIDE, SIDE, answer.boxes[[0, 0]], np.float32([0.9, 0.8]), ("box", "box"), (answer.masks[0],) * 2)
    scores, right = hits([truth], [twice])
    assert right.tolist() == [True, False]
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_nothing_answered_is_no_error() -> None:
    truth, _ = squares(3, [0.5], [True])
    found = calibrate([truth], [Instances.empty(SIDE, SIDE)])
    assert (found.bins, found.error, found.thresholds) == ((), 0.0, ())


def test_a_ragged_outline_costs_boundary_ap_more() -> None:
    smooth = np.zeros((SIDE, SIDE), np.uint8)
    cv2.rectangle(smooth, (10, 10), (110, 110), 1, -1)
    ragged = cv2.erode(smooth, np.ones((9, 9), np.uint8))
    truth = [Instances.from_masks(smooth[None].astype(bool), ["box"])]
    answer = [Instances.from_masks(ragged[None].astype(bool), ["box"])]
    assert boundary_ap(truth, truth, ["box"]) == 1
    assert boundary_ap(truth, answer, ["box"]) < 0.3


def test_one_class_is_never_worse_at_finding() -> None:
    truths, answers = pairs(8, 2)
    assert {label for i in any_class(truths) for label in i.labels} == {"package"}
    assert len(hits(any_class(truths), any_class(answers))[0]) == len(hits(truths, answers)[0])
    assert hits(any_class(truths), any_class(answers))[1].sum() >= hits(truths, answers)[1].sum()
    assert set(CLASSES) >= {label for i in truths for label in i.labels}


@pytest.mark.slow
def test_charts_are_svg_and_repeat_themselves() -> None:
    truth, answer = squares(20, [0.9] * 10, [True] * 8 + [False] * 2)
    calibration = calibrate([truth], [answer])
    curve = Curve([10, 100], [0.2, 0.5], [0.1, 0.4], [0.3, 0.6])
    for draw in (
        lambda: reliability_chart(calibration),
        lambda: curves_chart({"LoRA": curve}, x_label="images", y_label="AP75", levels={"zero-shot": 0.1}),
    ):
        chart = draw()
        assert ElementTree.fromstring(chart).tag.endswith("svg")  # noqa: S314 - our own
        assert chart == draw()


@pytest.mark.slow
def test_an_examination_writes_its_page(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_base(new_base(TINY, LABELS, seed=1), base, card="# tiny\n")
    data = write_cell(tmp_path / "cell", BROAD, images=6, seed=4, size=96, valid_share=0.5)
    found = examine(base, data, out=tmp_path / "page")
    assert found.evaluation.images == 3, "the valid split"
    assert set(found.evaluation.intervals) == set(INTERVALS)
    assert "mask AP50" in summary(found)
    facts = json.loads((tmp_path / "page" / "report.json").read_text())
    assert facts == found.facts()
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count("<svg") == 1
    assert page.count("<img") == 6, "truth and answer of three pictures"
    assert examine(base, data, split=None).evaluation.images == 6


@pytest.mark.slow
def test_a_variant_wants_its_base(tmp_path: Path) -> None:
    data = write_cell(tmp_path / "cell", BROAD, images=2, seed=4, size=96)
    (tmp_path / "variant").mkdir()
    (tmp_path / "variant" / "variant.json").write_text("{}")
    with pytest.raises(BaseModelError, match="needs the folder of its base"):
        examine(tmp_path / "variant", data)
    with pytest.raises(BaseModelError, match=r"variant\.json: does not name a base"):
        examine(tmp_path / "variant", data, base=tmp_path)


def test_the_pivot_is_where_f1_is_best() -> None:
    """Ten are right down to 0.4, below that nearly all are wrong."""
    scores = [0.9] * 4 + [0.6] * 3 + [0.4] * 3 + [0.2] * 30
    truth, answer = squares(12, scores, [True] * 10 + [False] * 30)
    assert best_pivot([truth], [answer]) == pytest.approx(0.4, abs=1e-4)
    moved = answer.rescored(answered(answer.scores, 0.4))
    assert best_pivot([truth], [moved]) == pytest.approx(0.5, abs=1e-3), "and once it is used, it is a half"
    assert best_pivot([truth], [answer.take([])]) is None
    assert best_pivot([truth], [answer.take(range(10, 40))]) is None


@settings(max_examples=scaled(15, 300), deadline=None)
@given(st.lists(st.tuples(st.floats(0.03, 0.97), st.booleans()), min_size=1, max_size=40))
def test_no_other_score_is_much_better_than_the_pivot(drawn: list[tuple[float, bool]]) -> None:
    scores, right = [s for s, _ in drawn], [r for _, r in drawn]
    truth, answer = squares(40, scores, right)
    pivot = best_pivot([truth], [answer])
    if not any(right):
        assert pivot is None
        return
    assert pivot is not None

    def f1(cut: float) -> float:
        kept = [good for score, good in zip(answer.scores.tolist(), right, strict=True) if score >= cut]
        return 2 * sum(kept) / (len(kept) + len(truth))

    assert f1(pivot - 1e-4) >= 0.97 * max(f1(score) for score in answer.scores.tolist())


def test_a_pivot_is_kept_beside_what_was_there(tmp_path: Path) -> None:
    document = tmp_path / "config.json"
    document.write_text(json.dumps({"model_type": "parcelseg"}))
    store_pivot(document, 0.25)
    assert json.loads(document.read_text()) == {"model_type": "parcelseg", "score_pivot": 0.25}


def test_finding_is_told_apart_from_naming() -> None:
    truth, answer = squares(4, [0.9, 0.8, 0.7, 0.6], [True] * 4)
    called = Instances(SIDE, SIDE, answer.boxes, answer.scores, ("box", "bag", "bag", "bag"), answer.masks)
    found = score([truth], [called], ["box", "bag"], ["one"], resamples=5)
    assert found.ap50 < 0.5
    assert found.agnostic_ap50 == found.agnostic_ap75 == pytest.approx(1.0)
    assert {"agnostic_ap", "agnostic_ap50", "agnostic_ap75"} <= found.intervals.keys()
    named = score([truth], [answer], ["box"], ["one"], resamples=5)
    assert (named.agnostic_ap, named.agnostic_ap50) == (named.ap, named.ap50)
    assert named.intervals["agnostic_ap50"] == named.intervals["ap50"]


def test_answers_under_a_name_that_nobody_asked_for_count_as_found(tmp_path: Path) -> None:
    place = write_cell(tmp_path / "cell", BROAD, images=3, seed=5, size=64, valid_share=1.0)
    samples = [s for s in read_dataset(place).samples if s.labels]
    classes = sorted({label for s in samples for label in s.labels})
    truths = iter([s.truth() for s in samples])

    def all_walrus(images: Sequence[np.ndarray]) -> list[Instances]:
        taken = [next(truths) for _ in images]
        return [Instances(t.height, t.width, t.boxes, t.scores, ("walrus",) * len(t), t.masks) for t in taken]

    found = evaluate(all_walrus, samples, classes, label_map={name: name for name in classes})
    assert found.ap == 0.0
    assert found.agnostic_ap == pytest.approx(1.0)
