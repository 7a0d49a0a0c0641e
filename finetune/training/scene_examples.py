"""What a base learns from: scenes made while it trains, some seen from close by, and datasets on disk beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from finetune.datasets import Sample, read_dataset
from finetune.errors import DatasetError
from finetune.scenes import LABELS, Look, SceneGenerator
from finetune.scenes.cutouts import PasteGenerator, read_cutouts
from finetune.training.augment import AugmentedExamples, Source, Strength, fit_source
from finetune.training.examples import MASK_STRIDE, Example
from serving.errors import ImageError
from serving.inference.preprocess import decode_image

CLOSE_UP = 2  # a close-up is cut from a scene of so many times the side
CUT_SIDES = (0.3, 0.8)  # of that scene's side: 0.5 is one of its pixels for one of the example's
# Written scenes have had their light, blur and noise; what they lack is that there are few of them.
WRITTEN_STRENGTH = Strength(
    plain=0.4, mosaic=0.1, paste=0.0, zoom_out=0.1, rotate_degrees=5.0, brightness=0.2, contrast=0.2, saturation=0.2,
    hue=0.02, blur=0.0, noise=0.0,
)  # fmt: skip


BACKGROUND_SUFFIXES = (".jpg", ".jpeg", ".png")
# A photograph that comes back a hundred times is seen from nearer, farther, turned and in other light.
BACKGROUND_STRENGTH = Strength(plain=0.1, mosaic=0.25, paste=0.0)
# Pasting would put single faces of a stack into other photographs; a mosaic keeps each stack whole.
PHOTOGRAPH_STRENGTH = Strength(plain=0.1, mosaic=0.3, paste=0.0, crop_area=(0.15, 1.0), zoom_out=0.3)


class SceneExamples(Dataset[Example]):
    """Example k is scene k of a generator, or for `close_ups` of them a part of it; nothing is stored.

    `greys` of them lose their colour, so that a class is told by its shape and surface, which do not change with a
    company's print. With `assets`, `pasted` of those seen from afar are photographs of packages pasted before a
    background of ours. Raises SceneToolError for a folder without cutouts.
    """

    def __init__(
        self,
        look: Look,
        *,
        size: int,
        seed: int,
        count: int,
        close_ups: float = 0.0,
        greys: float = 0.0,
        assets: Path | None = None,
        pasted: float = 0.0,
    ) -> None:
        self._generator = SceneGenerator(look, size=size, seed=seed)
        # Its own seeds: the same scene again, larger, would be no new one.
        self._large = SceneGenerator(look, size=size * CLOSE_UP, seed=seed + 1_000_000)
        self._count = count
        self._seed = seed
        self._close_ups, self._greys = close_ups, greys
        self._pasted = pasted if assets is not None else 0.0
        self._paste = (
            PasteGenerator(look, read_cutouts(assets), size=size, seed=seed + 2_000_000) if assets is not None else None
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, index))
        close = rng.random() < self._close_ups
        # A scene whose packages all fell outside the picture teaches nothing; the next seeds are far apart.
        generator: SceneGenerator | PasteGenerator = self._large if close else self._generator
        if self._paste is not None and not close and rng.random() < self._pasted:
            generator = self._paste
        for attempt in range(20):
            scene = generator.scene(index + attempt * self._count)
            pixels, masks = scene.image, scene.masks()
            classes = np.array([LABELS.index(label) for label in scene.labels], np.int64)
            if close:
                least = self._generator.look.min_area_share
                pixels, masks, classes = cut(pixels, masks, classes, self._generator.size, rng, least=least)
            if len(classes) or scene.bare:
                break
        if rng.random() < self._greys:
            pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
        half = masks[:, ::MASK_STRIDE, ::MASK_STRIDE]
        return Example(pixels, half, classes)


def cut(
    pixels: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    classes: NDArray[np.int64],
    size: int,
    rng: np.random.Generator,
    *,
    least: float = 0.0012,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """A random square of a picture [S, S, 3] with its masks [N, S, S], brought to `size` pixels. Dropped are instances
    of which less than a fifth is left, or that fill less than a share `least` of the square."""
    whole = pixels.shape[0]
    side = int(rng.uniform(*CUT_SIDES) * whole)
    top, left = (int(k) for k in rng.integers(0, whole - side + 1, 2))
    window = np.s_[top : top + side, left : left + side]
    picture = np.asarray(cv2.resize(pixels[window], (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    parts = masks[:, top : top + side, left : left + side]
    area = parts.sum(axis=(1, 2))
    kept = (area >= least * side * side) & (area >= 0.2 * masks.sum(axis=(1, 2)))
    near = (np.arange(size) * side) // size
    return picture, parts[kept][:, near][:, :, near], classes[kept]


class WrittenScenes(Sequence[Source]):
    """Train images of datasets on disk, read when they are asked for. Their classes must be the base's.

    Raises DatasetError for a folder that cannot be read, that names a class the generator does not know, or that has
    no train image.
    """

    def __init__(self, folders: Sequence[Path], *, side: int) -> None:
        self._side = side
        self._samples: list[Sample] = []
        self.counts: list[int] = []  # usable images of each folder
        for folder in folders:
            dataset = read_dataset(folder)
            shown = {label for sample in dataset.samples for label in sample.labels}
            strange = sorted(shown - set(LABELS))
            if strange:
                raise DatasetError(f"a base's classes are {', '.join(LABELS)}; not {', '.join(strange)}", path=folder)
            usable = [s for s in dataset.samples if s.labels and s.split in (None, "train")]
            self._samples += usable
            self.counts.append(len(usable))
        if not self._samples:
            raise DatasetError("has no train image with a package", path=folders[0] if folders else None)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Source:  # type: ignore[override]  # slices are of no use here
        sample = self._samples[index]
        truth = sample.truth()
        classes = np.array([LABELS.index(label) for label in truth.labels], np.int64)
        boxed = np.array(sample.box_only, np.bool_)
        source = Source(sample.read_image(), truth.decode_masks(), classes, boxed if boxed.any() else None)
        return fit_source(source, self._side)


class Backgrounds(Sequence[Source]):
    """Photographs without any package, read when they are asked for: what is not a package, as cameras see it.

    Raises DatasetError for a folder without PNG or JPEG files.
    """

    def __init__(self, folder: Path, *, side: int) -> None:
        self._side = side
        self._paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in BACKGROUND_SUFFIXES)
        if not self._paths:
            raise DatasetError("has no photograph (.jpg, .jpeg, .png)", path=folder)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Source:  # type: ignore[override]  # slices are of no use here
        path = self._paths[index]
        try:
            pixels = decode_image(path.read_bytes())
        except (OSError, ImageError) as error:
            raise DatasetError(str(error), path=path) from error
        none = np.zeros((0, *pixels.shape[:2]), np.bool_)
        return fit_source(Source(pixels, none, np.zeros(0, np.int64)), self._side)


class Mixture(Dataset[Example]):
    """Examples of `main`, of which a `share` is replaced by `other`'s of the same number. `draw` tells apart mixtures
    of one seed."""

    def __init__(
        self, main: Dataset[Example], other: Dataset[Example], *, share: float, seed: int, count: int, draw: int = 2
    ) -> None:
        self._main, self._other = main, other
        self._share, self._seed, self._count, self._draw = share, seed, count, draw

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        other = np.random.default_rng((self._seed, self._draw, index)).random() < self._share
        return (self._other if other else self._main)[index]


class MixedSizes(Dataset[Example]):
    """Examples in several sizes: all of a batch are of one, which the batch draws by its number. `parts` have the same
    examples in one size each; `batch` examples lie side by side in one batch, as `finetune.training.fit` draws them.
    """

    def __init__(self, parts: Sequence[Dataset[Example]], *, batch: int, seed: int) -> None:
        self._parts, self._batch, self._seed = parts, batch, seed

    def __len__(self) -> int:
        return len(self._parts[0])  # type: ignore[arg-type]  # all that are given have a length

    def __getitem__(self, index: int) -> Example:
        drawn = np.random.default_rng((self._seed, 4, index // self._batch)).integers(len(self._parts))
        return self._parts[int(drawn)][index]


def written_examples(folders: Sequence[Path], *, size: int, count: int, seed: int) -> AugmentedExamples:
    """Augmented examples of datasets on disk. Raises DatasetError as WrittenScenes does."""
    return AugmentedExamples(
        WrittenScenes(folders, side=size), size=size, count=count, seed=seed, strength=WRITTEN_STRENGTH
    )


def photograph_examples(folders: Sequence[Path], *, size: int, count: int, seed: int) -> AugmentedExamples:
    """Augmented examples of labelled photographs, a folder for each site or source.

    A folder is drawn as often as the square root of its number of photographs says, so that one site with many of them
    does not decide what packages look like. Raises DatasetError as WrittenScenes does.
    """
    sources = WrittenScenes(folders, side=2 * size)
    weights = [n**-0.5 for n in sources.counts for _ in range(n)]
    return AugmentedExamples(sources, size=size, count=count, seed=seed, weights=weights, strength=PHOTOGRAPH_STRENGTH)


def background_examples(folder: Path, *, size: int, count: int, seed: int) -> AugmentedExamples:
    """Augmented examples of photographs without packages. Raises DatasetError as Backgrounds does."""
    return AugmentedExamples(
        Backgrounds(folder, side=2 * size), size=size, count=count, seed=seed, strength=BACKGROUND_STRENGTH
    )
