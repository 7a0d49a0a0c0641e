"""Boxes without masks: they teach class and extent, and say nothing about the outline."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from finetune.training.aligned import aligned_loss
from finetune.training.augment import AugmentedExamples, Source, paste
from finetune.training.boxonly import extents, projection_loss
from finetune.training.examples import Example, collate
from serving.families.parcelseg import Dense, cell_middles

SIDE = 16


def box(x0: int, y0: int, x1: int, y1: int, side: int = SIDE) -> Tensor:
    mask = torch.zeros(side, side)
    mask[y0:y1, x0:x1] = 1
    return mask


def logits(mask: Tensor) -> Tensor:
    return mask * 24 - 12


def diamond(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    """A mask that touches all four sides of its box and leaves its corners free."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    cx, cy, rx, ry = (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    return (((columns - cx).abs() / rx + (rows - cy).abs() / ry) <= 1).float()


def test_any_mask_that_reaches_the_boxs_sides_is_right() -> None:
    target = box(3, 2, 12, 11)[None]
    filled = projection_loss(logits(target), target)
    other = projection_loss(logits(diamond(3, 2, 12, 11))[None], target)
    assert filled.item() < 1e-3
    assert other.item() < 0.02, "the outline inside the box is nobody's business"
    short = projection_loss(logits(box(3, 2, 8, 11))[None], target)
    beyond = projection_loss(logits(box(3, 2, 15, 14))[None], target)
    assert min(short.item(), beyond.item()) > 0.08


def test_the_loss_pulls_at_the_extent_and_leaves_the_inside_alone() -> None:
    target = box(4, 4, 12, 12)[None]
    predicted = logits(diamond(4, 4, 12, 12))[None].clone().requires_grad_()
    projection_loss(predicted, target).sum().backward()
    gradient = predicted.grad
    assert gradient is not None
    corner = gradient[0, 4, 4].abs()  # in the box, outside the mask
    assert corner < 1e-4


def test_coarser_grids_count_every_cell_that_a_box_touches() -> None:
    fine = box(3, 0, 5, 32, side=32)[None]
    coarse = extents(fine, 8, 8)
    assert coarse.shape == (1, 16)
    assert coarse[0, :8].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert coarse[0, 8:].tolist() == [1] * 8


def test_a_box_is_learnt_and_its_corners_stay_free() -> None:
    """From a seed in its middle a mask grows to its box's sides; the corners are never asked for."""
    target = box(3, 3, 13, 13)[None]
    predicted = torch.full((1, SIDE, SIDE), -2.0)
    predicted[0, 8, 3:6] = predicted[0, 3:6, 8] = 0.0
    cross = predicted.clone()
    cross[0, 8, 3:13] = cross[0, 3:13, 8] = -0.5  # a cross through the middle is the likeliest shape so far
    cross.requires_grad_()
    optimizer = torch.optim.SGD([cross], lr=4.0)
    for _ in range(200):
        optimizer.zero_grad()
        projection_loss(cross, target).sum().backward()
        optimizer.step()
    assert projection_loss(cross, target).item() < 0.1
    assert (cross[0, 3:5, 3:5] < 0).all()


def test_in_the_loss_a_box_teaches_class_and_box_and_no_pixel_of_an_outline() -> None:
    """Gradients reach the prototypes at the few places where a projection has its maximum, not all over the box."""
    torch.manual_seed(0)
    middle = cell_middles(8)
    dense = Dense(
        torch.randn(1, 64, 3, requires_grad=True),
        torch.cat([middle - 0.2, middle + 0.2], -1)[None].requires_grad_(),
        torch.randn(1, 64, 4, requires_grad=True),
        torch.randn(1, SIDE, SIDE, 4, requires_grad=True),
    )
    masks, classes = box(2, 2, 14, 14)[None], torch.tensor([1])
    reached = {}
    for boxed in (False, True):
        parts = aligned_loss(dense, [masks], [classes], [torch.tensor([boxed])])
        outline = parts["mask"] + parts["dice"]
        (gradient,) = torch.autograd.grad(outline, dense.prototypes, retain_graph=True)
        reached[boxed] = int((gradient.abs().sum(-1) > 1e-7).sum())
        assert parts["mask"].item() > 0 or boxed
        for name, leaf in (("class", dense.logits), ("box", dense.boxes)):
            assert torch.autograd.grad(parts[name], leaf, retain_graph=True)[0].abs().sum() > 0
    assert reached[False] >= 12 * 12, "an outline is judged everywhere in and around its box"
    assert reached[True] < reached[False]
    assert parts["mask"].item() == 0, "no pixel is said to be inside or outside"


def sources() -> list[Source]:
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 64, 64), np.bool_)
    masks[0, 4:30, 4:30], masks[1, 34:60, 20:60] = True, True
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    boxed = Source(pixels, masks, np.array([0, 1]), np.array([True, False]))
    return [boxed, Source(pixels, masks, np.array([2, 2]))]


def test_which_instances_are_boxes_survives_augmentation_and_boxes_stay_upright() -> None:
    examples = AugmentedExamples(sources(), size=64, count=80, seed=0)
    seen = 0
    for k in range(80):
        example = examples[k]
        told = example.box_only if example.box_only is not None else np.zeros(len(example.classes), np.bool_)
        assert len(told) == len(example.classes)
        # Class 0 is the one with a box alone.
        assert (told == (example.classes == 0)).all()
        for mask in example.masks[told]:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            filled = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
            # What is pasted on top may cut a piece out of it.
            seen += filled > 0.99
    assert seen > 10
    for _ in range(20):
        pasted = paste(sources()[1], sources()[0], np.random.default_rng(1))
        assert 0 not in pasted.classes, "an instance without an outline cannot be cut out"


def test_a_batch_names_its_boxes_only_if_there_are_any() -> None:
    plain = Example(np.zeros((8, 8, 3), np.uint8), np.zeros((1, 4, 4), np.bool_), np.zeros(1, np.int64))
    boxed = Example(plain.pixels, plain.masks, plain.classes, np.array([True]))
    assert "box_only" not in collate([plain, plain])
    assert [b.tolist() for b in collate([plain, boxed])["box_only"]] == [[False], [True]]
