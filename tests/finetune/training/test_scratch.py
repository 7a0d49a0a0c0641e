"""What a network from scratch is given: its start, its dense targets, its optimizer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.models.model import new_base
from finetune.scenes import LABELS, SceneGenerator
from finetune.training.dense import CELLS, DenseHead, dense_loss, dense_targets
from finetune.training.initialisation import attention_views, mimic_attention, whiten_patches
from finetune.training.learner import EncoderFirst
from finetune.training.loop import hold_then_fall
from finetune.training.optimizer import MuonAdamW, split_parameters
from serving.families.parcelseg import sine_positions
from tests.finetune.training.test_training import TINY, TINY_OF
from tests.scale import scaled

EOMT = TINY_OF["eomt"]


def scene_pixels(count: int = 40, size: int = 64) -> torch.Tensor:
    generator = SceneGenerator(size=size, seed=3)
    pictures = np.stack([generator.scene(k).image for k in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 128 - 1


@pytest.mark.slow
def test_whitened_patches_are_uncorrelated():
    layer = new_base(TINY, LABELS).patch_embedding
    pixels = scene_pixels()
    raw = layer(pixels).flatten(2).transpose(1, 2).flatten(0, 1).detach()
    whiten_patches(layer, pixels, damping=1e-6)
    white = layer(pixels).flatten(2).transpose(1, 2).flatten(0, 1).detach()
    spread = torch.cov(white.T)
    torch.testing.assert_close(spread, torch.eye(len(spread)), atol=0.05, rtol=0)
    assert white.mean(0).abs().max() < 0.01
    assert not torch.allclose(torch.cov(raw.T), torch.eye(len(spread)), atol=0.3), "it was not so before"


@pytest.mark.parametrize("family", ["parcelseg", "eomt"])
def test_mimetic_attention_looks_at_its_own_place_first(family):
    def own_share(seed: int, mimic: bool) -> float:
        model = new_base(TINY_OF[family], LABELS, seed=seed)
        views = [attention_views(layer.attention) for layer in model.layers]
        if mimic:
            mimic_attention(views, seed=seed)
        tokens = F.layer_norm(sine_positions(4, 32), (32,))
        head = 32 // views[0].heads
        query, key = (tokens @ w[:head].T.detach() for w in (views[0].query, views[0].key))
        return (query @ key.T * head**-0.5).softmax(-1).diagonal().mean().item()

    assert np.mean([own_share(s, True) for s in range(4)]) > 1.5 * np.mean([own_share(s, False) for s in range(4)])


@pytest.mark.slow
@settings(max_examples=scaled(15, 200), deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 31)] * 4, st.integers(0, 4)), max_size=5))
def test_every_cell_s_distances_add_up_to_its_instance_s_box(rectangles):
    ids = torch.zeros(32, 32, dtype=torch.int64)
    for number, (a, b, c, d, _) in enumerate(rectangles, start=1):
        ids[min(a, b) : max(a, b) + 1, min(c, d) : max(c, d) + 1] = number
    seen = [k for k in range(1, len(rectangles) + 1) if (ids == k).any()]
    masks = torch.stack([(ids == k).float() for k in seen]) if seen else torch.zeros(0, 32, 32)
    classes = torch.tensor([rectangles[k - 1][4] for k in seen], dtype=torch.int64)
    targets = dense_targets([masks], [classes], cells=16, background=5)
    assert (targets.boxes >= 0).all()
    for y in range(16):
        for x in range(16):
            owner = int(ids[2 * y + 1, 2 * x + 1])
            if owner == 0:
                assert targets.classes[0, y, x] == 5
                continue
            assert targets.classes[0, y, x] == rectangles[owner - 1][4]
            rows, columns = torch.nonzero(ids == owner, as_tuple=True)
            left, top, right, bottom = targets.boxes[0, y, x] * 32
            assert left + right == pytest.approx(float(columns.max() + 1 - columns.min()), abs=1e-3)
            assert top + bottom == pytest.approx(float(rows.max() + 1 - rows.min()), abs=1e-3)


def test_a_perfect_dense_answer_costs_nothing():
    masks = torch.zeros(2, 32, 32)
    masks[0, 4:20, 2:12], masks[1, 10:30, 16:28] = 1, 1
    targets = dense_targets([masks], [torch.tensor([1, 3])], cells=16, background=5)
    scores = 30.0 * F.one_hot(targets.classes, 6).float()
    distances = torch.log(torch.expm1(targets.boxes.clamp(min=1e-4)))
    assert dense_loss(torch.cat([scores, distances], -1), targets) < 0.01
    worse = torch.cat([scores, distances + 1], -1)
    assert dense_loss(worse, targets) > 0.5


def test_a_picture_without_packages_still_teaches():
    head = DenseHead(8, 5)
    tokens = torch.randn(1, 16, 8, requires_grad=True)
    targets = dense_targets([torch.zeros(0, 32, 32)], [torch.zeros(0, dtype=torch.int64)], cells=16, background=5)
    dense_loss(head(tokens), targets).backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()
    assert tokens.grad.abs().sum() > 0


def test_cells_lie_where_their_patch_lies():
    head = DenseHead(4, 1)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.weight[:, 0] = 1
    tokens = torch.zeros(1, 9, 4)
    tokens[0, 5, 0] = 1  # second row, third column
    lit = head(tokens)[0, :, :, 0] > 0.5
    assert lit[CELLS : 2 * CELLS, 2 * CELLS :].all()
    assert lit.sum() == CELLS * CELLS


def test_the_encoder_learns_alone_first():
    learner = EncoderFirst(new_base(EOMT, LABELS))
    masks = torch.zeros(1, 32, 32)
    masks[0, 8:20, 8:20] = 1
    batch = {"pixel_values": scene_pixels(1), "mask_labels": [masks], "class_labels": [torch.tensor([0])]}
    learner.train()
    learner.stage(0.1)
    learner(**batch)["loss"].backward()
    moved = {n for n, p in learner.named_parameters() if p.grad is not None}
    assert "model.layers.0.mlp.fc1.weight" in moved
    assert "model.query.weight" not in moved
    learner.stage(0.5)
    learner(**batch)["loss"].backward()
    assert {n for n, p in learner.named_parameters() if p.grad is None} <= {"model.embeddings.mask_token"}


def test_the_optimizer_goes_on_where_it_stopped():
    def steps(model, optimizer, count, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.randn(6, 8, generator=generator)).square().mean().backward()
            optimizer.step()

    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
        inner, others = split_parameters(model, "0.")
        assert [p.shape for p in inner] == [(8, 8)]
        assert len(others) == 3
        return model, MuonAdamW(inner, others, muon_rate=0.02, adam_rate=1e-2, weight_decay=0.1)

    whole, optimizer = fresh()
    steps(whole, optimizer, 3, 1)
    kept = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    steps(whole, optimizer, 3, 2)
    again, other = fresh()
    again.load_state_dict(kept[0])
    other.load_state_dict(kept[1])
    steps(again, other, 3, 2)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


def test_a_schedule_reaches_both_parts():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    inner, others = split_parameters(model, "0.")
    optimizer = MuonAdamW(inner, others, muon_rate=0.02, adam_rate=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    optimizer.step()
    schedule.step()
    rates = sorted(group["lr"] for part in optimizer.parts for group in part.param_groups)
    assert rates == [pytest.approx(0.005), pytest.approx(0.01)]


def test_the_long_schedule_holds_then_falls():
    values = [hold_then_fall(p) for p in np.linspace(0, 1, 201)]
    assert values[20:100] == [1.0] * 80
    assert values[100:] == sorted(values[100:], reverse=True)
    assert values[-1] == pytest.approx(0.005)
