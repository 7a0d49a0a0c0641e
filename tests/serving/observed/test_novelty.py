"""Novelty scores: figures of a reference implementation, planted novelties, promises kept, and files that are wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from serving.errors import ReferenceUnreadable
from serving.observed.novelty import METHODS, Calibration, Known, certainty, farthest_first, shrinkage
from serving.observed.novelty_reference import Reference, Seen

GRID = (12, 16)


@pytest.mark.parametrize(
    ("n", "width", "wanted"), [(200, 6, 0.051355918), (30, 40, 0.606406907), (400, 100, 0.204432840)]
)
def test_shrinkage_is_that_of_ledoit_and_wolf(n: int, width: int, wanted: float) -> None:
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, width)) @ rng.normal(size=(width, width))
    assert shrinkage(rows - rows.mean(axis=0)) == pytest.approx(wanted, abs=1e-8)  # scikit-learn 1.9


def packages(rng: np.random.Generator, count: int, *, new: bool = False) -> np.ndarray:
    """Embeddings of two kinds that vary along a few directions; a new kind leaves them."""
    mix = np.random.default_rng(99).normal(size=(6, 40))
    rows = rng.normal(size=(count, 6)) @ mix + rng.normal(scale=0.3, size=(count, 40))
    rows[: count // 2] += 6 * mix[0]
    if new:
        rows += np.random.default_rng(98).normal(scale=1.2, size=40)
    return rows.astype(np.float32)


def frame(rng: np.random.Generator, *, new: bool = False, hidden: bool = False, count: int = 6) -> Seen:
    """A frame of a few packages and a background; `hidden`: a package that was not answered lies in it."""
    patches = rng.normal(size=(GRID[0] * GRID[1], 24)).astype(np.float32)
    if hidden:
        patches.reshape(*GRID, 24)[4:8, 5:9] += 5.0
    covered = np.zeros(GRID, np.float32)
    covered[:3, :4] = 1.0
    if new:
        patches.reshape(*GRID, 24)[:3, :4] += 5.0  # under a mask: it was answered
    rows = packages(rng, count, new=new)
    return Seen(rows, np.full(count, 0.9, np.float32), patches, covered.ravel(), GRID)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    return Reference.learn([frame(rng) for _ in range(60)], base="u@v1", layers=("a", "b"), deck="d" * 64)


@pytest.mark.parametrize("method", METHODS)
def test_each_score_finds_what_is_planted(method: str) -> None:
    rng = np.random.default_rng(1)
    known = Known.learn(packages(rng, 300), certainty(np.full(300, 0.9)))
    sure = certainty(np.full(100, 0.9))
    old = known.scores(packages(rng, 100), method, sure)  # type: ignore[arg-type]
    new = known.scores(packages(rng, 100, new=True), method, sure)  # type: ignore[arg-type]
    # Neighbours are counted in all directions alike, and the planted offset is small beside the usual ones; kinds that
    # are not kinds of the new one are no help.
    assert (new[:, None] > old[None]).mean() > {"knn": 0.7, "mixed": 0.7, "relative": 0.4, "vim": 0.7}.get(method, 0.95)
    assert known.scores(packages(rng, 0), method).shape == (0,)  # type: ignore[arg-type]


def test_a_reference_of_too_little_says_so() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(ValueError, match="20 known packages"):
        Known.learn(packages(rng, 19))
    with pytest.raises(ValueError, match="finite"):
        Known.learn(np.full((30, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="4 frames"):
        Reference.learn([frame(rng)] * 3, base="u@v1", layers=())


def test_the_promised_share_of_false_alarms_is_kept() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(300):
        calibration = Calibration.of(rng.exponential(size=199))
        shares.append((rng.exponential(size=200) > calibration.threshold(0.05)).mean())
    assert 0.04 < np.mean(shares) <= 0.0515
    assert Calibration.of([1.0, 2.0]).threshold(0.05) == float("inf")
    assert Calibration.of([1.0, 2.0, 3.0]).p_values([0.0, 2.0, 9.0]).tolist() == [1.0, 0.75, 0.25]


def test_new_packages_are_told_from_known_ones(reference: Reference) -> None:
    rng = np.random.default_rng(4)
    old = [reference.judge(frame(rng)) for _ in range(60)]
    new = [reference.judge(frame(rng, new=True)) for _ in range(20)]
    assert np.mean([one.novel.mean() for one in old]) < 0.04
    assert np.mean([one.novel.mean() for one in new]) > 0.9
    assert np.mean([bool(one.unanswered) for one in new]) < 0.15  # they were answered


def test_a_package_that_is_not_answered_is_found_where_it_lies(reference: Reference) -> None:
    rng = np.random.default_rng(5)
    found = [reference.judge(frame(rng, hidden=True)).unanswered for _ in range(20)]
    assert all(found)
    x0, y0, x1, y1 = np.mean([max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1])) for boxes in found], axis=0)
    assert x0 < 6 / 16 and x1 > 8 / 16 and y0 < 5 / 12 and y1 > 7 / 12
    assert np.mean([bool(reference.judge(frame(rng)).unanswered) for _ in range(60)]) < 0.1


def test_nothing_in_a_frame_is_nothing_new(reference: Reference) -> None:
    empty = frame(np.random.default_rng(6), count=0)
    judged = reference.judge(replace(empty, instances=np.zeros((0, 40), np.float32)))
    assert judged.novelty.shape == (0,) and not judged.unanswered


def test_a_reference_comes_back_from_its_file(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "novelty.safetensors"
    reference.save(path)
    again = Reference.load(path)
    seen = frame(np.random.default_rng(7), new=True)
    assert np.array_equal(again.judge(seen).novelty, reference.judge(seen).novelty)
    assert (again.base, again.layers, again.deck, again.method) == ("u@v1", ("a", "b"), "d" * 64, reference.method)


def test_a_file_that_is_no_reference_is_refused(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "novelty.safetensors"
    with pytest.raises(ReferenceUnreadable):
        Reference.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ReferenceUnreadable):
        Reference.load(path)
    reference.save(path)
    arrays = load_file(path)
    save_file(arrays, path)  # without its document
    with pytest.raises(ReferenceUnreadable):
        Reference.load(path)
    document = (
        '{"format": 1, "base": "u@v1", "layers": [], "method": "vim", "false_alarms": 0.01, "deck": "", "tail": 0}'
    )
    for wrong in (
        {"known.mean": np.full_like(arrays["known.mean"], np.nan)},
        {"known.axes": arrays["known.axes"][:5]},
        {"patches.bank": arrays["patches.bank"][:, :3]},
        {"usual": np.zeros(3, np.float32)},
        {"packages": np.zeros(0, np.float32)},
    ):
        save_file({**arrays, **wrong}, path, {"novelty": document})
        with pytest.raises(ReferenceUnreadable):
            Reference.load(path)
    save_file(arrays, path, {"novelty": document.replace('"format": 1', '"format": 9')})
    with pytest.raises(ReferenceUnreadable):
        Reference.load(path)


def test_farthest_first_spreads_and_skips_what_it_has() -> None:
    rows = np.array([[0.0], [0.1], [10.0], [5.0], [10.0]], np.float32)
    assert farthest_first(rows, 4) == [0, 2, 3, 1]
    assert farthest_first(rows, 9) == [0, 2, 3, 1]
    assert farthest_first(rows[:0], 3) == []


def test_the_few_numbers_of_the_looks_do_not_drown_in_the_networks(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)

    def seen(offset: float) -> Seen:
        one = frame(rng)
        looks = rng.normal(size=(6, 3)).astype(np.float32) + np.float32([offset, 0, 0])
        return replace(one, instances=np.concatenate([one.instances, looks], axis=1))

    frames = [seen(0.0) for _ in range(60)]
    both = Reference.learn(frames, base="u@v1", layers=(), tail=3)
    one = Reference.learn(frames, base="u@v1", layers=())
    new = [seen(4.5) for _ in range(20)]
    assert np.mean([both.judge(s).novel.mean() for s in new]) > np.mean([one.judge(s).novel.mean() for s in new]) + 0.1
    both.save(tmp_path / "novelty.safetensors")
    again = Reference.load(tmp_path / "novelty.safetensors")
    assert np.array_equal(again.judge(new[0]).p, both.judge(new[0]).p)
