"""How unlike the packages that a cell knows: scores of embeddings against reference statistics. Pure numpy.

Four scores that the field compares, and one of our own; all are higher for what is stranger:

- `mahalanobis`: squared distance to the nearest of the cell's kinds of packages under their common covariance.
- `relative`: the same less the distance to all of them as one (Ren et al., arXiv 2106.09022).
- `knn`: mean distance to the nearest neighbours in a small bank (Sun et al., arXiv 2204.06507).
- `vim`: what the principal space of the known leaves over, scaled, less the network's own certainty (Wang et al., arXiv
  2203.10807).
- `mixed`: mean distance to ten neighbours. In a reference (`serving.observed.novelty_reference`) it is that of the
  appearance, and the embedding's `mahalanobis` counts a quarter; without an appearance it is that alone.

Covariances are shrunk (Ledoit and Wolf, 2004): a cell has a few hundred known packages, and embeddings have as many
numbers. What a score means follows from scores of known packages that were held out (`Calibration`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Method = Literal["mahalanobis", "relative", "knn", "vim", "mixed"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
NEIGHBOURS: Final = 3
MANY_NEIGHBOURS: Final = 10
"""Of `mixed`: so many known packages must look alike before the next one of the kind is none that is new."""
MAX_BANK: Final = 512
MIN_KNOWN: Final = 20
"""Of fewer known packages nothing can be said."""
A_KIND: Final = 40
"""So many known packages for each kind that is told apart, at least."""
MAX_KINDS: Final = 6
PRINCIPAL: Final = 0.97
"""Share of the variance that the principal space holds."""
EPS: Final = 1e-6


def shrinkage(centred: npt.NDArray[np.floating]) -> float:
    """How much of a covariance is to be replaced by a multiple of the identity, 0 to 1; `centred` is [n, D]."""
    n, width = centred.shape
    # In double and by the smaller of the two Gram matrices: both have the same sum of squares.
    x = centred.astype(np.float64)
    squares = x**2
    mean = float(squares.sum()) / (n * width)
    gram = x @ x.T if n < width else x.T @ x
    delta_ = float((gram**2).sum()) / n**2
    beta_ = float((squares.sum(axis=1) ** 2).sum())
    beta = (beta_ / n - delta_) / (width * n)
    delta = (delta_ - 2.0 * mean * float(squares.sum()) / n + width * mean**2) / width
    return 0.0 if delta <= 0 else float(max(min(beta, delta), 0.0) / delta)


def shrunk_covariance(centred: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Covariance [D, D] of centred rows [n, D], shrunk after Ledoit and Wolf."""
    x = centred.astype(np.float64)
    share, covariance = shrinkage(x), x.T @ x / len(x)
    mean = float(np.trace(covariance)) / len(covariance)
    covariance *= 1 - share
    covariance[np.diag_indices_from(covariance)] += share * mean
    return covariance


def whitening(covariance: npt.NDArray[np.float64]) -> Float:
    """W [D, D] such that the norm of x W is the Mahalanobis length of x."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, max(float(values[-1]), EPS) * 1e-6)
    return np.asarray(vectors / np.sqrt(values), np.float32)


def farthest_first(rows: Float, count: int, *, start: int = 0) -> list[int]:
    """Indices of up to `count` rows [n, D], each the farthest from those before it (Gonzalez, 1985)."""
    if not len(rows) or count < 1:
        return []
    chosen = [start]
    nearest = ((rows - rows[start]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(rows)):
        index = int(nearest.argmax())
        if nearest[index] <= 0:
            break
        chosen.append(index)
        nearest = np.minimum(nearest, ((rows - rows[index]) ** 2).sum(axis=1))
    return chosen


def kinds_of(rows: Float, count: int, *, rounds: int = 20) -> npt.NDArray[np.intp]:
    """Which of `count` kinds each row [n, D] is of: k-means, deterministic."""
    middle = int(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).argmin())
    centres = rows[farthest_first(rows, count, start=middle)].copy()
    assigned = np.zeros(len(rows), np.intp)
    for _ in range(rounds):
        nearest = squared(rows, centres).argmin(axis=1)
        if (nearest == assigned).all() and _ > 0:
            break
        assigned = nearest
        for k in range(len(centres)):
            if (assigned == k).any():
                centres[k] = rows[assigned == k].mean(axis=0)
    return assigned


def squared(rows: Float, others: Float) -> Float:
    """Squared distances [n, m] of rows [n, D] and others [m, D]."""
    cross = rows @ others.T
    both = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None]
    return np.maximum(both - 2 * cross, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Reference statistics of rows that are known. D numbers a row, K kinds, B rows in the bank.

    Attributes:
        mean, scale: float32 [D], by which rows are made comparable first.
        centres: float32 [K, D], the middle of each kind. within: float32 [D, D], whitens what is left around them.
        overall: float32 [D, D], whitens all rows as one.
        bank: float32 [B, D]. axes: float32 [D, P], the principal space. alpha: weighs what lies outside of it.
    """

    mean: Float
    scale: Float
    centres: Float
    within: Float
    overall: Float
    bank: Float
    axes: Float
    alpha: float

    @classmethod
    def learn(cls, rows: Float, energies: Float | None = None, *, bank: int = MAX_BANK) -> Self:
        """Of known rows float32 [n, D]; `energies` are the certainties [n] that the network had of them.

        Raises ValueError for fewer than MIN_KNOWN rows or numbers that are not finite.
        """
        if rows.ndim != 2 or len(rows) < MIN_KNOWN or not np.isfinite(rows).all():
            raise ValueError(f"a reference needs {MIN_KNOWN} known packages or more, of finite numbers")
        mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-3
        x = np.asarray((rows - mean) / scale, np.float32)
        overall = whitening(shrunk_covariance(x))
        count = min(max(len(rows) // A_KIND, 1), MAX_KINDS)
        assigned = kinds_of(x, count)
        used = np.unique(assigned)
        centres = np.stack([x[assigned == k].mean(axis=0) for k in used]).astype(np.float32)
        left = x - centres[np.searchsorted(used, assigned)]
        within = whitening(shrunk_covariance(left))
        values, vectors = np.linalg.eigh(shrunk_covariance(x))
        kept = np.cumsum(values[::-1]) <= PRINCIPAL * values.sum()
        axes = np.asarray(vectors[:, ::-1][:, : max(int(kept.sum()), 1)], np.float32)
        outside = _outside(x, axes)
        certain = np.ones(len(x), np.float32) if energies is None else energies
        alpha = float(np.abs(certain).mean() / max(float(outside.mean()), EPS))
        chosen = farthest_first(x, bank, start=int(((x**2).sum(axis=1)).argmin()))
        return cls(mean.astype(np.float32), scale.astype(np.float32), centres, within, overall, x[chosen], axes, alpha)

    def scores(self, rows: Float, method: Method, energies: Float | None = None) -> Float:
        """Novelty float32 [n] of rows float32 [n, D] of the same kind of embedding; higher is stranger."""
        if not len(rows):
            return np.zeros(0, np.float32)
        x = np.asarray((rows - self.mean) / self.scale, np.float32)
        if method in ("knn", "mixed"):
            count = NEIGHBOURS if method == "knn" else MANY_NEIGHBOURS
            near = np.sqrt(np.sort(squared(x, self.bank), axis=1)[:, :count])
            return np.asarray(near.mean(axis=1), np.float32)
        if method == "vim":
            certain = np.zeros(len(x), np.float32) if energies is None else energies
            return np.asarray(self.alpha * _outside(x, self.axes) - certain, np.float32)
        nearest = squared(x @ self.within, self.centres @ self.within).min(axis=1)
        if method == "mahalanobis":
            return np.asarray(nearest, np.float32)
        return np.asarray(nearest - ((x @ self.overall) ** 2).sum(axis=1), np.float32)


def _outside(x: Float, axes: Float) -> Float:
    return np.asarray(np.linalg.norm(x - (x @ axes) @ axes.T, axis=1), np.float32)


def certainty(scores: npt.ArrayLike) -> Float:
    """The network's certainty of answers with these scores in [0, 1]: softplus of their logits, float32 [n]."""
    p = np.clip(np.asarray(scores, np.float64), 1e-4, 1 - 1e-4)
    return np.asarray(-np.log1p(-p), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Scores of known packages that no statistics had seen, float32 [n], ascending: what a score means."""

    held_out: Float

    @classmethod
    def of(cls, scores: npt.ArrayLike) -> Self:
        """Raises ValueError where there are none."""
        held_out = np.sort(np.asarray(scores, np.float32))
        if not len(held_out) or not np.isfinite(held_out).all():
            raise ValueError("a calibration needs scores of known packages that were held out")
        return cls(held_out)

    def threshold(self, false_alarms: float) -> float:
        """A score that known packages exceed with at most this probability (a conformal bound: exact for exchangeable
        packages). Infinite where too few were held out to promise as much."""
        n = len(self.held_out)
        rank = int(np.ceil((n + 1) * (1 - false_alarms)))
        return float("inf") if rank > n else float(self.held_out[rank - 1])

    def finest(self) -> float:
        """The smallest share of false alarms that can be promised."""
        return 1.0 / (len(self.held_out) + 1)

    def p_values(self, scores: npt.ArrayLike) -> Float:
        """How probable a score as high is for a known package: float32 [n] in (0, 1]."""
        above = len(self.held_out) - np.searchsorted(self.held_out, np.asarray(scores, np.float32), side="left")
        return np.asarray((above + 1) / (len(self.held_out) + 1), np.float32)
