"""The client's side of variants, their stages and evaluations."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from hub.client.calls import Calls
from hub.schemas import core as s
from hub.schemas import resources as r


class ModelCalls(Calls):
    """These calls, as part of `HubClient`."""

    def models(self) -> s.Models:
        """All variants with their stages."""
        pages = list(self._pages("/models", s.Models))
        return s.Models(bases=pages[0].bases, variants=[one for page in pages for one in page.variants])

    def variant(self, name: str) -> s.Version:
        """`name`: `<cell>@v3`."""
        cell, _, version = name.partition("@")
        return self._call("GET", f"/models/{quote(cell, safe='')}/{quote(version, safe='')}", s.Version)

    def promote(
        self,
        name: str,
        *,
        stage: str = "fleet",
        note: str = "",
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> s.Moved:
        """`expected`: the version that has the stage now (None: the base); refused if another one has it."""
        cell, _, version = name.partition("@")
        route = f"/models/{quote(cell, safe='')}/{quote(version, safe='')}/promote"
        body: dict[str, str | None] = {"stage": stage, "note": note}
        if not isinstance(expected, msgspec.UnsetType):
            body["expected"] = expected
        return self._call("POST", route, s.Moved, body)

    def rollback(
        self,
        cell: str,
        *,
        stage: str = "fleet",
        note: str = "",
        expected: str | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> s.Moved:
        """`expected`: the version to roll back; refused if another one has the stage by now."""
        body: dict[str, str | None] = {"stage": stage, "note": note}
        if not isinstance(expected, msgspec.UnsetType):
            body["expected"] = expected
        return self._call("POST", f"/models/{quote(cell, safe='')}/rollback", s.Moved, body)

    def routing(self) -> dict[str, Any]:
        """What robots are answered by: the serving folder's table."""
        return self._call("GET", "/routing", dict[str, Any])

    def evaluations(self, *, limit: int | None = None, **wanted: str) -> list[r.Evaluation]:
        """Evaluations, newest first."""
        pages = self._pages("/evaluations", list[r.Evaluation], wanted, limit=limit)
        return [one for page in pages for one in page]
