"""The claim's arithmetic, and its whole run on next to nothing, interrupted and gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.claim import ROWS, ClaimPlan, ClaimRow, answer, draw, run_claim
from finetune.errors import DeckError
from finetune.model import new_base, save_base
from finetune.scenes import LABELS
from tests.finetune.test_training import TINY


def row(method: str, images: int, value: float, seed: int = 0) -> ClaimRow:
    return ClaimRow("demo", method, images, seed, 1, 1.0, value / 2, value, value)


def test_an_image_is_worth_what_scratch_needs_for_the_same_score() -> None:
    scratch = [row("scratch", 100, 0.1), row("scratch", 1000, 0.3)]
    rows = [row("lora", 10, 0.2), row("lora", 25, 0.05), row("lora", 50, 0.31), row("full", 10, 0.25), *scratch]
    found = answer(rows)
    assert found.worth[10] == pytest.approx(1000**0.5 * 100**0.5 / 10), "half way on a logarithmic axis"
    assert found.worth[25] == pytest.approx(4), "no fewer than the fewest that were tried"
    assert found.worth[50] is None, "more than the most that were tried"
    assert found.kept == {10: pytest.approx(0.8)}


def test_seeds_are_averaged_and_luck_does_not_bend_the_curve() -> None:
    rows = [row("lora", 10, 0.2, 0), row("lora", 10, 0.4, 1)]
    rows += [row("scratch", 40, 0.1), row("scratch", 100, 0.05), row("scratch", 400, 0.5)]
    found = answer(rows)
    assert 100 / 10 < found.worth[10] < 400 / 10
    assert draw(found).count("<svg") == 1


def test_without_scratch_there_is_no_worth() -> None:
    assert answer([row("lora", 10, 0.2)]).worth == {}


@pytest.mark.slow
def test_a_run_goes_on_behind_its_last_row(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_base(new_base(TINY, LABELS, seed=1), base, card="# tiny\n")
    plan = ClaimPlan.quick()
    first = run_claim(base, plan, tmp_path / "out")
    rows = tmp_path / "out" / ROWS
    assert len(first.rows) == 1 + 2 * 2 + 1
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])
    again = run_claim(base, plan, tmp_path / "out")
    kept = [ClaimRow(**json.loads(line)) for line in lines[:3]]
    assert list(again.rows[:3]) == kept, "finished rows are not run again"
    assert len(again.rows) == len(first.rows)
    assert json.loads((tmp_path / "out" / "claim.json").read_text())["metric"] == "ap75"
    assert (tmp_path / "out" / "claim.svg").read_text().startswith("<svg")


def test_an_unknown_cell_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeckError, match="'moon'"):
        run_claim(tmp_path, ClaimPlan(cells=("moon",)), tmp_path / "out")
