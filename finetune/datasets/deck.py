"""The deck: which images of which dataset revision train a variant, which ones judge it, and what its classes are
called in the base. Immutable; its name is the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from finetune.datasets import Dataset, Sample
from finetune.datasets.attributes import BOX_ONLY
from finetune.datasets.classes import answered_names, map_classes
from finetune.errors import DeckError

T = TypeVar("T")

FORMAT = 1
_LATER: dict[str, type] = {"attributes": dict, "box_only": int, "merged": dict}
"""Fields that came later: written only where they say something."""
MIN_TRAIN_IMAGES = 4
# A class that fewer than this share of the train images show is drawn more often, by the square root of what it lacks
# (repeat-factor sampling, LVIS, arXiv 1908.03195).
_RARE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Deck:
    """A training deck.

    Attributes:
        dataset: the dataset's repo (`team/name`) or, for a local folder, its name.
        commit: the dataset's commit, or None for a local folder.
        train, holdout: names of samples, in the order of the frames; no image is in both.
        weights: how often each train image is drawn, relative to the others; 1.0 or more.
        class_map: the team's class to the label of the base that learns it; several may share one.
        left_out: the team's classes that no train image shows and the base does not know.
        seed: for the training's own randomness; the split does not depend on it.
        attributes: names of attributes (`damaged`, ...) to the number of train instances that carry one.
        box_only: how many train instances have a box and no mask: they teach class and extent alone.
        merged: a label of the base that several classes share, to the one of them whose name is answered.

    Raises DeckError for parts that do not fit each other.
    """

    dataset: str
    commit: str | None
    train: tuple[str, ...]
    holdout: tuple[str, ...]
    weights: tuple[float, ...]
    class_map: Mapping[str, str]
    left_out: tuple[str, ...] = ()
    seed: int = 0
    attributes: Mapping[str, int] = field(default_factory=dict)
    box_only: int = 0
    merged: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.train or not self.holdout:
            raise DeckError("a deck needs train and holdout images")
        names = Counter([*self.train, *self.holdout])
        if twice := [name for name, count in names.items() if count > 1]:
            raise DeckError(f"the image {twice[0]!r} is in the deck twice")
        if len(self.weights) != len(self.train):
            raise DeckError(f"{len(self.weights)} weights for {len(self.train)} train images")
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise DeckError("weights must be finite and above 0")
        if not self.class_map:
            raise DeckError("the class map must name at least one class")
        shared = {label for label, count in Counter(self.class_map.values()).items() if count > 1}
        if set(self.merged) != shared or any(self.class_map.get(name) != k for k, name in self.merged.items()):
            raise DeckError("where the class map uses a base label twice, `merged` must name one of its classes")

    @property
    def label_map(self) -> dict[str, str]:
        """The base's label to the team's class: the way back, as in `variant.json`."""
        return {base: own for own, base in self.class_map.items()} | dict(self.merged)

    @property
    def answers(self) -> dict[str, str]:
        """The team's class to the class that is answered and judged in its place: itself, where it is not merged."""
        return {own: self.merged.get(base, own) for own, base in self.class_map.items()}

    @property
    def answered(self) -> tuple[str, ...]:
        """The classes that the variant answers."""
        return tuple(own for own, name in self.answers.items() if own == name)

    @property
    def merges(self) -> dict[str, tuple[str, ...]]:
        """An answered class to all the team's classes that it stands for, where these are several."""
        return {name: tuple(k for k, v in self.class_map.items() if v == base) for base, name in self.merged.items()}

    @property
    def digest(self) -> str:
        """SHA-256 of `to_json`, 64 lower-case hexadecimal characters."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8. Equal decks give equal bytes."""
        document = {"format": FORMAT, **asdict(self)}
        for name in _LATER:  # decks made before these fields were keep their bytes, and so their names
            if not document[name]:
                del document[name]
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Deck:
        """Read `to_json` again. Raises DeckError for anything that `to_json` would not have written."""
        try:
            document = json.loads(data)
        except ValueError as error:
            raise DeckError(f"the deck is not JSON: {error}") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise DeckError(f"the deck is not of format {FORMAT}")
        document = {**{name: kind() for name, kind in _LATER.items()}, **document}
        if set(document) != {each.name for each in fields(cls)}:
            raise DeckError(f"the deck's fields are not the expected ones: {', '.join(sorted(document))}")
        deck = cls(
            dataset=_typed(document, "dataset", str),
            commit=None if document["commit"] is None else _typed(document, "commit", str),
            train=_listed(document, "train", str),
            holdout=_listed(document, "holdout", str),
            weights=_listed(document, "weights", float),
            class_map=_text_map(document, "class_map"),
            left_out=_listed(document, "left_out", str),
            seed=_typed(document, "seed", int),
            attributes=_count_map(document, "attributes"),
            box_only=_typed(document, "box_only", int),
            merged=_text_map(document, "merged"),
        )
        # The name of a deck is the digest of its bytes, so other bytes of the same deck are another deck.
        if deck.to_json() != data:
            raise DeckError("the deck's JSON is not in canonical form")
        return deck

    def select(self, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
        """The train and the holdout samples, in the deck's order. Raises DeckError if `dataset` lacks one."""
        samples = {sample.name: sample for sample in dataset.samples}
        missing = [name for name in (*self.train, *self.holdout) if name not in samples]
        if missing:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise DeckError(f"the dataset {dataset.name!r} has no image {missing[0]!r}{more} of the deck")
        return [samples[name] for name in self.train], [samples[name] for name in self.holdout]


def make_deck(
    dataset: Dataset,
    *,
    base_labels: Sequence[str],
    images: int | None = None,
    holdout_fraction: float = 0.25,
    seed: int = 0,
    class_map: Mapping[str, str] | None = None,
    dataset_ref: str | None = None,
) -> Deck:
    """Deal a deck from a dataset. The same arguments give the same deck, byte for byte.

    Args:
        dataset: at least 4 train images and one for the holdout.
        base_labels: every label of the base, the spare `reserved_<k>` among them.
        images: the most train images to use, evenly spaced over the frames; None for all. The holdout stays whole, so
            that decks of different sizes are judged on the same images.
        holdout_fraction: share of the images that judge, where the dataset has no split of its own.
        seed: kept for the training.
        class_map: the team's class to a base label, where the team wants to say so itself. Several classes may have
            one label: they are one class then, answered by the name of the first that the map says it of, or where it
            says it of one alone, by the first in the dataset.
        dataset_ref: `team/name@commit` of the dataset; the dataset's own name without it.

    Raises DeckError if there are too few images, no instance to learn from, or no base label left for a class.
    """
    train, holdout = split(dataset.samples, holdout_fraction)
    train = without_twins(train, holdout)
    if images is not None and images < len(train):
        train = [train[(2 * k + 1) * len(train) // (2 * images)] for k in range(images)]
    if len(train) < MIN_TRAIN_IMAGES:
        raise DeckError(f"{len(train)} train images are too few; label at least {MIN_TRAIN_IMAGES}")
    shown = {label for sample in train for label in sample.labels}
    if not shown:
        raise DeckError(f"none of the {len(train)} train images has an instance")
    names, left_out = map_classes(dataset.classes, base_labels, shown=shown, chosen=class_map or {})
    if not any(label in names for sample in holdout for label in sample.labels):
        raise DeckError(f"none of the {len(holdout)} holdout images has an instance, so nothing can be measured")
    return deck_of(
        dataset_ref or dataset.name, train, holdout, names, left_out, answered_names(names, class_map), seed=seed
    )


def deck_of(
    dataset_ref: str,
    train: list[Sample],
    holdout: list[Sample],
    names: Mapping[str, str],
    left_out: tuple[str, ...],
    answers: Mapping[str, str],
    *,
    seed: int,
) -> Deck:
    """The deck of these samples; `names` is the class map, `answers` puts a class onto the name that answers bear."""
    repo, _, commit = dataset_ref.partition("@")
    return Deck(
        dataset=repo,
        commit=commit or None,
        train=tuple(sample.name for sample in train),
        holdout=tuple(sample.name for sample in holdout),
        weights=_weights(train),
        class_map=names,
        left_out=left_out,
        seed=seed,
        attributes=dict(sorted(_attributes(train).items())),
        box_only=sum(sum(sample.box_only) for sample in train),
        merged={base: answers[own] for own, base in names.items() if answers[own] != own},
    )


# --- the split --------------------------------------------------------------------------------------------------------


def split(samples: Sequence[Sample], holdout_fraction: float) -> tuple[list[Sample], list[Sample]]:
    """Train and holdout samples in the order of their names (numbers in names count as numbers).

    The dataset's own split if it has one: `valid` is the holdout, or `test` where there is no `valid` (with
    both, `test`
    stays untouched). Else whole sequences, or else the last frames: neighbouring frames show the same packages, and
    one of them in the holdout would judge memory. Raises DeckError if there is no holdout.
    """
    if not 0 < holdout_fraction < 1:
        raise DeckError(f"the holdout fraction must lie between 0 and 1, got {holdout_fraction}")
    ordered = sorted(samples, key=_frame_order)
    splits = {sample.split for sample in ordered}
    judge = "valid" if "valid" in splits else "test"
    if judge in splits and splits & {"train", None}:
        return (
            [sample for sample in ordered if sample.split in ("train", None)],
            [sample for sample in ordered if sample.split == judge],
        )
    if len(ordered) < 2:
        raise DeckError("one image cannot both train and judge; label more")
    target = max(1, round(len(ordered) * holdout_fraction))
    sequences = Counter(sample.sequence or "" for sample in ordered)
    if len(sequences) > 1:
        held = _held_sequences(sequences, target)
        return (
            [sample for sample in ordered if (sample.sequence or "") not in held],
            [sample for sample in ordered if (sample.sequence or "") in held],
        )
    cut = min(max(1, len(ordered) - target), len(ordered) - 1)
    return ordered[:cut], ordered[cut:]


def _held_sequences(sequences: Counter[str], target: int) -> set[str]:
    """Sequences for the holdout: the latest ones that fit into `target` images, or else the smallest of all."""
    held: set[str] = set()
    room = target
    for name in sorted(sequences, key=_natural, reverse=True):
        if sequences[name] <= room and len(held) < len(sequences) - 1:
            held.add(name)
            room -= sequences[name]
    return held or {min(sequences, key=lambda name: (sequences[name], _natural(name)))}


def without_twins(train: list[Sample], holdout: list[Sample]) -> list[Sample]:
    """The train samples whose image file is not, byte for byte, also in the holdout."""
    sizes = {sample.image.stat().st_size for sample in holdout}
    # Only files of equal size can be equal; the others need not be read.
    suspects = [sample for sample in train if sample.image.stat().st_size in sizes]
    if not suspects:
        return train
    judged = {_file_digest(sample) for sample in holdout}
    twins = {sample.name for sample in suspects if _file_digest(sample) in judged}
    return [sample for sample in train if sample.name not in twins]


def _file_digest(sample: Sample) -> bytes:
    with sample.image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _frame_order(sample: Sample) -> tuple[tuple[tuple[int, str], ...], str]:
    return _natural(sample.name), sample.name


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key under which `frame-9` comes before `frame-10`."""
    return tuple((int(digits or -1), text) for digits, text in re.findall(r"(\d*)(\D*)", name))


# --- weights and JSON -------------------------------------------------------------------------------------------------


def _weights(train: list[Sample]) -> tuple[float, ...]:
    """One weight per train image: that of its rarest class."""
    images = Counter(label for sample in train for label in set(sample.labels))
    repeat = {label: max(1.0, math.sqrt(_RARE_SHARE * len(train) / count)) for label, count in images.items()}
    return tuple(round(max((repeat[label] for label in sample.labels), default=1.0), 4) for sample in train)


def _attributes(train: list[Sample]) -> Counter[str]:
    return Counter(
        name for sample in train for attributes in sample.attributes for name, _ in attributes if name != BOX_ONLY
    )


def _typed(document: dict[str, Any], key: str, kind: type[T]) -> T:
    value = document[key]
    if type(value) is not kind:
        raise DeckError(f"the deck's {key} must be {kind.__name__}, got {value!r}")
    return value


def _listed(document: dict[str, Any], key: str, kind: type[T]) -> tuple[T, ...]:
    values = _typed(document, key, list)
    for value in values:
        if type(value) is not kind:
            raise DeckError(f"the deck's {key} must hold {kind.__name__} only, got {value!r}")
    return tuple(values)


def _count_map(document: dict[str, Any], key: str) -> dict[str, int]:
    values = _typed(document, key, dict)
    if not all(type(value) is int and value > 0 for value in values.values()):
        raise DeckError(f"the deck's {key} must map text to whole numbers above 0")
    return dict(values)


def _text_map(document: dict[str, Any], key: str) -> dict[str, str]:
    values = _typed(document, key, dict)
    if not all(isinstance(value, str) for value in values.values()):
        raise DeckError(f"the deck's {key} must map text to text")
    return dict(values)
