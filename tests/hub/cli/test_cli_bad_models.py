"""Bad input on the command line: each is refused with its own exit code, in a sentence that names what is to blame."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.hub.cli.test_cli import command
from tests.hub.material import write_tiny_base

WEIGHTS = "model.safetensors"


def unknown_family(base: Path) -> None:
    config = base / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "yolos"}))


def cut_short(base: Path) -> None:
    data = (base / WEIGHTS).read_bytes()
    (base / WEIGHTS).write_bytes(data[: len(data) // 2])


def endless_header(base: Path) -> None:
    (base / WEIGHTS).write_bytes(struct.pack("<Q", 2**62) + b"{}")


def a_pickle(base: Path) -> None:
    (base / WEIGHTS).write_bytes(b"\x80\x04\x95pickle")


def one_tensor_less(base: Path) -> None:
    tensors = load_file(base / WEIGHTS)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})


def another_shape(base: Path) -> None:
    tensors = load_file(base / WEIGHTS)
    name = sorted(tensors)[0]
    tensors[name] = np.zeros((3, 5), np.float16)
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and a cell's dataset of three pictures beside it."""
    from finetune.scenes import HELD_OUT, write_cell

    folder = tmp_path_factory.mktemp("sound")
    write_tiny_base(folder / "base")
    write_cell(folder / "cell", HELD_OUT["demo"], images=4, seed=3, size=64, valid_share=0.5)
    return folder


DOERS = {
    "eval": ["eval", "{base}", "{cell}"],
    "judge": ["base", "judge", "{base}", "--scenes", "2"],
    "calibrate": ["base", "calibrate", "{base}"],
    "seed": ["base", "seed", "--from", "{base}", "--out", "{tmp}/out"],
    "train": ["base", "train", "--start", "{base}", "--steps", "1", "--out", "{tmp}/out"],
    "fewshot": ["bench", "fewshot", "--base", "{base}", "--data", "{cell}", "--minutes", "0.01"],
}


BROKEN = [(doer, spoil) for doer in DOERS for spoil in (unknown_family, cut_short)]
BROKEN += [("eval", spoil) for spoil in (endless_header, a_pickle, one_tensor_less, another_shape)]
SENTENCES = {
    unknown_family: "config.json: model_type is 'yolos'",
    cut_short: "model.safetensors: not valid safetensors",
    endless_header: "model.safetensors: not valid safetensors",
    a_pickle: "model.safetensors: not valid safetensors",
    one_tensor_less: "1 tensors are missing",
    another_shape: "cannot be loaded as ParcelSeg",
}


@pytest.mark.parametrize(("doer", "spoil"), BROKEN)
def test_a_checkpoint_that_cannot_be_read(
    sound: Path, doer: str, spoil: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shutil.copytree(sound / "base", tmp_path / "base")
    spoil(base)
    words = (word.format(base=base, cell=sound / "cell", tmp=tmp_path) for word in DOERS[doer])
    code, _, said = command(capsys, *words)
    assert code == 2, said
    assert SENTENCES[spoil] in said.replace("\n", " ")
    assert str(base) in said.replace("\n", "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("doer", ["eval", "fewshot"])
def test_a_dataset_without_masks(sound: Path, doer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = shutil.copytree(sound / "cell", tmp_path / "bare-cell")
    for path in cell.rglob("*.json"):
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "annotations": []}))
    words = (word.format(base=sound / "base", cell=cell, tmp=tmp_path) for word in DOERS[doer])
    code, _, said = command(capsys, *words)
    assert code == 2, said
    told = said.replace("\n", " ")
    assert "bare-cell" in told or "no instance" in told, told


def test_a_class_map_that_drops_every_class(sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = shutil.copytree(sound / "cell", tmp_path / "odd-cell")
    for path in cell.rglob("*.json"):
        document = json.loads(path.read_text())
        for category in document.get("categories", ()):
            category["name"] = f"walrus {category['id']}"
        path.write_text(json.dumps(document))
    code, _, said = command(capsys, "eval", str(sound / "base"), str(cell))
    told = said.replace("\n", " ")
    assert code == 2, told
    assert "none of its classes" in told
    assert "walrus 1" in told
    assert "--map" in told
    code, _, said = command(capsys, "eval", str(sound / "base"), str(cell), "--map", "walrus 1=seal")
    assert code == 2
    assert "'seal'" in said


@pytest.mark.parametrize(
    ("size", "words"), [("40", "no multiple of the patches' 16"), ("8", "is not in the range x>=32")]
)
def test_a_picture_size_that_does_not_go(
    sound: Path, size: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [word.format(base=sound / "base", tmp=tmp_path) for word in DOERS["train"]]
    code, _, said = command(capsys, *line, "--image-size", size)
    assert code == 2, said
    assert words in " ".join(said.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("told", [None, 96])
def test_a_start_s_picture_size_is_kept_unless_told(
    sound: Path, told: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which recipe the command hands on; the training of one is tests/finetune/models/test_picture_size.py's."""
    from finetune.pipelines import base_service

    recipes = []
    monkeypatch.setattr(base_service, "make_base", lambda recipe, **_: recipes.append(recipe) or [])
    line = [word.format(base=sound / "base", tmp=tmp_path) for word in DOERS["train"]]
    code, _, said = command(capsys, *line, *(["--image-size", str(told)] if told else []))
    assert code == 0, said
    config = json.loads((sound / "base" / "config.json").read_text())
    assert config["image_size"] != 256, "else the default would pass for the start's"
    architecture = recipes[0].architecture
    assert architecture.image_size == (told or config["image_size"])
    assert (architecture.hidden_size, architecture.layers) == (config["hidden_size"], config["num_hidden_layers"])
