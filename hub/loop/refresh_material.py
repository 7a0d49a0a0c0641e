"""What a cell has to learn from: its new labels, and what its earlier decks trained on and were judged by.

An image is new when no deck of a variant of the cell had it, by the SHA-256 of its bytes. Variants that were put away
(archived) do not count: what was undone may be learnt again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from hub.datasets.image_index import ImageIndex
from hub.datasets.store import Store
from hub.errors import UNREADABLE
from hub.models.variants import Variants
from hub.schemas.core import Version
from hub.schemas.refresh import RefreshPolicyIn
from registry.catalog.catalog import Catalog
from registry.errors import NotFoundError
from registry.stage_types import HELD_STAGES
from registry.types import RepoId

MAX_VARIANTS: Final = 300
"""The newest variants of a cell that are looked at."""
_MAX_DECK: Final = 64 * 1024**2
_PAGE: Final = 10_000


class Source(msgspec.Struct, frozen=True):
    """A dataset's revision that images come from: `team/name` and a commit."""

    dataset: str
    commit: str


class DeckFacts(msgspec.Struct, frozen=True):
    """What of a deck matters here."""

    dataset: str
    train: list[str]
    holdout: list[str]
    class_map: dict[str, str]
    commit: str | None = None
    merged: dict[str, str] = {}

    def ordered_map(self) -> dict[str, str]:
        """The class map, the classes first whose names are answered for others too."""
        first = {own: base for base, own in self.merged.items()}
        return first | self.class_map


@dataclass(frozen=True, slots=True)
class Picture:
    """A labelled image: its bytes' SHA-256 and their number, its path in its source."""

    sha256: str
    size: int
    file: str
    source: Source


@dataclass(frozen=True, slots=True)
class Made:
    """A variant and the images of its deck, as far as they are still there."""

    variant: Version
    deck: DeckFacts
    source: Source
    train: tuple[Picture, ...]
    holdout: tuple[Picture, ...]
    missing: int = 0

    @property
    def hashes(self) -> set[str]:
        """sha256 of the images that it was trained or measured on."""
        return {one.sha256 for one in (*self.train, *self.holdout)}


@dataclass(frozen=True, slots=True)
class Material:
    """All of a cell: the label sources, their new images, those that a deck had (labelled again, perhaps), the variants
    with their decks, oldest first, and the one to go on from."""

    sources: tuple[Source, ...]
    new: tuple[Picture, ...]
    relabelled: tuple[Picture, ...]
    made: tuple[Made, ...]
    start: Version | None
    notes: tuple[str, ...] = field(default=())


class Materials:
    """Reads it. Thread-safe; what a commit holds never changes and is kept."""

    def __init__(self, catalog: Catalog, store: Store, images: ImageIndex, variants: Variants) -> None:
        self._catalog = catalog
        self._store = store
        self._images = images
        self._variants = variants
        self._pictures = lru_cache(maxsize=64)(self._read_pictures)
        self._made = lru_cache(maxsize=512)(self._read_made)

    def label_datasets(self, cell: str, team: str, policy: RefreshPolicyIn) -> list[str]:
        """The datasets that labels of a cell come into, by name, whether they exist or not."""
        if policy.labels:
            return list(policy.labels)
        return [f"{team}/{cell}-labels"] if team else []

    def sources(self, names: Sequence[str]) -> tuple[Source, ...]:
        """The heads of those datasets that have one."""
        found = []
        for name in names:
            try:
                found.append(Source(name, self._store.repos.resolve(RepoId.parse(name, "dataset"), "main").id))
            except NotFoundError:
                continue
        return tuple(found)

    def current(self, cell: str) -> Version | None:
        """The variant that a refresh goes on from: of the fleet, else of beta, else of the station, else the newest
        candidate; None for a cell that has none."""
        listed = [one for one in self._variants.page(limit=MAX_VARIANTS, cell=cell) if one.stage != "archived"]
        for stage in reversed(HELD_STAGES):
            for one in listed:
                if one.stage == stage:
                    return one
        return listed[0] if listed else None

    def new_of(self, cell: str, sources: Sequence[Source]) -> list[Picture]:
        """The labelled images of these sources that no deck of the cell had; one of several equal ones."""
        known = {digest for made in self.made(cell) for digest in made.hashes}
        found = {one.sha256: one for source in sources for one in self.pictures(source) if one.sha256 not in known}
        return list(found.values())

    def made(self, cell: str) -> list[Made]:
        """The cell's variants with their decks, oldest first."""
        listed = self._variants.page(limit=MAX_VARIANTS, cell=cell)
        return [
            found for one in reversed(listed) if one.stage != "archived" and (found := self._made_of(one)) is not None
        ]

    def collect(self, cell: str, sources: Sequence[Source]) -> Material:
        """All that a refresh of the cell is made of."""
        new = self.new_of(cell, sources)
        fresh = {one.sha256 for one in new}
        again = [one for source in sources for one in self.pictures(source) if one.sha256 not in fresh]
        return Material(tuple(sources), tuple(new), tuple(again), tuple(self.made(cell)), self.current(cell))

    def pictures(self, source: Source) -> tuple[Picture, ...]:
        """The images of a source, in the order of their names (numbers in names count as numbers)."""
        return self._pictures(source)

    def unused(self, cell: str, pictures: Sequence[Picture]) -> int:
        """How many of these no refresh of the cell took up."""
        rows = self._catalog.query("SELECT sha256 FROM refresh_images WHERE cell = ?", [cell])
        taken = {row[0] for row in rows}
        return sum(1 for one in pictures if one.sha256 not in taken)

    def _made_of(self, variant: Version) -> Made | None:
        made = self._made(variant.deck, variant.dataset)
        # Its stage is not what a commit says.
        return None if made is None else Made(variant, *made)

    def _read_made(
        self, deck: str, dataset: str
    ) -> tuple[DeckFacts, Source, tuple[Picture, ...], tuple[Picture, ...], int] | None:
        try:
            if self._store.blobs.size(deck) > _MAX_DECK:
                return None
            facts = msgspec.json.decode(self._store.blobs.read(deck), type=DeckFacts)
            repo, _, revision = dataset.partition("@")
            source = Source(repo, revision or facts.commit or "")
            pictures = self._pictures(source)
        except (NotFoundError, *UNREADABLE):
            return None
        named = dict(_names(pictures))
        train, holdout = (
            tuple(named[each] for each in wanted if each in named) for wanted in (facts.train, facts.holdout)
        )
        missing = len(facts.train) + len(facts.holdout) - len(train) - len(holdout)
        return facts, source, train, holdout, missing

    def _read_pictures(self, source: Source) -> tuple[Picture, ...]:
        number = self._images.of(RepoId.parse(source.dataset, "dataset"), source.commit).number
        found: list[Picture] = []
        after = -1
        while page := self._images.page(number, after=after, limit=_PAGE):
            found += [Picture(one.sha256, one.bytes, one.file, source) for one in page]
            after = page[-1].pos
        return tuple(sorted(found, key=lambda one: natural(one.file)))


def natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sort key under which `frame-9` comes before `frame-10`."""
    return tuple((int(digits or -1), text) for digits, text in re.findall(r"(\d*)(\D*)", name)), name


def _names(pictures: Sequence[Picture]) -> Iterator[tuple[str, Picture]]:
    """Each picture under the names that a deck may have for it: its file's own, or its path."""
    for one in pictures:
        yield one.file.removeprefix("images/"), one
        yield one.file, one
    seen: dict[str, int] = {}
    for one in pictures:
        short = one.file.rpartition("/")[2]
        seen[short] = seen.get(short, 0) + 1
    for one in pictures:
        short = one.file.rpartition("/")[2]
        if seen[short] == 1:
            yield short, one


def spread(items: Sequence[Picture], most: int) -> list[Picture]:
    """At most `most` of them, evenly spread over their order."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * k + 1) * len(items) // (2 * most)] for k in range(most)]
