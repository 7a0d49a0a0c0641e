"""How models measured on what: kept as they were told, never changed. A finished fine-tune leaves two of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from hub.errors import UnknownEvaluationError
from hub.migrations.tables import timestamp
from hub.schemas.resources import Evaluation
from registry.catalog.catalog import Catalog

_CELL = (
    "CASE WHEN contains(model, '/') THEN coalesce(json_extract_string(metrics, '$.cell'), '')"
    " ELSE split_part(model, '@', 1) END"
)
"""The cell of a variant's evaluation, and of a base's the one on whose images it was."""
_COLUMNS = "id, model, dataset, deck, metrics, created_by, created_at"


class Evaluations:
    """The table of evaluations."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def add(self, model: str, metrics: Mapping[str, Any], *, dataset: str, deck: str, created_by: str) -> Evaluation:
        """Keep one."""
        one = secrets.token_hex(8)
        text = msgspec.json.encode(metrics).decode()
        with self._catalog.write() as db:
            db.execute(
                f"INSERT INTO hub_evaluations ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [one, model, dataset, deck, text, created_by, self._now()],
            )
        return self.get(one)

    def get(self, id_: str) -> Evaluation:
        """Raises UnknownEvaluationError."""
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM hub_evaluations WHERE id = ?", [id_])  # noqa: S608
        if not rows:
            raise UnknownEvaluationError(f"there is no evaluation {id_!r}")
        return _evaluation(rows[0])

    def cell_of(self, one: Evaluation) -> str:
        """The cell whose variant was measured, or on whose images a base was; "" for none."""
        return str(one.metrics.get("cell") or "") if "/" in one.model else one.model.partition("@")[0]

    def page(
        self, *, limit: int, after: str = "", model: str | None = None, hidden: Collection[str] = ()
    ) -> list[Evaluation]:
        """At most `limit`, newest first, those made before `after`; of one model or of all, none of the cells `hidden`,
        be it of their variants or of a base on their images."""
        where: list[str] = ["true"]
        params: list[object] = []
        if after:
            where.append("(created_at, id) < (SELECT (created_at, id) FROM hub_evaluations WHERE id = ?)")
            params.append(after)
        if hidden:
            where.append(f"NOT list_contains(?::VARCHAR[], {_CELL})")
            params.append(sorted(hidden))
        if model is not None:
            where.append("model = ?")
            params.append(model)
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM hub_evaluations WHERE {' AND '.join(where)} "  # noqa: S608
            "ORDER BY created_at DESC, id DESC LIMIT ?",
            [*params, limit],
        )
        return [_evaluation(row) for row in rows]


def _evaluation(row: tuple[Any, ...]) -> Evaluation:
    return Evaluation(
        id=row[0], model=row[1], dataset=row[2], deck=row[3], metrics=msgspec.json.decode(row[4]), created_by=row[5],
        created_at=timestamp(row[6]),
    )  # fmt: skip
