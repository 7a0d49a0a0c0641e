"""Reading back what was saved of a camera: nothing is believed of a file that does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from serving.observed.rules import Ordinary


def ordinary_of(found: Mapping[str, Any]) -> Ordinary:
    """What was saved. Raises TypeError and ValueError for what is none."""
    values: dict[str, Any] = {}
    for key, value in found.items():
        values[key] = tuple(float(one) for one in value) if isinstance(value, list | tuple) else float(value)
    ordinary = Ordinary(**values)
    if not len(ordinary.structure) == len(ordinary.structure_sd) == len(ordinary.steady) == 16:
        raise ValueError("not the numbers of a camera")
    return ordinary


def sum_of(saved: Any) -> tuple[float, float | None]:  # noqa: ANN401 - of a file
    """The value and the beginning of a sum over time. Raises TypeError and ValueError for what is none."""
    value, first = saved
    if not 0 <= float(value) < math.inf or not (first is None or math.isfinite(first)):
        raise ValueError("no sum")
    return float(value), None if first is None else float(first)
