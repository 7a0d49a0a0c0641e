"""The demo's own parts; the story it tells is the one of tests/e2e."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from finetune.scenes import CELLS as HELD_OUT_CELLS
from hub.cli.demo import CELLS
from hub.cli.main import run
from hub.stack.demo import Figures, own_settings, renamed
from serving.instances import Instances
from tests.hub.material import write_rectangles


def test_its_stack_touches_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARCELHUB_HUB_URL", "http://production:8400")
    monkeypatch.setenv("PARCELHUB_TOKEN", "ph_production")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("PARCELHUB_PORT", str(taken.getsockname()[1]))
        settings = own_settings(tmp_path)
        assert settings.port != taken.getsockname()[1]
    assert settings.url == f"http://127.0.0.1:{settings.port}"
    assert settings.environment()["PARCELHUB_HUB_URL"] == "" == settings.environment()["PARCELHUB_TOKEN"]
    assert len(set(settings.ports.values())) == 4


def test_the_base_answers_in_the_teams_words() -> None:
    masks = np.zeros((3, 4, 4), np.bool_)
    masks[:, 1:3, 1:3] = True
    answer = Instances.from_masks(masks, ["box", "bag", "box"], [0.9, 0.8, 0.7])
    team = renamed(answer, {"box": "carton"})
    assert team.labels == ("carton", "carton")
    assert team.scores.tolist() == pytest.approx([0.9, 0.7])


def test_bad_images_end_it_before_anything_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = write_rectangles(tmp_path / "frames", images=3)
    (frames / "train" / "labels" / "002.txt").write_text("zero\n")
    out = tmp_path / "out"
    assert run(["demo", "--data", str(frames), "--out", str(out)]) == 2
    assert "train/labels/002.txt:1" in capsys.readouterr().err
    assert run(["demo", "--data", str(tmp_path / "nowhere"), "--out", str(out)]) == 2
    assert run(["demo", "--data", str(frames), "--cell", "robin", "--out", str(out)]) == 2
    assert "not both" in capsys.readouterr().err
    assert not out.exists()


def test_the_cells_it_can_make_up_are_the_held_out_ones() -> None:
    assert list(CELLS) == list(HELD_OUT_CELLS), "named twice, so that the command line starts without torch"


def test_the_figures_are_these() -> None:
    assert Figures.__struct_fields__ == (
        "data", "images_train", "images_holdout", "base_ap", "base_ap50", "variant_ap", "variant_ap50",
        "adapter_bytes", "base_bytes", "train_seconds", "kept_share", "robot_p50_ms", "engine_p50_ms", "served_by",
    )  # fmt: skip
