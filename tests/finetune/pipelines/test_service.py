"""The fine-tune from folder to variant, and the making of a base, on tiny models with every real part."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from benchmarks.finetune.fewshot import compare_methods, parse_methods
from finetune.contract import Earlier
from finetune.datasets.deck import Deck
from finetune.errors import DatasetError, DeckError, TrainingError
from finetune.evaluation import weight_interpolation as keeping
from finetune.evaluation.weight_interpolation import SHARES
from finetune.models.model import load_base
from finetune.pipelines import measure as measuring
from finetune.pipelines import service as pipeline
from finetune.pipelines.base_service import judges, make_base
from finetune.pipelines.service import run_finetune
from finetune.report import service as report_service
from finetune.report.examine import examine
from finetune.scenes import DEMO_CELL, HELD_OUT, write_cell
from finetune.training.base import BaseRecipe
from registry.promotion.readiness import judge_metrics
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from tests.finetune.pipelines.material import request
from tests.finetune.training.test_training import TINY


@pytest.fixture(scope="module")
def finished(base_dir, cell_dir, tmp_path_factory):
    stages = []
    result = run_finetune(
        request(),
        dataset_dir=cell_dir,
        base_dir=base_dir,
        workspace=tmp_path_factory.mktemp("work"),
        report=lambda p: stages.append(p),
    )
    return result, stages


@pytest.mark.slow
def test_a_fine_tune_goes_through_its_stages(finished):
    result, stages = finished
    order = list(dict.fromkeys(p.stage for p in stages))
    assert order == ["check", "deck", "train", "evaluate", "report", "write"]
    assert all(0 <= p.step <= p.total for p in stages)
    assert result.metrics["images_train"] == 6
    assert result.metrics["images_holdout"] == 3
    assert result.metrics["steps"] > 0
    json.dumps(result.metrics)


def test_the_variant_is_what_peft_and_serving_read(finished, base_dir):
    result, _ = finished
    assert {p.name for p in result.variant_dir.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "variant.json",
        "report.json",
        "report.html",
        "predictions.json",
        "novelty.safetensors",
    }
    model = PeftModel.from_pretrained(load_base(base_dir), result.variant_dir)
    stored = load_file(result.variant_dir / "adapter_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    loaded = {n.replace(".default", ""): t for n, t in model.state_dict().items() if "lora_" in n}
    assert set(loaded) == set(stored)
    segmenter = Segmenter.load(base_dir, base_name="universal@v1")
    segmenter.add_variant("dock-7@v1", result.variant_dir)
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    answer = segmenter.segment([image], ["dock-7@v1"], min_score=0.0)[0]
    assert set(answer.labels) <= set(DEMO_CELL.classes)


@pytest.mark.slow
def test_a_variant_is_examined_as_it_was_measured(finished, base_dir, cell_dir):
    result, _ = finished
    found = examine(result.variant_dir, cell_dir, base=base_dir)
    assert found.evaluation.images == 3
    assert found.evaluation.ap50 == pytest.approx(result.metrics["variant_ap50"], abs=1e-6)
    assert found.evaluation.ap == pytest.approx(result.metrics["variant_ap"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_variant_keeps_what_does_best_and_is_measured_so(share, base_dir, tmp_path, monkeypatch):
    """Every share is looked at; what is written, measured and told is the one that is chosen."""
    cell = write_cell(tmp_path / "cell", DEMO_CELL, images=14, seed=3, size=96, valid_share=8 / 14)
    looked = []
    monkeypatch.setattr(keeping, "best_share", lambda values: (looked.append(values), share)[1])
    walked = []
    scale = report_service.scale_adapter
    monkeypatch.setattr(
        report_service, "scale_adapter", lambda folder, by: (walked.append((folder.name, by)), scale(folder, by))[1]
    )
    result = run_finetune(
        request(),
        dataset_dir=cell,
        base_dir=base_dir,
        workspace=tmp_path / "work",
        report=lambda _: None,
    )
    assert [set(values) for values in looked] == [set(SHARES)]
    assert walked == ([("variant", share)] if share < 1 else [])
    assert [p.name for p in (tmp_path / "work").glob("variant*")] == ["variant"]
    found = examine(result.variant_dir, cell, base=base_dir)
    assert found.evaluation.ap50 == pytest.approx(result.metrics["variant_ap50"], abs=1e-6)
    assert result.metrics["kept_share"] == share
    low, high = result.metrics["gain_ap50_low"], result.metrics["gain_ap50_high"]
    assert low <= high
    facts = json.loads((result.variant_dir / "report.json").read_text())
    assert facts["recipe"]["kept_share"] == share and facts["gain"]["ap50"][1:] == [low, high]
    told = f"keeps {share:.0%} of what it learnt"
    assert told in (result.variant_dir / "README.md").read_text().replace("\n", " ")
    told = told if share else "keeps nothing of what it learnt"
    assert any(told in line for line in facts["sentences"]) == (share < 1)
    if not share:
        assert result.metrics["variant_ap"] == pytest.approx(result.metrics["base_ap"], abs=1e-6), "it is the base"
        assert (low, high) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "size"), [(1.0, 128), (0.0, None)])
def test_a_variant_is_trained_measured_and_served_in_the_size_that_was_asked_for(
    share, size, base_dir, tmp_path, monkeypatch
):
    """Where nothing is kept it answers as the base does, in the base's size."""
    cell = write_cell(tmp_path / "cell", DEMO_CELL, images=14, seed=3, size=160, valid_share=8 / 14)
    monkeypatch.setattr(keeping, "best_share", lambda _: share)
    trained = []
    adapt = pipeline.adapt
    monkeypatch.setattr(
        pipeline,
        "adapt",
        lambda m, s, recipe, *a, **k: (trained.append(recipe.image_size), adapt(m, s, recipe, *a, **k))[1],
    )
    result = run_finetune(
        request(max_seconds=1.0, image_size=128),
        dataset_dir=cell,
        base_dir=base_dir,
        workspace=tmp_path / "work",
        report=lambda _: None,
    )
    assert trained == [128]
    assert json.loads((result.variant_dir / "variant.json").read_text()).get("image_size") == size
    assert result.metrics["image_size"] == (size or 64)
    found = examine(result.variant_dir, cell, base=base_dir)
    assert found.evaluation.ap == pytest.approx(result.metrics["variant_ap"], abs=1e-6)
    segmenter = Segmenter.load(base_dir, base_name="universal@v1", device="cpu")
    segmenter.add_variant("dock-7@v1", result.variant_dir)
    assert segmenter.size("dock-7@v1") == (size or 64)
    if not share:
        assert result.metrics["variant_ap"] == pytest.approx(result.metrics["base_ap"], abs=1e-6)


@pytest.mark.slow
def test_where_nothing_is_kept_there_is_no_curve_and_the_page_says_why(base_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("finetune.evaluation.learning_curve.MIN_SECONDS", 0.25)
    monkeypatch.setattr(keeping, "best_share", lambda _: 0.0)
    cell = write_cell(tmp_path / "cell", DEMO_CELL, images=24, seed=4, size=96)
    stages = []
    result = run_finetune(
        request(max_seconds=2.0, curve_share=0.4),
        dataset_dir=cell,
        base_dir=base_dir,
        workspace=tmp_path / "work",
        report=lambda p: stages.append(p.stage),
    )
    assert "train" in stages and "curve" not in stages
    assert json.loads((result.variant_dir / "report.json").read_text())["learning_curve"] is None
    assert "keeps nothing of what it learnt, and neither would" in (result.variant_dir / "report.html").read_text()


def test_a_variant_brings_the_score_where_it_does_best(finished, base_dir):
    result, _ = finished
    pivot = json.loads((result.variant_dir / "variant.json").read_text()).get("score_pivot", 0.5)
    assert 0 < pivot < 1
    assert result.metrics["score_pivot"] == pivot
    segmenter = Segmenter.load(base_dir, base_name="universal@v1")
    segmenter.add_variant("dock-7@v1", result.variant_dir)
    assert segmenter.pivot("dock-7@v1") == pivot
    facts = json.loads((result.variant_dir / "report.json").read_text())
    assert {"agnostic_ap", "agnostic_ap50", "agnostic_ap75"} <= facts["variant"].keys()
    assert "class-agnostic" in (result.variant_dir / "report.html").read_text()
    assert "class-agnostic" in (result.variant_dir / "README.md").read_text()


def test_the_variant_names_its_base_and_deck(finished):
    result, _ = finished
    document = json.loads((result.variant_dir / "variant.json").read_text())
    deck = Deck.from_json(result.deck_json)
    assert document["base"] == {"repo": "base/universal", "revision": "v1", "commit": "b" * 64}
    assert document["deck"] == deck.digest
    assert document["labels"] == deck.label_map
    assert document["disjoint"] is True, "no label of these scenes lies in another"
    assert deck.dataset == "north/dock-7"
    card = (result.variant_dir / "README.md").read_text()
    assert "base_model: base/universal" in card
    assert deck.digest in card


def test_a_bad_dataset_stops_before_anything_is_trained(base_dir, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DatasetError):
        run_finetune(
            request(), dataset_dir=tmp_path / "data", base_dir=base_dir, workspace=tmp_path / "w", report=lambda _: None
        )
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_stopped_fine_tune_says_so_and_leaves_no_variant(base_dir, cell_dir, tmp_path):
    with pytest.raises(TrainingError, match="stopped"):
        run_finetune(
            request(max_seconds=60.0),
            dataset_dir=cell_dir,
            base_dir=base_dir,
            workspace=tmp_path,
            report=lambda _: None,
            should_stop=lambda: True,
        )
    assert not (tmp_path / "variant").exists()


@pytest.mark.slow
def test_methods_are_compared_on_the_same_holdout(base_dir, cell_dir):
    rows = compare_methods(data=cell_dir, base_dir=base_dir, images=5, seconds=0.5, seeds=(0,))
    assert [row.method for row in rows] == ["zero-shot", "lora", "full", "scratch"]
    assert len({row.evaluation.images for row in rows}) == 1
    assert all(row.steps > 0 for row in rows[1:])


def test_unknown_methods_are_named():
    assert parse_methods("lora, scratch") == ("lora", "scratch")
    with pytest.raises(DeckError, match="'magic'"):
        parse_methods("lora,magic")


@pytest.mark.slow
def test_a_base_is_made_judged_and_described(tmp_path, cell_dir):
    recipe = BaseRecipe(architecture=TINY, max_steps=4, batch_size=2, workers=0)
    judgements = make_base(
        recipe,
        workspace=tmp_path / "work",
        out=tmp_path / "base",
        report=lambda _: None,
        judge_folders=[cell_dir],
        scenes=2,
    )
    assert len(judgements) == len(judges()) + 1 >= 2 + len(HELD_OUT), "its own looks, the held-out cells, the folder"
    card = (tmp_path / "base" / "README.md").read_text()
    assert "no photograph" in " ".join(card.split())
    assert f"| {judgements[0].name} | 2 |" in card
    assert "class-agnostic AP50" in card
    assert 0 < json.loads((tmp_path / "base" / "config.json").read_text())["score_pivot"] < 1
    Segmenter.load(tmp_path / "base")


def test_the_report_says_what_came_of_it(finished):
    result, stages = finished
    facts = json.loads((result.variant_dir / "report.json").read_text())
    assert facts["against_base"] in ("better", "worse", "unclear")
    assert result.metrics["verdict"] == facts["verdict"] == judge_metrics(result.metrics).verdict
    assert facts["variant"]["ap50"] == pytest.approx(result.metrics["variant_ap50"], abs=1e-5)
    assert facts["recipe"]["deck_sha256"] == Deck.from_json(result.deck_json).digest
    assert facts["forgetting"][0]["images"] > 0 and facts["learning_curve"] is None
    assert result.metrics["summary"] == facts["sentences"]
    shown = json.loads((result.variant_dir / "predictions.json").read_text())
    assert len(shown["images"]) == 3 and all(image["truth"] for image in shown["images"])
    page = (result.variant_dir / "report.html").read_text()
    assert page.count("data:image/jpeg") == 3 and page.count("<use ") == 3  # each picture is in the page once
    assert "No learning curve" in page
    assert [p.stage for p in stages].count("report") == 5


@pytest.mark.slow
def test_a_longer_budget_has_a_curve_and_earlier_data_is_looked_at(
    base_dir, finished, cell_dir, tmp_path_factory, tmp_path, monkeypatch
):
    monkeypatch.setattr("finetune.evaluation.learning_curve.MIN_SECONDS", 0.25)
    monkeypatch.setattr(keeping, "best_share", lambda _: 1.0)  # with nothing kept there is no curve
    cell = write_cell(tmp_path_factory.mktemp("more"), DEMO_CELL, images=24, seed=4, size=96)
    before, _ = finished
    stages = []
    result = run_finetune(
        request(max_seconds=4.0, curve_share=0.4, dataset_ref="north/other@" + "d" * 64),
        dataset_dir=cell,
        base_dir=base_dir,
        workspace=tmp_path,
        report=lambda p: stages.append(p.stage),
        earlier=Earlier("dock-7@v1", before.deck_json, cell_dir, before.variant_dir),
    )
    assert list(dict.fromkeys(stages)) == ["check", "deck", "train", "evaluate", "curve", "report", "write"]
    facts = json.loads((result.variant_dir / "report.json").read_text())
    curve = facts["learning_curve"]
    assert [point["images"] for point in curve["points"]] == [4, 8, 16] and curve["sentence"]
    assert "variant dock-7@v1" in facts["forgetting"][1]["what"] and facts["forgetting"][1]["images"] == 3
    assert not list(tmp_path.glob("curve-*"))


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["enormous", "not finite"])
def test_what_cannot_be_served_is_refused_in_words_when_the_training_ends(
    spoil, base_dir, cell_dir, tmp_path, monkeypatch
):
    train = pipeline.adapt

    def diverging(*given, **more):
        model = train(*given, **more)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(1e4 if spoil == "enormous" else torch.nan)
        return model

    monkeypatch.setattr(pipeline, "adapt", diverging)
    with pytest.raises(TrainingError, match="cannot be served"):
        run_finetune(request(), dataset_dir=cell_dir, base_dir=base_dir, workspace=tmp_path, report=lambda p: None)


def test_a_variant_that_says_nothing_where_the_base_says_much_is_refused():
    class Says:
        def answer(self, images, orders):
            scores = [] if orders[0].variant else [0.9, 0.8, 0.7]
            masks = np.ones((len(scores), 4, 4), np.bool_)
            return [Instances.from_masks(masks, ["box"] * len(scores), np.array(scores, np.float32))]

    with pytest.raises(TrainingError, match="says nothing"):
        measuring.refuse_useless(Says())
