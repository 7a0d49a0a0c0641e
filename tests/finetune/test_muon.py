"""Muon against the library's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetune.training import muon
from finetune.training.muon import Muon, orthogonal

COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(12, 48), (48, 12), (16, 16)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_the_librarys(shape: tuple[int, int], nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "quick_bfloat16", lambda: True)
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.zeros(shape))
    theirs.data.copy_(ours.data)
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    one, other = Muon([ours], **settings), torch.optim.Muon([theirs], **settings)
    for _ in range(4):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    state, reference = one.state_dict()["state"][0], other.state_dict()["state"][0]
    assert state.keys() == reference.keys(), "a checkpoint of the library's goes on with ours"
    torch.testing.assert_close(state["momentum_buffer"], reference["momentum_buffer"])


@pytest.mark.parametrize("quick", [True, False])
def test_products_are_in_the_type_that_the_machine_is_quick_in(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "quick_bfloat16", lambda: quick)
    torch.manual_seed(1)
    update = torch.randn(24, 96)
    made = orthogonal(update, COEFFICIENTS, 5, 1e-7)
    dtype = torch.bfloat16 if quick else torch.float32
    assert made.dtype == torch.float32
    assert torch.equal(made, orthogonal(update, COEFFICIENTS, 5, 1e-7, dtype))
    assert torch.linalg.svdvals(made).min() > 0.6
    assert torch.linalg.svdvals(made).max() < 1.3
    other = orthogonal(update, COEFFICIENTS, 5, 1e-7, torch.float32 if quick else torch.bfloat16)
    torch.testing.assert_close(made, other, atol=0.03, rtol=0.1)
    assert not torch.equal(made, other)


def test_what_has_no_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = Muon([weight], lr=0.1)
    assert optimizer.step(lambda: 2.0) == 2.0
    assert torch.equal(weight, torch.ones(2, 3))
