"""Small annotation exports, as annotators' tools write them: one image with one square, unless told otherwise."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from finetune.datasets import Dataset
from tests.finetune.folders import HEIGHT, WIDTH, write_image, write_text

BOX: list[list[float]] = [[5, 5], [15, 5], [15, 15], [5, 15]]
FAR: list[list[float]] = [[20, 10], [35, 10], [35, 25], [20, 25]]
FULL = np.zeros((HEIGHT, WIDTH), bool)
FULL[5:15, 5:15] = True


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def coco(folder: Path, file_name: str, *annotations: dict[str, Any], name: str = "a.json", **changes: Any) -> Path:
    listed = annotations or ({"segmentation": [flat(BOX)]},)
    document = {
        "images": [{"id": 1, "file_name": file_name, "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "box"}, {"id": 2, "name": "bag"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1} | a for n, a in enumerate(listed, 1)],
    }
    write_text(folder / name, json.dumps(document | changes, ensure_ascii=False))
    return folder


def cvat(folder: Path, file_name: str, shapes: str = "", *, fields: str = "", meta: str = "") -> Path:
    points = ";".join(f"{x},{y}" for x, y in BOX)
    shapes = shapes or f'<polygon label="box" points="{points}"/>'
    image = f'<image id="0" name="{file_name}" width="{WIDTH}" height="{HEIGHT}" {fields}>\n{shapes}\n</image>'
    write_text(folder / "annotations.xml", f"<annotations><meta>{meta}</meta>\n{image}</annotations>")
    return folder


def shape(**changes: Any) -> dict[str, Any]:
    return {"label": "box", "points": BOX, "shape_type": "polygon", "group_id": None} | changes


def labelme(folder: Path, image_path: str, *shapes: dict[str, Any], name: str = "a.json", **changes: Any) -> Path:
    document = {"shapes": list(shapes or (shape(),)), "imagePath": image_path, "imageData": None}
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    write_text(folder / name, json.dumps(document | size | changes, ensure_ascii=False))
    return folder


def region(kind: str = "polygonlabels", label: str = "box", **value: Any) -> dict[str, Any]:
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in BOX]
    value = value or {"points": points}
    place = {"id": "r1", "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    return place | {"type": kind, "value": value | {kind: [label]}}


def studio(folder: Path, image: object, *regions: dict[str, Any], **changes: Any) -> Path:
    task = {"data": {"image": image}, "annotations": [{"result": list(regions or (region(),))}]} | changes
    write_text(folder / "export.json", json.dumps([task], ensure_ascii=False))
    return folder


def voc(folder: Path, file_name: str, *objects: str, extra: str = "", name: str = "a.xml") -> Path:
    objects = objects or (bndbox(6, 6, 15, 15),)
    text = "".join(f"\n<object><name>box</name>{o}</object>" for o in objects)
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    write_text(folder / name, f"<annotation><filename>{file_name}</filename>{extra}{size}{text}</annotation>")
    return folder


def bndbox(*sides: float) -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{n}>{v}</{n}>" for n, v in zip(names, sides, strict=True))
    return f"<bndbox>{inner}</bndbox>"


def row(points: list[list[float]], number: int = 0) -> str:
    return f"{number} " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points) + "\n"


def yolo(folder: Path, image: str, label: str, text: str = "", *, config: str = "names: [box, bag]\n") -> Path:
    write_image(folder / image)
    write_text(folder / label, text or row(BOX))
    write_text(folder / "data.yaml", config)
    return folder


def png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def ids(folder: Path, image: str, mask: str, classes: str = "box\n", value: int = 1) -> Path:
    write_image(folder / image)
    png(folder / mask, FULL.astype(np.uint8) * value)
    write_text(folder / "classes.txt", classes)
    return folder


def voc_masks(folder: Path, image: str, stem: str) -> Path:
    write_image(folder / image)
    for kind in ("Class", "Object"):
        png(folder / f"Segmentation{kind}/{stem}.png", FULL.astype(np.uint8))
    write_text(folder / "labelmap.txt", "background:0,0,0::\nbox:1,1,1::\n")
    write_text(folder / "classes.txt", "box\n")
    (folder / "labelmap.txt").unlink()
    return folder


def is_box(dataset: Dataset) -> bool:
    """Whether the first image has the square, as one box."""
    sample = dataset.samples[0]
    masks = sample.truth().decode_masks()
    return sample.labels == ("box",) and bool(np.array_equal(masks[0], FULL))


Make = Callable[[Path], Path]


def on_disk(name: str, make: Make) -> Make:
    def made(folder: Path) -> Path:
        write_image(folder / name)
        return make(folder)

    return made


BY_NAME: dict[str, Callable[[Path, str], Path]] = {
    "coco": coco,
    "cvat": cvat,
    "labelme": labelme,
    "labelstudio": lambda f, n: studio(f, n),
    "voc": lambda f, n: voc(f, n, name="annotation.xml"),
}


def rle(mask: np.ndarray) -> dict[str, Any]:
    flat_mask = mask.T.ravel()
    edges = np.flatnonzero(flat_mask[1:] != flat_mask[:-1]) + 1
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0, append=flat_mask.size).tolist()}


def mask_shape(corners: list[list[float]] | None = None, **changes: Any) -> dict[str, Any]:
    data = io.BytesIO()
    Image.fromarray(np.full((10, 10), 255, np.uint8)).save(data, "PNG")
    text = base64.b64encode(data.getvalue()).decode()
    return shape(shape_type="mask", points=corners or [[5, 5], [14, 14]], mask=text, **changes)


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_image(folder / name, seed=number)
    return folder


def text(folder: Path, **files: str) -> Path:
    """Files by name, `__` for a slash and `_dot_` for a dot."""
    for name, content in files.items():
        write_text(folder / name.replace("__", "/").replace("_dot_", "."), content)
    return folder


def damaged(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / name
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    return folder


POINTS = {name: ";".join(f"{x},{y}" for x, y in points) for name, points in (("near", BOX), ("far", FAR))}
RUNS = ", ".join(["0", "100"])
