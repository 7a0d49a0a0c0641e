"""The bake-off on next to nothing: the same code, figures that mean nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest

from benchmarks.finetune.bakeoff import BakeOffPlan, run_bakeoff, table_of
from finetune.errors import BaseModelError
from tests.finetune.training.test_training import TINY

EXPORTS = find_spec("onnxruntime") is not None and find_spec("onnxscript") is not None
PLAN = BakeOffPlan(
    families=("parcelseg", "mask_rcnn"),
    architecture=TINY,
    seconds=None,
    steps=3,
    lora_seconds=None,
    lora_steps=2,
    lora_images=4,
    cells=("demo", "robin"),
    holdout=3,
    batch_size=2,
    workers=0,
    repeats=2,
)


@pytest.mark.slow
def test_every_family_gets_its_row_and_a_second_run_goes_on(tmp_path):
    told = []
    rows = run_bakeoff(PLAN, tmp_path, report=lambda what, share: told.append((what, share)))
    assert [row.family for row in rows] == ["parcelseg", "mask_rcnn"]
    for row in rows:
        assert set(row.cells) == {"demo", "robin"}
        assert row.images == 6
        assert row.forward_ms[1] > 0
    assert rows[0].lora is not None
    assert rows[1].lora is None, "it takes no adapters"
    assert rows[0].export.startswith("ok" if EXPORTS else "not tried"), "the default family"
    table = table_of(rows)
    assert "parcelseg" in table
    assert "| none |" in table
    stored = json.loads((tmp_path / "bakeoff.json").read_text())
    again = run_bakeoff(PLAN, tmp_path, report=lambda *_: pytest.fail("nothing is left to do"))
    assert again == rows
    assert set(stored) == {"parcelseg", "mask_rcnn"}


def test_an_unknown_family_is_named(tmp_path):
    with pytest.raises(BaseModelError, match="'yolo'"):
        run_bakeoff(replace(PLAN, families=("yolo",)), tmp_path)
