"""From the model's queries to `Instances`: score, choose, drop duplicates, and only then upsample what is left.

Choosing happens on the model's own low-resolution masks, for the whole batch at once on its device. A kept mask is
upsampled only inside the window where it can be positive: on a 2-megapixel frame that is what keeps post-processing
at a few milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from serving.errors import NotFinite
from serving.inference.preprocess import Letterbox
from serving.instances import BoolArray, FloatArray, Instances, encode_windows

NO_PARTS = math.inf
"""The `part_share` of networks and variants whose answers may lie in one another."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to keep of an image's queries.

    Attributes:
        min_score: the floor a score must reach.
        top_k: at most so many instances per image.
        duplicate_iou: of two masks that overlap by at least this, whatever their classes, the lower score goes;
            1.0 or more keeps all.
        part_share: of two answers of one class where at least this share of the smaller one lies in the larger one, the
            smaller one may be a part of the larger: `score_parts`. More than 1.0 leaves all scores as they are.
    """

    min_score: float = 0.05
    top_k: int = 100
    duplicate_iou: float = 0.8
    part_share: float = NO_PARTS


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the batch: where it lies in the model's square, what its labels are called, what to keep."""

    box: Letterbox
    names: Mapping[int, str]
    choice: Choice


def postprocess(mask_logits: torch.Tensor, class_scores: torch.Tensor, rows: Sequence[Row]) -> list[Instances]:
    """Instances of each image, highest score first, on the original pixel grid.

    Args:
        mask_logits: float [B, Q, h, w], over the model's whole square, padding included.
        class_scores: probabilities, float [B, Q, C].
        rows: B rows. A label that is not in a row's `names` is never answered for it.

    A query's score is its class probability times the mean mask probability inside its mask.

    Raises NotFinite where what the model says of an image is not finite numbers.
    """
    results = []
    for one in postprocess_each(mask_logits, class_scores, rows):
        if isinstance(one, NotFinite):
            raise one
        results.append(one)
    return results


def postprocess_each(
    mask_logits: torch.Tensor, class_scores: torch.Tensor, rows: Sequence[Row]
) -> list[Instances | NotFinite]:
    """`postprocess`, with the error of an image in its own place: its neighbours in the batch have their answers."""
    best, certain = _score(mask_logits, class_scores, rows)
    labels, scores = best.cpu().numpy(), certain.cpu().numpy()
    results: list[Instances | NotFinite] = []
    for i, row in enumerate(rows):
        if not np.isfinite(scores[i]).all():
            # A comparison with NaN is false: without this, such an image would come back empty, and no error.
            results.append(NotFinite("what the network says of this image is not finite numbers"))
            continue
        kept = np.flatnonzero((scores[i] >= row.choice.min_score) & (scores[i] > 0))
        kept = kept[np.argsort(-scores[i][kept], kind="stable")][: row.choice.top_k]
        # One transfer of the few kept masks, not of all queries.
        low = mask_logits[i, torch.from_numpy(kept).to(mask_logits.device)].float().cpu().numpy()
        shared = _shared(low > 0)
        first = _without_duplicates(shared, row.choice.duplicate_iou)
        kept, low, shared = kept[first], low[first], shared[np.ix_(first, first)]
        told = score_parts(shared, labels[i][kept], scores[i][kept], row.choice.part_share)
        order = np.argsort(-told, kind="stable")
        order = order[told[order] >= row.choice.min_score]
        results.append(_instances(low[order], labels[i][kept[order]], told[order], row))
    return results


def _score(
    mask_logits: torch.Tensor, class_scores: torch.Tensor, rows: Sequence[Row]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Best allowed label int64 [B, Q] and score float32 [B, Q]; padding counts for nothing. The score of a query whose
    numbers are not all finite is NaN."""
    device, (height, width) = mask_logits.device, mask_logits.shape[-2:]
    allowed = torch.zeros(len(rows), class_scores.shape[-1])
    inside = torch.zeros(len(rows), height, width)
    for i, row in enumerate(rows):
        allowed[i, list(row.names)] = 1.0
        inside_height, inside_width = _content(row.box, height, width)
        inside[i, : int(np.ceil(inside_height)), : int(np.ceil(inside_width))] = 1.0
    # Scores come normalised over all classes and the forbidden ones are struck out here: an object that the model takes
    # for a class this cell does not have must not come back as the next best guess with a high score.
    probabilities = class_scores.float() * allowed.to(device)[:, None]
    best, labels = probabilities.max(-1)
    logits = mask_logits.float()
    positive = (logits > 0) * inside.to(device)[:, None]
    area = positive.sum((-2, -1))
    certainty = (logits.sigmoid() * positive).sum((-2, -1)) / area.clamp(min=1)
    # A sum is finite only where all of its parts are: a sigmoid makes a one of an infinite logit.
    finite = logits.sum((-2, -1)) * 0.0 + class_scores.float().sum(-1) * 0.0
    return labels, best * certainty * (area > 0) + finite


def _shared(masks: BoolArray) -> FloatArray:
    """How many pixels each two of masks [N, h, w] have in common, float32 [N, N]."""
    count, height, width = masks.shape
    flat = masks.reshape(count, height * width).astype(np.float32)
    return flat @ flat.T


def score_parts(shared: FloatArray, labels: npt.NDArray[np.int64], scores: FloatArray, part_share: float) -> FloatArray:
    """Scores float32 [N] of answers that know of one another. `shared` is as of `_shared`; `labels` int64 [N].

    A pixel shows one package, so that visible masks do not lie in one another: of an answer within a larger one of its
    class, one is wrong. Often it is a side or a print of the package that is answered whole as well. The smaller one's
    score s becomes s * (1 - t ** 2), where t is the larger one's. With t itself, loose parcels that lie before
    something large and wrongly answered lose more than stacks gain (docs/history/bases.md).
    """
    if len(scores) < 2 or part_share > 1.0:
        return scores
    area = np.diagonal(shared)
    within = (shared >= part_share * area[:, None]) & (area[None, :] > area[:, None])
    within &= labels[:, None] == labels[None, :]
    larger = np.where(within, scores[None, :], 0.0).max(1)
    return np.asarray(scores * (1.0 - larger**2), np.float32)


def _without_duplicates(both: FloatArray, threshold: float) -> npt.NDArray[np.intp]:
    """Positions to keep of masks that are sorted by score and share `both` pixels, greedily from the top."""
    n = len(both)
    if n < 2 or threshold >= 1.0:
        return np.arange(n)
    area = np.diagonal(both)
    overlaps = both >= threshold * np.maximum(area[:, None] + area[None, :] - both, 1.0)
    kept: list[int] = []
    for i in range(n):
        if not overlaps[i, kept].any():
            kept.append(i)
    return np.array(kept, np.intp)


def _instances(low: FloatArray, labels: npt.NDArray[np.int64], scores: FloatArray, row: Row) -> Instances:
    box = row.box
    content = _content(box, *low.shape[1:])
    vertical = Axis.make(box.height, content[0], low.shape[1])
    horizontal = Axis.make(box.width, content[1], low.shape[2])
    windows, boxes, kept = [], [], []
    for i, logits in enumerate(low):
        window, x, y = upsample_positive(logits, vertical, horizontal)
        rows, columns = np.flatnonzero(window.any(1)), np.flatnonzero(window.any(0))
        if not rows.size:
            continue
        windows.append((window, x, y))
        boxes.append((x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1))
        kept.append(i)
    return Instances(
        box.height,
        box.width,
        np.array(boxes, np.float32).reshape(-1, 4),
        scores[kept],
        tuple(row.names[int(labels[i])] for i in kept),
        encode_windows(windows, box.height, box.width),
    )


def _content(box: Letterbox, height: int, width: int) -> tuple[float, float]:
    """Height and width that the image itself takes of the low-resolution square; seldom whole numbers."""
    return height * box.inner_height / box.size, width * box.inner_width / box.size


@dataclass(frozen=True, slots=True)
class Axis:
    """Bilinear upsampling along one axis, half-pixel centres: `source` float64 [N] and `weights` float32 [N, n]."""

    source: npt.NDArray[np.float64]
    weights: FloatArray

    @classmethod
    def make(cls, length: int, content: float, cells: int) -> Axis:
        """From `cells` low-resolution samples, of which the image takes the first `content`, to `length` pixels."""
        source = (np.arange(length, dtype=np.float64) + 0.5) * (content / length) - 0.5
        # Samples beyond the content's edge saw padding only; the edge sample stands in for them.
        last = max(int(np.ceil(content)) - 1, 0)
        low = np.clip(np.floor(source).astype(np.intp), 0, last)
        high = np.minimum(low + 1, last)
        share = np.clip(source - low, 0.0, 1.0).astype(np.float32)
        weights = np.zeros((length, cells), np.float32)
        pixels = np.arange(length)
        weights[pixels, low] = 1.0 - share
        weights[pixels, high] += share
        return cls(source, weights)

    def window(self, positive: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
        """Pixels where the result can be positive, and the samples they are made of, given the positive samples."""
        where = np.flatnonzero(positive)
        if not where.size:
            return slice(0, 0), slice(0, 0)
        first, last = int(where[0]), int(where[-1])
        # A pixel mixes its two neighbours, so it reaches less than one sample beyond a positive one. The first and
        # last samples also stand for everything outside of them.
        start = 0 if first == 0 else int(np.searchsorted(self.source, first - 1, "right"))
        stop = int(np.searchsorted(self.source, last + 1, "left"))
        return slice(start, stop), slice(max(first - 1, 0), min(last + 2, positive.size))


def upsample_positive(logits: FloatArray, vertical: Axis, horizontal: Axis) -> tuple[BoolArray, int, int]:
    """Where the upsampled logits [h, w] are above zero: (bool window, x of its left edge, y of its top edge)."""
    positive = logits > 0
    pixel_rows, rows = vertical.window(np.any(positive, axis=1))
    pixel_columns, columns = horizontal.window(np.any(positive, axis=0))
    across, down = horizontal.weights[pixel_columns, columns], vertical.weights[pixel_rows, rows]
    # Computed lying on its side: RLE runs down the columns, and these are then contiguous in memory.
    window = (across @ logits[rows, columns].T @ down.T > 0).T
    return window, pixel_columns.start, pixel_rows.start
