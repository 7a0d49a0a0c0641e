"""`Instances`: what one image holds, or what a model says of it. The value every floor passes around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from serving.errors import InstancesError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """Instances of one image, in the order of their scores where a model made them.

    Attributes:
        height, width: size of the image in pixels.
        boxes: float32 [N, 4], (x0, y0, x1, y1) in pixels; x1 and y1 are exclusive edges.
        scores: float32 [N] in [0, 1]; 1.0 for annotations.
        labels: N class names.
        masks: N COCO compressed RLE `counts`, each of size height x width.

    Raises InstancesError for arrays of other shapes, or with numbers that are not finite.
    """

    height: int
    width: int
    boxes: FloatArray
    scores: FloatArray
    labels: tuple[str, ...]
    masks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.height < 1 or self.width < 1:
            raise InstancesError(f"image size {self.height}x{self.width} is not positive")
        if self.boxes.shape != (n, 4) or self.boxes.dtype != np.float32:
            raise InstancesError(f"boxes must be float32 [{n}, 4], got {self.boxes.dtype} {self.boxes.shape}")
        if self.scores.shape != (n,) or self.scores.dtype != np.float32:
            raise InstancesError(f"scores must be float32 [{n}], got {self.scores.dtype} {self.scores.shape}")
        if len(self.masks) != n:
            raise InstancesError(f"{len(self.masks)} masks for {n} labels")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise InstancesError("boxes and scores must be finite")
        # Frozen means frozen: a caller that wrote into the arrays would change a shared value behind its holders.
        for field in ("boxes", "scores"):
            view = getattr(self, field).view()
            view.setflags(write=False)
            object.__setattr__(self, field, view)

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instances):
            return NotImplemented
        return (
            (self.height, self.width, self.labels, self.masks) == (other.height, other.width, other.labels, other.masks)
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.scores, other.scores)
        )

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """No instances on an image of `height` x `width` pixels."""
        return cls(height, width, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), ())

    @classmethod
    def from_masks(cls, masks: BoolArray, labels: Sequence[str], scores: npt.ArrayLike | None = None) -> Self:
        """Build from bool masks [N, H, W]; boxes are the tight boxes of the masks (an empty mask gets zeros).

        `scores` default to 1.0 (annotations). Raises InstancesError on other dtypes or shapes.
        """
        if masks.ndim != 3 or masks.dtype != np.bool_:
            raise InstancesError(f"masks must be bool [N, H, W], got {masks.dtype} {masks.shape}")
        n, height, width = masks.shape
        values = np.ones(n, np.float32) if scores is None else np.array(scores, np.float32)
        return cls(height, width, boxes_of(masks), values, tuple(labels), encode_masks(masks))

    def decode_masks(self) -> BoolArray:
        """Masks as bool [N, H, W]. Raises InstancesError where an RLE is not of this image's size."""
        if not self.masks:
            return np.zeros((0, self.height, self.width), np.bool_)
        size = [self.height, self.width]
        try:
            stacked = coco_mask.decode([{"size": size, "counts": counts} for counts in self.masks])
        except ValueError as error:
            raise InstancesError(f"a mask is not RLE of a {self.height}x{self.width} image: {error}") from error
        # pycocotools answers H x W x N in Fortran order, so this transpose is a view that is already contiguous.
        return np.ascontiguousarray(stacked.transpose(2, 0, 1)).view(np.bool_)

    def rles(self) -> list[dict[str, Any]]:
        """Masks as COCO RLE dictionaries `{"size": [H, W], "counts": bytes}` for pycocotools and evaluators."""
        return [{"size": [self.height, self.width], "counts": counts} for counts in self.masks]

    def areas(self) -> npt.NDArray[np.int64]:
        """Mask areas in pixels, int64 [N], without decoding."""
        if not self.masks:
            return np.zeros(0, np.int64)
        return np.asarray(coco_mask.area(self.rles()), np.int64)

    def take(self, index: npt.ArrayLike) -> Self:
        """The instances at `index` (integer positions), in that order."""
        chosen = np.asarray(index, np.intp).reshape(-1)
        return type(self)(
            self.height,
            self.width,
            self.boxes[chosen],
            self.scores[chosen],
            tuple(self.labels[i] for i in chosen),
            tuple(self.masks[i] for i in chosen),
        )

    def rescored(self, scores: FloatArray) -> Self:
        """The same instances with other scores, float32 [N]."""
        return replace(self, scores=scores) if scores is not self.scores else self

    def filter(self, min_score: float) -> Self:
        """The instances with a score of at least `min_score`."""
        return self.take(np.flatnonzero(self.scores >= min_score))


def encode_masks(masks: BoolArray) -> tuple[bytes, ...]:
    """COCO compressed RLE `counts` of bool masks [N, H, W], all in one call."""
    if masks.shape[0] == 0:
        return ()
    # RLE runs down the columns: pycocotools wants H x W x N in Fortran order, one copy for the whole stack.
    columns = np.asfortranarray(masks.transpose(1, 2, 0).view(np.uint8))
    return tuple(rle["counts"] for rle in coco_mask.encode(columns))


def encode_windows(windows: Sequence[tuple[BoolArray, int, int]], height: int, width: int) -> tuple[bytes, ...]:
    """RLE `counts` of masks that are given only inside a window; outside of it they are empty.

    Each window is (bool [h, w], x of its left edge, y of its top edge). The same answer as `encode_masks` of the
    full masks, without making them: on a 2-megapixel frame a full mask costs 2 MB to fill and to scan.
    """
    runs = []
    for window, x, y in windows:
        # An empty row above and below each column: in the flattened array every change is then an edge inside one
        # column. Searching it flat is seven times faster than in two dimensions.
        stride = window.shape[0] + 2
        columns = np.zeros((window.shape[1], stride), np.bool_)
        columns[:, 1:-1] = window.T
        flat = columns.ravel()
        column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), stride)
        edges = (column + x) * height + row + y
        if window.shape[0] == height:
            # A run that reaches the bottom goes on at the top of the next column: equal edges are no edge.
            same = np.flatnonzero(edges[1:] == edges[:-1])
            edges = np.delete(edges, np.concatenate([same, same + 1]))
        runs.append(np.diff(edges, prepend=0, append=height * width))
    if not runs:
        return ()
    # A last run of zero length is left out, as pycocotools' own encoder does.
    rles = [{"size": [height, width], "counts": (run if run[-1] else run[:-1]).tolist()} for run in runs]
    return tuple(rle["counts"] for rle in coco_mask.frPyObjects(rles, height, width))


def boxes_of(masks: BoolArray) -> FloatArray:
    """Tight boxes float32 [N, 4] of bool masks [N, H, W]; zeros where a mask is empty."""
    n, height, width = masks.shape
    if n == 0:
        return np.zeros((0, 4), np.float32)
    rows: BoolArray = np.any(masks, axis=2)
    columns: BoolArray = np.any(masks, axis=1)
    boxes = np.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            width - columns[:, ::-1].argmax(1),
            height - rows[:, ::-1].argmax(1),
        ],
        axis=1,
    ).astype(np.float32)
    boxes[~rows.any(1)] = 0.0
    return boxes
