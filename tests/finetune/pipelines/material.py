"""What the tests of what a job runs ask for."""

from __future__ import annotations

from finetune.contract import FinetuneRequest


def request(**changes) -> FinetuneRequest:
    wanted = {
        "cell": "dock-7",
        "dataset_ref": "north/dock-7@" + "c" * 64,
        "base_ref": "base/universal@v1",
        "base_commit": "b" * 64,
        "max_seconds": 1.0,
    }
    return FinetuneRequest(**{**wanted, **changes})
