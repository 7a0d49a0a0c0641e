"""Writing sets of scenes: COCO with exact masks and a card, by many processes, resumable after a kill.

While a set is written its folder holds `.scenes/`: the recipe, and for each finished picture its annotations. They are
merged at the end; until then the folder is no dataset that anything reads.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from finetune.errors import DatasetError
from finetune.scenes.physical.raster import renders
from finetune.scenes.plan import Drawer, ScenePlan

UNFINISHED = ".scenes"
CHUNK = 4  # pictures a task
QUALITY = 92  # JPEG

_drawer: Drawer | None = None  # of this worker process


def write_scenes(
    folder: Path, plan: ScenePlan, *, workers: int = 0, progress: Callable[[int], None] = lambda _done: None
) -> Path:
    """Write the plan's scenes as COCO (exact RLE masks), `train` first and then `valid`; returns `folder`.

    The same plan writes the same bytes, however many `workers` (processes; 0 is this one alone) and however often it
    was killed and started again. `progress` is told how many pictures there are. Raises DatasetError when the folder
    holds an unfinished set of another plan, SceneToolError when a library of the tier is missing.
    """
    recipe = plan.recipe()
    parts = folder / UNFINISHED
    kept = parts / "recipe.json"
    if kept.exists() and json.loads(kept.read_text()) != recipe:
        raise DatasetError("holds an unfinished set of another recipe; remove it or choose another folder", path=folder)
    first_valid = plan.images - round(plan.images * plan.valid_share)
    splits = {"train": range(first_valid), "valid": range(first_valid, plan.images)}
    places = {number: folder / split for split, numbers in splits.items() for number in numbers}
    for place in {*places.values(), parts}:
        place.mkdir(parents=True, exist_ok=True)
    _replace(kept, json.dumps(recipe).encode())
    waiting = [number for number in places if not _part(parts, number).exists()]
    done = plan.images - len(waiting)
    progress(done)
    for _ in _written(plan, parts, [(number, places[number]) for number in waiting], workers):
        done += 1
        progress(done)
    for split, numbers in splits.items():
        if numbers:
            merged = json.dumps(_merged(plan, parts, numbers))
            _replace(folder / split / "_annotations.coco.json", merged.encode())
    _replace(folder / "README.md", card(plan, recipe).encode())
    shutil.rmtree(parts)
    return folder


def is_unfinished(folder: Path) -> bool:
    """Whether the folder holds a set whose writing was cut short."""
    return (folder / UNFINISHED / "recipe.json").exists()


def _written(plan: ScenePlan, parts: Path, jobs: Sequence[tuple[int, Path]], workers: int) -> Iterator[int]:
    """Write the jobs' pictures and parts; yields each number when it is done."""
    if not jobs:
        return
    if workers <= 0:
        drawer = plan.drawer()
        for number, place in jobs:
            _draw(drawer, parts, number, place)
            yield number
        return
    if plan.tier != "fast":
        renders()  # a worker that cannot draw would die with its reason
    # Spawned, not forked: OpenGL and threads do not survive a fork.
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), _start, (plan,)) as pool:
        chunks = [jobs[k : k + CHUNK] for k in range(0, len(jobs), CHUNK)]
        running = [pool.submit(_draw_chunk, parts, chunk) for chunk in chunks]
        try:
            for future in as_completed(running):
                yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _start(plan: ScenePlan) -> None:
    """Make this worker's generator, and end the worker should its parent die without a word."""
    global _drawer
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cv2.setNumThreads(1)
    _drawer = plan.drawer()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _draw_chunk(parts: Path, chunk: Sequence[tuple[int, Path]]) -> list[int]:
    drawer = _drawer
    if drawer is None:
        raise RuntimeError("a worker draws only after it was started")
    for number, place in chunk:
        _draw(drawer, parts, number, place)
    return [number for number, _ in chunk]


def _draw(drawer: Drawer, parts: Path, number: int, place: Path) -> None:
    """Write one picture, then its part: a part that exists has its picture beside it."""
    scene = drawer.scene(number)
    _, data = cv2.imencode(".jpg", scene.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    _replace(place / _name(number), data.tobytes())
    columns = np.asfortranarray(scene.masks().transpose(1, 2, 0).astype(np.uint8))
    found = [
        {
            "label": label,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            "bbox": coco_mask.toBbox(rle).tolist(),
            "area": int(coco_mask.area(rle)),
        }
        for label, rle in zip(scene.labels, coco_mask.encode(columns) if scene.labels else (), strict=True)
    ]
    _replace(_part(parts, number), json.dumps(found).encode())


def _merged(plan: ScenePlan, parts: Path, numbers: range) -> dict[str, object]:
    """The COCO document of one split."""
    classes = {name: k + 1 for k, name in enumerate(plan.look.classes)}
    pictures: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in numbers:
        pictures.append({"id": number + 1, "file_name": _name(number), "width": plan.size, "height": plan.size})
        for found in json.loads(_part(parts, number).read_text()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": classes[found["label"]],
                    "segmentation": found["segmentation"],
                    "bbox": found["bbox"],
                    "area": found["area"],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": label} for label, number in classes.items()]
    return {"images": pictures, "annotations": annotations, "categories": categories}


def card(plan: ScenePlan, recipe: dict[str, Any]) -> str:
    """The dataset card: what is shown, and the recipe."""
    ranges = json.dumps(recipe, indent=2)
    environments = ", ".join(plan.look.environments)
    how = {
        "fast": "composited back to front",
        "physical": "packages dropped, pushed and stacked by MuJoCo, drawn by its renderer",
        "path": "packages dropped, pushed and stacked by MuJoCo, path-traced by Mitsuba",
    }[plan.tier]
    source = (
        "Meshes and textures of other people are in them: the licences beside those files apply."
        if plan.assets
        else "No photograph and no third-party asset is in them."
    )
    return f"""---
task_categories: [image-segmentation]
license: apache-2.0
tags: [parcelhub, synthetic, instance-segmentation]
---

# Scenes of packages

{plan.images} generated pictures of {plan.size} x {plan.size} pixels with exact instance masks (COCO, compressed RLE).
Environments: {environments}. Classes: {", ".join(plan.look.classes)}. {source}

Tier `{plan.tier}` ({how}), seed {plan.seed}, generator version {plan.version()}; the same recipe makes the same bytes{
        "" if plan.tier == "fast" else " on the same machine"
    }:

```json
{ranges}
```
"""


def _name(number: int) -> str:
    return f"frame-{number:04d}.jpg"


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number}.json"


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(data)
    temporary.replace(path)
