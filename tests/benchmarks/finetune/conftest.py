"""As for the tests of what makes models."""

from tests.finetune.conftest import few_scenes_to_start_from as few_scenes_to_start_from
