"""Findings: the packages of the captures that a change started, with their embeddings and small pictures."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from serving.observed.novelty import Float
from serving.observed.packing import unpack

log = logging.getLogger("parcelhub.events")

FAILED: Final = ("miss", "drop", "wrong_item", "multi_pick")
CROP_SIDE: Final = 160
"""The longer side of a small picture, in pixels."""
CROP_MARGIN: Final = 0.15
"""What a small picture shows around its package, as a share of the box."""
MAX_CROPS: Final = 10_000
MAX_WIDTH: Final = 8_192
MAX_PACKAGES: Final = 300
MAX_PIXELS: Final = 64_000_000
_SPACE: Final = uuid.UUID("6d1a7bb3-5a4f-4f0e-9d84-5f4a1e5f0a11")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One package of one capture. `box`: x0, y0, x1, y1 in pixels; `embedding` float32 [D]."""

    id: str
    box: tuple[float, float, float, float]
    embedding: Float
    novelty: float
    novel: bool
    picked: bool
    score: float
    label: str
    answered: bool


def finding_id(capture: str, index: int) -> str:
    """The same package of the same capture has the same id: told twice, it counts once."""
    return uuid.uuid5(_SPACE, f"{capture}/{index}").hex


def packages(capture: str, document: dict[str, Any]) -> Iterator[Found]:
    """The packages of a capture that was observed; nothing of one that was not. Raises KeyError, TypeError and
    ValueError for a document that is damaged."""
    seen = document.get("observed")
    if not seen:
        return
    width = int(seen["width"])
    instances = document["instances"]
    if not 0 < width <= MAX_WIDTH or len(instances) > MAX_PACKAGES:
        raise ValueError("more than a capture holds")
    rows = unpack(seen["embeddings"], width)
    if len(rows) != len(instances):
        raise ValueError("another number of embeddings than of packages")
    novelty = [float(v) for v in seen.get("novelty", [0.0] * len(rows))]
    novel = [bool(v) for v in seen.get("novel", [False] * len(rows))]
    # The robot does not say which one it picked, unless it does: then the most certain one is what was meant.
    picked = int(document.get("instance", 0))
    for k, one in enumerate(instances):
        box = _box(one["box"])
        yield Found(
            finding_id(capture, k), box, rows[k], novelty[k], novel[k], k == picked, float(one["score"]),
            str(one["label"])[:200], True,
        )  # fmt: skip
    boxes = seen.get("unanswered", [])[:MAX_PACKAGES]
    beside = unpack(seen.get("embeddings_beside", ""), width)
    height, wide = int(document["height"]), int(document["width"])
    for k, (share, row) in enumerate(zip(boxes, beside, strict=True)):
        x0, y0, x1, y1 = _box(share)
        box = (x0 * wide, y0 * height, x1 * wide, y1 * height)
        yield Found(finding_id(capture, -1 - k), box, row, 1.0, True, False, 0.0, "", False)


def _box(values: Any) -> tuple[float, float, float, float]:  # noqa: ANN401 - of a file
    x0, y0, x1, y1 = (float(v) for v in values)
    if not np.isfinite([x0, y0, x1, y1]).all():
        raise ValueError("a box that is not finite")
    return x0, y0, x1, y1


def keep_crop(folder: Path, finding: str, image: bytes, box: tuple[float, float, float, float]) -> None:
    """Cut a package out of a frame and keep a small JPEG of it."""
    target = folder / f"{finding}.jpg"
    if target.exists():
        return
    frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    if frame is None or frame.shape[0] * frame.shape[1] > MAX_PIXELS:
        return
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = box
    dx, dy = CROP_MARGIN * (x1 - x0) + 4, CROP_MARGIN * (y1 - y0) + 4
    left, top = int(np.clip(x0 - dx, 0, width - 1)), int(np.clip(y0 - dy, 0, height - 1))
    right, bottom = int(np.clip(x1 + dx, left + 1, width)), int(np.clip(y1 + dy, top + 1, height))
    crop = frame[top:bottom, left:right]
    scale = CROP_SIDE / max(crop.shape[:2])
    size = (max(round(crop.shape[1] * scale), 1), max(round(crop.shape[0] * scale), 1))
    _, data = cv2.imencode(".jpg", cv2.resize(crop, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 82])
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(data.tobytes())
    part.replace(target)
