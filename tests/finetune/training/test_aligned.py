"""The loss of ParcelSeg: who answers for what, and what an answer costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.training.aligned import CELLS_EACH, aligned_loss, assign, box_overlap, mask_boxes
from serving.families.parcelseg import Dense, cell_middles
from tests.scale import scaled

SIDE, FINE, CLASSES, PROTOTYPES = 8, 32, 4, 6


def rectangles(boxes: list[tuple[int, int, int, int]]) -> torch.Tensor:
    """Disjoint masks [N, FINE, FINE]: later rectangles lie on top; those wholly covered are left out."""
    ids = torch.zeros(FINE, FINE, dtype=torch.int64)
    for number, (a, b, c, d) in enumerate(boxes, start=1):
        ids[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = number
    seen = [(ids == k).float() for k in range(1, len(boxes) + 1) if (ids == k).any()]
    return torch.stack(seen) if seen else torch.zeros(0, FINE, FINE)


def random_dense(seed: int, count: int = 1) -> Dense:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    reach = draw(count, SIDE * SIDE, 4).abs() * 0.2
    middle = cell_middles(SIDE)
    boxes = torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], -1)
    return Dense(
        draw(count, SIDE * SIDE, CLASSES), boxes, draw(count, SIDE * SIDE, PROTOTYPES), draw(count, 16, 16, PROTOTYPES)
    )


corner = st.tuples(*[st.integers(0, FINE - 1)] * 4)


@settings(max_examples=scaled(20, 400), deadline=None)
@given(st.lists(corner, min_size=1, max_size=6), st.integers(0, 50))
def test_every_instance_that_is_seen_can_be_answered_for(boxes, seed):
    masks = rectangles(boxes)
    classes = torch.arange(len(masks)) % CLASSES
    dense = random_dense(seed)
    chosen = assign(dense.logits[0], dense.boxes[0], masks, classes, mask_boxes(masks), SIDE)
    assert len(chosen.cells) == len(chosen.cells.unique()), "a cell answers for one instance"
    assert len(chosen.cells) == len(chosen.owner) == len(chosen.quality)
    assert ((chosen.quality > 0) & (chosen.quality <= 1)).all()
    cover = torch.nn.functional.avg_pool2d(masks[None], FINE // SIDE)[0].flatten(1)
    for number in range(len(masks)):
        own = chosen.cells[chosen.owner == number]
        assert len(own) <= CELLS_EACH
        if (cover[number] >= 0.5).any():
            # Masks being disjoint, only a cell that two halve can be lost to another instance.
            assert len(own) >= 1 or (cover[number] == 0.5).any()
            assert (cover[number, own] >= 0.5).all()
        else:
            assert (own == cover[number].argmax()).all(), "a sliver has its fullest cell or none"


@settings(max_examples=scaled(20, 400), deadline=None)
@given(corner, corner)
def test_overlap_is_that_of_the_pixels(one, other):
    masks = torch.zeros(2, FINE, FINE)
    for mask, (a, b, c, d) in zip(masks, (one, other), strict=True):
        mask[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = 1
    first, second = mask_boxes(masks)
    iou, giou = box_overlap(first, second)
    both, either = (masks[0] * masks[1]).sum(), masks.amax(0).sum()
    assert float(iou) == pytest.approx(float(both / either), abs=1e-5)
    assert -1 <= float(giou) <= float(iou) + 1e-6
    assert float(box_overlap(first, first)[1]) == pytest.approx(1.0, abs=1e-5)


def perfect(masks: torch.Tensor, classes: torch.Tensor) -> Dense:
    """What a network that knows everything would say: each covered cell names its instance, box and outline."""
    cover = torch.nn.functional.avg_pool2d(masks[None], FINE // SIDE)[0].flatten(1)
    owner, sure = cover.argmax(0), cover.amax(0) >= 0.5
    boxes = mask_boxes(masks)[owner]
    chosen = assign(torch.zeros(SIDE * SIDE, CLASSES), boxes, masks, classes, mask_boxes(masks), SIDE)
    logits = torch.full((SIDE * SIDE, CLASSES), -20.0)
    logits[chosen.cells, classes[chosen.owner]] = 20.0
    assert sure[chosen.cells].all()
    coefficients = torch.nn.functional.one_hot(owner, PROTOTYPES).float()
    fine = torch.nn.functional.avg_pool2d(masks[None], FINE // 16)[0]
    prototypes = torch.zeros(16, 16, PROTOTYPES)
    prototypes[..., : len(masks)] = (fine.permute(1, 2, 0) - 0.5) * 60
    return Dense(logits[None], boxes[None], coefficients[None], prototypes[None])


def test_knowing_everything_costs_next_to_nothing_and_each_mistake_costs():
    masks = rectangles([(0, 15, 0, 15), (16, 31, 0, 15), (0, 23, 20, 31)])
    classes = torch.tensor([0, 2, 3])
    known = perfect(masks, classes)

    def cost(dense: Dense) -> dict[str, float]:
        return {name: float(part) for name, part in aligned_loss(dense, [masks], [classes]).items()}

    right = cost(known)
    assert sum(right.values()) < 0.1
    wrong_class = Dense(known.logits.roll(1, -1), known.boxes, known.coefficients, known.prototypes)
    assert cost(wrong_class)["class"] > right["class"] + 1
    wrong_box = Dense(known.logits, known.boxes * 0.8, known.coefficients, known.prototypes)
    assert cost(wrong_box)["box"] > right["box"] + 0.05
    assert cost(wrong_box)["distance"] > right["distance"] + 0.05
    wrong_outline = Dense(known.logits, known.boxes, known.coefficients, -known.prototypes)
    assert cost(wrong_outline)["mask"] > right["mask"] + 1
    assert cost(wrong_outline)["dice"] > right["dice"] + 0.5


def test_pictures_without_packages_teach_the_background_only():
    dense = random_dense(1, count=2)
    empty = torch.zeros(0, FINE, FINE)
    invisible = torch.zeros(1, FINE, FINE)
    parts = aligned_loss(dense, [empty, invisible], [torch.zeros(0, dtype=torch.int64), torch.tensor([1])])
    assert set(parts) == {"class"}
    assert torch.isfinite(parts["class"])
    parts["class"].backward()


def test_gradients_are_finite_and_reach_every_part():
    generator = np.random.default_rng(0)
    for seed in range(5):
        dense = random_dense(seed, count=2)
        masks = [rectangles([tuple(generator.integers(0, FINE, 4)) for _ in range(5)]) for _ in range(2)]
        classes = [torch.arange(len(m)) % CLASSES for m in masks]
        leaves = (dense.logits, dense.coefficients, dense.prototypes)
        parts = aligned_loss(dense, masks, classes)
        grads = torch.autograd.grad(torch.stack(list(parts.values())).sum(), leaves)
        for grad in grads:
            assert torch.isfinite(grad).all()
            assert grad.abs().sum() > 0
