"""`parcelhub --help` imports no command, and no command's `--help` imports what only its work needs."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from hub.cli.main import PLACES, cli

HEAVY = ("torch", "litestar", "duckdb", "transformers", "numpy", "cv2", "httpx", "huggingface_hub", "rich.progress")
SCRIPT = """
import json, sys
from hub.cli.main import run
heavy, found = json.loads(sys.argv[1]), {}
for words in json.loads(sys.argv[2]):
    assert run([*words, "--help"]) == 0, words
    found[" ".join(words)] = [name for name in heavy if name in sys.modules]
    if not words:
        ours = ("hub.", "registry", "finetune", "serving")
        found["modules"] = [name for name in sys.modules if name.startswith(ours)]
sys.stderr.write(json.dumps(found))
"""


def every_command() -> list[list[str]]:
    """The words of each command; what a checkout alone has (`bench`) by its group."""
    found: list[list[str]] = []

    def walk(command: click.Command, words: list[str]) -> None:
        found.append(words)
        if isinstance(command, click.Group) and words != ["bench"]:
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, [*words, name])

    walk(cli, [])
    return found


def test_no_help_imports_what_only_the_work_needs() -> None:
    commands = every_command()
    assert commands[0] == [] and len(commands) > 80
    told = [sys.executable, "-c", SCRIPT, json.dumps(HEAVY), json.dumps(commands)]
    done = subprocess.run(told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stderr)
    # The group's own help comes first, before any command was imported.
    assert set(found.pop("modules")) == {"hub.cli", "hub.cli.main", "hub.cli.lazy", "serving", "serving.cores"}
    assert {words: heavy for words, heavy in found.items() if heavy} == {}


@pytest.mark.parametrize("name", PLACES)
def test_the_groups_help_says_what_the_command_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.help is not None
    assert " ".join(command.help.strip().split("\n\n")[0].split()) == PLACES[name].says


def test_an_unknown_command_is_told() -> None:
    assert cli.get_command(click.Context(cli), "fine-tune") is None
