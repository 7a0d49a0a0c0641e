"""The ablation's table, and its whole run on next to nothing, interrupted and gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.finetune.ablation import RECIPES, ROWS, AblationPlan, AblationRow, run_ablation, table_of
from finetune.errors import DeckError
from finetune.models.model import new_base, save_base
from finetune.scenes import LABELS
from serving.inference.slot_layers import can_carry
from tests.finetune.training.test_training import TINY


def row(recipe: str, cell: str, seed: int, value: float) -> AblationRow:
    return AblationRow(recipe, cell, seed, 3, (value, value, value), (0.5, 0.5, 0.25))


def test_recipes_are_compared_pair_by_pair() -> None:
    rows = [row("base alone", "demo", 0, 0.1)]
    for seed, level in enumerate((0.2, 0.4)):
        rows += [row("as shipped", "demo", seed, level), row("rank 4", "demo", seed, level - 0.05)]
    lines = table_of(rows).splitlines()
    assert lines[2].startswith("| base alone | 1 | 0.100 | 0.100 | 0.100 |  |")
    assert lines[4] == "| rank 4 | 2 | 0.250 | 0.250 | 0.250 | -0.050 ± 0.000 | 0.250 |"


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeckError, match="no recipe 'rank 5'"):
        run_ablation(tmp_path, AblationPlan(recipes=("rank 5",)), tmp_path)
    with pytest.raises(DeckError, match="no cell 'attic'"):
        run_ablation(tmp_path, AblationPlan(cells=("attic",)), tmp_path)


def test_names_can_be_listed_on_the_command_line() -> None:
    assert not [name for name in RECIPES if "," in name]


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.targets])
def test_targets_meet_layers_of_the_default_family(name: str) -> None:
    import re

    model = new_base(TINY, LABELS, seed=1)
    layers = [layer for layer, module in model.named_modules() if can_carry(module)]
    met = [layer for layer in layers if re.fullmatch(RECIPES[name].targets or "", layer)]
    assert met
    assert all(re.fullmatch(model.adapter_targets or "", layer) for layer in met), "the bank serves no others"


@pytest.mark.slow
def test_a_run_goes_on_behind_its_last_row(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_base(new_base(TINY, LABELS, seed=1), base, card="# tiny\n")
    recipes = ("as shipped", "rehearsal 25 %", "heads alone")
    plan = AblationPlan(recipes, ("demo",), (0,), images=4, seconds=None, steps=2, holdout=5, size=96)
    first = run_ablation(base, plan, tmp_path / "out")
    assert [found.recipe for found in first] == ["base alone", *recipes]
    lines = (tmp_path / "out" / ROWS).read_text().splitlines()
    (tmp_path / "out" / ROWS).write_text("\n".join(lines[:2]) + "\n" + lines[2][:20])
    assert len(run_ablation(base, plan, tmp_path / "out")) == 4
    assert len((tmp_path / "out" / ROWS).read_text().splitlines()) == 5, "two kept, half a line, two made again"
    assert len(run_ablation(base, plan, tmp_path / "out")) == 4
    assert len((tmp_path / "out" / ROWS).read_text().splitlines()) == 5, "nothing is left to do"
