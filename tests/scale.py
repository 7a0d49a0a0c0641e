"""How much the long tests do: little in `make test`, all of it in `make test-nightly`."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

NIGHTLY = os.environ.get("PARCELHUB_TESTS") == "nightly"


def scaled(small: T, nightly: T) -> T:
    """`small` in `make test`, `nightly` where there is time."""
    return nightly if NIGHTLY else small
