"""The client's side of failed picks."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas.failures import CorrectionIn, Failure
from serving.observed.failure_kinds import Verdict


class FailureCalls(Calls):
    """These calls, as part of `HubClient`."""

    def failures(self, **wanted: str) -> list[Failure]:
        """Newest first; `wanted`: `cell`, `verdict`, `since`, `until`, `after` (a failed pick's id), `limit`."""
        return self._call("GET", "/failures", list[Failure], params=wanted)

    def failure(self, failure_id: str) -> Failure:
        """One failed pick with its verdict and evidence."""
        return self._call("GET", _failure(failure_id), Failure)

    def correct_failure(self, failure_id: str, verdict: Verdict, note: str = "") -> Failure:
        """Say what the cause was; it goes before the rules' verdict."""
        said = CorrectionIn(verdict=verdict, note=note)
        return self._call("POST", _failure(failure_id) + "/correct", Failure, said)


def _failure(failure_id: str) -> str:
    return f"/failures/{quote(failure_id, safe='')}"
