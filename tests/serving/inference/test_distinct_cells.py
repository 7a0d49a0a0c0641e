"""Which cells of a ParcelSeg get to answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from serving.families.parcelseg import SAME, ParcelSeg, box_areas, distinct_cells
from tests.scale import scaled
from tests.serving.conftest import CONFIGS


def crowd(instances: int, cells_each: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores [1, G], boxes [1, G, 4] and owners [G] of `cells_each` cells that say nearly the same for each instance;
    the first instances have all the best scores."""
    side = int(np.ceil(instances**0.5))
    generator = torch.Generator().manual_seed(0)
    owner = torch.arange(instances).repeat_interleave(cells_each)
    corner = torch.stack([owner % side, owner // side], 1) / side
    boxes = torch.cat([corner, corner + 0.9 / side], 1) + 0.01 / side * torch.rand(len(owner), 4, generator=generator)
    scores = -0.1 * owner + 0.05 * torch.rand(len(owner), generator=generator)
    return scores[None], boxes[None], owner


@pytest.mark.parametrize(("instances", "cells_each"), [(5, 12), (12, 12), (30, 10), (60, 5), (100, 3)])
def test_a_crowded_picture_is_answered_for_all_that_is_in_it(instances, cells_each):
    scores, boxes, owner = crowd(instances, cells_each)
    best = distinct_cells(scores, boxes, 100)[0]
    assert len(best) == min(100, len(owner))
    first = owner[best[:instances]]
    assert first.tolist() == list(range(instances)), "one cell each, the best instance first"
    for number, cell in enumerate(best[:instances]):
        assert scores[0, cell] == scores[0, owner == number].max()


def test_the_best_scores_alone_would_be_of_a_few_instances():
    scores, _, owner = crowd(30, 10)
    assert len(owner[scores[0].topk(100).indices].unique()) < 15


def test_where_too_few_are_left_the_next_best_come_behind():
    scores, boxes, _ = crowd(2, 10)
    best = distinct_cells(scores, boxes, 8)[0]
    assert len(best.unique()) == 8
    rest = scores[0, best[2:]]
    assert (rest.diff() <= 0).all()
    others = scores[0].clone()
    others[best[:2]] = -1e9
    assert rest.tolist() == others.topk(6).values.tolist()


numbers = st.floats(0, 1, width=32)


@settings(max_examples=scaled(25, 500), deadline=None)
@given(
    st.lists(
        st.tuples(numbers, numbers, numbers, numbers, st.integers(-64, 64)),
        min_size=1,
        max_size=30,
        unique_by=lambda cell: cell[-1],  # which of two equal scores comes first is nobody's promise
    )
)
def test_kept_cells_are_those_that_no_better_one_overlaps(cells):
    table = torch.tensor(cells, dtype=torch.float32)
    corner, far = torch.minimum(table[:, :2], table[:, 2:4]), torch.maximum(table[:, :2], table[:, 2:4]) + 0.01
    boxes, scores = torch.cat([corner, far], 1), table[:, 4] / 8
    both, total = box_areas(boxes[:, None], boxes[None])
    # In double precision: of nearly equal boxes float32 gives either answer at the threshold.
    wide = box_iou(boxes.double(), boxes.double())
    torch.testing.assert_close(both / (total - both), wide.float(), atol=1e-4, rtol=0)
    assume(not ((wide - SAME).abs() < 1e-3).any())
    ranked = scores.topk(len(scores)).indices.tolist()
    kept = [c for k, c in enumerate(ranked) if not any(wide[b, c] >= SAME for b in ranked[:k])]
    best = distinct_cells(scores[None], boxes[None], len(cells))[0].tolist()
    assert sorted(best) == list(range(len(cells)))
    assert best[: len(kept)] == kept


def test_pictures_of_a_batch_do_not_meet():
    first, second = crowd(12, 12), crowd(36, 4)
    scores, boxes = torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
    together = distinct_cells(scores, boxes, 50)
    for row, one in enumerate((first, second)):
        assert together[row].tolist() == distinct_cells(one[0], one[1], 50)[0].tolist()


def test_the_network_answers_with_distinct_cells():
    torch.manual_seed(0)
    network = ParcelSeg(CONFIGS["parcelseg"]()).eval()
    torch.nn.init.constant_(network.box_head.bias, 6.0)  # boxes so wide that neighbours say nearly the same
    pictures = torch.randn(2, 3, network.config.image_size, network.config.image_size)
    with torch.inference_mode():
        dense, said = network.dense(pictures), network(pictures)
    count = network.config.num_queries
    scores = dense.logits.amax(-1)
    best = distinct_cells(scores, dense.boxes, count)
    assert not torch.equal(best, scores.topk(count, dim=1).indices), "else the best scores would pass for them"
    torch.testing.assert_close(said.boxes, dense.boxes.gather(1, best[..., None].expand(-1, -1, 4)))
    for boxes in said.boxes:
        assert box_iou(boxes[:2], boxes[:2])[0, 1] < SAME
