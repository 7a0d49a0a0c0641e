"""Answers that lie in one another: a part of a package is told from a package, where a cell's packages never do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import AdapterError
from serving.inference.adapter_files import DISJOINT, VARIANT
from serving.inference.postprocess import NO_PARTS, Choice, Row, postprocess, score_parts
from serving.inference.preprocess import Letterbox
from serving.inference.segmenter import Segmenter
from serving.instances import Instances


def shared(*squares: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(squares), 40, 40), np.float32)
    for mask, (y0, y1, x0, x1) in zip(masks, squares, strict=True):
        mask[y0:y1, x0:x1] = 1
    flat = masks.reshape(len(squares), 1600)
    return flat @ flat.T


WHOLE, FACE, BESIDE = (0, 20, 0, 20), (0, 20, 0, 8), (22, 30, 22, 30)


@pytest.mark.parametrize(
    ("squares", "labels", "scores", "told"),
    [
        ((WHOLE, FACE, BESIDE), [0, 0, 0], [0.8, 0.6, 0.5], [0.8, 0.6 * (1 - 0.64), 0.5]),
        ((FACE, WHOLE), [0, 0], [0.9, 0.5], [0.9 * 0.75, 0.5]),
        ((WHOLE, FACE), [0, 1], [0.8, 0.6], [0.8, 0.6]),
        ((WHOLE, WHOLE), [0, 0], [0.8, 0.6], [0.8, 0.6]),
        ((WHOLE, (0, 20, 10, 30)), [0, 0], [0.8, 0.6], [0.8, 0.6]),
        ((WHOLE, (0, 10, 0, 12), FACE), [0, 0, 0], [0.2, 0.9, 0.5], [0.2, 0.9 * 0.96, 0.5 * 0.96]),
        ((WHOLE,), [0], [0.8], [0.8]),
        ((), [], [], []),
    ],
    ids=["part", "surer part", "other class", "equal", "beside", "two parts", "alone", "none"],
)
def test_a_part_counts_for_less(squares, labels, scores, told) -> None:
    said = score_parts(shared(*squares), np.array(labels, np.int64), np.array(scores, np.float32), 0.8)
    np.testing.assert_allclose(said, told, rtol=1e-5)


@given(st.lists(st.tuples(*[st.integers(0, 39)] * 4), max_size=8), st.data())
def test_no_score_grows_and_the_largest_keep_theirs(corners, data) -> None:
    squares = [(min(a, b), max(a, b) + 1, min(c, d), max(c, d) + 1) for a, b, c, d in corners]
    scores = np.array([data.draw(st.floats(0, 1, width=32)) for _ in squares], np.float32)
    labels = np.array([data.draw(st.integers(0, 1)) for _ in squares], np.int64)
    both = shared(*squares) if squares else np.zeros((0, 0), np.float32)
    said = score_parts(both, labels, scores, 0.8)
    assert (said <= scores).all() and (said >= 0).all()
    area = np.diagonal(both)
    for label in set(labels.tolist()):
        of = np.flatnonzero(labels == label)
        largest = of[area[of].argmax()]
        assert said[largest] == scores[largest]
    assert (score_parts(both, labels, scores, NO_PARTS) == scores).all()


def answered(share: float, floor: float = 0.05) -> Instances:
    masks = torch.full((2, 8, 8), -9.0)
    masks[0, 0:6, 0:6], masks[1, 0:6, 0:2] = 9.0, 9.0
    scores = torch.tensor([[[0.8, 0.0], [0.9, 0.0]]])
    row = Row(Letterbox.fit(32, 32, 32), {0: "box", 1: "bag"}, Choice(min_score=floor, part_share=share))
    return postprocess(masks[None], scores, [row])[0]


def test_answers_come_in_the_order_of_what_is_left_and_those_below_the_floor_go() -> None:
    assert [len(answered(NO_PARTS)), answered(NO_PARTS).scores[0].round(2)] == [2, 0.9]
    said = answered(0.8)
    np.testing.assert_allclose(said.scores, [0.8, 0.9 * (1 - 0.64)], rtol=1e-3)
    assert said.areas()[0] > said.areas()[1]
    assert len(answered(0.8, floor=0.5)) == 1


def told(folder: Path, target: Path, value: object) -> Path:
    shutil.copytree(folder, target)
    document = json.loads((target / VARIANT).read_text())
    document[DISJOINT] = value
    (target / VARIANT).write_text(json.dumps(document))
    return target


def test_a_variant_is_looked_at_so_only_where_its_labels_are_disjoint(
    segmenter: Segmenter, variant_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixed batch: each row by what its own variant says."""
    north = variant_dirs["north@v1"]
    segmenter.add_variant("cell-c@v1", told(north, tmp_path / "c", value=True))
    segmenter.add_variant("cell-d@v1", told(north, tmp_path / "d", value=False))
    seen: list[float] = []

    def watch(masks: torch.Tensor, scores: torch.Tensor, rows: list[Row]) -> list[Instances]:
        seen.extend(row.choice.part_share for row in rows)
        return postprocess(masks, scores, rows)

    monkeypatch.setattr("serving.inference.segmenter.postprocess_each", watch)
    picture = np.zeros((40, 40, 3), np.uint8)
    segmenter.segment([picture] * 4, ["cell-c@v1", "cell-d@v1", "north@v1", None])
    own = segmenter.choice.part_share
    assert own < 1
    assert seen == [own, NO_PARTS, NO_PARTS, own]


@pytest.mark.parametrize("value", ["yes", 1, None, []])
def test_anything_but_yes_and_no_is_refused(
    value: object, segmenter: Segmenter, variant_dirs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match=DISJOINT):
        segmenter.add_variant("bad@v1", told(variant_dirs["north@v1"], tmp_path / "bad", value))
