"""The report's parts: charts, the learning curve, what to label next, and the words."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.datasets import Sample
from finetune.evaluation.evaluate import bootstrap, score
from finetune.evaluation.label_next import advise
from finetune.evaluation.learning_curve import (
    LOOK_AHEAD,
    CurvePoint,
    LearningCurve,
    budget,
    in_words,
    measure_curve,
    nested,
    subset_sizes,
)
from finetune.report import plots
from finetune.report.page import render_report
from finetune.report.report import (
    Judged,
    against_base,
    evaluations,
    forgetting,
    gain_of,
    predictions,
    report_facts,
    sentences,
    thinned,
    to_json,
)
from serving.instances import Instances

EVIL = "<script>alert(1)</script>"


# --- charts -----------------------------------------------------------------------------------------------------------


def test_charts_are_xml_and_texts_are_escaped():
    line = plots.Series(EVIL, [1, 2, 4], [0.1, 0.2, 0.4], [0.0, 0.1, 0.3], [0.2, 0.3, 0.5])
    drawn = plots.line_plot([line], title=EVIL, x_label=EVIL, y_label="y", log_x=True)
    bars = plots.bar_plot([plots.Bar(EVIL, 0.5, 0.4, 0.6), plots.Bar("b", 2.0)], title=EVIL)
    for text in (drawn, bars, plots.loss_chart([(1, 3.0), (2, 2.0)])):
        ET.fromstring(text)  # noqa: S314  # our own
        assert "<script" not in text and "style=" not in text
    assert plots.line_plot([], title="", x_label="", y_label="") == ""
    assert plots.bar_plot([], title="") == "" and plots.loss_chart([(1, 3.0)]) == ""


@given(low=st.floats(-1e6, 1e6), width=st.floats(0, 1e6))
def test_ticks_reach_around_their_range(low, width):
    found = plots.ticks(low, low + width)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 12
    assert found[0] <= low + 1e-6 * step and found[-1] >= low + width - 1e-6 * step


# --- the learning curve -----------------------------------------------------------------------------------------------


@given(images=st.integers(16, 3000))
def test_subsets_are_nested_and_spread(images):
    sizes = subset_sizes(images)
    subsets = [set(nested(images, size)) for size in sizes]
    assert [len(s) for s in subsets] == sizes and sizes[-1] == images
    assert all(small <= large for small, large in itertools.pairwise(subsets))
    half = sorted(subsets[0])
    assert max(b - a for a, b in itertools.pairwise(half)) <= 0.75 * images


@pytest.mark.parametrize(
    ("seconds", "images", "each"), [(600, 100, 30.0), (300, 100, None), (600, 15, None), (4, 6, None)]
)
def test_the_curve_has_its_share_of_the_budget_or_is_left_out(seconds, images, each):
    assert budget(seconds, images, share=0.15) == (pytest.approx(each) if each else None)
    assert budget(seconds, images, share=0.0) is None


def test_a_curve_that_grows_with_the_logarithm_is_read_as_such(tmp_path):
    asked = []

    def train(chosen, seconds):
        asked.append(len(chosen))
        value = 0.1 * np.log2(len(chosen))
        return value, np.full(50, value) + np.linspace(-0.01, 0.01, 50)

    curve = measure_curve(64, 20.0, train, keep=tmp_path)
    assert asked == [16, 32, 64]
    ahead = 0.1 * np.log2((64 + LOOK_AHEAD) / 64)
    assert (
        curve.gain == pytest.approx(ahead) and curve.low == pytest.approx(ahead) and curve.high == pytest.approx(ahead)
    )
    again = measure_curve(64, 20.0, train, keep=tmp_path)  # an interrupted job trains nothing twice
    assert again == curve and len(asked) == 3
    measure_curve(64, 21.0, train, keep=tmp_path)
    assert len(asked) == 6


def test_a_curve_promises_no_more_than_perfection():
    curve = measure_curve(16, 20.0, lambda chosen, _: (len(chosen) / 17, np.full(10, len(chosen) / 17)))
    assert curve.gain <= 1 - 16 / 17 + 1e-9


@pytest.mark.parametrize(
    ("gain", "low", "high", "words"),
    [(0.02, 0.01, 0.03, "worth about +2"), (0.002, -0.01, 0.005, "hardly help"), (0.02, -0.01, 0.05, "may be worth")],
)
def test_the_curve_in_words(gain, low, high, words):
    curve = LearningCurve((CurvePoint(100, 0.5, 0.4, 0.6),), 100, gain, low, high, 20.0)
    assert words in in_words(curve)


# --- material ---------------------------------------------------------------------------------------------------------


def boxes(*corners, size=(96, 128), label="box", scores=None):
    masks = np.zeros((len(corners), *size), np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, [label] * len(corners), scores)


@pytest.fixture
def judged(tmp_path: Path) -> Judged:
    """Eight pictures with a box at the edge and one inside: the base finds neither, the variant the inner one."""
    rng = np.random.default_rng(0)
    samples, truths, base, variant = [], [], [], []
    for k in range(8):
        path = tmp_path / f"{k}.png"
        pixels = rng.integers(80, 120, (96, 128, 3), np.uint8)
        pixels[30:70, 50:90] = 220
        pixels[10:50, 0:30] = 20
        cv2.imwrite(str(path), pixels)
        truth = boxes((50, 30, 90, 70), (0, 10, 30, 50))
        samples.append(Sample(path, 128, 96, truth.labels, truth.masks, name=f"{k}{EVIL}.png"))
        truths.append(truth)
        base.append(boxes((100, 80, 110, 90), scores=[0.6]))
        variant.append(boxes((50, 30, 90, 71), (100, 80, 120, 90), scores=[0.9, 0.3]))
    return Judged(tuple(samples), tuple(truths), tuple(base), tuple(variant), ("box",))


# --- what to label next -----------------------------------------------------------------------------------------------


def test_what_is_missed_at_the_edge_is_told(judged):
    found = advise(judged.names, lambda k: judged.samples[k].read_image(), judged.truths, judged.variant)
    assert {"edge", "dark"} <= {one.kind for one in found}
    edge = next(one for one in found if one.kind == "edge")
    assert (edge.hit, edge.total, edge.other_hit, edge.other_total) == (8, 8, 0, 8)
    assert edge.sentence.startswith("Packages cut off by the edge of the picture: 8 of 8 were missed")
    assert len(edge.images) == 4


def test_nothing_is_told_where_nothing_stands_out(judged):
    assert advise(judged.names, lambda k: judged.samples[k].read_image(), judged.truths, judged.truths) == ()
    empty = [Instances.empty(96, 128)] * 8
    all_missed = advise(judged.names, lambda k: judged.samples[k].read_image(), judged.truths, empty)
    assert all_missed == ()  # everything is missed: no trait says more than another


def test_claims_of_what_is_not_there_are_told(judged):
    noisy = [boxes((5 * k, 60, 5 * k + 20, 80), (60, 0, 80, 9), scores=[0.9, 0.8]) for k in range(8)]
    found = advise(judged.names, lambda k: judged.samples[k].read_image(), judged.truths, noisy)
    assert found[-1].kind == "extra" and found[-1].total == 16


# --- the facts and the page -------------------------------------------------------------------------------------------


def facts_of(judged: Judged, **changes):
    base, variant = evaluations(judged)
    values = {
        "cell": EVIL,
        "recipe": {"base": "base/universal@v1", "images_train": 20, "seed": 3, "class_map": EVIL},
        "forgot": [forgetting("scenes", judged.truths, judged.variant, judged.base, judged.classes)],
        "forgot_note": "note",
        "curve": LearningCurve((CurvePoint(10, 0.4, 0.3, 0.5), CurvePoint(20, 0.5, 0.4, 0.6)), 100, 0.1, 0.05, 0.2, 20),
        "curve_note": "how",
        "quality": None,
        "losses": [(1, 3.0), (2, 2.0)],
        "seconds": {"train": 3.0},
        "unlabelled": [(EVIL, 3)],
    }
    return report_facts(judged, base, variant, **(values | changes))


def test_the_facts_hold_what_was_measured(judged):
    facts = json.loads(to_json(facts_of(judged)))
    assert facts["against_base"] == "better" and facts["gain"]["ap50"][0] > 0.4
    assert (facts["verdict"], facts["stage"]) == ("test station", "station") and "50% of the packages" in facts[
        "reason"
    ]
    assert facts["measured"]["found"] == 8 and facts["measured"]["missed"] == 8 and facts["measured"]["extra"] == 0
    assert facts["images"] == {"train": 20, "holdout": 8, "instances": 16}
    assert facts["per_class"][0]["instances"] == 16
    assert facts["forgetting"][0]["gain"][0] < 0
    assert facts["worst"][0]["missed"] == 1 and len(facts["worst"]) == 8
    assert facts["sentences"][0].startswith("It is better than the shared base")
    assert any("few" in line for line in facts["sentences"])
    assert any(line.startswith("To label next: ") for line in facts["sentences"])
    assert {"python", "torch", "scenes"} <= set(facts["versions"])


def test_a_gain_is_drawn_in_pairs(judged):
    same = gain_of(judged.truths, judged.variant, judged.variant, judged.classes)
    assert same["ap50"] == (0.0, 0.0, 0.0)
    drawn = bootstrap(judged.truths, judged.variant, judged.classes, resamples=20, seed=1)
    assert drawn.shape == (20, 3) and (drawn >= 0).all() and (drawn <= 1).all()
    whole = score(judged.truths, judged.variant, judged.classes, judged.names, resamples=50)
    low, high = whole.intervals["ap50"]
    assert low <= whole.ap50 <= high


def test_empty_pictures_and_what_is_seen_in_them_are_counted(judged):
    empty = Instances.empty(96, 128)
    truths = (*judged.truths[:5], empty, empty, empty)
    variant = (*judged.variant[:5], empty, boxes((1, 1, 9, 9), scores=[0.9]), boxes((1, 1, 9, 9), scores=[0.2]))
    samples = tuple(replace(s, labels=t.labels, masks=t.masks) for s, t in zip(judged.samples, truths, strict=True))
    facts = facts_of(replace(judged, truths=truths, variant=variant, samples=samples))
    assert (facts["measured"]["empty_images"], facts["measured"]["empty_wrong"]) == (3, 1)


def test_a_variant_that_finds_next_to_nothing_reads_so_and_one_step_is_not_the_images_fault(judged):
    """However much more than the base it is."""
    few = (judged.variant[0], *[Instances.empty(96, 128)] * 7)
    recipe = {"base": "base/universal@v1", "images_train": 40, "steps": 400, "train_seconds": 500.0}
    useless = facts_of(replace(judged, variant=few), recipe=recipe)
    assert (useless["verdict"], useless["stage"]) == ("not yet", "candidate") and "1 of 16" in useless["reason"]
    assert not any("is better" in line for line in useless["sentences"])
    short = facts_of(replace(judged, variant=few), recipe=recipe | {"steps": 1, "train_seconds": 2.0})
    page = render_report(short, replace(judged, variant=few))
    assert short["verdict"] == "not yet" and "1 step only" in short["next_step"]
    for text in (short["next_step"], *short["sentences"]):
        assert "label" not in text.lower() and "more images" not in text, text
    assert 'class="verdict not-yet"' in page and "verdict better" not in page
    assert page.index("Not yet") < page.index("Before and after")


@pytest.mark.parametrize(
    ("gain", "word"), [((0.1, 0.05, 0.2), "better"), ((-0.1, -0.2, -0.05), "worse"), ((0.1, -0.1, 0.3), "unclear")]
)
def test_the_verdict_needs_certainty(judged, gain, word):
    assert against_base(gain) == word
    facts = facts_of(judged) | {"against_base": word}
    text = sentences(facts)[0]
    assert {"better": "better than", "worse": "Do not promote", "unclear": "cannot be told apart"}[word] in text


@pytest.mark.slow
def test_the_page_stands_alone_and_holds_no_script(judged):
    page = render_report(facts_of(judged), judged)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 8
    assert "http" not in page.replace("http://www.w3.org", "")
    for heading in (
        "Before and after",
        "Which score to trust",
        "What to label next",
        "What it forgot",
        "make it again",
    ):
        assert heading in page
    bare = render_report(facts_of(judged, curve=None, forgot=[], losses=[], unlabelled=[]), judged)
    assert "how" in bare and "Training loss" not in bare


def test_predictions_keep_the_worst_images_and_sure_answers(judged, monkeypatch):
    monkeypatch.setattr("finetune.report.report.MAX_SHOWN", 3)
    document = predictions(judged, [judged.names[5], judged.names[2]])
    assert [one["name"][0] for one in document["images"]] == ["5", "2", "0"]
    first = document["images"][0]
    assert len(first["truth"]) == 2 and "score" not in first["truth"][0]
    assert [mark["score"] for mark in first["variant"]] == [0.9, 0.3] and first["missed"] == 1
    json.dumps(document, allow_nan=False)


def test_long_curves_are_thinned():
    points = thinned([(k, float(k)) for k in range(1000)], most=100)
    assert len(points) == 100 and points[-1][0] == 999 and points[0][1] == 4.5
    assert thinned([(1, 2.0)]) == [(1, 2.0)]
