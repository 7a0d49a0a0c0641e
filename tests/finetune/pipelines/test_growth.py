"""A base that grows, with a small real one: what a contribution is worth, the next base, and a variant put on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune.contract import FinetuneRequest, Progress, RefitFrom, Start
from finetune.datasets import read_dataset
from finetune.datasets.deck import make_deck
from finetune.errors import DatasetError, TrainingError
from finetune.growth_plan import CellHistory, Contribution, GrowthPlan, PastDeck, RefitStart, value_verdict
from finetune.models.model import Architecture, base_labels, load_base, new_base, save_base
from finetune.pipelines import growth
from finetune.pipelines.growth import Material, grow_base, run_value_test
from finetune.pipelines.service import run_finetune
from finetune.scenes import LABELS
from finetune.training.contributed import Contributed, ContributedImages
from serving.inference.segmenter import Segmenter
from tests.hub.material import write_rectangles

THEIRS, MINE = ("bolt/yard", "c1"), ("acme/dock-7", "c2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("growth")
    shape = Architecture(image_size=64, hidden_size=32, layers=3, heads=2, blocks=1, queries=10, spare_labels=3)
    save_base(new_base(shape, LABELS, seed=0), folder / "base", card="", dtype=torch.float32)
    write_rectangles(folder / "yard", images=8, seed=2)
    write_rectangles(folder / "dock", images=8, seed=3)
    return folder


@pytest.fixture(scope="module")
def material(place: Path) -> tuple[Material, GrowthPlan]:
    dataset = read_dataset(place / "dock")
    deck = make_deck(dataset, base_labels=base_labels(load_base(place / "base")), dataset_ref="acme/dock-7@c2")
    files = tuple(sample.name for sample in read_dataset(place / "yard").samples)
    plan = GrowthPlan(
        kind="value", run="r1", steps=4, batch=2, share=0.5, per_cell=4, tolerance=1.0,
        contributions=(Contribution(id="c", dataset=THEIRS[0], commit=THEIRS[1], group="yard", files=files),),
        judges=(CellHistory(cell="dock-7", decks=(
            PastDeck(variant="dock-7@v1", dataset=MINE[0], commit=MINE[1], deck=deck.digest),)),),
    )  # fmt: skip
    folders = {THEIRS: place / "yard", MINE: place / "dock"}
    return Material(folders, {deck.digest: deck.to_json()}, place / "base", "universal@v1"), plan


def quiet(_: Progress) -> None:
    """Nobody listens."""


def test_the_verdict_goes_by_the_interval() -> None:
    assert [value_verdict(*span) for span in ((0.01, 0.2), (-0.1, 0.2), (-0.2, -0.01), (0.0, 0.1))] == [
        "helps", "unsure", "hurts", "unsure",
    ]  # fmt: skip


def test_groups_are_balanced_whatever_their_sizes(place: Path) -> None:
    yard = tuple(sample.name for sample in read_dataset(place / "yard").samples)
    dock = tuple(sample.name for sample in read_dataset(place / "dock").samples)
    images = ContributedImages(
        [Contributed(place / "yard", "yard", yard[:2]), Contributed(place / "dock", "dock", dock)], side=64
    )
    assert len(images) == 10 and images.weights == [1 / 2] * 2 + [1 / 8] * 8
    assert set(images[0].classes.tolist()) == {LABELS.index("box")}
    with pytest.raises(DatasetError, match="no image with a package"):
        ContributedImages([Contributed(place / "yard", "yard", ("nothing.png",))], side=64)


@pytest.mark.slow
def test_both_trainings_of_a_value_test_are_the_same_but_for_the_contribution(
    material: tuple[Material, GrowthPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    had, plan = material
    found = run_value_test(plan, had, tmp_path / "a", report=quiet)
    (cell,) = found["cells"]
    assert cell["cell"] == "dock-7" and cell["images"] == 2
    assert found["low"] <= found["high"] and found["verdict"] == value_verdict(found["low"], found["high"])
    recipes = [growth.recipe_of(plan, had, contributed=each) for each in (False, True)]
    assert replace(recipes[1], contributed=()) == recipes[0] and recipes[1].contributed
    # Killed after both trainings: nothing is trained again, and the figures are the same.
    monkeypatch.setattr(growth, "train_base", lambda *_, **__: pytest.fail("it had ended"))
    assert run_value_test(plan, had, tmp_path / "a", report=quiet) == found
    nobody = run_value_test(replace_judges(plan), had, tmp_path / "a", report=quiet)
    assert (nobody["verdict"], nobody["cells"]) == ("unsure", [])


def replace_judges(plan: GrowthPlan) -> GrowthPlan:
    import msgspec

    return msgspec.structs.replace(plan, judges=())


@pytest.mark.slow
def test_the_next_base_and_a_variant_on_it(material: tuple[Material, GrowthPlan], place: Path, tmp_path: Path) -> None:
    import msgspec

    had, plan = material
    with pytest.raises(TrainingError, match="stopped"):
        grow_base(plan, had, tmp_path / "grow", report=quiet, should_stop=lambda: True)
    grown = grow_base(plan, had, tmp_path / "grow", report=quiet)
    assert grown.metrics["cells"][0]["slices"][0]["name"] == "dock-7@v1" and grown.metrics["contributions"] == ["c"]
    card = (grown.folder / "README.md").read_text()
    assert "8 contributed ones (1 contributions)" in card and "bolt" not in card
    assert Segmenter.load(grown.folder).labels

    asked = FinetuneRequest("dock-7", "acme/dock-7@c2", "base/universal@v1", "b1", max_seconds=1.0)
    first = run_finetune(asked, dataset_dir=place / "dock", base_dir=place / "base", workspace=tmp_path / "v1",
                         report=quiet)  # fmt: skip
    digest = next(iter(had.decks))
    start = RefitStart(version="dock-7@v1", commit="x", deck=digest, base="base/universal@v1", base_commit="b1")
    refit = msgspec.structs.replace(plan, kind="refit", contributions=(), start=start)
    before = RefitFrom(
        Start("dock-7@v1", first.variant_dir), place / "base", "universal@v1", had.decks[digest], had.datasets,
        had.decks,
    )  # fmt: skip
    again = replace(asked, base_ref="base/universal@v2", base_commit="b2", refit=refit)
    made = run_finetune(again, dataset_dir=place / "dock", base_dir=grown.folder, workspace=tmp_path / "v2",
                        report=quiet, refit=before)  # fmt: skip
    assert made.deck_json == had.decks[digest], "the cell's own deck"
    history = made.metrics["history"]
    assert [one["name"] for one in history["slices"]] == ["dock-7@v1"] and history["start"] == "dock-7@v1"
    assert (made.variant_dir / "history.json").exists()
