"""Scene cells on disk, for the demo: the dataset of a robot cell whose look the base has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from finetune.scenes.generator import SceneGenerator
from finetune.scenes.look import DEMO_CELL


def write_demo_cell(folder: Path, *, images: int = 60, seed: int = 7, size: int = 384) -> Path:
    """Write a cell's dataset as a team would bring it (COCO, polygons traced from the exact masks); returns `folder`.

    The first two thirds are `train`, the rest `valid`. Every picture is `size` pixels square.
    """
    generator = SceneGenerator(DEMO_CELL, size=size, seed=seed)
    for split, first, last in (("train", 0, images * 2 // 3), ("valid", images * 2 // 3, images)):
        target = folder / split
        target.mkdir(parents=True, exist_ok=True)
        pictures: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        classes = {name: k + 1 for k, name in enumerate(generator.look.classes)}
        for index in range(first, last):
            scene = generator.scene(index)
            name = f"frame-{index:04d}.jpg"
            cv2.imwrite(str(target / name), scene.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            pictures.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            for label, mask in zip(scene.labels, scene.masks(), strict=True):
                # Holes do not occur: a package in front of another leaves parts, which a polygon list can hold.
                rings, _ = cv2.findContours(mask.astype("uint8"), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                polygons = [(ring[:, 0].astype(float) + 0.5).ravel().tolist() for ring in rings if len(ring) >= 3]
                if not polygons:
                    continue
                x, y, w, h = cv2.boundingRect(mask.astype("uint8"))
                annotations.append(
                    {
                        "id": len(annotations) + 1 + first * 1000,
                        "image_id": index + 1,
                        "category_id": classes[label],
                        "segmentation": polygons,
                        "bbox": [x, y, w, h],
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                    }
                )
        document = {
            "images": pictures,
            "annotations": annotations,
            "categories": [{"id": number, "name": label} for label, number in classes.items()],
        }
        (target / "_annotations.coco.json").write_text(json.dumps(document))
    return folder
