"""For all tests of what makes models: tiny networks need few pictures to start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finetune.training import base


@pytest.fixture(scope="package", autouse=True)
def few_scenes_to_start_from() -> Iterator[None]:
    """Patches of 24 scenes whiten the first layer of a network that is 32 wide; to draw the usual 200 takes longer than
    the steps of a test.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "WHITENING_SCENES", 24)
        yield
