"""FiftyOne's own dataset format (`FiftyOneDataset`): a folder that FiftyOne imports, and exports again.

Proposals are in the field `predictions`. A person's labels are in `ground_truth`: no value there means that nobody has
accepted anything, an empty list that the picture is empty. The tag `accepted` takes the predictions as they are,
`skipped` and `unfinished` say what they say, and `by:<name>` who it was. A sample that is gone was removed.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.errors import DatasetError
from hub.client.tools.fiftyone_fields import metadata_of
from hub.client.tools.fiftyone_masks import decode_mask, encode_mask, flat
from hub.client.tools.tool import KEY, Answer, Shape
from hub.errors import ToolError
from hub.schemas.handoff import HandOff, ToolName
from hub.schemas.labels import Region, TaskWork
from registry.durable import write_file

Record = dict[str, Any]
TRUTH, PROPOSED = "ground_truth", "predictions"
_BY: Final = "by:"
_MAX_JSON: Final = 2 << 30


class FiftyOne:
    """One folder in the format of `fiftyone.types.FiftyOneDataset`."""

    name: ToolName = "fiftyone"

    def __init__(self, folder: Path, cell: str) -> None:
        self._folder = folder
        self._cell = cell

    @property
    def address(self) -> str:
        """The folder's absolute path."""
        return f"fiftyone {self._folder.absolute()}"

    @property
    def place(self) -> str:
        """It goes along with the dataset, wherever FiftyOne exports it to. Raises ToolError for a dataset that does not
        come from here."""
        info = self._read("metadata.json").get("info")
        named = info.get("parcelhub") if isinstance(info, dict) else None
        if not isinstance(named, str) or not named.startswith("fiftyone "):
            raise ToolError(f"the dataset in {self._folder} does not come from here: `info` has no `parcelhub`")
        return named[:400]

    def prepare(self, classes: Sequence[str]) -> None:
        """Make the dataset in an empty folder, or use the one there. Raises ToolError for a folder of other things."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not (self._folder / "metadata.json").exists():
            if any(self._folder.iterdir()):
                raise ToolError(f"{self._folder} holds something else than a FiftyOne dataset: name an empty folder")
            place = f"fiftyone {self._cell} {secrets.token_hex(8)}"
            self._write("samples.json", {"samples": []})
            self._write("metadata.json", metadata_of(f"parcelhub-{self._cell}", place, classes))
        _ = self.place

    def find(self) -> dict[str, str]:
        """The ids of pictures with a sample; the tool's own id is the same."""
        return {task: task for task in self._samples()}

    def send(self, works: Iterable[tuple[TaskWork, bytes]]) -> Iterator[tuple[str, str]]:
        """Write the pictures, then all their samples at once; nothing is given before both are on disk."""
        samples = self._read("samples.json")
        fresh: list[str] = []
        for work, picture in works:
            name = f"data/{work.task.id}{'.png' if picture.startswith(b'PNG', 1) else '.jpg'}"
            (self._folder / "data").mkdir(exist_ok=True)
            write_file(self._folder / name, picture)
            samples["samples"].append(_sample(work, name, len(picture)))
            fresh.append(work.task.id)
        self._write("samples.json", samples)  # all of them at once, after their pictures
        for task in fresh:
            yield task, task

    def answers(self, handed: Sequence[tuple[HandOff, TaskWork]]) -> Iterator[tuple[HandOff, Answer]]:
        """What `samples.json` says of the pictures; one without a sample is `removed`."""
        samples = self._samples()
        for one, work in handed:
            sample = samples.get(one.task)
            yield one, Answer("removed") if sample is None else self._answer(sample, work)

    def delete(self, remotes: Sequence[str]) -> None:
        """Take samples out, then their pictures; what is gone is fine."""
        document = self._read("samples.json")
        gone = [one for one in document["samples"] if one.get(KEY) in remotes]
        document["samples"] = [one for one in document["samples"] if one.get(KEY) not in remotes]
        self._write("samples.json", document)
        for one in gone:
            self._inside(str(one.get("filepath"))).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is open."""

    # How

    def _answer(self, sample: Record, work: TaskWork) -> Answer:
        tags = [str(tag) for tag in sample.get("tags") or []]
        person = next((tag.removeprefix(_BY) for tag in tags if tag.startswith(_BY)), "")
        truth = sample.get(TRUTH)
        if not isinstance(truth, dict) and "accepted" in tags:
            truth = sample.get(PROPOSED)
        mark = hashlib.sha256(json.dumps([truth, sorted(tags)], sort_keys=True).encode()).hexdigest()[:32]
        if "skipped" in tags:
            return Answer("skipped", mark, person)
        if "unfinished" in tags:
            return Answer("unfinished", mark, person)
        if not isinstance(truth, dict):
            return Answer("predicted" if isinstance(sample.get(PROPOSED), dict) else "out")
        shapes, notes, whole = self._shapes(truth, work.task.height, work.task.width)
        return Answer("labelled" if whole else "unfinished", mark, person, 0.0, tuple(shapes), tuple(notes))

    def _shapes(self, truth: Record, height: int, width: int) -> tuple[list[Shape], list[str], bool]:
        """The instances, what is to be said of them, and whether each of them has a mask. Raises ToolError."""
        listed = truth.get("detections", truth.get("polylines"))
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ToolError(f"{TRUTH} of a sample holds no detections")
        shapes: list[Shape] = []
        notes: list[str] = []
        whole = True
        for number, one in enumerate(listed, 1):
            findings = Findings()
            found = InstanceList(height, width, findings)
            label = str(one.get("label") or "")
            try:
                if "points" in one:
                    found.add_polygons(label, _outlines(one, height, width), "")
                else:
                    bitmap, x, y = self._window(one, height, width, findings)
                    found.add_bitmap(label, bitmap, "", x=x, y=y)
                findings.raise_problems()
            except (ValueError, DatasetError) as error:
                notes.append(f"instance {number}: {error}")
                whole = False
                continue
            notes += [f"instance {number}: {text}" for text in findings.warnings()]
            sample = found.sample(Path(), "", None, None)
            for counts in sample.masks if sample is not None else ():
                shapes.append(Shape(str(one.get("parcelhub_region") or ""), label, counts.decode("ascii")))
        return shapes, notes, whole

    def _window(
        self, one: Record, height: int, width: int, findings: Findings
    ) -> tuple[npt.NDArray[np.bool_], int, int]:
        """bool [h, w] of a detection's box, and its top left pixel. Raises ValueError."""
        box = one.get("bounding_box")
        if not (isinstance(box, list) and len(box) == 4 and all(_number(value) for value in box)):
            raise ValueError("it has no box of four numbers")
        x, y, across, down = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        if not (x >= -0.5 and y >= -0.5 and x + across <= width + 0.5 and y + down <= height + 0.5):
            raise ValueError("its box leaves the picture")
        x0, y0 = round(x), round(y)
        size = max(round(x + across) - x0, 1), max(round(y + down) - y0, 1)
        if one.get("mask") is not None:
            bitmap = decode_mask(one["mask"], 4 * height * width)
        elif isinstance(one.get("mask_path"), str):
            read = cv2.imread(str(self._inside(one["mask_path"])), cv2.IMREAD_UNCHANGED)
            if read is None:
                raise ValueError("its mask's file cannot be read")
            bitmap = flat(np.asarray(read))
        else:
            raise ValueError("it has a box and no mask: draw its outline")
        if bitmap.shape != (size[1], size[0]):
            findings.warn("mask of another size than its box: stretched, as FiftyOne shows it", "")
            bitmap = cv2.resize(bitmap.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return bitmap, x0, y0

    def _inside(self, name: str) -> Path:
        """A file of the dataset; FiftyOne writes paths from the folder on. Raises ToolError for one outside."""
        path = (self._folder / PurePosixPath(name)).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise ToolError(f"{name[:80]!r} is not in the dataset's folder")
        return path

    def _samples(self) -> dict[str, Record]:
        found = self._read("samples.json").get("samples")
        if not isinstance(found, list):
            raise ToolError(f"samples.json in {self._folder} has no list `samples`")
        return {str(one[KEY]): one for one in found if isinstance(one, dict) and isinstance(one.get(KEY), str)}

    def _read(self, name: str) -> Record:
        path = self._folder / name
        try:
            if path.stat().st_size > _MAX_JSON:
                raise ToolError(f"{path} is too large")
            document = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ToolError(f"{path} cannot be read: is it a FiftyOneDataset? ({type(error).__name__})") from None
        if not isinstance(document, dict):
            raise ToolError(f"{path} is no JSON object")
        return document

    def _write(self, name: str, document: Record) -> None:
        write_file(self._folder / name, json.dumps(document, separators=(",", ":")).encode())


def _sample(work: TaskWork, name: str, size: int) -> Record:
    task = work.task
    kind = "image/png" if name.endswith(".png") else "image/jpeg"
    proposed = [_detection(one) for one in work.regions if not one.offered]
    now = {"$date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    return {
        "_id": {"$oid": _object_id(task.id)}, "filepath": name, "tags": [],
        "_media_type": "image", "_rand": _share(task.id),
        "metadata": {"_cls": "ImageMetadata", "size_bytes": size, "mime_type": kind, "width": task.width,
                     "height": task.height, "num_channels": 3},
        "created_at": now, "last_modified_at": now, KEY: task.id, "model_version": task.proposed_by or None,
        PROPOSED: {"_cls": "Detections", "detections": proposed} if task.proposed_by else None, TRUTH: None,
    }  # fmt: skip


def _detection(one: Region) -> Record:
    height, width = one.mask.size
    rle = {"size": [height, width], "counts": one.mask.counts.encode()}
    x, y, across, down = (int(side) for side in coco_mask.toBbox(rle))
    bitmap = np.ascontiguousarray(coco_mask.decode(rle)[y : y + down, x : x + across]).view(np.bool_)
    return {
        "_id": {"$oid": _object_id(one.id)}, "_cls": "Detection", "attributes": {}, "tags": [], "label": one.label,
        "bounding_box": [x / width, y / height, across / width, down / height], "mask": encode_mask(bitmap),
        "mask_path": None, "confidence": one.score, "index": None, "parcelhub_region": one.id,
    }  # fmt: skip


def _outlines(one: Record, height: int, width: int) -> list[npt.NDArray[np.float64]]:
    """float64 [K, 2] in pixels of each part of a polyline. Raises ValueError."""
    points = one["points"]
    if not (isinstance(points, list) and points and one.get("closed", True)):
        raise ValueError("its outline is not closed")
    try:
        return [np.asarray(part, np.float64).reshape(-1, 2) * [width, height] for part in points]
    except (TypeError, ValueError):
        raise ValueError("its outline is no list of points") from None


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _object_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _share(text: str) -> float:
    return int(_object_id(text)[:8], 16) / 2**32
