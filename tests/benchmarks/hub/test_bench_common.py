"""What the benchmarks' commands share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cli.bench_common import machine, numbers, workplace, write_figures
from hub.errors import InputError


def test_numbers() -> None:
    assert numbers("8, 1,32", most=32) == [8, 1, 32]


@pytest.mark.parametrize("text", ["", "1,", "1.5", "eight", "0,1", "-1", "33"])
def test_what_are_no_numbers(text: str) -> None:
    with pytest.raises(InputError, match="numbers"):
        numbers(text, most=32)


def test_figures_are_written_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "figures.json"
    write_figures({"p50": 1.5, "by_rows": {8: 2.0}}, target)
    assert json.loads(target.read_text()) == {"p50": 1.5, "by_rows": {"8": 2.0}}
    with pytest.raises(TypeError):
        write_figures({"p50": object()}, target)
    assert json.loads(target.read_text())["p50"] == 1.5
    assert [path.name for path in target.parent.iterdir()] == ["figures.json"]
    write_figures({}, None)


def test_what_is_said_of_the_machine_can_be_written(tmp_path: Path) -> None:
    write_figures(machine("before"), tmp_path / "figures.json")
    assert set(json.loads((tmp_path / "figures.json").read_text())) == {"cpus", "machine", "torch", "load_before"}


def test_a_named_place_is_kept_another_is_not(tmp_path: Path) -> None:
    with workplace(tmp_path / "a" / "b") as kept, workplace() as lent:
        assert lent.is_dir()
    assert kept.is_dir() and kept.is_absolute()
    assert not lent.exists()
