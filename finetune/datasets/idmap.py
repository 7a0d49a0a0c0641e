"""Images of instance numbers: one mask in which each pixel says whose it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from finetune.datasets.export import Draft, window_of
from finetune.datasets.types import Sample
from finetune.errors import DatasetError

MAX_IDS = 65_535
_SPECK = 16
_MANY = 8
TWO_VALUES = (
    "the mask has two values alone, black and white (0 and 255): it says package or not, and not which package is "
    "which. Export masks with a number per instance, or COCO"
)
"""Said of masks of several pieces that are told apart by nothing."""


def windows_of_ids(ids: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.bool_], int, int]]:
    """(number, bool [h, w], x, y) of each number in `ids` [H, W] but 0, in their order: its mask in its tight box."""
    if not ids.any():
        return
    present = present_values(ids)
    dense = ids
    if present[-1] > MAX_IDS:  # a table of places for each number up to the largest would be too large
        dense = np.searchsorted(present, ids) + 1
    from scipy import ndimage  # it takes a tenth of a hub's start, and the hub asks for none of this

    places = ndimage.find_objects(dense)
    for index, value in enumerate(present.tolist()):
        number = value if dense is ids else index + 1
        if value != 0:
            rows, columns = places[number - 1]
            yield value, dense[rows, columns] == number, int(columns.start), int(rows.start)


def present_values(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The different values of an array of numbers from 0 up, sorted; small ones are counted, ten times faster."""
    if values.max() <= MAX_IDS:
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


def one_value(ids: npt.NDArray[np.int64]) -> int:
    """The one number in `ids` [H, W] besides 0; 0 where there is none or are several."""
    present = present_values(ids)
    present = present[present != 0]
    return int(present[0]) if present.size == 1 else 0


def pieces(ids: npt.NDArray[np.int64]) -> int:
    """How many separate pieces what is not 0 has; corners connect, and specks do not count."""
    from scipy import ndimage

    found, count = ndimage.label(ids != 0, np.ones((3, 3)))
    sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
    return int((sizes >= _SPECK).sum())


def smoothed(ids: npt.NDArray[np.int64]) -> int:
    """How many numbers `ids` [H, W] holds where they look like the greys of smoothed edges: many, most of them of a few
    pixels. 0 for numbers that are meant.
    """
    sizes = np.bincount(ids.ravel())[1:] if ids.max() <= MAX_IDS else np.unique(ids, return_counts=True)[1][1:]
    sizes = sizes[sizes > 0]
    return int(sizes.size) if sizes.size > _MANY and float(np.median(sizes)) < _SPECK else 0


def paint(sample: Sample, draft: Draft) -> npt.NDArray[np.uint16]:
    """uint16 [height, width]: 0, or 1, 2, ... where the instance of that number lies.

    A pixel of several instances goes to the smallest of them, as the one most likely to lie on top; instances that
    lose pixels like that are counted as losses. Raises DatasetError for more instances than there are numbers.
    """
    if len(sample.masks) > MAX_IDS:
        raise DatasetError(f"{len(sample.masks):,} instances in one image; a mask has room for {MAX_IDS:,}")
    ids = np.zeros((sample.height, sample.width), np.uint16)
    areas = sample.truth().areas()
    for index in np.argsort(-areas, kind="stable"):
        bitmap, x, y = window_of(sample.masks[index], sample.height, sample.width)
        ids[y : y + bitmap.shape[0], x : x + bitmap.shape[1]][bitmap] = index + 1
    left = np.bincount(ids.ravel(), minlength=len(sample.masks) + 1)[1:]
    for remaining in left[left < areas]:
        gone = "overlapped" if remaining else "hidden"
        draft.lose(f"instance {gone} by others: a mask has one instance per pixel", sample)
    return ids
