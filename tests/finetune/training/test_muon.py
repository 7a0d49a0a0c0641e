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
    weight = nn.Parameter(torch.zeros(24, 96))
    weight.grad = torch.randn(24, 96)
    made = {dtype: orthogonal(weight.grad, COEFFICIENTS, 5, 1e-7, dtype) for dtype in (torch.bfloat16, torch.float32)}
    Muon([weight], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False).step()
    assert torch.equal(-weight.data, made[torch.bfloat16 if quick else torch.float32])
    assert not torch.equal(made[torch.bfloat16], made[torch.float32])
    torch.testing.assert_close(made[torch.bfloat16], made[torch.float32], atol=0.03, rtol=0.1)
    for values in map(torch.linalg.svdvals, made.values()):
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_what_has_no_gradient_stays() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.1, momentum=0.95)
    assert optimizer.step(lambda: 2.0) == 2.0
    assert torch.equal(weight, torch.ones(2, 3))
