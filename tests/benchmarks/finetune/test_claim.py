"""The claim's arithmetic, and its whole run on next to nothing, interrupted and gone on with."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.finetune.data_efficiency import FOUNDED, METRICS, ROWS, ClaimPlan, ClaimRow, answer, draw, run_claim
from finetune.errors import DeckError
from finetune.models.model import new_base, save_base
from finetune.scenes import LABELS
from finetune.training import adapt as adapting
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


@pytest.mark.slow
def test_points_of_another_base_or_budget_are_run_again(tmp_path: Path) -> None:
    """One folder, three runs: only what is the same is taken over, and the answers are of one run's points alone."""
    bases = [tmp_path / "one", tmp_path / "other"]
    for seed, base in enumerate(bases):
        save_base(new_base(TINY, LABELS, seed=seed), base, card="# tiny\n")
    plan = replace(ClaimPlan.quick(), methods=("lora",), counts=(4,), own=2, steps=6)
    told: list[float] = []
    out = tmp_path / "out"
    first = run_claim(bases[0], plan, out, report=lambda _what, done, _total: told.append(done))
    assert told == sorted(told) and any(done % 1 for done in told), "a training tells how far it is"
    other = run_claim(bases[1], plan, out)
    longer = run_claim(bases[1], replace(plan, steps=7), out)
    assert [len(one.rows) for one in (first, other, longer)] == [3, 3, 3]
    assert {one.base for one in first.rows}.isdisjoint({one.base for one in other.rows})
    assert [one.steps for one in other.rows] == [0, 6, 6] and [one.steps for one in longer.rows] == [0, 7, 7]
    lines = (out / ROWS).read_text().splitlines()
    assert len(lines) == 3 + 3 + 2, "the base alone has no budget"
    again = run_claim(bases[0], plan, out)
    assert (out / ROWS).read_text().splitlines() == lines
    assert _documents(again.rows) == _documents(first.rows)
    # With more images in the plan others are held out: nothing of before can be compared with them.
    more = run_claim(bases[0], replace(plan, counts=(4, 12)), out)
    assert [one.images for one in more.rows] == [0, 4, 12, 8]
    assert len((out / ROWS).read_text().splitlines()) == len(lines) + 4


@pytest.mark.slow
def test_from_scratch_there_may_be_a_foundation_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = []
    monkeypatch.setattr(adapting, "foundation_weights", lambda name: filled.append(name))
    monkeypatch.setattr(adapting, "fill_encoder", lambda encoder, _weights: filled.append(type(encoder).__name__))
    base = tmp_path / "base"
    save_base(new_base(TINY, LABELS, seed=1), base, card="# tiny\n")
    plan = replace(ClaimPlan.quick(), methods=("lora",), counts=(4,), foundation="efficientnet-lite0", own=2)
    found = run_claim(base, plan, tmp_path / "out")
    assert [one.method for one in found.rows] == ["zero-shot", "lora", "scratch", FOUNDED]
    assert filled == ["efficientnet-lite0", "LiteEncoder"]
    assert set(found.founded_worth) == set(found.worth) == {4}
    drawn = draw(found)
    assert drawn != draw(replace(found, rows=found.rows[:3])) and drawn.startswith("<svg")


def test_an_unknown_cell_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeckError, match=r"'moon'.*gantry"):
        run_claim(tmp_path, ClaimPlan(cells=("moon",)), tmp_path / "out")


def _documents(rows: list[ClaimRow]) -> list[str]:
    """What rows say, whatever the order of their keys; scores that are no number equal each other."""
    return [json.dumps(asdict(one), sort_keys=True) for one in rows]
