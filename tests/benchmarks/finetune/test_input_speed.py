"""The yardstick of the input, on next to nothing: that it runs the real loop and adds up, not what it says."""

from __future__ import annotations

import pytest
import torch

from benchmarks.finetune.input_speed import measure_input
from finetune.training.base import BaseRecipe
from tests.finetune.training.test_training import TINY


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_the_loop_is_measured_beside_its_parts(workers):
    told = []
    recipe = BaseRecipe(architecture=TINY, batch_size=2, workers=workers)
    found = measure_input(recipe, steps=3, report=told.append)
    assert told == [
        "drawing scenes",
        "forward and backward alone",
        "the whole loop",
        "forward and backward alone, again",
    ]
    assert found.loop > 0
    assert found.alone > 0
    assert found.ratio == found.loop / found.alone
    assert 0 <= found.waited <= 1
    assert set(found.parts_ms) == {"scene", "collate", "forward", "backward", "clip", "optimizer", "average"}
    assert all(value >= 0 for value in found.parts_ms.values())
    assert found.parts_ms["backward"] > 0
    assert (found.threads, found.workers, found.batch_size) == (torch.get_num_threads(), workers, 2)
