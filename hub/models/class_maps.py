"""What the classes of a dataset would be learnt as, before anybody trains: the map that a fine-tune finds by itself,
and the labels of a base that a team may choose instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from hub.errors import UNREADABLE

SPARE = "reserved_"
"""How the labels begin that a base keeps for classes it does not know."""
_MAX_LABELS = 2000


class _Config(msgspec.Struct, frozen=True):
    id2label: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of a dataset: its instances, and what learns it. `label` is a label of the base, "" where it takes a
    spare one, None where it is left out."""

    name: str
    instances: int
    label: str | None


def labels_of(config: bytes) -> list[str]:
    """The labels of a base by its `config.json`, in their order; none where that says nothing."""
    try:
        found = msgspec.json.decode(config, type=_Config).id2label
        return [found[key] for key in sorted(found, key=int)][:_MAX_LABELS]
    except UNREADABLE:
        return []


def known_labels(labels: Sequence[str]) -> list[str]:
    """The labels that the base has learnt."""
    return [label for label in labels if not label.startswith(SPARE)]


def suggested(classes: Mapping[str, int], labels: Sequence[str]) -> tuple[list[ClassRow], str]:
    """What each class (with its number of instances) becomes unless the team says otherwise, and what is wrong with
    that: "" where nothing is."""
    from finetune.datasets.classes import map_classes  # here: it brings the readers of all formats along
    from finetune.errors import DeckError

    shown = {name for name, count in classes.items() if count}
    try:
        found, _ = map_classes(list(classes), labels, shown=shown, chosen={})
    except DeckError as error:
        return [ClassRow(name, count, "" if count else None) for name, count in classes.items()], str(error)
    rows = []
    for name, count in classes.items():
        label = found.get(name)
        rows.append(ClassRow(name, count, "" if label is not None and label.startswith(SPARE) else label))
    return rows, ""


def in_words(row: ClassRow) -> str:
    """What becomes of a class, for a table."""
    if row.label is None:
        return "left out: no instance"
    return row.label or "a class of its own"
