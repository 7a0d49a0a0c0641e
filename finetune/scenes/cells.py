"""Scene cells on disk: datasets of robot cells, written as a team would bring them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from finetune.scenes.generator import VERSION, SceneGenerator
from finetune.scenes.look import DEMO_CELL, Look


def write_cell(
    folder: Path,
    look: Look,
    *,
    images: int,
    seed: int,
    size: int = 384,
    valid_share: float = 1 / 3,
    progress: Callable[[int], None] = lambda _done: None,
) -> Path:
    """Write `images` scenes of one look as COCO (exact RLE masks), `train` first and then `valid`; returns `folder`.

    Pictures are JPEGs of `size` pixels a side; the dataset card (README.md) has what it takes to make the set again.
    The same arguments write the same bytes. `progress` is told the number of each picture written.
    """
    generator = SceneGenerator(look, size=size, seed=seed)
    first_valid = images - round(images * valid_share)
    for split, numbers in (("train", range(first_valid)), ("valid", range(first_valid, images))):
        if not numbers:
            continue
        target = folder / split
        target.mkdir(parents=True, exist_ok=True)
        (target / "_annotations.coco.json").write_text(json.dumps(_split(generator, target, numbers, size, progress)))
    (folder / "README.md").write_text(_card(look, images=images, seed=seed, size=size, valid_share=valid_share))
    return folder


def write_demo_cell(folder: Path, *, images: int = 60, seed: int = 7) -> Path:
    """The dataset of a cell whose colours, prints and floor the base has never seen; two thirds are `train`."""
    return write_cell(folder, DEMO_CELL, images=images, seed=seed)


def _card(look: Look, *, images: int, seed: int, size: int, valid_share: float) -> str:
    """The dataset card: what is shown, and the recipe."""
    recipe = {"images": images, "seed": seed, "size": size, "valid_share": round(valid_share, 6)}
    ranges = json.dumps({"generator": VERSION, **recipe, "look": asdict(look)}, indent=2)
    environments = ", ".join(look.environments)
    return f"""---
task_categories: [image-segmentation]
license: apache-2.0
tags: [parcelhub, synthetic, instance-segmentation]
---

# Scenes of packages

{images} generated pictures of {size} x {size} pixels with exact instance masks (COCO, compressed RLE).
Environments: {environments}. Classes: {", ".join(look.classes)}. No photograph and no third-party asset is in them.

Made by parcelhub's scene generator, version {VERSION}; the same recipe makes the same bytes:

```json
{ranges}
```
"""


def _split(
    generator: SceneGenerator, target: Path, numbers: range, size: int, progress: Callable[[int], None]
) -> dict[str, object]:
    classes = {name: k + 1 for k, name in enumerate(generator.look.classes)}
    pictures: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in numbers:
        scene = generator.scene(number)
        name = f"frame-{number:04d}.jpg"
        _, data = cv2.imencode(".jpg", scene.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        (target / name).write_bytes(data.tobytes())
        progress(number + 1)
        pictures.append({"id": number + 1, "file_name": name, "width": size, "height": size})
        columns = np.asfortranarray(scene.masks().transpose(1, 2, 0).astype(np.uint8))
        for label, rle in zip(scene.labels, coco_mask.encode(columns) if scene.labels else (), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": classes[label],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": int(coco_mask.area(rle)),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": label} for label, number in classes.items()]
    return {"images": pictures, "annotations": annotations, "categories": categories}
