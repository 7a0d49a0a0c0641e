from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from serving.errors import (
    AdapterError,
    BaseError,
    DigestMismatch,
    ImageError,
    NoFreeSlot,
    UnknownVariant,
    WrongBase,
)
from serving.families.load import load_model
from serving.inference.postprocess import Axis, Choice, Row, postprocess, upsample_positive
from serving.inference.preprocess import Letterbox, preprocessor_config
from serving.inference.segmenter import Segmenter, SegmentOptions
from serving.instances import Instances
from tests.serving.conftest import SIZE, make_base, make_variant, scene


def same(ours: Instances, theirs: Instances) -> None:
    """The same instances: labels in order, scores, and each mask at IoU >= 0.999."""
    assert ours.labels == theirs.labels
    assert np.allclose(ours.scores, theirs.scores, atol=1e-4)
    a, b = ours.decode_masks(), theirs.decode_masks()
    union = (a | b).sum((1, 2))
    assert ((a & b).sum((1, 2)) >= 0.999 * union).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["parcelseg", "eomt", "rf_detr", "mask2former"])
def test_a_slot_gives_what_peft_merged_gives(family: str, tmp_path: Path) -> None:
    base_dir = make_base(tmp_path / "base", family=family)
    names = ("north@v1", "south@v2")
    variants = {name: make_variant(base_dir, tmp_path / name, seed=3 + k) for k, name in enumerate(names)}
    segmenter = Segmenter.load(base_dir, device="cpu", slots=4, max_rank=8)
    images = [scene(seed=i) for i in range(3)]
    plain = segmenter.predict(images, [None] * 3)
    for name, folder in variants.items():
        edit_json("variant.json", disjoint=True)(folder)  # as the merged model, which is a base, is looked at
        segmenter.add_variant(name, folder)
        merged = PeftModel.from_pretrained(load_model(base_dir), folder).merge_and_unload().eval()
        labels = json.loads((folder / "variant.json").read_text())["labels"]
        reference = Segmenter.from_model(merged, preprocessor_config(SIZE), labels=labels)
        ours, theirs = segmenter.predict(images, [name] * 3), reference.predict(images, [None] * 3)
        assert torch.allclose(ours.scores, theirs.scores, atol=1e-4)
        assert torch.allclose(ours.masks, theirs.masks, atol=1e-3)
        assert (plain.scores - ours.scores).abs().max() > 1e-3, "it must make a difference"
        for one, other in zip(segmenter.segment(images, [name] * 3), reference.segment(images), strict=True):
            assert len(one) > 0
            same(one, other)
    mixed = segmenter.predict(images, [names[0], None, names[1]])
    for row, name in ((0, names[0]), (1, None), (2, names[1])):
        alone = segmenter.predict(images, [name] * 3)
        assert torch.allclose(mixed.scores[row], alone.scores[row], atol=1e-4)


def test_rows_of_a_mixed_batch_equal_their_single_runs(segmenter: Segmenter) -> None:
    images = [scene(60 + 20 * i, 100, seed=i) for i in range(5)]
    variants = [None, "north@v1", "south@v2", "north@v1", None]
    for answer, image, variant in zip(segmenter.segment(images, variants), images, variants, strict=True):
        same(answer, segmenter.segment([image], [variant])[0])


def test_labels_are_the_variants_own_and_reserved_ones_stay_silent(segmenter: Segmenter) -> None:
    images = [scene(seed=i) for i in range(4)]
    base = {label for answer in segmenter.segment(images) for label in answer.labels}
    variant = {label for answer in segmenter.segment(images, ["north@v1"] * 4) for label in answer.labels}
    assert base <= {"box", "bag", "tube"}
    assert variant <= {"carton", "bag", "polybag"}


def test_the_base_answers_what_a_cell_has(segmenter: Segmenter) -> None:
    image = scene(seed=3)
    anything, nothing_known, boxes, variants = segmenter.answer(
        [image] * 4,
        [
            SegmentOptions(min_score=0.0),
            SegmentOptions(None, 0.0, ("drum",)),
            SegmentOptions(None, 0.0, ("box",)),
            SegmentOptions("north@v1", 0.0, ("box",)),
        ],
    )
    assert set(anything.labels) > {"box"}, "the picture shows nothing that could be taken for something else"
    assert nothing_known == anything
    assert set(boxes.labels) == {"box"}
    assert variants == segmenter.answer([image], [SegmentOptions("north@v1", 0.0)])[0]
    # What it takes for something else comes as the likeliest of what there is, with that one's score.
    highest = segmenter.predict([image], [None]).scores[0, :, 0].max()
    assert boxes.scores.max() <= float(highest) + 1e-6


def test_evaluating_a_model_in_memory_leaves_it_as_it_was(base_dir: Path) -> None:
    model = load_model(base_dir).train()
    before = set(model.state_dict())
    reference = Segmenter.from_model(model, preprocessor_config(SIZE), labels={"box": "carton"})
    assert {label for a in reference.segment([scene()]) for label in a.labels} <= {"carton"}
    assert model.training
    assert set(model.state_dict()) == before
    with pytest.raises(UnknownVariant):
        reference.segment([scene()], ["north@v1"])
    with pytest.raises(BaseError):
        reference.add_variant("north@v1", base_dir)


def test_no_images_no_work_and_bad_images_are_named(segmenter: Segmenter) -> None:
    assert segmenter.segment([]) == []
    with pytest.raises(ImageError):
        segmenter.segment([np.zeros((4, 4), np.uint8)])
    with pytest.raises(UnknownVariant, match="west@v1"):
        segmenter.segment([scene()], ["west@v1"])
    assert len(segmenter.answer([scene()], [SegmentOptions(None, 1.1)])[0]) == 0


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_base_folder_must_be_whole(missing: str, base_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base_dir, tmp_path / "base")
    (folder / missing).unlink()
    with pytest.raises(BaseError, match=missing):
        Segmenter.load(folder)


# --- the adapter bank -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_variants_than_slots_take_turns(base_dir: Path, tmp_path: Path) -> None:
    small = Segmenter.load(base_dir, device="cpu", slots=3, max_rank=4)
    names = [f"cell{i}@v1" for i in range(6)]
    for i, name in enumerate(names):
        small.add_variant(name, make_variant(base_dir, tmp_path / name, seed=10 + i))
    alone = {name: small.predict([scene()], [name]).masks for name in names}
    for _ in range(2):
        for one, two in zip(names, reversed(names), strict=True):
            got = small.predict([scene(), scene()], [one, two]).masks
            assert torch.allclose(got, torch.cat([alone[one], alone[two]]), atol=1e-5)
    with pytest.raises(NoFreeSlot):
        small.segment([scene()] * 3, names[:3])
    small.remove_variant(names[0])
    with pytest.raises(UnknownVariant):
        small.segment([scene()], names[:1])


def test_the_host_cache_forgets_the_least_recently_used(base_dir: Path, variant_dirs: dict[str, Path]) -> None:
    small = Segmenter.load(base_dir, device="cpu", hot=2)
    for name in ("a@v1", "b@v1"):
        small.add_variant(name, variant_dirs["north@v1"])
    small.segment([scene()], ["a@v1"])
    small.add_variant("c@v1", variant_dirs["north@v1"])
    assert set(small.variants) == {"a@v1", "c@v1"}


def test_a_replaced_variant_answers_with_its_new_weights(segmenter: Segmenter, variant_dirs: dict[str, Path]) -> None:
    old = segmenter.predict([scene()], ["north@v1"]).masks
    segmenter.add_variant("north@v1", variant_dirs["south@v2"])
    new = segmenter.predict([scene()], ["north@v1"]).masks
    assert not torch.allclose(old, new, atol=1e-3)
    assert torch.allclose(new, segmenter.predict([scene()], ["south@v2"]).masks, atol=1e-5)


def test_variants_may_come_and_go_while_batches_run(segmenter: Segmenter, variant_dirs: dict[str, Path]) -> None:
    expected = segmenter.segment([scene()], ["north@v1"])[0]
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            segmenter.add_variant("other@v1", variant_dirs["south@v2"])
            segmenter.remove_variant("other@v1")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            same(segmenter.segment([scene(), scene()], ["north@v1", None])[0], expected)
    finally:
        done.set()
        thread.join()


# --- what the bank refuses --------------------------------------------------------------------------------------------


def edit_json(file: str, **changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lie_about_offsets(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + path.read_bytes()[8:])


OTHER_BASE = {"repo": "base/universal", "revision": "v2"}


@pytest.mark.parametrize(
    ("break_it", "error", "sentence"),
    [
        (edit_json("variant.json", base=OTHER_BASE), WrongBase, "'universal@v2', but 'universal@v1' is loaded"),
        (edit_json("variant.json", base=None), AdapterError, "names no base"),
        (edit_json("variant.json", labels={"pallet": "x"}), AdapterError, "no label 'pallet'"),
        (edit_json("variant.json", labels={}), AdapterError, "labels must map"),
        (edit_json("adapter_config.json", r=64), AdapterError, "rank 64 is not between 1 and 16"),
        (edit_json("adapter_config.json", r=8), AdapterError, "has shape"),
        (edit_json("adapter_config.json", use_dora=True), AdapterError, "use_dora"),
        (edit_json("adapter_config.json", bias="all"), AdapterError, "bias"),
        (edit_json("adapter_config.json", modules_to_save=["class_predictor"]), AdapterError, "modules_to_save"),
        (edit_json("adapter_config.json", init_lora_weights="pissa_niter_4"), AdapterError, "pissa"),
        (edit_json("adapter_config.json", peft_type="IA3"), AdapterError, "only LORA"),
        (cut_weights, AdapterError, "not valid safetensors"),
        (lie_about_offsets, AdapterError, "not valid safetensors"),
        (lambda folder: (folder / "variant.json").write_text("{"), AdapterError, "not valid JSON"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), AdapterError, "cannot be read"),
    ],
)
def test_a_variant_that_cannot_be_served_is_refused_in_words(
    break_it: Callable[[Path], None],
    error: type[AdapterError],
    sentence: str,
    segmenter: Segmenter,
    variant_dirs: dict[str, Path],
    tmp_path: Path,
) -> None:
    folder = shutil.copytree(variant_dirs["north@v1"], tmp_path / "variant")
    break_it(folder)
    with pytest.raises(error, match="variant 'bad@v1'") as caught:
        segmenter.add_variant("bad@v1", folder)
    assert sentence in str(caught.value)
    assert "bad@v1" not in segmenter.variants


def test_digests_are_checked(segmenter: Segmenter, variant_dirs: dict[str, Path]) -> None:
    folder = variant_dirs["north@v1"]
    digest = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    segmenter.add_variant("good@v1", folder, {"adapter_model.safetensors": digest})
    with pytest.raises(DigestMismatch):
        segmenter.add_variant("bad@v1", folder, {"adapter_model.safetensors": "0" * 64})
    with pytest.raises(DigestMismatch, match="names no digest"):
        segmenter.add_variant("bad@v1", folder, {})


# --- post-processing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(120, 160), (160, 120), (37, 64), (64, 64), (200, 31)])
def test_windowed_upsampling_is_bilinear_upsampling(shape: tuple[int, int]) -> None:
    box = Letterbox.fit(*shape, 64)
    generator = torch.Generator().manual_seed(0)
    for blobs in range(8):
        low = torch.full((16, 16), -1.0)
        y, x = torch.randint(0, 15, (2,), generator=generator).tolist()
        low[y : y + 1 + blobs // 2, x : x + 1 + blobs] = torch.rand(1, generator=generator).item() * 3
        low = low[: -(-box.inner_height // 4), : -(-box.inner_width // 4)]
        content = (box.inner_height / 4, box.inner_width / 4)
        full = torch.ops.aten.upsample_bilinear2d(
            low[None, None], list(shape), False, shape[0] / content[0], shape[1] / content[1]
        )[0, 0]
        vertical, horizontal = (
            Axis.make(length, share, cells) for length, share, cells in zip(shape, content, low.shape, strict=True)
        )
        window, left, top = upsample_positive(low.numpy(), vertical, horizontal)
        ours = np.zeros(shape, np.bool_)
        ours[top : top + window.shape[0], left : left + window.shape[1]] = window
        assert (ours != (full > 0).numpy()).mean() < 0.002


def rows(masks: torch.Tensor, classes: list[list[float]], **choice: float) -> Instances:
    names = {0: "box", 1: "bag"}
    row = Row(Letterbox.fit(32, 32, 32), names, Choice(**choice))  # type: ignore[arg-type]
    scores = torch.tensor([classes]).softmax(-1)[..., :-1]
    return postprocess(masks[None], scores, [row])[0]


def test_duplicates_go_and_empty_masks_go() -> None:
    masks = torch.full((4, 8, 8), -5.0)
    masks[0, 1:5, 1:5] = 5.0
    masks[1, 1:5, 1:5] = 5.0
    masks[2, 5:8, 5:8] = 5.0
    classes = [[3.0, 0, 0], [0, 4.0, 0], [2.0, 0, 0], [9.0, 0, 0]]
    kept = rows(masks, classes)
    assert kept.labels == ("bag", "box")
    assert kept.boxes[1].tolist() == [20, 20, 32, 32]
    assert len(rows(masks, classes, duplicate_iou=1.0)) == 3
    assert len(rows(masks, classes, top_k=1)) == 1
    assert len(rows(masks, classes, min_score=0.99)) == 0


def test_a_pivot_moves_scores_and_nothing_else(base_dir: Path, tmp_path: Path) -> None:
    """A variant's own, or the base's from its config; what is answered is the same, in the same order."""
    variant = make_variant(base_dir, tmp_path / "v")
    moved, base = tmp_path / "moved", tmp_path / "base"
    shutil.copytree(variant, moved)
    shutil.copytree(base_dir, base)
    for document in (moved / "variant.json", base / "config.json"):
        document.write_text(json.dumps({**json.loads(document.read_text()), "score_pivot": 0.2}))
    segmenter = Segmenter.load(base, device="cpu")
    segmenter.add_variant("plain", variant)
    segmenter.add_variant("moved", moved)
    assert (segmenter.pivot("plain"), segmenter.pivot("moved"), segmenter.pivot(None)) == (0.5, 0.2, 0.2)
    image = scene(seed=5)
    plain, changed = segmenter.segment([image, image], ["plain", "moved"])
    assert len(plain) > 1
    assert plain.masks == changed.masks
    odds = plain.scores / (1 - plain.scores) * 4
    assert np.allclose(changed.scores, odds / (1 + odds), atol=1e-5)
    middle = float(np.median(changed.scores))
    asked = segmenter.answer([image], [SegmentOptions("moved", middle)])[0]
    assert len(asked) == (changed.scores >= middle).sum(), "a request's floor is one of answered scores"
    (untouched,), (own,) = Segmenter.load(base_dir, device="cpu").segment([image]), segmenter.segment([image])
    assert untouched.masks == own.masks
    assert (own.scores >= untouched.scores).all()


@pytest.mark.parametrize("value", [0, 1.0, "high", True])
def test_a_bad_pivot_is_refused(base_dir: Path, tmp_path: Path, value: object) -> None:
    variant = make_variant(base_dir, tmp_path / "v")
    document = variant / "variant.json"
    document.write_text(json.dumps({**json.loads(document.read_text()), "score_pivot": value}))
    with pytest.raises(AdapterError, match="score_pivot"):
        Segmenter.load(base_dir, device="cpu").add_variant("v", variant)
    base = shutil.copytree(base_dir, tmp_path / "base")
    config = base / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "score_pivot": value}))
    with pytest.raises(BaseError, match="score_pivot"):
        Segmenter.load(base, device="cpu")
