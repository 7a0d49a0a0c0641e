"""Labels that came in: the commits of the cell's label datasets."""

from __future__ import annotations

from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog

NAME = "labels"


def steps(catalog: Catalog, asked: Asked) -> list[Step]:
    """A step for each commit."""
    rows = catalog.query(
        "SELECT r.namespace || '/' || r.name, c.id, epoch_ms(c.created_at), c.message, c.author, t.files"
        " FROM commits c JOIN repos r ON r.key = c.repo LEFT JOIN trees t ON t.digest = c.tree"
        " WHERE r.type = 'dataset' AND list_contains(?::VARCHAR[], r.namespace || '/' || r.name)"
        " AND epoch_ms(c.created_at) >= ? AND epoch_ms(c.created_at) < ? ORDER BY c.created_at DESC LIMIT ?",
        [list(asked.labels), asked.since * 1000, min(asked.until, 1e11) * 1000, asked.most],
    )
    found = []
    for dataset, commit, at, message, author, files in rows:
        title = f"Labels came into {dataset}"
        reason = f"{message.partition(chr(10))[0][:200]} ({files or 0:,} files there now)"
        link = f"/ui/datasets/{dataset}?revision={commit}"
        found.append(
            Step(
                id=step_id(at / 1000, NAME, commit[:16]), at=when(at / 1000), kind=NAME, title=title, reason=reason,
                who=author, link=link,
            )
        )  # fmt: skip
    return asked.page(found)
