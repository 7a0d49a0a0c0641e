"""The dataset of a refresh: new labels, what trains again, and every earlier holdout, with a plan of what is for what.

It is an ordinary dataset of the team (`<team>/<cell>-refresh`), one commit per refresh: its pictures are blobs that
are there already, its annotations are those of the sources, byte for byte. So a refresh is an ordinary fine-tune, with
an ordinary deck, lineage and privacy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from finetune.refresh_plan import PLAN, PlanSlice, RefreshPlan
from hub.datasets.image_index import ANNOTATIONS
from hub.datasets.store import Store
from hub.errors import UNREADABLE, RefreshStateError
from hub.loop.refresh_material import Made, Material, Picture, Source, spread
from registry.errors import EntryNotFoundError, NotFoundError
from registry.types import FileEntry, RepoId

MAX_NEW: Final = 2000
MAX_REPLAY: Final = 300
"""Of the deck of the variant that it goes on from."""
MAX_HISTORY: Final = 200
"""Of the decks before that one, together."""
MAX_SLICE: Final = 100
MAX_SLICES: Final = 20
MAX_ANNOTATIONS: Final = 512 * 1024**2


class _Image(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: int
    height: int
    split: str | None = None
    sequence: str | None = None


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[dict[str, msgspec.Raw]] = []
    categories: list[_Category] = []


@dataclass(frozen=True, slots=True)
class _Labels:
    """The annotations of one source: its classes, an image by path, and the annotations of an image by its id."""

    classes: Mapping[int, str]
    images: Mapping[str, _Image]
    annotations: Mapping[int, list[dict[str, msgspec.Raw]]]


@dataclass(frozen=True, slots=True)
class Built:
    """The files of the dataset's next commit, its plan, and the sources that it took something from."""

    files: tuple[FileEntry, ...]
    plan: RefreshPlan
    sources: tuple[Source, ...]


class DatasetBuilder:
    """Builds it. The same material gives the same files."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def build(self, cell: str, run: str, material: Material, *, usable: frozenset[str], tolerance: float) -> Built:
        """`usable` are the datasets (`team/name`) whose images may lie in the cell's own dataset.

        Raises RefreshStateError where nothing is left that could be learnt.
        """
        notes: list[str] = list(material.notes)
        labels: dict[Source, _Labels | None] = {}

        def readable(one: Picture) -> bool:
            return one.source.dataset in usable and self._labels(labels, one, notes) is not None

        newest = _newest_labels(material)
        new = [one for one in material.new if readable(one)]
        if not new:
            raise RefreshStateError(
                f"none of the {len(material.new)} new images can be used. {' '.join(notes)}".strip()
            )
        if len(new) > MAX_NEW:
            notes.append(f"{len(new)} new images; {MAX_NEW} of them, evenly spread, are used.")
            new = spread(new, MAX_NEW)
        start = next((m for m in material.made if material.start and m.variant.name == material.start.name), None)
        chosen = _Choice(new, start, material.made, readable, notes)
        for made in material.made:
            if made.source.dataset not in usable:
                notes.append(f"Images of {made.variant.name} are left out: its dataset is private to another team.")
            elif made.missing:
                notes.append(f"{made.missing} images of {made.variant.name} are gone.")
        names: dict[str, str] = {}
        for k, one in enumerate(chosen.all):
            names[one.sha256] = f"{k:05}-{one.sha256[:8]}{PurePosixPath(one.file).suffix.lower()}"
        kinds = Counter[str]()
        known = set(start.deck.class_map) if start else set[str]()
        known |= {name for made in material.made for name in made.deck.class_map}
        text = self._annotations(chosen, names, newest, labels, known, kinds, notes)
        groups: dict[Source, list[str]] = {}
        for one in chosen.new:
            groups.setdefault(one.source, []).append(names[one.sha256])
        plan = RefreshPlan(
            cell=cell,
            run=run,
            start=material.start.name if material.start else "",
            new=tuple(tuple(each) for each in groups.values()),
            replay=tuple(names[one.sha256] for one in chosen.replay),
            judge=tuple(names[one.sha256] for one in chosen.judge),
            slices=tuple(
                PlanSlice(m.variant.name, m.variant.name, m.variant.deck, tuple(names[o.sha256] for o in each))
                for m, each in chosen.slices
            ),
            class_map=start.deck.ordered_map() if start else {},
            new_kinds=dict(sorted(kinds.items())),
            tolerance=tolerance,
            notes=tuple(dict.fromkeys(notes)),
        )
        files = [FileEntry(f"images/{names[one.sha256]}", one.sha256, one.size) for one in chosen.all]
        card = _card(cell, run, material, len(chosen.new), len(chosen.all))
        for name, content in ((ANNOTATIONS, text), (PLAN, msgspec.json.encode(plan)), ("README.md", card.encode())):
            stored = self._store.blobs.put_bytes(content)
            files.append(FileEntry(name, stored.sha256, stored.size))
        used = dict.fromkeys(one.source for one in chosen.all)
        return Built(tuple(sorted(files, key=lambda one: one.path)), plan, tuple(used))

    def _labels(self, cache: dict[Source, _Labels | None], one: Picture, notes: list[str]) -> _Labels | None:
        """The annotations of an image's source; None where there are none that it is in."""
        if one.source not in cache:
            cache[one.source] = self._read(one.source, notes)
        found = cache[one.source]
        return found if found is not None and one.file in found.images else None

    def _read(self, source: Source, notes: list[str]) -> _Labels | None:
        try:
            entry = self._store.repos.entry(RepoId.parse(source.dataset, "dataset"), source.commit, ANNOTATIONS)
            if entry.size > MAX_ANNOTATIONS:
                notes.append(f"The annotations of {source.dataset} are too large to be used.")
                return None
            document = msgspec.json.decode(self._store.blobs.read(entry.sha256), type=_Coco)
        except EntryNotFoundError:
            notes.append(f"{source.dataset} has no {ANNOTATIONS}; `parcelhub dataset push` writes one.")
            return None
        except (NotFoundError, *UNREADABLE) as error:
            notes.append(f"The annotations of {source.dataset} cannot be read: {error}"[:300])
            return None
        mine: dict[int, list[dict[str, msgspec.Raw]]] = {}
        for each in document.annotations:
            mine.setdefault(msgspec.json.decode(each["image_id"], type=int), []).append(each)
        images = {}
        for image in document.images:
            images[image.file_name] = images[f"images/{image.file_name}"] = image
        return _Labels({one.id: one.name for one in document.categories}, images, mine)

    def _annotations(
        self,
        chosen: _Choice,
        names: Mapping[str, str],
        newest: Mapping[str, Picture],
        cache: dict[Source, _Labels | None],
        known: set[str],
        kinds: Counter[str],
        notes: list[str],
    ) -> bytes:
        """The COCO document; counts in `kinds` the replayed images that have a label of each class that is new."""
        fresh = {one.sha256 for one in chosen.new}
        numbers: dict[str, int] = {}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, one in enumerate(chosen.all, 1):
            # Who labelled an image last is right, also about one that an earlier deck had.
            told = newest.get(one.sha256, one)
            labels = self._labels(cache, told, notes) or self._labels(cache, one, notes)
            assert labels is not None  # noqa: S101  # only such images are chosen
            image = labels.images[told.file if told.file in labels.images else one.file]
            record: dict[str, Any] = {"id": number, "file_name": names[one.sha256]}
            record |= {"width": image.width, "height": image.height}
            if one.sha256 in fresh:
                record |= {"split": image.split} if image.split is not None else {}
                record |= {"sequence": image.sequence} if image.sequence is not None else {}
            images.append(record)
            mine = set()
            for each in labels.annotations.get(image.id, ()):
                name = labels.classes.get(msgspec.json.decode(each["category_id"], type=int))
                if name is None:
                    continue
                mine.add(name)
                category = numbers.setdefault(name, len(numbers) + 1)
                annotations.append({**each, "id": len(annotations) + 1, "image_id": number, "category_id": category})
            for name in mine - known if known else ():
                kinds[name] += one.sha256 not in fresh
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        return msgspec.json.encode({"images": images, "annotations": annotations, "categories": categories})


class _Choice:
    """Which images are for what; no image is in two of `new`, `replay` and the slices."""

    def __init__(
        self,
        new: list[Picture],
        start: Made | None,
        made: Sequence[Made],
        readable: Callable[[Picture], bool],
        notes: list[str],
    ) -> None:
        self.new = new
        taken = {one.sha256 for one in new}
        # What the variant that it goes on from was trained on says nothing about it.
        learnt = {one.sha256 for each in _line(start, made) for one in each.train}
        slices: list[tuple[Made, list[Picture]]] = []
        for each in made:
            mine = list(
                dict.fromkeys(one for one in each.holdout if one.sha256 not in taken | learnt and readable(one))
            )
            if mine:
                slices.append((each, spread(mine, MAX_SLICE)))
                taken |= {one.sha256 for one in mine}
        if len(slices) > MAX_SLICES:
            notes.append(f"{len(slices)} earlier holdouts; the newest {MAX_SLICES} judge.")
        self.slices = slices[-MAX_SLICES:]
        shown = {one.sha256: one for _, each in self.slices for one in each}
        own = list(start.holdout) if start else []
        self.judge = spread([shown[one.sha256] for one in own if one.sha256 in shown], MAX_SLICE)
        apart = taken | {one.sha256 for each in made for one in each.holdout}
        self.replay: list[Picture] = []
        for wanted, most in (
            (list(start.train) if start else [], MAX_REPLAY),
            ([one for each in made for one in each.train], MAX_HISTORY),
        ):
            some = list({o.sha256: o for o in wanted if o.sha256 not in apart and readable(o)}.values())
            self.replay += spread(some, most)
            apart |= {one.sha256 for one in some}
        self.all = list({o.sha256: o for o in (*self.new, *self.replay, *shown.values())}.values())


def _line(start: Made | None, made: Sequence[Made]) -> list[Made]:
    """A variant's deck and those of the variants that it goes back to, one refresh after the other."""
    by_name = {each.variant.name: each for each in made}
    found: list[Made] = []
    while start is not None and start not in found:
        found.append(start)
        history = start.variant.metrics.get("history")
        before = history.get("start") if isinstance(history, dict) else None
        start = by_name.get(str(before)) if before else None
    return found


def _newest_labels(material: Material) -> dict[str, Picture]:
    """Each image of the label sources by its SHA-256: what was labelled there counts before what a deck had."""
    return {one.sha256: one for one in material.relabelled}


def _card(cell: str, run: str, material: Material, new: int, images: int) -> str:
    start = material.start.name if material.start else "the shared base"
    rows = [f"- {one.dataset}@{one.commit[:12]}" for one in material.sources]
    head = "---\nlicense: unknown\ntags: [instance-segmentation, packages, parcelhub]\n---\n"
    lines = [
        f"{head}\n# Refresh {run} of {cell}\n",
        f"{new} new images and {images - new} that the cell had before, for a variant that goes on from {start}.",
        f"What each image is for is in `{PLAN}`. New labels came from:\n",
        *rows,
        "",
    ]
    return "\n".join(lines)
