"""Training on merged weights is PEFT's LoRA: the same answers, the same gradients, the same files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from finetune.training.merged_convs import train_merged


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.GELU(), nn.Conv2d(8, 6, (1, 3)), nn.Flatten(), nn.Linear(6 * 4 * 2, 5)
    )
    return nn.ModuleDict({"body": layers})


def adapted(**lora: object) -> PeftModel:
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["body.0", "body.2", "body.4"], **lora)
    torch.manual_seed(1)
    model = get_peft_model(net(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
    return model


def said(model: PeftModel, x: torch.Tensor) -> torch.Tensor:
    return model.base_model.model["body"](x)


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}])
def test_answers_gradients_and_files_are_pefts(lora: dict[str, bool], tmp_path: Path) -> None:
    theirs, ours = adapted(**lora), adapted(**lora)
    assert train_merged(ours) == 2, "both convolutions, and no linear layer"
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(said(ours, x), said(theirs, x), atol=1e-5, rtol=1e-5)
    for model in (theirs, ours):
        said(model, x).square().sum().backward()
    wanted = dict(theirs.named_parameters())
    moved = 0
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            moved += 1
            torch.testing.assert_close(parameter.grad, wanted[name].grad, atol=1e-3, rtol=1e-3)
        else:
            assert parameter.grad is None
    assert moved == 6
    for name, model in (("theirs", theirs), ("ours", ours)):
        model.save_pretrained(tmp_path / name)
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_base_alone_can_still_be_asked() -> None:
    model = adapted()
    train_merged(model)
    x = torch.randn(2, 3, 8, 8)
    with model.disable_adapter():
        torch.testing.assert_close(said(model, x), net()["body"](x))
    merged = model.merge_and_unload()
    again = adapted()
    torch.testing.assert_close(merged["body"](x), said(again, x), atol=1e-4, rtol=1e-4)
