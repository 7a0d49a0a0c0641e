"""Why a pick failed: each rule on the smallest view that shows it; and looks that come back to where they were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from serving.instances import Instances
from serving.observed.failures import CameraFault, Pick, judge
from serving.observed.second_looks import VIEWS, Look, look_again, unmoved

Box = tuple[int, int, int, int]
SHAPE = (120, 160)


def found(*boxes: Box, labels: Sequence[str] = (), scores: Sequence[float] = ()) -> Instances:
    masks = np.zeros((len(boxes), *SHAPE), np.bool_)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        masks[number, y0:y1, x0:x1] = True
    return Instances.from_masks(masks, labels or ["box"] * len(boxes), scores or [0.9] * len(boxes))


def looks(*answers: Instances) -> list[Look]:
    return [Look(f"look {number}", one) for number, one in enumerate(answers)]


LEFT, RIGHT, BOTH = (20, 20, 70, 90), (74, 20, 124, 90), (20, 20, 124, 90)
HALF, REST = (20, 20, 45, 90), (46, 20, 70, 90)
FAR = (140, 100, 155, 115)


def verdict(
    answer: Instances, others: list[Look], outcome: str = "drop", instance: int | None = 0, **said: object
) -> str:
    return judge(answer, Pick(outcome, instance, **said), others).verdict  # type: ignore[arg-type]


def test_votes_of_other_looks() -> None:
    two, one = found(LEFT, RIGHT), found(BOTH)
    assert verdict(one, looks(two, two, one)) == "merged"
    assert verdict(one, looks(two, one, one, one, one)) == "not_vision", "one look of five is no vote"
    assert verdict(one, looks(two, one, one, one, one), "multi_pick") == "merged", "but with several taken it is"
    halves = found(HALF, REST, RIGHT)
    assert verdict(halves, looks(two, two, halves)) == "split"
    assert verdict(found(HALF, RIGHT), looks(two, two, two)) == "loose_edge", "nothing has the rest"
    assert verdict(found((20, 20, 90, 110)), looks(found(LEFT), found(LEFT))) == "loose_edge"
    assert verdict(found(FAR), looks(found(LEFT), found(LEFT), found(LEFT))) == "false_package"
    assert verdict(found(LEFT), looks(Instances.empty(*SHAPE), Instances.empty(*SHAPE))) == "false_package"
    bags = found(LEFT, RIGHT, labels=["bag", "box"])
    assert verdict(two, looks(bags, bags, two)) == "wrong_class"
    assert verdict(two, looks(bags, two, two, two, two)) == "not_vision"
    assert verdict(two, looks(bags, two, two, two, two), "wrong_item") == "wrong_class"
    assert verdict(two, looks(two, two, two)) == "not_vision"
    assert verdict(two, looks(two)) == "cannot_tell", "one look is no evidence"
    assert verdict(two, []) == "cannot_tell"


def test_a_split_is_one_where_the_parts_are_the_whole() -> None:
    halves, two = found(HALF, REST, RIGHT), found(LEFT, RIGHT)
    both_and_part = found(LEFT, HALF, RIGHT)  # the look has the package and its part
    assert verdict(halves, looks(both_and_part, both_and_part, halves)) == "split"
    small, crumb = (20, 20, 40, 45), (60, 80, 70, 90)
    loose = found((20, 20, 50, 80), crumb, RIGHT)
    assert verdict(loose, looks(two, two, loose)) == "loose_edge", "a crumb is no other half"
    base = [Look("the base", found((20, 20, 124, 110)), again=False)] * 2
    assert verdict(found(small, RIGHT), [*looks(found(small, RIGHT)), *base]) != "split", "the base joins what is apart"
    by_base = [Look("the base", two, again=False)] * 2
    assert verdict(halves, [*looks(halves, halves), *by_base]) == "split", "the whole by another model counts"


def test_what_the_pick_brought_says_more_than_an_edge_or_a_class_that_is_in_doubt() -> None:
    one, other, moved = found(LEFT), found(LEFT, labels=["bag"]), found((20, 20, 70, 60))
    assert verdict(one, looks(other, other), "multi_pick") == "merged"
    assert verdict(one, looks(moved, moved), "multi_pick") == "merged"
    assert verdict(one, looks(moved, moved), "wrong_item") == "wrong_class"
    assert verdict(one, looks(other, other)) == "wrong_class" and verdict(one, looks(moved, moved)) == "loose_edge"


def test_a_class_that_is_another_one_each_time_is_as_wrong_as_one_that_is_always_the_same() -> None:
    one = found(LEFT)
    bag, roll = found(LEFT, labels=["bag"]), found(LEFT, labels=["cylinder"])
    made = judge(one, Pick("drop", 0), looks(bag, bag, roll, one, one))
    assert made.verdict == "wrong_class" and made.evidence[0].numbers["share"] == 0.6
    assert verdict(one, looks(bag, roll, one, one, one)) == "not_vision"


def test_what_the_robot_says_counts() -> None:
    two = found(LEFT, RIGHT, labels=["box", "bag"])
    agreed = looks(two, two, two)
    assert verdict(two, agreed, said_label="bag") == "wrong_class"
    assert verdict(two, agreed, said_label="box") == "not_vision"
    assert verdict(two, agreed, point=(30.0, 30.0)) == "not_vision"
    astray = judge(two, Pick("miss", 0, (155.0, 115.0)), agreed)
    assert astray.verdict == "not_vision"
    assert astray.evidence[0].numbers["pixels_outside"] > 50
    by_point = judge(two, Pick("drop", None, (100.0, 50.0)), agreed)
    assert by_point.verdict == "not_vision"
    assert "instance 1" in by_point.evidence[-1].text
    assert verdict(two, agreed, instance=None) == "cannot_tell"
    assert verdict(found(LEFT), looks(found(LEFT), found(LEFT)), instance=None) == "not_vision", "there is only one"


@pytest.mark.parametrize(
    ("instance", "point"),
    [
        (2, None),
        (99, None),
        (-1, None),
        (0, (161.0, 5.0)),
        (0, (5.0, 121.0)),
        (0, (-1.0, 5.0)),
        (0, (float("nan"), 1.0)),
    ],
)
def test_a_lie_cannot_be_told(instance: int, point: tuple[float, float] | None) -> None:
    two = found(LEFT, RIGHT)
    made = judge(two, Pick("miss", instance, point), looks(two, two, two))
    assert made.verdict == "cannot_tell"
    assert "says that it picked" in made.evidence[0].text


def test_missed_packages() -> None:
    one, two, none = found(LEFT), found(LEFT, RIGHT), Instances.empty(*SHAPE)
    at = (100.0, 50.0)
    assert verdict(one, looks(two, one, one, one), "miss", None, point=at) == "missed"
    assert verdict(one, looks(one, one, one), "miss", None, point=at) == "not_vision"
    assert verdict(one, looks(one, one), "drop", None, point=at, said_label="bag") == "missed"
    assert verdict(one, looks(one, one), "drop", None, point=at) == "cannot_tell"
    assert verdict(one, [], "miss", None, point=at) == "cannot_tell"
    assert verdict(none, looks(two, two), "miss", None) == "missed"
    assert verdict(none, looks(none, none), "miss", None) == "cannot_tell"
    faint = found(LEFT, RIGHT, scores=[0.9, 0.15])
    assert verdict(one, looks(faint, one), "miss", None, point=at) == "missed", "it was seen, but not surely"


def test_a_camera_at_fault_goes_before_all_and_frames_of_another_size_say_nothing() -> None:
    two = found(LEFT, RIGHT)
    made = judge(two, Pick("miss", 0), looks(two, two), camera=CameraFault("focus", "The lens is out of focus"))
    assert made.verdict == "camera_fault"
    assert "out of focus" in made.evidence[0].text
    other = Instances.from_masks(np.ones((1, 30, 30), np.bool_), ["box"])
    assert verdict(two, [*looks(two, two, two), Look("another", other)]) == "not_vision"


def test_large_frames_are_judged_as_small_ones() -> None:
    def large(*boxes: Box) -> Instances:
        masks = np.zeros((len(boxes), 960, 1280), np.bool_)
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            masks[number, 8 * y0 : 8 * y1, 8 * x0 : 8 * x1] = True
        return Instances.from_masks(masks, ["box"] * len(boxes))

    assert verdict(large(BOTH), looks(large(LEFT, RIGHT), large(LEFT, RIGHT))) == "merged"
    astray = judge(large(LEFT), Pick("miss", 0, (1200.0, 900.0)), [])
    assert 650 < astray.evidence[0].numbers["pixels_outside"] < 700


def test_a_look_comes_back_to_where_it_was() -> None:
    """An answer that follows the picture is the same through every view, up to what left the frame."""
    image = np.zeros((*SHAPE, 3), np.uint8)
    image[30:80, 40:110] = 255
    image[30:40, 40:50] = (255, 0, 0)

    def bright(frames: Sequence[npt.NDArray[np.uint8]]) -> list[Instances]:
        assert all(frame.shape == image.shape and frame.flags.c_contiguous for frame in frames)
        return [Instances.from_masks((frame.max(2) > 0)[None], ["box"]) for frame in frames]

    for look in look_again(image, bright, VIEWS):
        assert np.array_equal(look.instances.decode_masks()[0], image.max(2) > 0), look.name
    assert [len(look.instances) for look in look_again(image, lambda f: [Instances.empty(*SHAPE)] * len(f))] == [0] * 4
    tiny = np.zeros((3, 2, 3), np.uint8)
    assert all(view.of(tiny).shape == tiny.shape for view in VIEWS)


def test_the_same_scene_is_known_by_what_lies_around_the_pick() -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 255, (60, 80, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    again = (frame.astype(int) + rng.normal(0, 4, frame.shape)).clip(0, 255).astype(np.uint8)
    assert unmoved(frame, again, LEFT) > 0.9
    assert unmoved(frame, np.roll(frame, 24, axis=1), LEFT) < 0.5
    assert unmoved(frame, again[:-2], LEFT) == 0.0
    assert unmoved(np.zeros_like(frame), np.zeros_like(frame), LEFT) == 0.0, "nothing to compare"
    assert unmoved(frame, again, (300, 300, 320, 320)) == 0.0
