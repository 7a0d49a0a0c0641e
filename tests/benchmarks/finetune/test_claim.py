"""The claim's arithmetic, and its whole run on next to nothing, interrupted and gone on with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.finetune.data_efficiency import METRICS, ROWS, ClaimPlan, ClaimRow, answer, draw, run_claim
from finetune.errors import DeckError
from finetune.models.model import new_base, save_base
from finetune.scenes import LABELS
from tests.finetune.training.test_training import TINY


def row(method: str, images: int, value: float, seed: int = 0, own: float | None = None) -> ClaimRow:
    kept = {} if own is None else {"ap": own / 2, "ap50": own, "ap75": own}
    return ClaimRow("demo", method, images, seed, 1, 1.0, value / 2, value, value, value, value, {}, kept)


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


def test_what_is_forgotten_is_told_by_method_and_images() -> None:
    rows = [row("zero-shot", 0, 0.1, own=0.5), row("lora", 10, 0.2, own=0.45), row("lora", 25, 0.2, own=0.3)]
    rows += [row("full", 10, 0.2, 0, own=0.2), row("full", 10, 0.2, 1, own=0.4), row("scratch", 10, 0.2, own=0.0)]
    lost = answer(rows).forgotten
    assert lost["lora"] == {10: pytest.approx(0.05), 25: pytest.approx(0.2)}
    assert lost["full"] == {10: pytest.approx(0.2)}
    assert answer([row("lora", 10, 0.2)]).forgotten == {}


@pytest.mark.slow
def test_a_run_goes_on_behind_its_last_row(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_base(new_base(TINY, LABELS, seed=1), base, card="# tiny\n")
    plan = ClaimPlan.quick()
    first = run_claim(base, plan, tmp_path / "out")
    rows = tmp_path / "out" / ROWS
    assert len(first.rows) == 1 + 2 * 2 + 1
    assert all(set(one.intervals) >= set(one.own) == set(METRICS) for one in first.rows)
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(lines[:3]) + "\n" + lines[3][:20])
    again = run_claim(base, plan, tmp_path / "out")
    kept = [json.loads(line) for line in lines[:3]]
    assert json.loads(json.dumps([asdict(one) for one in again.rows[:3]])) == kept, "finished rows are not run again"
    assert len(again.rows) == len(first.rows)
    assert json.loads((tmp_path / "out" / "claim.json").read_text())["metric"] == "ap75"
    assert (tmp_path / "out" / "claim.svg").read_text().startswith("<svg")


def test_an_unknown_cell_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeckError, match=r"'moon'.*gantry"):
        run_claim(tmp_path, ClaimPlan(cells=("moon",)), tmp_path / "out")
