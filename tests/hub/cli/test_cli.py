"""Commands: what they say, where they say it, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.cli.main import run
from hub.client.client import HubClient
from hub.errors import HubError
from hub.locks import data_folder_lock
from hub.settings import Settings
from serving.triton.installation import Installation
from tests.hub.material import write_base_files, write_rectangles


@pytest.fixture
def here(live_hub: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The environment of a person who works with the live hub."""
    for name, value in live_hub.environment().items():
        monkeypatch.setenv(name, value)
    return live_hub


def command(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run(args)
    said = capsys.readouterr()
    return code, said.out, said.err


HELP = """
import sys
from hub.cli.main import run
assert run(["--help"]) == 0
slow = {"torch", "torchvision", "transformers", "peft", "litestar", "mujoco", "matplotlib", "tritonclient"}
print("loaded:", sorted(slow & set(sys.modules)))
"""


def test_help_loads_nothing_slow_and_names_every_command() -> None:
    # What makes help slow is loading such packages (torch alone takes seconds); how slow is the machine's affair.
    shown = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert "loaded: []" in shown.stdout
    for name in ("up", "demo", "doctor", "dataset", "finetune", "model", "cell", "segment", "worker"):
        assert name in shown.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["up"], ["hub"], ["serve"], ["worker"], ["job", "run"], ["doctor"], ["demo"], ["segment"],
        ["cell", "create"], ["cell", "list"], ["token", "create"], ["token", "list"], ["token", "revoke"],
        ["dataset", "check"], ["dataset", "convert"], ["dataset", "push"], ["dataset", "list"], ["dataset", "show"],
        ["finetune", "submit"], ["finetune", "watch"], ["finetune", "list"], ["finetune", "cancel"],
        ["model", "list"], ["model", "show"], ["model", "promote"], ["model", "rollback"],
        ["dataset", "offer"], ["dataset", "contribution"], ["base", "grow"], ["base", "growths"],
        ["base", "contributions"], ["base", "growth-policy"],
        ["base", "train"], ["base", "judge"], ["eval"], ["scenes", "write"], ["scenes", "show"],
        ["bench", "fewshot"], ["bench", "claim"], ["bench", "scenes"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_has_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = command(capsys, *words, "--help")
    assert code == 0
    assert "Example:" in shown and f"parcelhub {' '.join(words)}" in " ".join(shown.split())


def test_what_there_is_in_a_cell(here: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(capsys, "cell", "create", "told", "--class", "box")[0] == 0
    code, shown, _ = command(capsys, "cell", "list", "--json")
    assert next(cell["classes"] for cell in json.loads(shown) if cell["name"] == "told") == ["box"]
    code, _, said = command(capsys, "cell", "change", "told", "--class", "drum")
    assert code == 2 and "knows no 'drum'" in said
    assert command(capsys, "cell", "change", "told", "--class", "box", "--any-class")[0] == 2
    code, shown, _ = command(capsys, "cell", "change", "told", "--any-class")
    assert code == 0 and "any class" in shown


def test_a_team_and_its_cell(here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    frames = str(write_rectangles(tmp_path / "frames", images=6))
    assert command(capsys, "cell", "create", "dock-cli", "--description", "north")[0] == 0
    code, shown, _ = command(capsys, "cell", "list", "--json")
    assert code == 0 and "dock-cli" in [cell["name"] for cell in json.loads(shown)]
    code, shown, _ = command(capsys, "dataset", "check", frames, "--json")
    assert json.loads(shown) == {
        "name": "frames", "format": "yolo", "images": 6, "images_labelled": 6, "instances": {"box": 18},
        "learnt_as": {"box": "box"}, "warnings": [],
    }  # fmt: skip
    code, shown, _ = command(capsys, "dataset", "push", frames, "acme/cli", "--json")
    assert code == 0
    head = json.loads(shown)["id"]
    assert json.loads(command(capsys, "dataset", "push", frames, "acme/cli", "--json")[1])["id"] == head
    assert "acme/cli" in command(capsys, "dataset", "list")[1]
    assert "6 images" in command(capsys, "dataset", "show", "acme/cli")[1]
    code, shown, _ = command(
        capsys, "finetune", "submit", "--cell", "dock-cli", "--dataset", "acme/cli", "--max-minutes", "0.1", "--json"
    )
    job = json.loads(shown)
    assert (code, job["state"], job["spec"]["dataset_commit"]) == (0, "queued", head)
    assert job["id"] in command(capsys, "finetune", "list")[1]
    assert command(capsys, "finetune", "cancel", job["id"])[0] == 0
    code, _, said = command(capsys, "finetune", "watch", job["id"])
    assert code == 1 and "cancelled" in said
    assert "base/universal@v1" in command(capsys, "model", "list")[1]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["cell", "create", "Not Good"], 2, "name"),
        (["cell", "create"], 2, "Missing argument"),
        (["finetune", "submit", "--cell", "nowhere", "--dataset", "a/b"], 3, "there is no cell 'nowhere'"),
        (["finetune", "watch", "nope"], 3, "there is no job 'nope'"),
        (["dataset", "show", "no/thing"], 3, "no/thing"),
        (["dataset", "push", "/no/folder", "a/b"], 2, "/no/folder: does not exist"),
        (["model", "promote", "dock-7"], 2, "does not name a variant"),
        (["model", "show", "dock-7@v1"], 3, "has no variant"),
        (["segment", "/no/picture.png", "--cell", "x"], 2, "/no/picture.png"),
        (["frobnicate"], 2, "No such command"),
    ],
)  # fmt: skip
def test_errors_are_sentences_on_stderr(
    here: Settings, capsys: pytest.CaptureFixture[str], words: list[str], code: int, sentence: str
) -> None:
    got, shown, said = command(capsys, *words)
    assert (got, shown) == (code, "")
    assert sentence in said and "Traceback" not in said


def test_bad_datasets_name_file_and_line_and_send_nothing(
    here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = write_rectangles(tmp_path / "frames", images=3)
    (frames / "train" / "labels" / "001.txt").write_text("0 0.1 0.1 oops 0.2 0.3 0.3\n")
    (tmp_path / "empty").mkdir()
    code, _, said = command(capsys, "dataset", "push", str(frames), "acme/bad")
    assert code == 2 and "train/labels/001.txt:1" in said
    code, _, said = command(capsys, "dataset", "push", str(tmp_path / "empty"), "acme/bad")
    assert code == 2 and "no image" in said
    with HubClient.of(here) as client:
        assert "bad" not in [repo.name for repo in client.repos("dataset")]


def test_a_wrong_token_and_an_absent_hub_are_told_apart(
    here: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARCELHUB_TOKEN", "ph_wrong")
    code, _, said = command(capsys, "cell", "list")
    assert (code, "unknown token" in said) == (4, True)
    code, _, said = command(capsys, "cell", "list", "--hub", "http://127.0.0.1:9")
    assert code == 1 and "no hub answers at http://127.0.0.1:9" in said


def test_up_names_the_port_or_the_folder_that_is_taken(
    here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, said = command(capsys, "up", "--data", str(tmp_path / "other"))
    assert code == 2 and f"port {here.port} (hub)" in said and "PARCELHUB_PORT" in said
    with data_folder_lock(tmp_path / "mine", "up"):
        code, _, said = command(capsys, "up", "--data", str(tmp_path / "mine"))
    assert code == 2 and str(tmp_path / "mine") in said and str(os.getpid()) in said
    code, _, said = command(capsys, "hub", "--data", str(tmp_path / "other"))
    assert code == 2 and f"port {here.port}" in said


def test_a_debug_run_shows_the_traceback(
    here: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARCELHUB_DEBUG", "")  # so that what --debug sets is undone after the test
    code, _, said = command(capsys, "model", "promote", "dock-7", "--debug")
    assert code == 2 and "Traceback" in said and "InputError" in said


def test_doctor_finds_what_is_missing_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARCELHUB_BASE_SOURCE", str(write_base_files(tmp_path / "base")))
    monkeypatch.setenv("PARCELHUB_TRITONSERVER", str(tmp_path / "no-triton"))
    code, shown, _ = command(capsys, "doctor", "--data", str(tmp_path / "data"), "--json")
    checks: dict[str, Any] = {check["name"]: check for check in json.loads(shown)}
    assert code == 1
    assert checks["triton"]["status"] == "fail" and "no-triton" in checks["triton"]["found"]
    assert checks["base model"]["status"] == "ok"
    assert {"python", "libpython", "packages", "ports", "data folder", "disk", "memory", "cores", "gpu"} <= set(checks)
    assert all(check["advice"] for check in checks.values() if check["status"] == "fail")
    assert not (tmp_path / "data").exists(), "a check changes nothing"


def test_doctor_on_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, shown, _ = command(capsys, "doctor", "--data", str(tmp_path / "file" / "data"), "--json")
    status = {check["name"]: check["status"] for check in json.loads(shown)}
    assert code == 1 and status["data folder"] == "fail"


def test_a_missing_triton_stops_up_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> Installation:
        from serving.errors import TritonNotFound

        raise TritonNotFound("no tritonserver on this machine")

    monkeypatch.setattr(Installation, "find", nothing)
    monkeypatch.setattr("hub.stack.stack.check_ports", lambda *_: None)
    code, _, said = command(capsys, "up", "--data", str(tmp_path / "data"))
    assert code == 2 and "no tritonserver" in said
    assert not (tmp_path / "data" / "catalog.duckdb").exists()


def test_a_teams_token_is_a_teams_and_no_users(here: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, token, said = command(capsys, "token", "create", "ci", "--team", "acme", "--scope", "contribute")
    assert code == 0, said
    with HubClient(here.url, token.strip()) as team:
        team.ensure_repo("dataset", "acme/from-ci")
        with pytest.raises(HubError):
            team.ensure_repo("dataset", "rival/from-ci")
        with pytest.raises(HubError):
            team.create_token("more", ["read"])
    with HubClient.of(here) as client:
        (made,) = [one for one in client.tokens() if one.name == "ci"]
        assert made.user is None
        assert "team:acme" in made.scopes
    code, _, said = command(capsys, "token", "create", "ci", "--team", "acme", "--team", "other")
    assert (code, "one team" in said) == (2, True)
    code, _, said = command(capsys, "token", "create", "ci", "--fullname", "Ann")
    assert (code, "--user" in said) == (2, True)


@pytest.mark.slow
def test_a_pushed_folder_keeps_the_licence_of_its_card(
    here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = write_rectangles(tmp_path / "frames", images=3)
    (frames / "README.md").write_text("---\nlicense: CC0-1.0\n---\n\n# Frames\n")

    def pushed(*more: str) -> str:
        assert command(capsys, "dataset", "push", str(frames), "acme/licensed", *more)[0] == 0
        with HubClient.of(here) as client:
            client.download("dataset", "acme/licensed", "main", "README.md", tmp_path / "card.md")
        return (tmp_path / "card.md").read_text()

    assert "license: cc0-1.0" in pushed()
    assert "license: mit" in pushed("--licence", "mit"), "what is said goes before"
    (frames / "README.md").write_text("# Frames\n")
    assert "license: unknown" in pushed()
