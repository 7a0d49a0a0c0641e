"""`parcelhub dataset check` and `convert`: formats named, losses said, nothing half written."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from finetune.datasets import FORMATS, read_dataset
from hub.cli.main import run
from tests.finetune.folders import coco_folder, coco_json, yolo_folder

PARTS = [[2, 2, 9, 2, 9, 9, 2, 9], [20, 20, 30, 20, 30, 28, 20, 28]]


def test_an_unknown_format_is_answered_with_every_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dataset", "convert", str(yolo_folder(tmp_path)), str(tmp_path / "out"), "--to", "pascal"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert len(FORMATS) >= 13 and all(name in said for name in FORMATS)


def test_check_names_the_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dataset", "check", str(yolo_folder(tmp_path)), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["images"], facts["instances"]) == ("yolo", 3, {"box": 3, "bag": 0})


def test_check_looks_at_the_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = yolo_folder(tmp_path)
    assert run(["dataset", "check", str(folder), "--quality"]) == 0
    assert "boxes, not" in " ".join(capsys.readouterr().out.split())
    shutil.copytree(folder / "train", folder / "valid")
    assert run(["dataset", "check", str(folder), "--quality", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)["quality"]
    assert [finding["check"] for finding in report["findings"] if finding["severity"] == "error"] == ["exact-leak"]


def test_convert_says_what_is_lost_and_loses_no_pixel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = [coco_json()["annotations"][0] | {"segmentation": PARTS}]
    source, target = coco_folder(tmp_path / "in", coco_json(annotations=annotations)), tmp_path / "out"
    assert run(["dataset", "convert", str(source), str(target), "--to", "yolo", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["written"], facts["target"]) == ("coco", "yolo", str(target))
    assert [text.split(",")[0] for text in facts["lost"]] == ["1 x instance of several parts"]
    assert read_dataset(target).samples[0].masks == read_dataset(source).samples[0].masks
    assert run(["dataset", "convert", str(source), str(tmp_path / "more"), "--to", "cvat-polygons"]) == 0
    told = capsys.readouterr()
    assert "coco -> cvat-polygons: 1 images, 1 instances" in told.out
    assert "lost: 1 x instance of several parts" in told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in", "out", "--to", "xls"], "there is no format 'xls'; there are coco,"),
        (["in", "in", "--to", "coco"], "not an empty folder"),
        (["absent", "out", "--to", "coco"], "does not exist"),
        (["in/data.yaml", "out", "--to", "coco"], "is a file and no ZIP"),
    ],
)
def test_convert_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    yolo_folder(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    assert run(["dataset", "convert", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("mark", ["/", "\\"], ids=["slashes", "backslashes"])
def test_a_zip_is_read_wherever_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], mark: str) -> None:
    folder = yolo_folder(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo("x")
            member.filename = mark.join(file.relative_to(folder).parts)  # as old tools of Windows write it
            packed.writestr(member, file.read_bytes())
    assert run(["dataset", "check", str(tmp_path / "export.zip"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["images"]) == ("yolo", 3)
    assert run(["dataset", "convert", str(tmp_path / "export.zip"), str(tmp_path / "out"), "--to", "coco"]) == 0
    assert [one.masks for one in read_dataset(tmp_path / "out").samples] == [
        one.masks for one in read_dataset(folder).samples
    ]
