"""Hits, misses and false finds on a picture: told apart, counted as they are drawn, and where they belong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from finetune.report.picture_svg import COLOURS, Tally, labelled, legend, outline, picture, tally, told_apart
from serving.instances import Instances

EVIL = '"><script>alert(1)</script>'


def rectangles(*corners, label="box", size=(96, 128), scores=None):
    masks = np.zeros((len(corners), *size), np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, [label] * len(corners), scores)


TRUTH = rectangles((10, 10, 40, 40), (60, 10, 90, 40))
ANSWER = rectangles((11, 10, 40, 41), (80, 60, 110, 90), scores=[0.9, 0.8])


def test_hits_misses_and_false_finds_are_told_apart_without_colours():
    drawn = told_apart(TRUTH, ANSWER)
    assert tally(drawn) == Tally(hit=1, miss=1, false=1) and str(tally(drawn)) == "1 found, 1 missed, 1 false find"
    root = ET.fromstring(picture(128, 96, drawn, href="/p.jpg"))  # noqa: S314  # ours
    groups = {one.get("class"): ET.tostring(one, "unicode") for one in root.iter() if one.get("class") in COLOURS}
    assert set(groups) == {"hit", "miss", "false"}
    assert "url(#p-hatch)" in groups["false"] and "stroke-dasharray" in groups["miss"]
    assert "stroke-dasharray" not in groups["hit"] and "url(" not in groups["hit"]
    for kind, words in (("hit", "found"), ("miss", "missed"), ("false", "false find")):
        assert COLOURS[kind] in groups[kind] and words in groups[kind]
        assert f'class="{kind}"' in legend() and words in legend()


def test_another_name_is_no_hit():
    other = rectangles((10, 10, 40, 40), label="bag", scores=[0.9])
    assert tally(told_apart(TRUTH, other)) == Tally(hit=0, miss=2, false=1)


def test_counts_are_of_what_is_drawn():
    broken = Instances(96, 128, TRUTH.boxes, TRUTH.scores, TRUTH.labels, (TRUTH.masks[0], b""))
    drawn = told_apart(broken, ANSWER)
    text = picture(128, 96, drawn)
    assert tally(drawn) == Tally(hit=1, miss=0, false=1)
    assert len(re.findall(r'<g class="(?:hit|miss|false)"', text)) == 2


def test_the_path_runs_around_the_pixels():
    (one,) = labelled(rectangles((10, 20, 40, 50)))
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", one.path)]
    for found, meant in (
        (min(numbers[::2]), 10),
        (max(numbers[::2]), 40),
        (min(numbers[1::2]), 20),
        (max(numbers[1::2]), 50),
    ):
        assert found == pytest.approx(meant, abs=0.3)


def test_picture_and_masks_are_one_drawing_and_texts_are_escaped():
    drawn = labelled(rectangles((1, 1, 9, 9), label=EVIL))
    text = picture(128, 96, drawn, href=EVIL, key="k", alt=EVIL)
    assert "<script" not in text
    root = ET.fromstring(text)  # noqa: S314  # ours
    (image,) = [one for one in root.iter() if one.tag.endswith("image")]
    assert root.get("viewBox") == "0 0 128 96" and (image.get("width"), image.get("height")) == ("128", "96")
    assert image.get("preserveAspectRatio") == "none"


@pytest.mark.parametrize(
    "value", [None, "x", {"size": [1, 1], "counts": "1"}, {"size": [96, 128]}, [[1, 2]], [["a"] * 6]]
)
def test_what_is_no_mask_is_not_drawn(value):
    assert outline(value, 128, 96) == ""
