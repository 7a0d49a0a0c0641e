"""What a cell's packages and its background look like: the reference that novelty is judged by, as a file.

`novelty.safetensors` lies beside the adapter in the variant's repository, so it is versioned and signed with it. It
holds statistics of packages (`serving.observed.novelty.Known`), a small bank of patches, and scores of known packages
and frames that were held out, by which scores become probabilities. 3.6 MB for 240 known packages.

A package is novel where a known one would score as high with at most the stated probability. **Packages that are not
answered** have no score; they show as patches that are under no mask, and like nothing that was seen in the reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Protocol, Self

import cv2
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from registry.durable import write_file
from serving.errors import ReferenceUnreadable
from serving.instances import Instances
from serving.observed.appearance import appearance
from serving.observed.novelty import (
    METHODS,
    NEIGHBOURS,
    Calibration,
    Float,
    Known,
    Method,
    certainty,
    farthest_first,
    squared,
)

FILE: Final = "novelty.safetensors"
FORMAT: Final = 1
DEFAULT: Final[Method] = "mixed"
NETWORKS_SHARE: Final = 0.25
"""Of `mixed`: how much the network's features count beside the appearance. A network that was trained to find packages
of every look tells little of which one is new."""
FALSE_ALARMS: Final = 0.01
"""Of known packages, the share that may be taken for new; of known frames, the share that may seem to hold a package
that is not answered."""
MAX_BYTES: Final = 64 * 1024**2
FOLDS: Final = 4
PATCH_AXES: Final = 48
PATCH_BANK: Final = 512
COVERED: Final = 0.3
"""A patch that masks cover to this share belongs to what was answered."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One frame as it is judged: N packages, R x C patches. `instances` float32 [N, D] (embedding, then appearance),
    `scores` [N] the network's, `patches` float32 [R * C, E], `covered` float32 [R * C], `grid` (R, C)."""

    instances: Float
    scores: Float
    patches: Float
    covered: Float
    grid: tuple[int, int]


class Embedding(Protocol):
    """What `serving.inference.embeddings` makes of a frame."""

    @property
    def instances(self) -> Float:
        """float32 [N, D], a row for each instance."""

    @property
    def patches(self) -> Float:
        """float32 [P, D], a row for each patch of the picture."""

    @property
    def covered(self) -> Float:
        """float32 [P], the share of each patch under a mask."""

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the patches; their product is P."""


def seen_of(found: Embedding, image: npt.NDArray[np.uint8], instances: Instances) -> Seen:
    """A frame uint8 [H, W, 3] as it is judged: embeddings by the base, with what the packages look like beside them."""
    rows = np.concatenate([found.instances, appearance(image, instances)], axis=1)
    return Seen(rows, instances.scores, found.patches, found.covered, found.grid)


@dataclass(frozen=True, slots=True, eq=False)
class PatchBank:
    """Patches that are known. `mean`, `scale` float32 [E], `axes` float32 [E, A], `bank` float32 [B, A]."""

    mean: Float
    scale: Float
    axes: Float
    bank: Float

    @classmethod
    def learn(cls, patches: Float) -> Self:
        """Of all patches of the reference, float32 [n, E]."""
        mean, scale = patches.mean(axis=0), patches.std(axis=0) + 1e-3
        x = (patches - mean) / scale
        sample = x[:: max(len(x) // 4000, 1)]
        _, vectors = np.linalg.eigh(sample.T @ sample / len(sample))
        axes = vectors[:, ::-1][:, :PATCH_AXES].astype(np.float32)
        small = np.asarray(x @ axes, np.float32)
        thin = small[:: max(len(small) // 12_000, 1)]
        return cls(mean.astype(np.float32), scale.astype(np.float32), axes, thin[farthest_first(thin, PATCH_BANK)])

    def scores(self, patches: Float) -> Float:
        """How unlike all of the bank each patch is: float32 [n]."""
        x = np.asarray(((patches - self.mean) / self.scale) @ self.axes, np.float32)
        near = np.sqrt(np.sort(squared(x, self.bank), axis=1)[:, :NEIGHBOURS])
        return np.asarray(near.mean(axis=1), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What is said of one frame.

    Attributes:
        novelty: float32 [N], one minus the probability that a known package scores as high.
        novel: bool [N]. p: float32 [N], those probabilities.
        frame_p: of what is not answered: how probable it is in a known frame.
        unanswered: boxes (x0, y0, x1, y1, shares of the frame's sides) where a package seems to lie that was not
            answered.
    """

    novelty: Float
    novel: npt.NDArray[np.bool_]
    p: Float
    frame_p: float
    unanswered: tuple[Box, ...]
    strangeness: float
    """Of the strangest package or place: 0 is the middle of what is known, 1 what one in a hundred of it exceeds.
    Unlike a probability it has no end where the held-out ones are few."""


@dataclass(frozen=True, slots=True, eq=False)
class Packages:
    """Known packages in two parts that vary for different reasons: the network's features, and what they look like.

    Under one covariance the few numbers of the second would drown in the hundreds of the first. `looks` is of the last
    `tail` numbers, None where `tail` is 0. `usual` float32 [2, 2]: median and spread of each part's held-out scores.
    """

    network: Known
    looks: Known | None
    tail: int
    usual: Float

    @classmethod
    def learn(cls, rows: Float, scores: Float, tail: int) -> Self:
        """Of known packages; scores are comparable between the parts only once `usual` was learnt."""
        network = Known.learn(rows[:, : rows.shape[1] - tail], certainty(scores))
        looks = Known.learn(rows[:, rows.shape[1] - tail :]) if tail else None
        return cls(network, looks, tail, np.array([[0.0, 1.0], [0.0, 1.0]], np.float32))

    def parts(self, rows: Float, method: Method, certain: Float) -> Float:
        """float32 [n, 1 or 2], each part's own score."""
        head = rows.shape[1] - self.tail
        # The network's features are compared so in any case; the neighbours are those of the appearance.
        found = [self.network.scores(rows[:, :head], "mahalanobis" if method == "mixed" else method, certain)]
        if self.looks is not None:
            found.append(self.looks.scores(rows[:, head:], method))
        return np.stack(found, axis=1)

    def scores(self, rows: Float, method: Method, certain: Float) -> Float:
        """float32 [n], both parts on one scale, added."""
        parts = self.parts(rows, method, certain)
        return self.together(parts)

    def together(self, parts: Float) -> Float:
        """Scores of `parts` on one scale, added."""
        usual = self.usual[: parts.shape[1]]
        return np.asarray(((parts - usual[:, 0]) / usual[:, 1]).sum(axis=1), np.float32)

    def with_usual(self, held_out: Float, method: Method) -> Self:
        """Put both parts on one scale, by held-out scores [n, 1 or 2]; what counts less has a wider one."""
        low, middle, high = np.quantile(held_out, [0.25, 0.5, 0.75], axis=0)
        if method == "mixed" and held_out.shape[1] == 2:  # both parts
            high[0] = low[0] + (high[0] - low[0]) / NETWORKS_SHARE
        usual = self.usual.copy()
        usual[: held_out.shape[1]] = np.stack([middle, np.maximum(high - low, 1e-6)], axis=1)
        return replace(self, usual=usual)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The reference of one cell on one base."""

    base: str
    layers: tuple[str, ...]
    known: Packages
    patches: PatchBank
    packages: Calibration
    frames: Calibration
    method: Method = DEFAULT
    false_alarms: float = FALSE_ALARMS
    deck: str = ""
    """SHA-256 of the deck that it was made of."""

    @classmethod
    def learn(
        cls,
        seen: Sequence[Seen],
        *,
        base: str,
        layers: Sequence[str],
        method: Method = DEFAULT,
        false_alarms: float = FALSE_ALARMS,
        deck: str = "",
        tail: int = 0,
    ) -> Self:
        """Of the frames of a deck; the last `tail` numbers of a package's are its appearance.

        Raises ValueError where there is too little to learn from.
        """
        if len(seen) < FOLDS:
            raise ValueError(f"a reference needs {FOLDS} frames or more")
        known, patches = _learn(seen, tail)
        held_out, held_frames = [], []
        for fold in range(FOLDS):
            rest = [one for k, one in enumerate(seen) if k % FOLDS != fold]
            own, own_patches = _learn(rest, tail)
            for one in seen[fold::FOLDS]:
                held_out.append(own.parts(one.instances, method, certainty(one.scores)))
                held_frames.append(float(_beside(own_patches, one).max(initial=0.0)))
        parts = np.concatenate(held_out)
        known = known.with_usual(parts, method)
        return cls(
            base,
            tuple(layers),
            known,
            patches,
            Calibration.of(known.together(parts)),
            Calibration.of(held_frames),
            method,
            false_alarms,
            deck,
        )

    def judge(self, seen: Seen) -> Judged:
        """How novel what a frame shows is."""
        scores = self.known.scores(seen.instances, self.method, certainty(seen.scores))
        p = self.packages.p_values(scores)
        allowed = max(self.false_alarms, self.packages.finest())
        beside = _beside(self.patches, seen)
        most = float(beside.max(initial=0.0))
        limit = self.frames.threshold(max(self.false_alarms, self.frames.finest()))
        strange = max(_beyond(float(scores.max(initial=-np.inf)), self.packages), _beyond(most, self.frames))
        boxes = _boxes(beside.reshape(seen.grid) > limit) if most > limit else ()
        return Judged(1 - p, p <= allowed, p, float(self.frames.p_values([most])[0]), boxes, strange)

    def save(self, path: Path) -> None:
        """Write the file, whole."""
        arrays = _arrays("known", self.known.network)
        if self.known.looks is not None:
            arrays |= _arrays("looks", self.known.looks)
        arrays["usual"] = self.known.usual
        arrays |= {f"patches.{one.name}": getattr(self.patches, one.name) for one in fields(PatchBank)}
        arrays |= {"packages": self.packages.held_out, "frames": self.frames.held_out}
        document = {
            "format": FORMAT, "base": self.base, "layers": self.layers, "method": self.method,
            "false_alarms": self.false_alarms, "deck": self.deck, "tail": self.known.tail,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(
            path, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, {"novelty": json.dumps(document)})
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ReferenceUnreadable for a file that is missing, no reference, of another format or of no numbers."""
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ReferenceUnreadable(f"{path.name}: larger than {MAX_BYTES:,} bytes")
            with safe_open(path, framework="numpy") as file:
                document = json.loads(file.metadata()["novelty"])
                arrays = {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118
            return cls._of(document, arrays)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReferenceUnreadable(f"{path.name}: {error}") from error

    @classmethod
    def _of(cls, document: dict[str, object], arrays: dict[str, Float]) -> Self:
        if document["format"] != FORMAT or document["method"] not in METHODS:
            raise ValueError("written by another version")
        if not all(np.isfinite(one).all() for one in arrays.values()):
            raise ValueError("holds numbers that are not finite")
        tail = document.get("tail", 0)
        if not isinstance(tail, int) or tail < 0 or arrays["usual"].shape != (2, 2):
            raise ValueError("no reference")
        looks = _known("looks", arrays) if tail else None
        if looks is not None and len(looks.mean) != tail:
            raise ValueError("arrays of shapes that do not fit together")
        known = Packages(_known("known", arrays), looks, tail, arrays["usual"])
        patches = PatchBank(**{one.name: arrays[f"patches.{one.name}"] for one in fields(PatchBank)})
        if patches.axes.shape[0] != len(patches.mean) or patches.bank.shape[1] != patches.axes.shape[1]:
            raise ValueError("arrays of shapes that do not fit together")
        layers, rate = document["layers"], document["false_alarms"]
        if not isinstance(layers, list) or not isinstance(rate, float) or not 0 < rate < 1:
            raise ValueError("no reference")
        calibrations = (Calibration.of(arrays["packages"]), Calibration.of(arrays["frames"]))
        method: Method = document["method"]
        base, deck = str(document["base"]), str(document["deck"])
        return cls(base, tuple(map(str, layers)), known, patches, *calibrations, method, rate, deck)


def _arrays(prefix: str, known: Known) -> dict[str, Float]:
    return {f"{prefix}.{one.name}": np.asarray(getattr(known, one.name), np.float32) for one in fields(Known)}


def _known(prefix: str, arrays: dict[str, Float]) -> Known:
    """Raises KeyError and ValueError for arrays that are none."""
    found = {one.name: arrays[f"{prefix}.{one.name}"] for one in fields(Known) if one.name != "alpha"}
    known = Known(**found, alpha=float(arrays[f"{prefix}.alpha"].ravel()[0]))
    width = known.mean.shape[0]
    ok = known.within.shape == known.overall.shape == (width, width) and known.bank.shape[1:] == (width,)
    if not ok or known.centres.shape[1:] != (width,) or known.axes.shape[0] != width or known.scale.shape != (width,):
        raise ValueError("arrays of shapes that do not fit together")
    return known


def _learn(seen: Sequence[Seen], tail: int) -> tuple[Packages, PatchBank]:
    rows = np.concatenate([one.instances for one in seen])
    scores = np.concatenate([one.scores for one in seen])
    return Packages.learn(rows, scores, tail), PatchBank.learn(np.concatenate([one.patches for one in seen]))


def _beside(patches: PatchBank, seen: Seen) -> Float:
    """How strange each patch beside what was answered is, a patch with its neighbours: float32 [R * C]."""
    free = (seen.covered < COVERED).reshape(seen.grid).astype(np.float32)
    scores = patches.scores(seen.patches).reshape(seen.grid) * free
    around = cv2.blur(free, (3, 3), borderType=cv2.BORDER_CONSTANT)
    mean = cv2.blur(scores, (3, 3), borderType=cv2.BORDER_CONSTANT) / np.maximum(around, 1e-6)
    # The rim of a package that was answered is strange too; a package that was not is free all over.
    return np.asarray(np.where((free > 0) & (around > 0.6), mean, 0.0), np.float32).ravel()


def _beyond(score: float, calibration: Calibration) -> float:
    middle, high = np.quantile(calibration.held_out, [0.5, 0.99])
    return max((score - float(middle)) / max(float(high - middle), 1e-6), -1.0)


def _boxes(strange: npt.NDArray[np.bool_]) -> tuple[Box, ...]:
    count, _, stats, _ = cv2.connectedComponentsWithStats(strange.astype(np.uint8), connectivity=8)
    rows, columns = strange.shape
    found = []
    for k in range(1, count):
        x, y, w, h, _ = (int(v) for v in stats[k])
        x0, y0, x1, y1 = max(x - 1, 0), max(y - 1, 0), min(x + w + 1, columns), min(y + h + 1, rows)
        found.append((x0 / columns, y0 / rows, x1 / columns, y1 / rows))
    return tuple(found)
