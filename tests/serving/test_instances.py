from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from serving.errors import InstancesError
from serving.instances import Instances, boxes_of, encode_masks, encode_windows
from tests.scale import scaled

stacks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))


@settings(max_examples=scaled(25, 500), deadline=None)
@given(stacks)
def test_masks_survive_rle(masks: np.ndarray) -> None:
    instances = Instances.from_masks(masks, ["box"] * len(masks))
    assert np.array_equal(instances.decode_masks(), masks)
    assert np.array_equal(instances.areas(), masks.sum((1, 2)))
    expected = coco_mask.toBbox(instances.rles())
    expected[:, 2:] += expected[:, :2]
    filled = masks.any((1, 2))
    assert np.array_equal(instances.boxes[filled], expected[filled])
    assert not instances.boxes[~filled].any()


@settings(max_examples=scaled(50, 1000), deadline=None)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)),
    st.tuples(*[st.integers(0, 3)] * 4),
)
def test_window_rle_is_the_rle_of_the_full_mask(window: np.ndarray, margins: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = margins
    full = np.pad(window, ((top, bottom), (left, right)))
    assert encode_windows([(window, left, top)], *full.shape) == encode_masks(full[None])


def test_filter_take_and_empty() -> None:
    masks = np.zeros((3, 4, 5), np.bool_)
    masks[:, 1:3, 2:4] = True
    instances = Instances.from_masks(masks, ["a", "b", "c"], [0.9, 0.2, 0.5])
    assert instances.boxes[0].tolist() == [2, 1, 4, 3]
    assert instances.filter(0.5).labels == ("a", "c")
    assert instances.take([2, 0]).scores.tolist() == [0.5, np.float32(0.9)]
    assert len(instances.filter(0.95)) == 0
    assert instances.filter(0.95) == Instances.empty(4, 5)
    assert Instances.empty(4, 5).decode_masks().shape == (0, 4, 5)
    assert boxes_of(np.zeros((0, 4, 5), np.bool_)).shape == (0, 4)


def test_arrays_are_read_only_but_the_callers_are_not() -> None:
    scores = np.ones(0, np.float32)
    instances = Instances(2, 2, np.zeros((0, 4), np.float32), scores, (), ())
    assert scores.flags.writeable
    assert not instances.scores.flags.writeable


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 0}, "not positive"),
        ({"boxes": np.zeros((1, 4), np.float64)}, "boxes must be float32"),
        ({"scores": np.zeros(2, np.float32)}, "scores must be float32"),
        ({"masks": ()}, "0 masks for 1 labels"),
        ({"scores": np.array([np.nan], np.float32)}, "finite"),
    ],
)
def test_refuses_what_does_not_fit_together(change: dict[str, object], sentence: str) -> None:
    good: dict[str, object] = {
        "height": 2,
        "width": 2,
        "boxes": np.zeros((1, 4), np.float32),
        "scores": np.ones(1, np.float32),
        "labels": ("box",),
        "masks": (b"4",),
    }
    with pytest.raises(InstancesError, match=sentence):
        Instances(**(good | change))  # type: ignore[arg-type]
