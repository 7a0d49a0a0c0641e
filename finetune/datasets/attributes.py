"""Attributes of an instance (`damaged`, `occluded`, a group's id): a frozen, sorted tuple of names and plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from finetune.datasets.findings import Findings
from finetune.datasets.limits import MAX_ATTRIBUTE_LENGTH, MAX_ATTRIBUTES

Scalar = str | int | float | bool
Attributes = tuple[tuple[str, Scalar], ...]
"""(name, value) sorted by name; hashable, and equal where they say the same."""

BOX_ONLY = "box_only"
"""The attribute (true) of an instance that came as a box: its mask is the box, filled, and its outline is not known."""

_EXACT = 2**53


def freeze(values: Mapping[str, Any], findings: Findings, where: str) -> Attributes:
    """The entries of `values` that are text, a number or a truth value; None means "not said" and is left out.

    Anything else (lists, objects, NaN, overlong text) is left out with a warning: an attribute is an extra, and no
    reason to refuse a dataset.
    """
    kept: dict[str, Scalar] = {}
    for name, value in values.items():
        if value is None:
            continue
        if not _fits(name, value) or len(kept) >= MAX_ATTRIBUTES:
            findings.warn("attribute that is not text, a finite number or true/false (or is overlong): left out", where)
            continue
        kept[name] = value
    return tuple(sorted(kept.items()))


def is_broken(text: str) -> bool:
    """Whether a text holds half a character (a lone surrogate, as JSON can spell it), which no file can be given."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _fits(name: object, value: object) -> bool:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_ATTRIBUTE_LENGTH:
        return False
    if isinstance(value, str):
        return len(value) <= MAX_ATTRIBUTE_LENGTH and not is_broken(value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) <= _EXACT  # beyond it, other people's JSON readers answer another number
    return isinstance(value, float) and math.isfinite(value)


def boxed(attributes: Attributes) -> Attributes:
    """The attributes of an instance that is a box and no mask."""
    return tuple(sorted({**dict(attributes), BOX_ONLY: True}.items()))


def unboxed(attributes: Attributes) -> Attributes:
    """The other attributes, for a format that says by its shape that an instance is a box."""
    return tuple(pair for pair in attributes if pair != (BOX_ONLY, True))


def is_box_only(attributes: Attributes) -> bool:
    """Whether an instance came as a box, without a mask."""
    return (BOX_ONLY, True) in attributes


def parse_scalar(text: str) -> Scalar:
    """`text` of a format without types as the value it spells: "true", "3" and "0.5" are no longer text.

    Only spellings that come out the same when written again, so that "007" and "1e3" stay what they are.
    """
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if repr(value) == text and _fits("-", value):
            return value
    return text


def spell(value: Scalar) -> str:
    """`value` as text for a format without types; `parse_scalar` reads numbers and truth values back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
