"""Checkpoints as their own libraries write them become bases."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from finetune.errors import BaseModelError
from finetune.models.model import architecture_name, load_base, new_base
from finetune.models.seed import fetch_checkpoint, seed_base
from serving.inference.preprocess import preprocessor_config
from serving.inference.segmenter import Segmenter
from tests.finetune.training.test_training import TINY_OF

THEIRS = ("person", "suitcase", "handbag", "Box", "truck")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One small checkpoint of each family, saved by the library's own class, with classes of another world."""
    made = {}
    for family, architecture in TINY_OF.items():
        folder = tmp_path_factory.mktemp(family)
        model = new_base(replace(architecture, spare_labels=0), THEIRS)
        model.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config["architectures"] = [architecture_name(model)]
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(64)))
        made[family] = folder
    return made


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY_OF)
def test_every_family_becomes_a_base_that_serves(family, checkpoints, tmp_path):
    found = seed_base(checkpoints[family], tmp_path / "base", class_map={"poly_bag": "handbag"}, spare_labels=4)
    assert found.family == family
    assert found.mapped == {"poly_bag": "handbag", "box": "Box"}, "equal names are mapped without being told"
    base, origin = load_base(tmp_path / "base"), load_base(checkpoints[family])
    labels = {name: k for k, name in base.labels.items()}
    assert "reserved_3" in labels
    if family != "mask_rcnn":
        pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            ours, theirs = base.answer(pixels), origin.answer(pixels)
        if family in ("eomt", "mask2former"):
            torch.testing.assert_close(ours.masks, theirs.masks, atol=0.1, rtol=0.05)
        assert ours.scores[..., labels["box"]].max() > 0
    Segmenter.load(tmp_path / "base", device="cpu").segment([torch.zeros(80, 60, 3, dtype=torch.uint8).numpy()])
    assert AutoConfig.from_pretrained(tmp_path / "base").model_type == family
    assert "handbag" in (tmp_path / "base" / "README.md").read_text()


def test_a_mapped_row_is_the_checkpoint_s(checkpoints, tmp_path):
    seed_base(checkpoints["eomt"], tmp_path / "base", class_map={"sack": "truck"})
    ours, theirs = (load_base(f).class_predictor for f in (tmp_path / "base", checkpoints["eomt"]))
    index = {name: k for k, name in load_base(tmp_path / "base").labels.items()}
    torch.testing.assert_close(ours.weight[index["sack"]], theirs.weight[4], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours.weight[-1], theirs.weight[-1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("spoil", "options", "words"),
    [
        (lambda f: (f / "model.safetensors").unlink(), {}, "model.safetensors: missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), {}, "not valid safetensors"),
        (lambda f: (f / "config.json").write_text('{"model_type": "yolos"}'), {}, "'yolos'"),
        (lambda f: None, {"class_map": {"box": "walrus"}}, "'walrus'"),
        (lambda f: None, {"class_map": {"walrus": "truck"}}, "'walrus'"),
        (lambda f: None, {"labels": ("cylinder",)}, "none of its classes is mapped"),
        (lambda f: None, {"image_size": 40}, "takes no 40 x 40"),
        (lambda f: (f / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}'), {}, "image_mean"),
        (lambda f: (f / "preprocessor_config.json").write_text("[]"), {}, "not a preprocessor config"),
    ],
)
def test_what_cannot_be_a_base_is_named(spoil, options, words, checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["parcelseg"], tmp_path / "checkpoint")
    spoil(folder)
    with pytest.raises(BaseModelError, match=words):
        seed_base(folder, tmp_path / "base", **options)
    assert not (tmp_path / "base").exists(), "nothing is written"


def test_an_untrained_head_is_allowed_when_asked_for(checkpoints, tmp_path):
    found = seed_base(checkpoints["parcelseg"], tmp_path / "base", labels=("cylinder",), new_head=True)
    assert found.fresh == ("cylinder",)
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        assert load_base(tmp_path / "base").answer(pixels).scores.max() < 0.2, "it claims nothing"


def test_a_source_that_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseModelError, match=r"cannot be fetched|neither"):
        fetch_checkpoint("no-such-org/no-such-model", tmp_path)
    with pytest.raises(BaseModelError, match="neither"):
        fetch_checkpoint("not a name", tmp_path)
