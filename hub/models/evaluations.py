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
_OPEN = (
    "NOT EXISTS (SELECT 1 FROM repos r WHERE r.type = 'dataset' AND (r.private OR r.gated <> 'no')"
    " AND lower(r.namespace || '/' || r.name) = lower(split_part(dataset, '@', 1))"
    " AND NOT list_contains(?::VARCHAR[], lower(r.namespace)))"
)
"""Whether the dataset that was measured on is everybody's, or of the caller's namespaces: how many pictures a private
one has and how they come out is as private as they."""
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
        self,
        *,
        limit: int,
        after: str = "",
        model: str | None = None,
        hidden: Collection[str] = (),
        namespaces: Collection[str] | None = None,
    ) -> list[Evaluation]:
        """At most `limit`, newest first, those made before `after`; of one model or of all, none of the cells `hidden`,
        be it of their variants or of a base on their images; none on private datasets but those of `namespaces` (None:
        on any)."""
        seen: list[str] = ["true"]
        params: list[object] = []
        if hidden:
            seen.append(f"NOT list_contains(?::VARCHAR[], {_CELL})")
            params.append(sorted(hidden))
        if namespaces is not None:
            seen.append(_OPEN)
            params.append(sorted(namespaces))
        where = list(seen)
        if after:  # one that the caller cannot see is no place to go on from: that would tell that it is there
            last = f"SELECT (created_at, id) FROM hub_evaluations WHERE {' AND '.join(seen)} AND id = ?"  # noqa: S608
            where.append(f"(created_at, id) < ({last})")
            params += [*params, after]
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
