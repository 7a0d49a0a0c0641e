"""How large the pictures of a variant are: its base's size, or one of its own where the network takes any.

Small packages want finer pictures, and these take more time: four times of it for twice the side. What one cell asks
for, its neighbours on the same server wait for, so there is a largest size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STEP = 32
"""Sides are multiples of it: what the coarsest features of an encoder stand for."""
LEAST, MOST = 64, 640
KEY = "image_size"
"""In `variant.json`; absent for the base's own size."""


@dataclass(frozen=True, slots=True)
class PictureSizes:
    """What sizes a loaded base takes: its `own`, in pixels a side, and with `others` any that `check` allows."""

    own: int
    others: bool = False

    def check(self, size: object) -> int:
        """A size that pictures may have, in pixels a side. Raises ValueError, in words, for any other."""
        if isinstance(size, bool) or not isinstance(size, int):
            raise ValueError(f"{KEY} must be a whole number of pixels")  # noqa: TRY004 - one kind for its callers
        if size == self.own:
            return size
        if not self.others:
            raise ValueError(f"{KEY} is {size}; this base takes pictures of {self.own} pixels alone")
        if size % STEP or not LEAST <= size <= max(MOST, self.own):
            raise ValueError(f"{KEY} is {size}; it must be a multiple of {STEP} from {LEAST} to {max(MOST, self.own)}")
        return size

    def of(self, variant: Mapping[str, Any]) -> int:
        """The size of a variant, by its `variant.json`. Raises ValueError."""
        return self.check(variant[KEY]) if KEY in variant else self.own
