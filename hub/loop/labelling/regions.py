"""Regions of a picture: exact masks inside, outlines for drawing, and what people send checked and rasterised.

A mask that nobody touched goes through as the very same runs. What was drawn becomes pixels by COCO's rasteriser, each
ring filled by the even-odd rule, as a browser shows it: also a ring that crosses itself is stored as it was seen.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from finetune.datasets.contours import trace
from finetune.datasets.rle import canonical, parse_counts
from hub.errors import LabelError
from hub.schemas.labels import MAX_COUNTS, MAX_POINTS, MAX_REGIONS, Mask, Point, Region, RegionIn

LOW_SCORE = 0.65
SHOWN_SCORE = 0.5
"""Less sure instances are not on the picture: they are offered where a person clicks."""
LEAST_SCORE = 0.15
"""Instances below this are not even offered."""
SAME_PLACE = 0.5
_SLACK, _SLACK_SHARE = 1.0, 0.0016
MAX_AROUND = 50
"""The longest outline of a ring, in sums of the picture's sides."""
MAX_DRAWN = 200
"""Parts and holes of one region that are drawn, the largest ones; its mask has all of them."""
_BEYOND = 2.0  # pixels that a hand may slip out of the picture


class Kept(msgspec.Struct, frozen=True):
    """A region as it is stored: `counts` is canonical COCO RLE of the picture's size."""

    id: str
    label: str
    counts: str
    score: float | None = None
    low: bool = False
    disputed: bool = False
    offered: bool = False


_decode = msgspec.json.Decoder(list[Kept]).decode


def dumps(regions: Sequence[Kept]) -> str:
    """As a text for the catalog."""
    return msgspec.json.encode(regions).decode()


def loads(text: str) -> list[Kept]:
    """The inverse of `dumps`."""
    return _decode(text)


def new_id() -> str:
    """Of a region."""
    return secrets.token_hex(6)


def counts_of(text: str | bytes, height: int, width: int) -> tuple[str, int]:
    """Canonical runs and area in pixels of compressed RLE. Raises LabelError for what is none of this size."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    if len(data) > MAX_COUNTS:
        raise LabelError(f"a mask has {len(data):,} bytes of runs; the limit is {MAX_COUNTS:,}")
    try:
        counts, area = canonical(parse_counts(data), height, width)
    except (ValueError, OverflowError) as error:
        raise LabelError(f"a mask is not RLE of a {width}x{height} picture: {error}") from error
    return counts.decode("ascii"), area


def proposed(
    instances: Sequence[tuple[str, float, str | bytes]], height: int, width: int, classes: Sequence[str] = ()
) -> list[Kept]:
    """(label, score, RLE) of an answer as regions; damaged and empty masks are left out.

    Of those that claim one place, the surest is shown, as disputed where another was sure enough to be shown, and the
    others are offered. Of a class that is none of `classes`, if there are any, it is disputed, too.
    """
    found: list[Kept] = []
    for label, score, text in instances[:MAX_REGIONS]:
        if not (math.isfinite(score) and score >= LEAST_SCORE) or not label or len(label) > 200:
            continue
        try:
            counts, area = counts_of(text, height, width)
        except LabelError:
            continue
        if area:
            found.append(Kept(new_id(), label, counts, round(float(score), 5), score < LOW_SCORE))
    return marked(found, height, width, classes)


def marked(regions: Sequence[Kept], height: int, width: int, classes: Sequence[str] = ()) -> list[Kept]:
    """The same regions, with `disputed` and `offered` as `proposed` says."""
    if not regions:
        return []
    counts = [one.counts for one in regions]
    areas = coco_mask.area([{"size": [height, width], "counts": one.encode()} for one in counts]).astype(np.float64)
    fits = overlaps(counts, counts, height, width)
    share = fits * (areas[:, None] + areas[None]) / (1 + fits) / np.minimum(areas[:, None], areas[None]).clip(1)
    np.fill_diagonal(share, 0)
    sure = [one.score is None or one.score >= SHOWN_SCORE for one in regions]
    shown: set[int] = set()
    for k in sorted(range(len(regions)), key=lambda k: -(regions[k].score or 0.0)):
        if sure[k] and not any(share[k, j] > SAME_PLACE for j in shown):
            shown.add(k)
    return [
        msgspec.structs.replace(
            one,
            disputed=any(sure[j] and share[k, j] > SAME_PLACE for j in range(len(regions)) if j != k)
            or bool(classes and one.label not in classes),
            offered=k not in shown,
        )
        for k, one in enumerate(regions)
    ]


def view(one: Kept, height: int, width: int) -> Region:
    """As the API shows it."""
    return Region(
        id=one.id, label=one.label, score=one.score, low=one.low, disputed=one.disputed, offered=one.offered,
        mask=Mask(size=(height, width), counts=one.counts), polygons=polygons_of(one.counts, height, width),
    )  # fmt: skip


def polygons_of(counts: str, height: int, width: int, *, exact: bool = False) -> list[list[list[Point]]]:
    """Outlines of a mask: a list of polygons, each an outer ring and the holes in it.

    `exact` runs along the edges of the pixels; else the rings are as simple as a hand wants them, a pixel or two off.
    """
    rings = trace(counts.encode(), height, width)
    slack = 0.0 if exact else max(_SLACK, _SLACK_SHARE * max(height, width))
    found: list[list[list[Point]]] = []
    outers: list[npt.NDArray[np.int64]] = []
    most = None if exact else MAX_DRAWN
    parts, holes = (sorted(side, key=_extent, reverse=True)[:most] for side in (rings.parts, rings.holes))
    for ring in parts:
        if simple := _simple(ring, slack):
            found.append([simple])
            outers.append(ring)
    for hole in holes:
        if not (simple := _simple(hole, slack)):
            continue
        # A point inside the hole's first pixel edge: the ring that holds it, and of several the smallest, owns it.
        at = (float(hole[0, 0]), float(hole[0, 1]))
        around = [
            (cv2.contourArea(outer.astype(np.int32)), k)
            for k, outer in enumerate(outers)
            if cv2.pointPolygonTest(outer.astype(np.float32), at, measureDist=False) >= 0
        ]
        if around:
            found[min(around)[1]].append(simple)
    return found


def _extent(ring: npt.NDArray[np.int64]) -> int:
    return int(np.prod(np.ptp(ring, axis=0)))


def _simple(ring: npt.NDArray[np.int64], slack: float) -> list[Point]:
    points = ring if not slack else cv2.approxPolyDP(ring.astype(np.int32), slack, closed=True)[:, 0]
    if len(points) < 3:
        points = ring  # a sliver: its own corners
    return [(float(x), float(y)) for x, y in points.tolist()]


def read(
    sent: Sequence[RegionIn],
    shown: Mapping[str, Kept],
    height: int,
    width: int,
    classes: Sequence[str],
) -> list[Kept]:
    """What a person sent, checked: finite numbers inside the picture, not too many, known classes, no empty region.

    `shown` are the regions that `keep` may name. Raises LabelError, whose sentence says which region is wrong.
    """
    if len(sent) > MAX_REGIONS:
        raise LabelError(f"{len(sent)} regions; a picture may have {MAX_REGIONS}")
    points = sum(len(ring) for one in sent for polygon in one.polygons or () for ring in polygon)
    if points > MAX_POINTS:
        raise LabelError(f"{points:,} points; the regions of a picture may have {MAX_POINTS:,}")
    found: list[Kept] = []
    used: set[str] = set()
    for number, one in enumerate(sent, 1):
        if classes and one.label not in classes:
            raise LabelError(f"region {number}: {one.label!r} is no class of the cell; it has {', '.join(classes)}")
        if sum(value is not None for value in (one.keep, one.polygons, one.mask)) != 1:
            raise LabelError(f"region {number}: give one of keep, polygons and mask")
        if one.keep is not None:
            known = shown.get(one.keep)
            if known is None:
                raise LabelError(f"region {number}: no region {one.keep!r} was shown")
            if one.keep in used:
                raise LabelError(f"region {number}: {one.keep!r} is kept twice")
            used.add(one.keep)
            found.append(Kept(known.id, one.label, known.counts, known.score))
            continue
        if one.mask is not None:
            if tuple(one.mask.size) != (height, width):
                raise LabelError(f"region {number}: the mask is not of a {width}x{height} picture")
            counts, area = counts_of(one.mask.counts, height, width)
        else:
            counts, area = rasterised(one.polygons or [], height, width, f"region {number}")
        if not area:
            raise LabelError(f"region {number} covers no pixel")
        found.append(Kept(new_id(), one.label, counts))
    return found


def rasterised(
    polygons: Sequence[Sequence[Sequence[Point]]], height: int, width: int, what: str = "the region"
) -> tuple[str, int]:
    """Canonical runs and area of polygons with holes, in pixels of the picture. Raises LabelError."""
    whole: Any = None
    for polygon in polygons:
        outer = _ring(polygon[0], height, width, what)
        if len(polygon) > 1:
            holes = coco_mask.merge([_ring(ring, height, width, what) for ring in polygon[1:]])
            outer = coco_mask.merge([outer, _outside(holes, height, width)], intersect=True)
        whole = outer if whole is None else coco_mask.merge([whole, outer])
    if whole is None:
        return "", 0
    counts, area = canonical(parse_counts(whole["counts"]), height, width)
    return counts.decode("ascii"), area


def _ring(points: Sequence[Point], height: int, width: int, what: str) -> Any:  # noqa: ANN401  # pycocotools' RLE
    values = np.asarray(points, np.float64)
    if values.ndim != 2 or values.shape[1] != 2 or len(values) < 3:
        raise LabelError(f"{what}: a ring has at least three points of two numbers")
    if not np.isfinite(values).all():
        raise LabelError(f"{what}: a coordinate is no finite number")
    most = np.array([width, height])
    if (values < -_BEYOND).any() or (values > most + _BEYOND).any():
        raise LabelError(f"{what}: a point is outside the picture of {width}x{height} pixels")
    values = values.clip(0, most)
    # COCO's rasteriser takes memory by the length of the line: a few thousand corners can make it kilometres long.
    if np.hypot(*(values - np.roll(values, 1, axis=0)).T).sum() > MAX_AROUND * (height + width):
        raise LabelError(f"{what}: the outline goes to and fro more often than any package does")
    return coco_mask.frPyObjects([values.reshape(-1).tolist()], height, width)[0]


def _outside(rle: Any, height: int, width: int) -> Any:  # noqa: ANN401  # pycocotools' RLE
    """All pixels but those of a mask, without ever having them in memory."""
    runs = parse_counts(rle["counts"])
    turned = runs[1:] if runs[0] == 0 else np.concatenate([[0], runs])
    size = [height, width]
    return coco_mask.frPyObjects({"size": size, "counts": turned.tolist() or [height * width]}, height, width)


def overlaps(one: Sequence[str], other: Sequence[str], height: int, width: int) -> npt.NDArray[np.float64]:
    """IoU float64 [N, M] of masks of one picture size."""
    if not one or not other:
        return np.zeros((len(one), len(other)))
    rles = [[{"size": [height, width], "counts": c.encode()} for c in side] for side in (one, other)]
    return np.asarray(coco_mask.iou(rles[0], rles[1], [0] * len(other)), np.float64)
