"""Which images to label next: what the packages that were missed have in common, in words that a person can act on.

Each package of the holdout is described by a few traits that can be seen with the eye (cut off by the picture's edge,
small, dark, ...). A trait is worth naming where packages that have it are missed clearly more often than those that do
not: then pictures with that trait teach more than others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from finetune.evaluation.evaluate import FOUND_SCORE, match
from serving.inference.preprocess import Image
from serving.instances import Instances

MAX_ADVICE = 5
_EXAMPLES = 4
_LEAST = 3  # missed packages; fewer are no pattern
_SMALL_SHARE = 0.01
_CROWD = 6


@dataclass(frozen=True, slots=True)
class Advice:
    """One kind of picture to label, why, and holdout images that show it.

    `hit` of `total` instances with the trait were missed, `other_hit` of `other_total` without it. For claims of
    something that is not there, `total` counts the claims and the others are 0.
    """

    kind: str
    sentence: str
    hit: int
    total: int
    other_hit: int
    other_total: int
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    image: str
    missed: bool
    traits: Mapping[str, bool]


_WORDS: Mapping[str, str] = {
    "edge": "packages cut off by the edge of the picture",
    "small": "small packages (less than 1 % of the picture)",
    "large": "very large packages (more than a quarter of the picture)",
    "crowd": f"crowded pictures (more than {_CROWD} packages)",
    "touching": "packages that touch others",
    "dark": "dark packages",
    "bright": "very bright packages",
    "flat": "packages that hardly stand out from what is behind them",
    "thin": "long, thin packages",
    "ragged": "packages of irregular shape",
}


def advise(
    names: Sequence[str],
    images: Callable[[int], Image],
    truths: Sequence[Instances],
    answers: Sequence[Instances],
) -> tuple[Advice, ...]:
    """Kinds of pictures to label next, the most telling first; empty where nothing stands out.

    `images` gives the pixels uint8 [H, W, 3] of image k. Answers below the score that counts as found are ignored.
    """
    seen: list[_Seen] = []
    extra: list[str] = []
    for k, (name, truth, answer) in enumerate(zip(names, truths, answers, strict=True)):
        sure = answer.filter(FOUND_SCORE)
        found = {theirs for theirs, _ in match(truth, sure)}
        extra += [name] * (len(sure) - len(found))
        if len(truth):
            traits = _traits(images(k), truth)
            seen += [_Seen(name, j not in found, traits[j]) for j in range(len(truth))]
    ranked = sorted(_patterns(seen), key=lambda pair: -pair[0])
    advice = [one for _, one in ranked[:MAX_ADVICE]]
    if len(extra) > max(_LEAST, 0.1 * len(seen)):
        sentence = (
            f"Pictures of what is no package: the variant claimed {len(extra)} packages that are not in the labels. "
            "Check whether they were forgotten; if not, add pictures with empty places and the clutter around them."
        )
        advice.append(Advice("extra", sentence, len(extra), len(extra), 0, 0, _examples(extra)))
    return tuple(advice)


def _patterns(seen: Sequence[_Seen]) -> list[tuple[float, Advice]]:
    """(how telling, advice) of each trait that goes with misses: the z value of two proportions, at least 2."""
    found = []
    for kind in {kind for one in seen for kind in one.traits}:
        mine = [one for one in seen if one.traits.get(kind)]
        others = [one for one in seen if not one.traits.get(kind)]
        hit, other_hit = sum(one.missed for one in mine), sum(one.missed for one in others)
        if hit < _LEAST or not others:
            continue
        rate, other_rate = hit / len(mine), other_hit / len(others)
        pooled = (hit + other_hit) / (len(mine) + len(others))
        spread = math.sqrt(pooled * (1 - pooled) * (1 / len(mine) + 1 / len(others)))
        if not spread or (rate - other_rate) / spread < 2:
            continue
        what = _WORDS.get(kind) or f"packages of the class {kind.removeprefix('class:')}"
        counts = f"{hit} of {len(mine)} were missed, of the others {other_hit} of {len(others)}"
        sentence = f"{what[0].upper()}{what[1:]}: {counts}."
        images = _examples([one.image for one in mine if one.missed])
        advice = Advice(kind, sentence, hit, len(mine), other_hit, len(others), images)
        found.append(((rate - other_rate) * math.sqrt(hit), advice))
    return found


def _examples(images: Sequence[str]) -> tuple[str, ...]:
    """The images that come most often."""
    counts = {name: images.count(name) for name in dict.fromkeys(images)}
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:_EXAMPLES])


def _traits(pixels: Image, truth: Instances) -> list[dict[str, bool]]:
    """Of each instance: which traits it has."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = min(1.0, 512 / max(grey.shape))
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    masks = [
        np.asarray(cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST), np.uint8)
        for mask in truth.decode_masks()
    ]
    union = np.sum(masks, axis=0)
    return [_of_one(grey, mask, union, truth.labels[k], len(masks)) for k, mask in enumerate(masks)]


def _of_one(
    grey: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8], union: npt.NDArray[np.uint8], label: str, count: int
) -> dict[str, bool]:
    traits = {f"class:{label}": True, "crowd": count > _CROWD}
    area = int(mask.sum())
    if area < 4:
        return traits | {"small": True}
    kernel = np.ones((7, 7), np.uint8)
    ring = (cv2.dilate(mask, kernel) - mask).astype(np.bool_)
    inside = mask.astype(np.bool_)
    brightness = float(grey[inside].mean())
    around = float(grey[ring].mean()) if ring.any() else brightness
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=cv2.contourArea)
    (_, (w, h), _) = cv2.minAreaRect(outline)
    hull = float(cv2.contourArea(cv2.convexHull(outline)))
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return traits | {
        "edge": int(border.sum()) > 2,
        "small": area < _SMALL_SHARE * mask.size,
        "large": area > 0.25 * mask.size,
        "touching": bool((union[ring] > 0).mean() > 0.25) if ring.any() else False,
        "dark": brightness < 60,
        "bright": brightness > 215,
        "flat": abs(brightness - around) < 12,
        "thin": min(w, h) > 0 and max(w, h) / min(w, h) > 4,
        "ragged": hull > 0 and area / hull < 0.75,
    }
