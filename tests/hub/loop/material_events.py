"""Captures as a site's novelty watch keeps them, with planted kinds of packages."""

from __future__ import annotations

import time

import cv2
import numpy as np

from hub.services import Services
from serving.instances import Instances
from serving.observed.captures import Capture
from serving.observed.packing import pack

WIDTH = 32
SINCE = float(int(time.time()) - 5 * 86_400)
KINDS = {"bags": (40, 40, 40), "gold": (30, 180, 220), "rolls": (200, 80, 60)}


def embedding(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Of a known package (`box`) or of one of KINDS."""
    row = rng.normal(size=WIDTH)
    if kind in KINDS:
        row += 8 * np.random.default_rng(sorted(KINDS).index(kind) + 50).normal(size=WIDTH)
    return row


def keep(
    services: Services,
    cell: str,
    kinds: list[str],
    at: float,
    *,
    request: str = "",
    seed: int | None = None,
    **facts: object,
) -> str:
    """Keep a capture with one package of each kind; the first is what the robot picks. Returns the capture's id."""
    rng = np.random.default_rng(int(at) % 2**31 if seed is None else seed)
    image = np.full((120, 160, 3), 190, np.uint8)
    masks = np.zeros((len(kinds), 120, 160), np.bool_)
    for k, kind in enumerate(kinds):
        x = 4 + 50 * k
        image[20:90, x : x + 44] = KINDS.get(kind, (90, 140, 190))
        masks[k, 20:90, x : x + 44] = True
    cv2.randn(noise := np.zeros_like(image), 0, 6)
    image = cv2.add(image, noise)
    rows = np.stack([embedding(rng, kind) for kind in kinds]).astype(np.float32)
    novel = [kind in KINDS for kind in kinds]
    seen: dict[str, object] = {
        "embeddings": pack(rows), "width": WIDTH, "novel": novel, "novelty": [0.995 if one else 0.4 for one in novel],
    }  # fmt: skip
    found = Instances.from_masks(masks, ["box"] * len(kinds), np.linspace(0.9, 0.6, len(kinds)))
    return services.production.captures.add(
        Capture(
            image,
            found,
            request or f"{cell}-{at}",
            at,
            "novelty",
            "base/universal@v1",
            cell,
            "l1",
            "r1",
            None,
            {**seen, **facts},
        )
    )


def week(
    services: Services, cell: str, *, frames: int = 12, kinds: tuple[str, ...] = ("bags", "gold"), start: float = SINCE
) -> None:
    """Frames with known packages, and by turns one of the kinds."""
    for k in range(frames):
        keep(services, cell, [kinds[k % len(kinds)], "box", "box"], start + 600.0 * k, request=f"{cell}-{start}-{k}")
