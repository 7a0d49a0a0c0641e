"""Pictures made anew: what a small dataset needs so that a variant learns its packages and not its photographs.

Geometry and photometry are torchvision's v2 transforms, which carry masks along; mosaic and copy-paste (Ghiasi
et al., "Simple
Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", arXiv 2012.07177) mix several pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from finetune.training.examples import MASK_STRIDE, Example
from serving.inference.preprocess import Letterbox, resize

PAD_COLOUR = (0, 0, 0)  # what serving pads with


@dataclass(frozen=True, slots=True)
class Source:
    """A training picture kept in memory. `pixels` uint8 [H, W, 3] RGB; `masks` bool [N, H, W]; `classes` int64 [N];
    `box_only` bool [N] as in Example."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    classes: NDArray[np.int64]
    box_only: NDArray[np.bool_] | None = None

    def boxed(self) -> NDArray[np.bool_]:
        """`box_only`, all False where it is None."""
        return self.box_only if self.box_only is not None else np.zeros(len(self.classes), np.bool_)


@dataclass(frozen=True, slots=True)
class Strength:
    """Chances and ranges of each augmentation."""

    plain: float = 0.15  # the picture as serving sees it, photometry alone
    mosaic: float = 0.15
    paste: float = 0.3
    crop_area: tuple[float, float] = (0.3, 1.0)
    zoom_out: float = 0.25
    rotate_degrees: float = 8.0
    brightness: float = 0.45
    contrast: float = 0.35
    saturation: float = 0.4
    hue: float = 0.05
    blur: float = 0.15
    noise: float = 0.15


class AugmentedExamples(Dataset[Example]):
    """`count` examples drawn from `sources`; example k is the same whenever it is asked for (seeded by `seed`
    and k).
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        size: int,
        count: int,
        seed: int,
        weights: Sequence[float] | None = None,
        strength: Strength | None = None,
    ) -> None:
        """`weights` says how often each source is drawn relative to the others; equally often by default. Raises
        ValueError for another number of weights than sources."""
        self._sources = sources
        share = np.asarray(weights if weights is not None else np.ones(len(sources)), float)
        if share.shape != (len(sources),):
            raise ValueError(f"{len(share)} weights for {len(sources)} sources")
        self._share = share / share.sum()
        self._size = size
        self._count = count
        self._seed = seed
        self._strength = strength or Strength()
        s = self._strength
        fill: dict[type | str, int | Sequence[int]] = {tv_tensors.Image: PAD_COLOUR, tv_tensors.Mask: 0}
        turn = v2.RandomApply([v2.RandomRotation(s.rotate_degrees, fill=fill)], p=0.35)
        before = [v2.RandomHorizontalFlip(), v2.RandomZoomOut(fill=fill, side_range=(1.0, 1.6), p=s.zoom_out)]
        crop = v2.RandomResizedCrop(size, scale=s.crop_area, ratio=(0.75, 1.33), antialias=True)
        self._geometry = v2.Compose([*before, turn, crop])
        # A box that is turned is a wider box than that of the instance inside.
        self._upright = v2.Compose([*before, crop])
        self._photometry = v2.Compose(
            [
                v2.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue),
                v2.RandomGrayscale(0.04),
                v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.6))], p=s.blur),
            ]
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        seed = (self._seed * 1_000_003 + index) % 2**63
        rng = np.random.default_rng(seed)
        # torchvision draws from torch's global generator; this runs in loader processes, so nobody else's draws move.
        torch.manual_seed(seed)
        s = self._strength
        source = self._sources[self._turn(index)]
        kind = rng.random()
        if kind < s.plain:
            pixels, masks, classes = _letterbox(source, self._size)
            image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        else:
            if kind < s.plain + s.mosaic and len(self._sources) > 1:
                source = mosaic([source, *self._draw(rng, 3)], rng)
            elif rng.random() < s.paste:
                source = paste(source, self._draw(rng, 1)[0], rng)
            image, masks, classes = self._transform(source)
        image = self._photometry(image)
        pixels = image.permute(1, 2, 0).numpy()
        if rng.random() < s.noise:
            grain = rng.normal(0, rng.uniform(2, 12), pixels.shape).astype(np.float32)
            pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        masks = masks[:, ::MASK_STRIDE, ::MASK_STRIDE]
        kept = masks.sum(axis=(1, 2)) >= 6
        boxed = source.boxed()[kept] if source.box_only is not None else None
        return Example(np.ascontiguousarray(pixels), masks[kept], classes[kept], boxed)

    def _turn(self, index: int) -> int:
        """The source of example `index`: within each round as many examples as sources, every source as often
        as its share says, to within one (systematic sampling), in a fresh order."""
        number, place = divmod(index, len(self._sources))
        rng = np.random.default_rng((self._seed, number))
        ticks = (np.arange(len(self._sources)) + rng.random()) / len(self._sources)
        drawn = np.searchsorted(np.cumsum(self._share), ticks).clip(max=len(self._sources) - 1)
        return int(rng.permutation(drawn)[place])

    def _draw(self, rng: np.random.Generator, count: int) -> list[Source]:
        return [self._sources[int(k)] for k in rng.integers(0, len(self._sources), count)]

    def _transform(self, source: Source) -> tuple[tv_tensors.Image, NDArray[np.bool_], NDArray[np.int64]]:
        image = tv_tensors.Image(torch.from_numpy(source.pixels).permute(2, 0, 1))
        if not len(source.masks):
            return self._geometry(image), np.zeros((0, self._size, self._size), np.bool_), source.classes
        masks = tv_tensors.Mask(torch.from_numpy(source.masks.view(np.uint8)))
        image, masks = (self._upright if source.boxed().any() else self._geometry)(image, masks)
        return image, masks.numpy().astype(np.bool_), source.classes


def fit_source(source: Source, side: int) -> Source:
    """Scale a source so that its long edge is `side` pixels; masks by nearest neighbour."""
    height, width = source.pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1.0:
        return source
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = cv2.resize(source.pixels, shape, interpolation=cv2.INTER_AREA)
    masks = [cv2.resize(m.view(np.uint8), shape, interpolation=cv2.INTER_NEAREST) for m in source.masks]
    stacked = np.stack(masks).astype(np.bool_) if masks else np.zeros((0, shape[1], shape[0]), np.bool_)
    return Source(np.asarray(pixels, np.uint8), stacked, source.classes, source.box_only)


def _letterbox(source: Source, size: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
    """The source in a square of `size`, top left, as serving's letterbox puts it."""
    box = Letterbox.fit(source.pixels.shape[0], source.pixels.shape[1], size)
    inner = np.s_[: box.inner_height, : box.inner_width]
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[inner] = resize(source.pixels, box.inner_height, box.inner_width).numpy()
    masks = np.zeros((len(source.masks), size, size), np.bool_)
    shape = (box.inner_width, box.inner_height)
    for target, mask in zip(masks, source.masks, strict=True):
        target[inner] = cv2.resize(mask.view(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
    return pixels, masks, source.classes


def mosaic(sources: Sequence[Source], rng: np.random.Generator) -> Source:
    """Four pictures in a two-by-two grid of the first one's size, split at a random cross."""
    height, width = sources[0].pixels.shape[:2]
    row, column = int(height * rng.uniform(0.35, 0.65)), int(width * rng.uniform(0.35, 0.65))
    pixels = np.zeros((height, width, 3), np.uint8)
    masks: list[NDArray[np.bool_]] = []
    classes: list[NDArray[np.int64]] = []
    tiles = ((0, row, 0, column), (0, row, column, width), (row, height, 0, column), (row, height, column, width))
    for source, (y0, y1, x0, x1) in zip(sources, tiles, strict=True):
        shape = (x1 - x0, y1 - y0)
        pixels[y0:y1, x0:x1] = cv2.resize(source.pixels, shape, interpolation=cv2.INTER_AREA)
        placed = np.zeros((len(source.masks), height, width), np.bool_)
        for target, mask in zip(placed, source.masks, strict=True):
            target[y0:y1, x0:x1] = cv2.resize(mask.view(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
        masks.append(placed)
        classes.append(source.classes)
    boxed = np.concatenate([source.boxed() for source in sources[:4]])
    return Source(pixels, np.concatenate(masks), np.concatenate(classes), boxed if boxed.any() else None)


def paste(target: Source, donor: Source, rng: np.random.Generator) -> Source:
    """Paste one to three instances of `donor` onto `target`, scaled and moved; what they cover is cut from its
    masks. Instances with a box alone are not cut out: their outline is not known.
    """
    whole = np.flatnonzero(~donor.boxed())
    if not len(whole):
        return target
    height, width = target.pixels.shape[:2]
    pixels, masks, classes = target.pixels.copy(), target.masks.copy(), list(target.classes)
    extra: list[NDArray[np.bool_]] = []
    for pick in rng.choice(whole, min(len(whole), int(rng.integers(1, 4))), replace=False):
        ys, xs = np.nonzero(donor.masks[pick])
        if len(ys) < 64:
            continue
        window = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        scale = rng.uniform(0.5, 1.3)
        h, w = ys.max() + 1 - ys.min(), xs.max() + 1 - xs.min()
        shape = (int(np.clip(w * scale, 4, width)), int(np.clip(h * scale, 4, height)))
        piece = cv2.resize(donor.pixels[window], shape, interpolation=cv2.INTER_AREA)
        shade = cv2.resize(donor.masks[pick][window].view(np.uint8), shape, interpolation=cv2.INTER_NEAREST) > 0
        y, x = int(rng.integers(0, height - shape[1] + 1)), int(rng.integers(0, width - shape[0] + 1))
        place = np.s_[y : y + shape[1], x : x + shape[0]]
        pixels[place][shade] = piece[shade]
        for mask in (*masks, *extra):
            mask[place][shade] = False
        fresh = np.zeros((height, width), np.bool_)
        fresh[place] = shade
        extra.append(fresh)
        classes.append(donor.classes[pick])
    if not extra:
        return target
    boxed = np.concatenate([target.boxed(), np.zeros(len(extra), np.bool_)]) if target.box_only is not None else None
    return Source(pixels, np.concatenate([masks, np.stack(extra)]), np.array(classes, np.int64), boxed)
