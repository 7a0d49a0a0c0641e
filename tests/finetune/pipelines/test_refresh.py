"""A refresh on tiny models with every real part: the deck of its plan, the adapter it goes on from, the history."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.contract import Start
from finetune.datasets import Dataset, read_dataset, write_dataset
from finetune.datasets.deck import Deck
from finetune.datasets.refresh_deck import refresh_deck
from finetune.errors import BaseModelError, DeckError
from finetune.evaluation.weight_interpolation import blend_adapter
from finetune.models.model import load_base
from finetune.pipelines.service import load_sources, run_finetune
from finetune.refresh_plan import PLAN, PlanSlice, RefreshPlan
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from finetune.training.adapt import AdaptRecipe, adapt
from registry.promotion.history import judge_history
from tests.finetune.pipelines.material import request

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def first(base_dir, cell_dir, tmp_path_factory):
    """The cell's first variant, and its deck."""
    result = run_finetune(
        request(),
        dataset_dir=cell_dir,
        base_dir=base_dir,
        workspace=tmp_path_factory.mktemp("work"),
        report=lambda _: None,
    )
    return result.variant_dir, Deck.from_json(result.deck_json)


@pytest.fixture(scope="module")
def refresh_dir(cell_dir, first, tmp_path_factory):
    """The dataset of a refresh: the first variant's images, and eight new ones with a class that it does not know."""
    place = tmp_path_factory.mktemp("refresh")
    old, deck = read_dataset(cell_dir), first[1]
    write_cell(place / "new", DEMO_CELL, images=8, seed=77, size=96)
    fresh = read_dataset(place / "new")
    samples = [replace(one, name=f"a-{one.name}", split=None) for one in old.samples]
    for one in fresh.samples:
        labels = ("crate", *one.labels[1:])
        samples.append(replace(one, name=f"b-{one.name}", split=None, labels=labels))
    # Only names tell one source's images from the other's, which makes files of these names.
    for k, one in enumerate(samples):
        target = place / "files" / one.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(one.image, target)
        samples[k] = replace(one, image=target)
    write_dataset(Dataset("refresh", (*old.classes, "crate"), tuple(samples)), place / "stored")
    plan = RefreshPlan(
        cell="dock-7",
        run="r1",
        start="dock-7@v1",
        new=(tuple(sorted(f"b-{one.name}" for one in fresh.samples)),),
        replay=tuple(f"a-{name}" for name in deck.train),
        judge=tuple(f"a-{name}" for name in deck.holdout),
        slices=(PlanSlice("v1", "dock-7@v1", deck.digest, tuple(f"a-{name}" for name in deck.holdout)),),
        class_map=dict(deck.class_map),
        new_kinds={"crate": 0},
        notes=("nothing was left out",),
    )
    (place / "stored" / PLAN).write_bytes(msgspec.json.encode(plan))
    return place / "stored"


@pytest.fixture(scope="module")
def refreshed(base_dir, refresh_dir, first, tmp_path_factory):
    stages = []
    result = run_finetune(
        request(refresh=True),
        dataset_dir=refresh_dir,
        base_dir=base_dir,
        workspace=tmp_path_factory.mktemp("work"),
        report=lambda p: stages.append(p),
        start=Start("dock-7@v1", first[0]),
    )
    return result, stages


def test_the_deck_of_a_refresh_keeps_what_judges_apart(refresh_dir, first):
    dataset, plan = read_dataset(refresh_dir), RefreshPlan.read(refresh_dir)
    deck = refresh_deck(dataset, plan, base_labels=[*LABELS, "reserved_1", "reserved_2"])
    judges = {name for one in plan.slices for name in one.files}
    assert not judges & set(deck.train)
    assert set(plan.judge) < set(deck.holdout)
    fresh = [name for name in deck.train if name.startswith("b-")]
    assert len(fresh) == 6 and sum(name.startswith("b-") for name in deck.holdout) == 2
    assert dict(first[1].class_map).items() <= dict(deck.class_map).items()
    assert deck.class_map["crate"].startswith("reserved_")
    mine = sum(weight for name, weight in zip(deck.train, deck.weights, strict=True) if name in fresh)
    assert mine >= 0.499 * sum(deck.weights)
    assert deck.to_json() == refresh_deck(dataset, plan, base_labels=[*LABELS, "reserved_1", "reserved_2"]).to_json()


def test_new_images_are_half_of_what_is_drawn_however_many_are_replayed(refresh_dir):
    dataset, plan = read_dataset(refresh_dir), RefreshPlan.read(refresh_dir)
    few = msgspec.structs.replace(plan, new=(plan.new[0][:2],), replay=(*plan.replay, *plan.new[0][2:]))
    deck = refresh_deck(dataset, few, base_labels=[*LABELS, "reserved_1"])
    assert deck.weights[0] == pytest.approx(sum(deck.weights[1:]), rel=1e-3)


def test_a_plan_that_names_what_is_not_there_is_refused(refresh_dir, tmp_path):
    dataset, plan = read_dataset(refresh_dir), RefreshPlan.read(refresh_dir)
    with pytest.raises(DeckError, match=r"no image 'gone\.png'"):
        refresh_deck(dataset, msgspec.structs.replace(plan, replay=("gone.png",)), base_labels=LABELS)
    (tmp_path / PLAN).write_text("{}")
    with pytest.raises(DeckError, match="no plan"):
        RefreshPlan.read(tmp_path)


def test_training_goes_on_from_the_adapter(base_dir, cell_dir, first, tmp_path):
    """After one step so small that it changes nothing, the weights are those that it went on from."""
    folder, deck = first
    train, _ = deck.select(read_dataset(cell_dir))
    model = load_base(base_dir)
    sources = load_sources(train, deck, list(model.config.id2label.values()), 96)
    recipe = AdaptRecipe(max_steps=1, max_seconds=None, learning_rate=1e-12, average=0.0, batch_size=2)
    adapted = adapt(model, sources, recipe, tmp_path / "work", report=lambda _: None, start=folder)
    stored = load_file(folder / WEIGHTS)
    now = {n.replace(".default", ""): t for n, t in adapted.state_dict().items() if "lora_" in n}
    assert set(now) == set(stored)
    assert any(tensor.abs().max() > 0 for name, tensor in stored.items() if "lora_B" in name)
    for name, tensor in stored.items():
        assert torch.allclose(now[name], tensor.float(), atol=1e-6), name


@pytest.mark.parametrize("what", ["fewer", "none"])
def test_an_adapter_of_another_base_is_refused(what, base_dir, cell_dir, first, tmp_path):
    folder, deck = first
    place = tmp_path / "start"
    shutil.copytree(folder, place)
    if what == "fewer":
        state = load_file(place / WEIGHTS)
        save_file(dict(list(state.items())[2:]), place / WEIGHTS)
    else:
        (place / "adapter_config.json").write_text("{}")
    train, _ = deck.select(read_dataset(cell_dir))
    model = load_base(base_dir)
    sources = load_sources(train, deck, list(model.config.id2label.values()), 96)
    with pytest.raises(BaseModelError, match="adapter to go on from"):
        adapt(model, sources, AdaptRecipe(max_steps=1), tmp_path / "work", report=lambda _: None, start=place)


def test_with_none_of_the_way_it_is_the_adapter_that_it_went_on_from(first, tmp_path):
    place = tmp_path / "variant"
    shutil.copytree(first[0], place)
    state = load_file(place / WEIGHTS)
    save_file({name: tensor + 1 for name, tensor in state.items()}, place / WEIGHTS)
    blend_adapter(place, first[0], 0.5)
    half = load_file(place / WEIGHTS)
    for name, tensor in state.items():
        assert torch.allclose(half[name].float(), tensor.float() + 0.5, atol=2e-3), name
    blend_adapter(place, first[0], 0.0)
    for name, tensor in load_file(place / WEIGHTS).items():
        assert torch.equal(tensor, state[name]), name


def test_a_refresh_goes_through_its_stages_and_is_measured_on_history(refreshed, first):
    result, stages = refreshed
    assert list(dict.fromkeys(p.stage for p in stages)) == [
        "check", "deck", "train", "evaluate", "history", "report", "write",
    ]  # fmt: skip
    told = json.loads((result.variant_dir / "history.json").read_text())
    (one,) = told["slices"]
    assert (one["name"], one["variant"], one["images"]) == ("v1", "dock-7@v1", len(first[1].holdout))
    assert one["difference"] == pytest.approx(one["ap50_after"] - one["ap50_before"], abs=1e-5)
    assert one["low"] <= one["high"] and one["verdict"] == "unsure", "three images say nothing"
    assert told["new"]["images"] == 2
    assert judge_history(told).told == told["told"] and told["unsure"] == ["v1"]
    assert len(told["lost"]) == told["lost_count"]
    assert "lost" not in result.metrics["history"] and result.metrics["history"]["slices"] == told["slices"]
    json.dumps(result.metrics)
    page = (result.variant_dir / "report.html").read_text()
    assert "The cell's history" in page and "too small to tell" in page and "nothing was left out" in page
    facts = json.loads((result.variant_dir / "report.json").read_text())
    assert facts["recipe"]["start"] == "dock-7@v1"


def test_what_was_right_before_and_is_wrong_now_is_listed(base_dir, refresh_dir, first, refreshed, tmp_path):
    """Two variants with answers that are known: the one before finds all, the one after nothing."""
    from finetune.report import history as told

    dataset, plan = read_dataset(refresh_dir), RefreshPlan.read(refresh_dir)
    deck = Deck.from_json(refreshed[0].deck_json)
    truths = {sample.name: sample.truth() for sample in dataset.samples}
    judged = [truths[name] for name in plan.slices[0].files]

    class Known(told._Answers):
        def __init__(self) -> None:
            self._classes, self._at = deck.answered, {name: k for k, name in enumerate(plan.slices[0].files)}
            nothing = [one.take([]) for one in judged]
            self._truths, self._said = judged, [judged, nothing]

    samples = [sample for sample in dataset.samples if sample.name in plan.slices[0].files]
    samples.sort(key=lambda sample: plan.slices[0].files.index(sample.name))
    lost, won = Known().changes("v1", samples)
    assert won == 0 and len(lost) == sum(map(len, judged))
    assert lost[0] == {
        "slice": "v1",
        "image": samples[0].name,
        "label": judged[0].labels[0],
        "box": np.round(judged[0].boxes[0]).astype(int).tolist(),
    }
    figures = Known().figures("v1", samples)
    assert figures is not None and figures["ap50_after"] == 0 and figures["high"] < 0
