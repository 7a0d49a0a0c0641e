"""What classes would be learnt as: for the command, for the form, and through the form into the job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.cli.main import run
from hub.client.client import HubClient
from hub.models.class_maps import in_words, known_labels, labels_of, suggested
from hub.services import Services
from tests.hub.material import write_rectangles
from tests.hub.web.conftest import browser, stranger  # noqa: F401  # fixtures
from tests.hub.web.material import Browser, push_rectangles

LABELS = ["box", "polybag", "reserved_0", "reserved_1"]


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        (b'{"id2label": {"10": "z", "2": "bag", "0": "box"}}', ["box", "bag", "z"]),
        (b'{"id2label": {"a": "box"}}', []),
        (b'{"id2label": ["box"]}', []),
        (b"{}", []),
        (b"not json", []),
    ],
)
def test_the_labels_of_a_configuration(config: bytes, labels: list[str]) -> None:
    assert labels_of(config) == labels


def test_what_becomes_of_each_class() -> None:
    rows, problem = suggested({"Cartons": 7, "laptop_top": 3, "ghost": 0}, LABELS)
    assert problem == "" and known_labels(LABELS) == ["box", "polybag"]
    assert [(row.name, in_words(row)) for row in rows] == [
        ("Cartons", "box"),
        ("laptop_top", "a class of its own"),
        ("ghost", "left out: no instance"),
    ]
    rows, problem = suggested(dict.fromkeys("abc", 1), LABELS)
    assert "2 spare labels" in problem and len(rows) == 3


def test_the_check_says_what_is_learnt_as_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_rectangles(tmp_path / "frames", images=3)
    (folder / "data.yaml").write_text("names: [carton]\nnc: 1\n")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}))
    monkeypatch.setenv("PARCELHUB_BASE_SOURCE", str(tmp_path / "base"))
    assert run(["dataset", "check", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["learnt_as"] == {"carton": "box"}
    assert run(["dataset", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "frames: 3 images, format yolo\n" in said and "learnt as" in said
    (tmp_path / "base" / "config.json").unlink()
    assert run(["dataset", "check", str(folder), "--json"]) == 0
    assert "learnt_as" not in json.loads(capsys.readouterr().out)


def test_a_class_map_is_chosen_in_the_form(
    browser: Browser,  # noqa: F811
    client: HubClient,
    services: Services,
    tmp_path: Path,
) -> None:
    push_rectangles(client, "acme/dock", tmp_path / "data", class_name='crate "<b>')
    page = browser.get("/ui/finetune?dataset=acme/dock")
    assert "What your classes are learnt as" in page and "it has 0 spare labels" in page
    assert "crate &#34;&lt;b&gt;" in page and 'crate "<b>' not in page
    fields = {"dataset": "acme/dock", "new_cell": "dock-7", "class-0": 'crate "<b>', "label-0": "box"}
    browser.post("/ui/finetune", fields)
    (job,) = services.jobs.all()
    assert job.spec.class_map == {'crate "<b>': "box"}
    browser.post("/ui/finetune", fields | {"label-0": "", "cell": "dock-7"})
    assert services.jobs.all()[0].spec.class_map == {}
    answer = browser.post("/ui/finetune", fields | {"minutes": "no"}, status=400)
    assert '<option value="box" selected>' in answer.text, "what was chosen is not lost"
