"""The generators' speed in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import TypeVar

import cv2

from finetune.scenes.generator import SceneGenerator
from finetune.scenes.plan import ScenePlan, Tier, looks_of

T = TypeVar("T")
PARTS = 5
PACKAGES, PICTURE = 25, 384  # what the steps of the physical tiers are timed with


def measure_speed(*, size: int, count: int, tier: Tier = "fast") -> dict[str, float]:
    """Make `count` scenes of `size` pixels in this thread alone: `images_per_second` (median of five parts) and mean
    `instances`. The texture bank is made, and the renderer started, before the clock starts.

    Raises SceneToolError when a library of the tier is missing.
    """
    look = next(iter(looks_of(tier).values()))
    drawer = ScenePlan(look, count, 0, tier, size).drawer() if tier != "fast" else SceneGenerator(size=size, seed=0)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        drawer.scene(0)
        parts = min(PARTS, count)
        rates: list[float] = []
        instances = 0
        part = max(1, count // parts)
        for first in range(0, parts * part, part):
            start = time.perf_counter()
            instances += sum(len(drawer.scene(k).labels) for k in range(first, first + part))
            rates.append(part / (time.perf_counter() - start))
    finally:
        cv2.setNumThreads(threads)
    return {"images_per_second": median(rates), "instances": instances / (parts * part), "size": size}


def measure_steps(*, rounds: int = 5, traced: bool = True) -> dict[str, float]:
    """Milliseconds (medians) that 25 packages on a conveyor take at 384 pixels: `drop` (physics), `make` (shapes and
    skins), `picture`, `ids`; with `traced`, seconds of a path-traced picture as `path_seconds`.

    Raises SceneToolError when a library is missing.
    """
    import numpy as np

    from finetune.scenes.physical.generator import build_shot
    from finetune.scenes.physical.look import WAREHOUSE
    from finetune.scenes.physical.parcels import Packer
    from finetune.scenes.physical.props import Shop
    from finetune.scenes.physical.raster import Raster
    from finetune.scenes.physical.settle import settle
    from finetune.scenes.physical.stages import set_stage
    from finetune.scenes.textures import texture_bank

    look = replace(WAREHOUSE, environments={"conveyor": 1.0}, heap=(PACKAGES, PACKAGES + 1))
    bank = texture_bank()
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., T], *arguments: object) -> T:
        start = time.perf_counter()
        done = work(*arguments)
        times.setdefault(name, []).append(time.perf_counter() - start)
        return done

    with Raster(PICTURE) as raster:
        raster.draw(build_shot(np.random.default_rng(99), look, PICTURE))
        for k in range(rounds):
            rng = np.random.default_rng(k)
            packer, shop = Packer(rng, look, bank), Shop(rng, look, bank)
            stage = timed("make", set_stage, "conveyor", packer, shop)
            timed("drop", settle, stage)
            shot = build_shot(np.random.default_rng((k, 1)), look, PICTURE)
            timed("ids", raster.ids, shot)
            timed("both", raster.draw, shot)
            if traced and k < 3:
                from finetune.scenes.physical.trace import trace

                timed("path", trace, shot, PICTURE)
    found = {name: 1000 * median(values) for name, values in times.items() if name in ("make", "drop", "ids")}
    found["picture"] = 1000 * (median(times["both"]) - median(times["ids"]))
    if "path" in times:
        found["path_seconds"] = min(times["path"]) if len(times["path"]) < 3 else median(times["path"])
    return found
