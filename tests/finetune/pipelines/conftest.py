"""A tiny base and a small cell for the tests of what a job runs: made once, only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.models.model import new_base, save_base
from finetune.pipelines import growth
from finetune.report import service
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from tests.finetune.training.test_training import TINY


@pytest.fixture(scope="package", autouse=True)
def few_scenes() -> Iterator[None]:
    """What a variant forgot is looked at on a few small scenes, and the score of a base found on a few: to draw the
    usual ones takes longer than to train.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "SCENES", 6)
        patch.setattr(service, "SCENES_SIZE", 128)
        patch.setattr(growth, "CALIBRATION_SCENES", 4)
        yield


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base(new_base(TINY, LABELS, seed=1), folder, card="# tiny\n")
    return folder


@pytest.fixture(scope="session")
def cell_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cell(tmp_path_factory.mktemp("cell"), DEMO_CELL, images=9, seed=3, size=96)
