"""Clusters and agreement of groupings against figures that scikit-learn 1.9 gave for the same points."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.curation.clusters import MAX_POINTS, NOISE, adjusted_mutual_information, hdbscan


def blobs() -> np.ndarray:
    """Four dense places in six dimensions (40, 25, 15 and 30 points), and 20 points anywhere."""
    rng = np.random.default_rng(5)
    places = ((0, 0.5, 40), (4, 0.6, 25), (-4, 0.4, 15), (8, 1.2, 30))
    return np.concatenate(
        [rng.normal(middle, spread, (count, 6)) for middle, spread, count in places] + [rng.uniform(-10, 12, (20, 6))]
    )


STRAYS = [NOISE] * 15 + [3, NOISE, 0, NOISE, NOISE]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({"min_size": 5}, [0] * 40 + [1] * 25 + [2] * 15 + [3] * 30 + STRAYS),
        ({"min_size": 8, "min_samples": 3}, [0] * 40 + [1] * 25 + [2] * 15 + [3] * 30 + STRAYS),
        (
            {"min_size": 20, "min_samples": 5, "single": True},
            [0] * 40 + [1] * 25 + [NOISE] * 15 + [2] * 30 + [NOISE] * 15 + [2, NOISE, 0, NOISE, NOISE],
        ),
    ],
)
def test_clusters_are_those_of_the_reference_implementation(how: dict[str, int], wanted: list[int]) -> None:
    assert hdbscan(blobs(), **how).tolist() == wanted


def test_names_follow_the_points_and_not_their_order() -> None:
    points = blobs()
    order = np.random.default_rng(0).permutation(len(points))
    here, there = hdbscan(points)[order], hdbscan(points[order])
    assert adjusted_mutual_information(here, there) == pytest.approx(1.0)
    assert [there[(there != NOISE).argmax()], there.max()] == [0, 3]


def test_nothing_is_a_cluster_where_there_is_too_little_of_it() -> None:
    assert hdbscan(np.zeros((0, 3))).tolist() == []
    assert hdbscan(np.zeros((4, 3)), min_size=5).tolist() == [NOISE] * 4
    same = np.concatenate([np.zeros((6, 3)), np.ones((6, 3))])
    assert hdbscan(same, min_size=5).tolist() == [0] * 6 + [1] * 6
    for wrong in ({"min_size": 1}, {"min_size": 5, "min_samples": 0}):
        with pytest.raises(ValueError, match="not within the limits"):
            hdbscan(same, **wrong)
    with pytest.raises(ValueError, match="not within the limits"):
        hdbscan(np.zeros((MAX_POINTS + 1, 1)))


def test_agreement_of_groupings() -> None:
    one = np.random.default_rng(1).integers(0, 4, 60)
    other = np.where(np.random.default_rng(2).random(60) < 0.7, one, np.random.default_rng(3).integers(0, 5, 60))
    assert adjusted_mutual_information(one, other) == pytest.approx(0.5787053498083599)
    assert adjusted_mutual_information(one, one + 7) == pytest.approx(1.0)
    unrelated = np.random.default_rng(4).integers(0, 4, 60)
    assert abs(adjusted_mutual_information(one, unrelated)) < 0.1
