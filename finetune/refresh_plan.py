"""What each image of a refresh's dataset is for: the hub writes it into the dataset, the training reads it there."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from finetune.errors import DeckError

PLAN: Final = "refresh.json"
"""The file of a refresh's dataset that says what each image is for."""


class PlanSlice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An earlier holdout of the cell: the variant and the deck (sha256) that it judged, and its images' names."""

    name: str
    variant: str
    deck: str
    files: tuple[str, ...]


class RefreshPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the images of a refresh's dataset are for, by their names there.

    Attributes:
        run: the refresh.
        start: the variant that it goes on from (`<cell>@v3`), "" for the base.
        new: the new images of each source, in the order of its frames; a part of them judges.
        replay: images of earlier decks that train again.
        judge: the newest holdout of the variant that it goes on from; it judges beside the new ones.
        slices: every earlier holdout, the oldest first; an image is in one of them alone.
        class_map: the team's class to the base's label, as the variant had it.
        new_kinds: classes that no earlier deck had, to the number of replayed images with a label of it.
        tolerance: what a slice may lose, in AP50.
        notes: what was left out and why, as sentences.
    """

    format: Literal[1] = 1
    cell: str
    run: str
    start: str = ""
    new: tuple[tuple[str, ...], ...]
    replay: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    slices: tuple[PlanSlice, ...] = ()
    class_map: dict[str, str] = {}
    new_kinds: dict[str, int] = {}
    tolerance: float = 0.02
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> RefreshPlan:
        """The plan in a dataset's folder. Raises DeckError."""
        try:
            return msgspec.json.decode((folder / PLAN).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise DeckError(f"the dataset has no plan of a refresh that can be read: {error}") from error
