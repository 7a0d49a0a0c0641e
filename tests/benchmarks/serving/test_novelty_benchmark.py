"""The benchmark of novelty at a small size: its truth is right, and all of its figures come out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fleet.cameras import NEW_LOOKS, CellCamera, new_look
from benchmarks.fleet.novelty import BASE, KNOWN, auroc, judge, lines
from serving.inference.embeddings import Embedder
from serving.inference.segmenter import Segmenter

pytestmark = pytest.mark.slow


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    assert auroc(np.array([3.0, 1.0]), np.array([0.0, 2.0])) == pytest.approx(0.75)
    assert auroc(np.array([1.0]), np.array([1.0])) == 0.5


def test_an_extra_package_is_one_of_its_kind_among_the_known() -> None:
    cell = CellCamera(1, size=160, known=KNOWN)
    plain = cell.shot(7, packages=(3, 6))
    shot = cell.shot(7, packages=(3, 6), extra=[("bags", new_look(KNOWN, 0))])
    assert shot.labels.count("bags") == 1 and not set(plain.labels) - {"box", "padded_mailer"}
    changed = (shot.image != plain.image).any(axis=2)
    there = shot.ids == shot.labels.index("bags") + 1
    assert changed[there].mean() > 0.9


@pytest.mark.timeout(900)
def test_the_benchmark_tells_new_from_known_better_than_chance() -> None:
    segmenter, embedder = Segmenter.load(BASE, slots=2), Embedder.load(BASE, base_name="universal@v1")
    result = judge(1, segmenter, embedder, known=16, test=6, new=2)
    assert result.known > 40 and set(result.auroc) >= {"mahalanobis", "relative", "knn", "vim"}
    assert result.auroc["mahalanobis"] > 0.5
    assert len(result.frames_to_raise) == len(NEW_LOOKS)
    assert "AUROC" in lines([result])[0]
