"""Variants that look at pictures in another size than their base: read, grouped, answered, refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.errors import AdapterError
from serving.families.load import load_model
from serving.families.parcelseg import ParcelSeg
from serving.inference.adapter_files import VARIANT, WEIGHTS
from serving.inference.picture_sizes import MOST, PictureSizes
from serving.inference.segmenter import Segmenter, SegmentOptions
from tests.serving.conftest import SIZE, scene


def sized(folder, target, size):
    """A copy of a variant that names a size."""
    shutil.copytree(folder, target)
    document = json.loads((target / VARIANT).read_text())
    document["image_size"] = size
    (target / VARIANT).write_text(json.dumps(document))
    return target


def same(one, other):
    assert one.masks == other.masks
    assert one.labels == other.labels
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize("size", [32, 63, 65, MOST + 32, 0, -64, True, "128", 128.0, None, [128]])
def test_no_size(size, segmenter, variant_dirs, tmp_path):
    folder = sized(variant_dirs["north@v1"], tmp_path / "odd", size)
    with pytest.raises(AdapterError, match="image_size"):
        segmenter.add_variant("cell-a@v1", folder)
    assert not segmenter.has_variant("cell-a@v1")


def test_a_base_of_one_size_takes_no_other():
    sizes = PictureSizes(256)
    assert sizes.check(256) == 256
    with pytest.raises(ValueError, match="256 pixels alone"):
        sizes.check(320)


def test_the_own_size_may_be_one_that_no_other_is(segmenter):
    """A base from elsewhere has pictures of 1,000 pixels: its variants do too."""
    assert PictureSizes(1000, others=True).of({"image_size": 1000}) == 1000
    assert PictureSizes(1000, others=True).of({}) == 1000


def test_a_mixed_batch_answers_each_row_as_if_it_were_alone(segmenter, variant_dirs, tmp_path):
    """Sizes, variants and the base by turns."""
    segmenter.add_variant("cell-b@v1", sized(variant_dirs["south@v2"], tmp_path / "b", 2 * SIZE))
    segmenter.add_variant("cell-c@v1", sized(variant_dirs["north@v1"], tmp_path / "c", 3 * SIZE))
    variants = [None, "cell-b@v1", "north@v1", "cell-c@v1", None, "cell-b@v1", "south@v2"]
    images = [scene(seed=k) for k in range(len(variants))]
    orders = [SegmentOptions(variant, 0.0) for variant in variants]
    together = segmenter.answer(images, orders)
    for image, order, found in zip(images, orders, together, strict=True):
        (alone,) = segmenter.answer([image], [order])
        same(found, alone)
    assert len(together[0]) > 0


def test_the_size_decides_what_the_network_sees(segmenter, variant_dirs, tmp_path):
    folder = variant_dirs["north@v1"]
    segmenter.add_variant("cell-a@v1", folder)
    segmenter.add_variant("cell-a@v2", sized(folder, tmp_path / "fine", 2 * SIZE))
    assert [segmenter.size(name) for name in (None, "cell-a@v1", "cell-a@v2")] == [SIZE, SIZE, 2 * SIZE]
    said = [segmenter.predict([scene(seed=1)], [name]).masks.shape[-1] for name in ("cell-a@v1", "cell-a@v2")]
    assert said == [SIZE // 4, SIZE // 2]
    with pytest.raises(ValueError, match="one size"):
        segmenter.predict([scene(seed=1)] * 2, ["cell-a@v1", "cell-a@v2"])


def test_a_variant_at_twice_the_size_is_a_base_that_was_resized(base_dir, variant_dirs, tmp_path):
    """The same network, its positions interpolated once and for all: what the checkpoint's own resizing gives."""
    segmenter = Segmenter.load(base_dir, device="cpu")
    folder = sized(variant_dirs["north@v1"], tmp_path / "z", 2 * SIZE)
    weights = load_file(folder / WEIGHTS)
    save_file({name: one * (".lora_B." not in name) for name, one in weights.items()}, folder / WEIGHTS)
    segmenter.add_variant("cell-z@v1", folder)
    model = load_model(base_dir)
    assert isinstance(model, ParcelSeg)
    model.resize(2 * SIZE)
    pixels, _ = segmenter.preprocess.at(2 * SIZE).batch([scene(seed=4)], device=torch.device("cpu"))
    with torch.inference_mode():
        wanted = model.eval().answer(pixels)
    found = segmenter.predict([scene(seed=4)], ["cell-z@v1"])
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, wanted.masks, atol=1e-3, rtol=1e-3)


def test_a_new_size_is_warm_before_anyone_asks(segmenter, variant_dirs, tmp_path, monkeypatch):
    ran = []
    forward = segmenter.forward

    def noted(pixels, names):
        ran.append(pixels.shape[-1])
        return forward(pixels, names)

    monkeypatch.setattr(segmenter, "forward", noted)
    folder = variant_dirs["north@v1"]
    segmenter.add_variant("cell-a@v1", folder)
    segmenter.add_variant("cell-b@v1", sized(folder, tmp_path / "b", 2 * SIZE))
    segmenter.add_variant("cell-c@v1", sized(folder, tmp_path / "c", 2 * SIZE))
    assert ran == [2 * SIZE]
