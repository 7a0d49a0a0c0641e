"""`report.json` and `predictions.json` of a variant, as far as pages show them; damaged ones are as if not there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from finetune.report.picture_svg import Drawn, told_apart
from hub.datasets.store import Store
from hub.errors import UNREADABLE
from hub.models.variants import repo_of
from hub.web.mask_svg import ImageMarks, Mark, instances
from registry.errors import NotFoundError

REPORT, PAGE, PREDICTIONS = "report.json", "report.html", "predictions.json"
FOUND_SCORE = 0.5
"""From which score on robots act on an answer (`finetune.evaluation.evaluate`, which brings torch along)."""
T = TypeVar("T")
MAX_BYTES = 64 * 1024**2


class Score(msgspec.Struct, frozen=True):
    """Mask AP of 0 to 1; `intervals` are (low, high) by the name of the figure."""

    ap: float
    ap50: float
    ap75: float
    intervals: dict[str, tuple[float, float]] = {}


class Advice(msgspec.Struct, frozen=True):
    """What to label next: a sentence, and images that show it."""

    sentence: str
    images: list[str] = []


class Worst(msgspec.Struct, frozen=True):
    """An image of the holdout with its counts of instances."""

    image: str
    found: int
    missed: int
    extra: int


class Cut(msgspec.Struct, frozen=True):
    """The score from which on a wanted precision is reached, with the precision and recall there."""

    wanted: float
    score: float
    precision: float
    recall: float


class Report(msgspec.Struct, frozen=True):
    """The part of the facts that the model page shows."""

    verdict: str
    sentences: list[str]
    base: Score
    variant: Score
    per_class: list[dict[str, Any]] = []
    per_size: list[dict[str, Any]] = []
    thresholds: list[Cut] = []
    label_next: list[Advice] = []
    worst: list[Worst] = []
    losses: list[tuple[float, float]] = []
    learning_curve: dict[str, Any] | None = None
    reliability: list[dict[str, Any]] = []
    recipe: dict[str, Any] = {}
    versions: dict[str, Any] = {}


class Seen(msgspec.Struct, frozen=True):
    """A mask that is told by label, RLE counts and score."""

    label: str
    counts: str
    score: float | None = None


class Shown(msgspec.Struct, frozen=True):
    """One image of the holdout with its annotations and answers."""

    name: str
    width: int
    height: int
    truth: list[Seen] = []
    base: list[Seen] = []
    variant: list[Seen] = []
    found: int = 0
    missed: int = 0
    extra: int = 0

    def marks(self, which: str) -> ImageMarks:
        """`truth`, `base` or `variant` as marks."""
        size = [self.height, self.width]
        seen: list[Seen] = getattr(self, which)
        marks = [Mark(one.label, {"size": size, "counts": one.counts}, one.score) for one in seen]
        return ImageMarks(self.width, self.height, marks)


def told_apart_in(shown: Shown, which: str) -> list[Drawn]:
    """Hits, misses and false finds of the `base` or the `variant` on one image, at the score that robots act on."""
    return told_apart(instances(shown.marks("truth")), instances(shown.marks(which), FOUND_SCORE))


class Predictions(msgspec.Struct, frozen=True):
    """The answers on the holdout; `classes` are those that were judged."""

    images: list[Shown]
    classes: list[str] = []


class Reports:
    """Reads the reports of variants. A commit never changes, so what was read is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._report = lru_cache(maxsize=64)(self._read_report)
        self._predictions = lru_cache(maxsize=16)(self._read_predictions)

    def report(self, cell: str, commit: str) -> Report | None:
        """The facts; None for a variant without a report, or with one that is none."""
        return self._report(cell, commit)

    def predictions(self, cell: str, commit: str) -> Predictions | None:
        """The answers on the holdout; None where there are none."""
        return self._predictions(cell, commit)

    def page(self, cell: str, commit: str) -> bytes | None:
        """`report.html` as the job wrote it: to be served under a policy that runs nothing."""
        return self._read(cell, commit, PAGE)

    def _read_report(self, cell: str, commit: str) -> Report | None:
        return _decoded(self._read(cell, commit, REPORT), Report)

    def _read_predictions(self, cell: str, commit: str) -> Predictions | None:
        return _decoded(self._read(cell, commit, PREDICTIONS), Predictions)

    def _read(self, cell: str, commit: str, name: str) -> bytes | None:
        try:
            entry = self._store.repos.entry(repo_of(cell), commit, name)
        except NotFoundError:
            return None
        return self._store.blobs.read(entry.sha256) if entry.size <= MAX_BYTES else None


def _decoded(data: bytes | None, kind: type[T]) -> T | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE:
        return None
