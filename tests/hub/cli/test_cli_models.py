"""Commands that need no hub: scenes, and examining a model."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.hub.cli.test_cli import command
from tests.hub.material import write_tiny_base


@pytest.mark.slow
def test_scenes_are_written_shown_and_examined(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data, sheet, page = tmp_path / "robin", tmp_path / "sheet.png", tmp_path / "page"
    code, said, _ = command(capsys, "scenes", "write", "robin", str(data), "--images", "6", "--size", "96")
    assert code == 0 and "(6 images)" in " ".join(said.split())
    assert '"generator"' in (data / "README.md").read_text()
    code, _, _ = command(capsys, "scenes", "show", "robin", str(sheet), "--size", "64")
    assert code == 0 and cv2.imread(str(sheet)).shape == (4 * 64, 6 * 64, 3)
    base = write_tiny_base(tmp_path / "base")
    code, said, _ = command(capsys, "eval", str(base), str(data), "--json", "--out", str(page))
    assert code == 0
    facts = json.loads(said)
    assert facts["evaluation"]["images"] == 2
    assert {"boundary", "calibration"} <= facts.keys()
    assert {"agnostic_ap", "agnostic_ap50", "agnostic_ap75"} <= facts["evaluation"].keys()
    assert (page / "index.html").is_file() and (page / "contact_sheet.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["scenes", "write", "moon", "{tmp}/x"],
            "the fast tier has no look 'moon'; it has broad, demo, robin, cardinal",
        ),
        (["scenes", "write", "robin", "{full}"], "not empty"),
        (["scenes", "show", "robin", "{tmp}/sheet.txt", "--size", "64"], "cannot be written as a picture"),
        (["eval", "{full}", "{tmp}"], "no dataset found"),
        (["eval", "{full}", "{tmp}", "--map", "carton"], "--map wants CLASS=LABEL"),
        (["bench", "claim", "--out", "{tmp}/c", "--counts", "ten"], "whole numbers"),
        (["bench", "claim", "--out", "{tmp}/c", "--cells", "moon"], "no held-out cell 'moon'"),
    ],
)
def test_bad_words_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], sentence: str
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "note.txt").write_text("here")
    code, _, said = command(capsys, *(word.format(tmp=tmp_path, full=full) for word in words))
    assert code == 2
    assert sentence in " ".join(said.split())
