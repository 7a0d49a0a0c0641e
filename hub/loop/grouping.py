"""Which findings belong together: they join events that are there, and what joins none may found new ones.

Events never move: a finding that has an event keeps it, whatever comes later. All is done in a space where packages
that are known vary little, so that what is new stands out (their covariance, shrunk).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from finetune.curation.clusters import MAX_POINTS, NOISE, hdbscan
from serving.observed.novelty import MIN_KNOWN, Float, shrunk_covariance, squared, whitening

MIN_FINDINGS: Final = 4
"""Findings that are needed to found an event."""
NEIGHBOURS: Final = 3
"""Nearest members of an event that a finding is compared with."""
MAX_RATIO: Final = 1.5
"""A finding joins an event if it is at most so many times as far from its nearest members as they are from theirs."""
DIMENSIONS: Final = 12
"""Of the space in which findings are compared: the directions in which they vary most."""
MAX_MEMBERS: Final = 200
"""The newest members of an event that findings are compared with."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Where findings are compared: (x - mean) W, float32 [D, A]."""

    mean: Float
    projection: Float

    def of(self, rows: Float) -> Float:
        """Rows float32 [n, D] to [n, A]."""
        return np.asarray((rows - self.mean) @ self.projection, np.float32)


def space(known: Float, rows: Float) -> Space:
    """The space of findings `rows` [n, D] beside packages that are `known` [m, D]; those alone where few are known."""
    scaled_by = known if len(known) >= MIN_KNOWN else rows
    mean, scale = scaled_by.mean(axis=0), scaled_by.std(axis=0) + 1e-2
    x = (scaled_by - mean) / scale
    white = whitening(shrunk_covariance(x)) if len(x) >= MIN_KNOWN else np.eye(len(mean), dtype=np.float32)
    far = np.asarray(((rows - mean) / scale) @ white, np.float32)
    centred = far - far.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    projection = (white @ axes[:DIMENSIONS].T) / scale[:, None]
    return Space(np.asarray(mean, np.float32), np.asarray(projection, np.float32))


def joins(rows: Float, events: Mapping[str, Float]) -> list[str | None]:
    """Which event each row [n, A] joins, None for none; `events` are members [m, A] by event, MAX_MEMBERS at most."""
    found: list[str | None] = [None] * len(rows)
    best = np.full(len(rows), np.inf)
    for name, members in events.items():
        if len(members) < 2 or not len(rows):
            continue
        near = min(NEIGHBOURS, len(members) - 1)
        own = np.sqrt(np.sort(squared(members, members), axis=1)[:, 1 : near + 1]).mean(axis=1)
        reach = max(float(np.quantile(own, 0.9)), 1e-6) * MAX_RATIO
        apart = np.sqrt(np.sort(squared(rows, members), axis=1)[:, :near]).mean(axis=1) / reach
        for k in np.flatnonzero((apart <= 1) & (apart < best)):
            found[int(k)], best[k] = name, apart[k]
    return found


def founded(rows: Float) -> npt.NDArray[np.intp]:
    """Groups of rows [n, A] that belong together: numbers from 0, NOISE for those that belong to none."""
    if len(rows) < MIN_FINDINGS:
        return np.full(len(rows), NOISE, np.intp)
    newest = rows[-MAX_POINTS:]
    labels = np.full(len(rows), NOISE, np.intp)
    labels[len(rows) - len(newest) :] = hdbscan(
        newest, min_size=MIN_FINDINGS, min_samples=min(NEIGHBOURS, len(newest)), single=True
    )
    return labels


def halves(rows: Float) -> npt.NDArray[np.intp]:
    """Rows [n, A] in the two groups that are farthest apart (two means): 0 or 1 each; all 0 where there is one."""
    if len(rows) < 2:
        return np.zeros(len(rows), np.intp)
    first = int(squared(rows, rows.mean(axis=0)[None])[:, 0].argmax())
    second = int(squared(rows, rows[first][None])[:, 0].argmax())
    centres = rows[[first, second]].copy()
    labels = np.zeros(len(rows), np.intp)
    for _ in range(30):
        labels = squared(rows, centres).argmin(axis=1)
        for k in (0, 1):
            if (labels == k).any():
                centres[k] = rows[labels == k].mean(axis=0)
    return np.asarray(labels, np.intp)


def typical(rows: Float, count: int) -> list[int]:
    """Indices of the rows nearest to the middle of all."""
    if not len(rows):
        return []
    order: Sequence[int] = [int(k) for k in squared(rows, np.median(rows, axis=0)[None])[:, 0].argsort(kind="stable")]
    return list(order[:count])
