"""A variant's lineage as a graph in SVG: what it was made of to the left, itself to the right."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from finetune.report.plots import shorten
from registry.lineage.lineage import Lineage
from registry.types import Artifact

MAX_NODES = 40
MAX_DEPTH = 5
_WIDE, _HIGH, _GAP_X, _GAP_Y = 190, 58, 64, 22


def lineage_svg(lineage: Lineage, start: Artifact, *, seen: Callable[[str], bool]) -> str:
    """SVG of `start` and all it was made from; "" for an artifact that was never recorded.

    `seen` says which datasets may be named: a base may have learnt from private ones.
    """
    depth: dict[Artifact, int] = {start: 0}
    edges: list[tuple[Artifact, Artifact, str]] = []
    row = [start]
    while row and len(depth) < MAX_NODES:
        following: list[Artifact] = []
        for node in row:
            for edge in lineage.parents(node):
                parent = edge.parent
                if parent.kind == "dataset" and not seen(parent.name):
                    continue
                edges.append((edge.child, parent, edge.relation))
                known = depth.get(parent)
                if known is None or known < depth[node] + 1 <= MAX_DEPTH:
                    depth[parent] = depth[node] + 1
                    following.append(parent)
        row = following
    return _drawn(start, depth, edges) if edges else ""


def _drawn(start: Artifact, depth: dict[Artifact, int], edges: list[tuple[Artifact, Artifact, str]]) -> str:
    columns: dict[int, list[Artifact]] = {}
    for node, level in depth.items():
        columns.setdefault(level, []).append(node)
    deepest, tallest = max(columns), max(map(len, columns.values()))
    width = (deepest + 1) * _WIDE + deepest * _GAP_X + 4
    height = tallest * _HIGH + (tallest - 1) * _GAP_Y + 4
    place: dict[Artifact, tuple[float, float]] = {}
    for level, nodes in columns.items():
        top = (height - len(nodes) * _HIGH - (len(nodes) - 1) * _GAP_Y) / 2
        for number, node in enumerate(nodes):
            place[node] = (2 + (deepest - level) * (_WIDE + _GAP_X), top + number * (_HIGH + _GAP_Y))
    parts = []
    for child, parent, relation in dict.fromkeys(edges):
        (x1, y1), (x2, y2) = place[parent], place[child]
        x1, y1, y2 = x1 + _WIDE, y1 + _HIGH / 2, y2 + _HIGH / 2
        bend = max(20.0, (x2 - x1) / 2)
        parts.append(
            f'<path class="edge" d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2 - 7} {y2}">'
            f"<title>{escape(relation)}</title></path>"
            f'<path class="tip" d="M{x2} {y2}l-9 -5v10z"/>'
        )
    parts += [_node(node, *place[node], me=node == start) for node in place]
    return (
        f'<svg class="lineage" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="What this variant was made from">{"".join(parts)}</svg>'
    )


def _node(node: Artifact, x: float, y: float, *, me: bool) -> str:
    name = node.revision[:12] if node.kind == "deck" else node.name
    box = f'<rect class="box{" me" if me else ""}" x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="10"/>'
    texts = (
        f'<text class="kind" x="{x + 12}" y="{y + 22}">{escape(node.kind)}</text>'
        f'<text x="{x + 12}" y="{y + 42}">{escape(shorten(name, 24))}</text>'
        f"<title>{escape(str(node))}</title>"
    )
    link = _link(node)
    inner = f"<g>{box}{texts}</g>"
    return f'<a href="{escape(link)}">{inner}</a>' if link and not me else inner


def _link(node: Artifact) -> str:
    if node.kind == "dataset":
        return f"/ui/datasets/{node.name}?revision={node.revision}"
    if node.kind == "variant":
        cell, _, version = node.name.removeprefix("cells/").partition("@")
        return f"/ui/models/{cell}/{version}"
    return ""
