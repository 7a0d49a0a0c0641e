"""How one cell's variants are rolled out, as the serving folder and the roll-outs both know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """How one cell's variants are rolled out."""

    lines: Mapping[str, str] = field(default_factory=dict)
    share: float = 0.0
