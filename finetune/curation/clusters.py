"""Clusters of any shape among points that belong to none: HDBSCAN (Campello, Moulavi and Sander, 2013), in numpy.

Points are linked by how dense it is between them; of the tree of links those clusters are chosen that stay together
longest while links are cut. The number of clusters is found, not asked for. Up to some thousand points.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

NOISE: Final = -1
MAX_POINTS: Final = 4_000
Points = npt.NDArray[np.floating]
Labels = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Branch:
    """A row of the condensed tree: `child` (a point, or a cluster from n on) left `parent` at density `level`."""

    parent: int
    child: int
    level: float
    size: int


def hdbscan(points: Points, *, min_size: int = 5, min_samples: int | None = None, single: bool = False) -> Labels:
    """Clusters of points [n, D]: intp [n], numbers from 0 on in the order of their first points, NOISE for the rest.

    Args:
        min_size: a group of fewer points is no cluster. min_samples: neighbours (the point itself is one of them) that
            make a place dense; `min_size` unless said. single: whether all points may be one cluster.

    Raises ValueError for more than MAX_POINTS, or sizes below 2 and 1.
    """
    n = len(points)
    samples = min_size if min_samples is None else min_samples
    if n > MAX_POINTS or min_size < 2 or samples < 1:
        raise ValueError(f"{n} points, clusters of {min_size} and {samples} neighbours: not within the limits")
    if n < max(min_size, 2) or samples > n:
        return np.full(n, NOISE, np.intp)
    links = _links(np.asarray(points, np.float64), samples)
    branches = _condensed(links, n, min_size)
    return _labelled(branches, n, _chosen(branches, n, single=single))


def distances(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Euclidean distances [n, n]."""
    squares = (points**2).sum(axis=1)
    found = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * points @ points.T, 0.0))
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def _links(points: npt.NDArray[np.float64], samples: int) -> list[tuple[float, int, int]]:
    """The minimum spanning tree of mutual reachability (Prim), its edges by length."""
    apart = distances(points)
    core = np.partition(apart, samples - 1, axis=1)[:, samples - 1]
    reach = np.maximum(apart, np.maximum(core[:, None], core[None]))
    n = len(points)
    inside = np.zeros(n, np.bool_)
    best, source = np.full(n, np.inf), np.zeros(n, np.intp)
    edges, current = [], 0
    for _ in range(n - 1):
        inside[current] = True
        closer = ~inside & (reach[current] < best)
        best[closer], source[closer] = reach[current][closer], current
        following = int(np.where(inside, np.inf, best).argmin())
        edges.append((float(best[following]), int(source[following]), following))
        current = following
    return sorted(edges)


def _condensed(links: list[tuple[float, int, int]], n: int, min_size: int) -> list[_Branch]:
    """The tree of links without splits that only shed a few points. The root cluster is number n."""
    children: dict[int, tuple[int, int, float, int]] = {}
    top, size = list(range(n)), [1] * n
    root = list(range(n))

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for number, (length, a, b) in enumerate(links, n):
        one, other = find(a), find(b)
        children[number] = (top[one], top[other], length, size[one] + size[other])
        root[one] = other
        top[other], size[other] = number, size[one] + size[other]

    def count(node: int) -> int:
        return 1 if node < n else children[node][3]

    def leaves(node: int) -> list[int]:
        found, stack = [], [node]
        while stack:
            one = stack.pop()
            if one < n:
                found.append(one)
            else:
                stack.extend(children[one][:2])
        return found

    branches: list[_Branch] = []
    following, stack = n + 1, [(2 * n - 2, n)]
    while stack:
        node, cluster = stack.pop()
        if node < n:
            continue
        left, right, length, _ = children[node]
        level = 1.0 / length if length > 0 else np.inf
        large = [one for one in (left, right) if count(one) >= min_size]
        for one in (left, right):
            if len(large) == 2:
                branches.append(_Branch(cluster, following, level, count(one)))
                stack.append((one, following))
                following += 1
            elif one in large:
                stack.append((one, cluster))
            else:
                branches += [_Branch(cluster, point, level, 1) for point in leaves(one)]
    return branches


def _chosen(branches: list[_Branch], n: int, *, single: bool) -> set[int]:
    """The clusters that stay together longest (excess of mass)."""
    born: dict[int, float] = {n: 0.0}
    inner: dict[int, list[int]] = defaultdict(list)
    for one in branches:
        if one.child >= n:
            born[one.child] = one.level
            inner[one.parent].append(one.child)
    stable: dict[int, float] = dict.fromkeys(born, 0.0)
    for one in branches:
        start = born[one.parent]
        if np.isfinite(start):
            stable[one.parent] += (min(one.level, 1e12) - start) * one.size
    chosen: set[int] = set()
    for cluster in sorted(born, reverse=True):
        below = sum(stable[child] for child in inner[cluster])
        if cluster == n and not single:
            continue
        if inner[cluster] and below > stable[cluster]:
            stable[cluster] = below
            continue
        chosen.add(cluster)
        stack = list(inner[cluster])
        while stack:
            child = stack.pop()
            chosen.discard(child)
            stack.extend(inner[child])
    return chosen


def _labelled(branches: list[_Branch], n: int, chosen: set[int]) -> Labels:
    above = {one.child: one.parent for one in branches if one.child >= n}
    owner: dict[int, int] = {}

    def cluster_of(node: int) -> int:
        while node != n and node not in chosen:
            node = above[node]
        return node if node in chosen else NOISE

    found = np.full(n, NOISE, np.intp)
    for one in branches:
        if one.child < n:
            if one.parent not in owner:
                owner[one.parent] = cluster_of(one.parent)
            found[one.child] = owner[one.parent]
    order: dict[int, int] = {}
    for label in found:
        if label != NOISE and int(label) not in order:
            order[int(label)] = len(order)
    return np.array([order.get(int(label), NOISE) for label in found], np.intp)


def adjusted_mutual_information(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """How far two groupings of the same n things agree beyond chance: 1 the same, about 0 unrelated (Vinh et al.,
    2010; arithmetic mean). Labels of any kind; a label is a group like any other."""
    from scipy.special import gammaln

    _, a = np.unique(np.asarray(one), return_inverse=True)
    _, b = np.unique(np.asarray(other), return_inverse=True)
    n = len(a)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    if len(rows) == len(columns) == 1 or (len(rows) == len(columns) == n):
        return 1.0
    some = table > 0
    mutual = float((table[some] / n * np.log(n * table[some] / np.outer(rows, columns)[some])).sum())
    expected = 0.0
    for x in rows:
        for y in columns:
            k = np.arange(max(1, x + y - n), min(x, y) + 1)
            log_weight = (
                gammaln(x + 1) + gammaln(y + 1) + gammaln(n - x + 1) + gammaln(n - y + 1) - gammaln(n + 1)
                - gammaln(k + 1) - gammaln(x - k + 1) - gammaln(y - k + 1) - gammaln(n - x - y + k + 1)
            )  # fmt: skip
            expected += float((k / n * np.log(n * k / (x * y)) * np.exp(log_weight)).sum())
    entropies = [-float((v / n * np.log(v / n)).sum()) for v in (rows, columns)]
    bound = sum(entropies) / 2
    gap = bound - expected
    return (mutual - expected) / (gap if abs(gap) > 1e-12 else 1e-12)
