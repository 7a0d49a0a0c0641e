"""Adapters give the same answer whatever runs the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from serving.errors import BaseError
from serving.families.load import load_model
from serving.families.types import InstanceModel
from serving.inference import graph_engines, runners
from serving.inference.adapters import AdapterBank
from serving.inference.preprocess import preprocessor_config
from serving.inference.runners import EngineChoice
from serving.inference.segmenter import Segmenter
from tests.serving.conftest import SIZE, make_variant, scene

NAMES = ("north@v1", "south@v2", "west@v1")


@pytest.fixture(scope="module")
def three(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Variants of ranks 4, 4 and 2 on the layers that fine-tunes change, as those are that a hub makes."""
    place = tmp_path_factory.mktemp("three")
    ranks = dict(zip(NAMES, (4, 4, 2), strict=True))
    tuned = load_model(base_dir).tuned_targets
    return {
        n: make_variant(base_dir, place / n, seed=20 + k, rank=ranks[n], target_modules=tuned)
        for k, n in enumerate(NAMES)
    }


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bool, Path]]:
    """A folder for exported graphs, and those that lie there: without adapters, with them."""
    return tmp_path_factory.mktemp("graphs"), {}


@pytest.fixture
def exported_once(graphs: tuple[Path, dict[bool, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines read one pair of graphs of the one base: to export them takes longer than all else."""
    export = graph_engines.export_onnx
    place, kept = graphs

    def once(model: InstanceModel, bank: AdapterBank, size: int, path: Path, *, adapters: bool) -> Path:
        if adapters not in kept:
            kept[adapters] = export(model, bank, size, place / path.name, adapters=adapters)
        return kept[adapters]

    monkeypatch.setattr(graph_engines, "export_onnx", once)


def loaded(base_dir: Path, variants: dict[str, Path], choice: EngineChoice) -> Segmenter:
    segmenter = Segmenter.load(base_dir, device="cpu", slots=5, max_rank=8, engine=choice)
    for name, folder in variants.items():
        segmenter.add_variant(name, folder)
    return segmenter


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
@pytest.mark.usefixtures("exported_once")
def test_an_engine_gives_what_peft_merged_gives(engine: str, base_dir: Path, three: dict[str, Path]) -> None:
    if engine != "eager":
        pytest.importorskip(engine)
        pytest.importorskip("onnxscript")
    segmenter = loaded(base_dir, three, EngineChoice(engine, "float32"))  # type: ignore[arg-type]
    assert segmenter.engine == f"{engine} float32"
    images = [scene(seed=i) for i in range(4)]
    wanted = {}
    for name, folder in three.items():
        merged = PeftModel.from_pretrained(load_model(base_dir), folder).merge_and_unload().eval()
        labels = json.loads((folder / "variant.json").read_text())["labels"]
        wanted[name] = Segmenter.from_model(merged, preprocessor_config(SIZE), labels=labels).predict(
            images, [None] * 4
        )
    wanted[None] = Segmenter.from_model(load_model(base_dir), preprocessor_config(SIZE)).predict(images, [None] * 4)
    for rows in ([*NAMES, None], [None] * 4, ["west@v1"] * 4, ["south@v2", None, None, "south@v2"]):
        said = segmenter.predict(images, rows)
        for row, name in enumerate(rows):
            assert torch.allclose(said.scores[row], wanted[name].scores[row], atol=1e-3), (rows, row)
            assert torch.allclose(said.masks[row], wanted[name].masks[row], atol=1e-2), (rows, row)


def test_batches_longer_than_a_part_and_merged_weights_say_the_same(base_dir: Path, three: dict[str, Path]) -> None:
    segmenter = loaded(base_dir, three, EngineChoice())
    images = [scene(seed=i) for i in range(11)]
    rows = [(*NAMES, None)[i % 4] for i in range(11)]
    together = segmenter.predict(images, rows)
    for _ in range(3):  # from the second time on the weights are merged
        for i in (0, 1, 2, 10):
            alone = segmenter.predict([images[i]], [rows[i]])
            assert torch.allclose(alone.scores[0], together.scores[i], atol=1e-4)
            assert torch.allclose(alone.masks[0], together.masks[i], atol=1e-3)
    assert len(segmenter._bank._merged) == len(NAMES)
    again = segmenter.predict(images, rows)  # mixed, on the merged weights
    assert torch.allclose(again.scores, together.scores, atol=1e-4)
    assert torch.allclose(again.masks, together.masks, atol=1e-3)


def test_variants_of_a_batch_that_share_too_small_a_pool_stay_apart(base_dir: Path, three: dict[str, Path]) -> None:
    """Each row gets its own variant's answer: none loses its weights to another row of the batch."""
    exact = loaded(base_dir, three, EngineChoice())
    images = [scene(seed=i) for i in range(3)]
    wanted = {name: exact.predict(images, [name] * 3) for name in NAMES}
    segmenter = loaded(base_dir, three, EngineChoice())
    pool = segmenter._bank._merged
    pool._views = pool._views[:2]
    low, busy, newcomer = NAMES  # in the order of their slots
    for name, times in ((low, 2), (busy, 10), (low, 1), (newcomer, 5)):
        for _ in range(times):
            segmenter.predict(images[:1], [name])
    # The newcomer was asked for more than one of the two that have a place, and the other was used longer ago.
    assert len(pool) == 2
    for rows in ([low, busy, newcomer], [newcomer, low, busy], [low, newcomer, busy]):
        said = segmenter.predict(images, rows)
        for row, name in enumerate(rows):
            assert torch.allclose(said.masks[row], wanted[name].masks[row], atol=1e-3), (rows, row)


def test_merged_weights_go_when_the_slot_gets_another_adapter(base_dir: Path, three: dict[str, Path]) -> None:
    segmenter = loaded(base_dir, three, EngineChoice())
    before = [segmenter.predict([scene()], ["north@v1"]).masks for _ in range(3)]
    segmenter.add_variant("north@v1", three["south@v2"])
    after = [segmenter.predict([scene()], ["north@v1"]).masks for _ in range(3)]
    for masks in after:
        assert torch.allclose(masks, after[0], atol=1e-3)
        assert not torch.allclose(masks, before[0], atol=1e-3)


def test_bfloat16_keeps_the_answers_close(base_dir: Path, three: dict[str, Path]) -> None:
    images, rows = [scene(seed=i) for i in range(3)], ["north@v1", None, "west@v1"]
    exact = loaded(base_dir, three, EngineChoice()).predict(images, rows)
    segmenter = loaded(base_dir, three, EngineChoice("eager", "bfloat16"))
    assert segmenter.engine == "eager bfloat16"
    said = segmenter.predict(images, rows)
    assert (said.scores.sort(dim=1).values - exact.scores.sort(dim=1).values).abs().mean() < 0.02


def test_what_the_environment_may_say() -> None:
    assert EngineChoice.read({}) == EngineChoice("auto", "auto")
    assert EngineChoice.read({"PARCELHUB_ENGINE": "openvino", "PARCELHUB_PRECISION": "float32"}).engine == "openvino"
    for wrong in ({"PARCELHUB_ENGINE": "tensorrt"}, {"PARCELHUB_PRECISION": "int4"}):
        with pytest.raises(BaseError, match="known are"):
            EngineChoice.read(wrong)


@pytest.mark.parametrize("quick", [True, False])
def test_bfloat16_is_taken_where_it_is_quicker(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "quick_bfloat16", lambda: quick)
    choice, cpu = EngineChoice.read({}), torch.device("cpu")
    assert choice.dtype(cpu, "parcelseg") == (torch.bfloat16 if quick else torch.float32)
    assert choice.dtype(cpu, "eomt") == torch.float32
    assert EngineChoice.read({"PARCELHUB_PRECISION": "bfloat16"}).dtype(cpu, "parcelseg") == torch.bfloat16


def test_an_engine_that_is_not_there_leaves_eager(
    base_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    segmenter = Segmenter.load(base_dir, device="cpu", engine=EngineChoice("onnxruntime", "float32"))
    assert segmenter.engine == "eager float32"
    assert "onnxscript is not installed" in caplog.text
