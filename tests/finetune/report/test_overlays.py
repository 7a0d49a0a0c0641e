"""Overlays: what is drawn where, and a page that is complete, escaped and free of outside references."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from finetune.errors import DatasetError
from finetune.report.overlays import OverlayRow, draw_instances, palette, write_overlay_page
from serving.inference.preprocess import decode_image
from serving.instances import Instances
from tests.finetune.folders import write_image, write_text

HEIGHT, WIDTH = 90, 120


def squares(*corners: tuple[int, int], label: str = "box", score: float = 0.9) -> Instances:
    masks = np.zeros((len(corners), HEIGHT, WIDTH), bool)
    for mask, (x, y) in zip(masks, corners, strict=True):
        mask[y : y + 30, x : x + 30] = True
    return Instances.from_masks(masks, [label] * len(corners), np.full(len(corners), score))


class References(HTMLParser):
    """Tags and the files that a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.files: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.files.append(value or "")
            if name == "alt":
                self.alts.append(value or "")


def test_colours_are_told_apart() -> None:
    colours = np.array(palette(20), int)
    gaps = np.abs(colours[:, None] - colours[None]).sum(2) + 999 * np.eye(20, dtype=int)
    assert gaps.min() > 30
    assert palette(0) == []


@pytest.mark.parametrize("background", [0, 128, 255])
def test_instances_are_filled_and_the_rest_is_untouched(background: int) -> None:
    image = np.full((HEIGHT, WIDTH, 3), background, np.uint8)
    before = image.copy()
    red = (255, 0, 0)
    drawn = draw_instances(image, squares((20, 20)), colours=[red], scores=False)
    assert np.array_equal(image, before)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    fill = drawn[24, 30].astype(int)
    assert fill[0] - fill[1] > 60
    # The outline is the colour itself beside a dark edge: one of both stands out on any background.
    line = drawn[15:30, 45].reshape(-1, 3).astype(int)
    assert (np.abs(line - red).sum(1) < 90).any()
    assert (line.sum(1) < 120).any()
    assert (drawn[60:, 60:] == background).all()


def test_scaled_pictures_keep_their_shape() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert draw_instances(image, squares((0, 0)), long_edge=480).shape == (360, 480, 3)
    assert draw_instances(image, Instances.empty(HEIGHT, WIDTH), long_edge=60).shape == (45, 60, 3)
    assert not draw_instances(image, Instances.empty(HEIGHT, WIDTH)).any()


def test_words_and_scores_are_drawn() -> None:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    some = [
        draw_instances(image, squares((40, 40), label=label, score=score), long_edge=640)
        for label, score in (("box", 0.9), ("box", 0.8), ("bag", 0.9))
    ]
    assert not np.array_equal(some[0], some[1])
    assert not np.array_equal(some[0], some[2])


def test_page_shows_all_three_side_by_side(tmp_path: Path) -> None:
    truth = squares((0, 0), (60, 50))
    rows = [
        OverlayRow("a.jpg", write_image(tmp_path / "in/a.jpg", width=WIDTH, height=HEIGHT), truth, truth, truth),
        OverlayRow("b.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8), truth, squares((1, 1)), squares(score=0.1)),
        OverlayRow("c.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8), truth),
    ]
    index = write_overlay_page(tmp_path / "page", rows, {"mask AP": "0.61"}, "dock-7")
    text = index.read_text()
    page = References(text)
    assert page.tags.count("img") == 3 + 3 + 1
    assert page.tags.count("a") == 7  # each picture can be reached and opened with the keyboard
    for file in page.files:
        assert "/" not in file
        picture = decode_image((tmp_path / "page" / file).read_bytes())
        assert picture.shape == (480, 640, 3)
    assert "1 found, 1 missed, 0 extra" in text
    assert "0 found, 2 missed, 0 extra" in text
    assert page.alts[0] == "a.jpg, ground truth: 2 instances"
    assert "prefers-color-scheme: dark" in text
    sheet = decode_image((tmp_path / "page/contact_sheet.png").read_bytes())
    assert sheet.shape[1] == 3 * (320 + 8) + 8
    assert sheet.shape[0] > 3 * 240


def test_unsure_answers_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    rows = [OverlayRow("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), squares((0, 0)), squares((0, 0), score=0.3))]
    text = write_overlay_page(tmp_path / "page", rows, {}, "t").read_text()
    assert "0 found, 1 missed, 0 extra" in text
    assert "<table>" not in text


def test_every_name_is_escaped_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&"
    rows = [OverlayRow(f"../{evil}", np.zeros((HEIGHT, WIDTH, 3), np.uint8), squares((0, 0), label=evil))]
    text = write_overlay_page(tmp_path / "page", rows, {evil: evil}, evil).read_text()
    assert "script" not in References(text).tags
    assert text.count("&lt;script&gt;") >= 5
    assert not re.search(r"https?:|//|@import|url\(", text)
    assert sorted(p.name for p in (tmp_path / "page").iterdir()) == [
        "0000-ground-truth.jpg",
        "contact_sheet.png",
        "index.html",
    ]


def test_no_rows_and_unreadable_images(tmp_path: Path) -> None:
    text = write_overlay_page(tmp_path / "empty", [], {}, "nothing").read_text()
    assert "No images to show." in text
    assert not (tmp_path / "empty/contact_sheet.png").exists()
    broken = write_text(tmp_path / "broken.jpg", "no image")
    with pytest.raises(DatasetError, match=r"broken\.jpg: not a JPEG or PNG"):
        write_overlay_page(tmp_path / "page", [OverlayRow("x", broken, squares((0, 0)))], {}, "t")


def test_what_was_missed_is_dashed_and_a_false_find_hatched(tmp_path):
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    red = (255, 0, 0)
    hit = draw_instances(image, squares((20, 20)), colours=[red], scores=False)
    false = draw_instances(image, squares((20, 20)), colours=[red], scores=False, false=[0])
    missed = draw_instances(image, Instances.empty(HEIGHT, WIDTH), missed=squares((20, 20)))
    inside = squares((20, 20)).decode_masks()[0]
    shades = [len(np.unique(drawn[inside][:, 0])) for drawn in (hit, false)]
    assert (hit[inside] != image[inside]).any(1).all(), "all of a hit is filled"
    assert 0.1 < (false[inside] == image[inside]).all(1).mean() < 0.9, shades
    assert (missed[inside] == image[inside]).all(1).mean() > 0.3 and (missed != image).any()
