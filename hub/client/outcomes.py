"""The client's side of outcomes of picks."""

from __future__ import annotations

from typing import Any

from hub.client.calls import Calls
from hub.schemas import serving as v


class OutcomeCalls(Calls):
    """These calls, as part of `HubClient`."""

    def report_outcomes(self, outcomes: list[dict[str, Any]]) -> v.OutcomesTaken:
        """Say how picks went; the first outcome of a request id counts."""
        return self._call("POST", "/outcomes", v.OutcomesTaken, {"outcomes": outcomes})

    def rates(self, by: str = "cell", **wanted: str) -> v.Rates:
        """`wanted`: `cell`, `variant`, `stage`, `class`, `days`."""
        return self._call("GET", "/outcomes/rates", v.Rates, params={"by": by, **wanted})
