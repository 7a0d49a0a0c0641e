"""The client's side of forgetting a picture."""

from __future__ import annotations

from hub.client.calls import Calls
from hub.schemas.failures import ForgetIn, Forgotten


class ForgetCalls(Calls):
    """These calls, as part of `HubClient`."""

    def forget(self, *, sha256: str | None = None, capture: str | None = None, reason: str = "") -> Forgotten:
        """Forget one picture everywhere, named by its digest or by a capture."""
        return self._call("POST", "/forget", Forgotten, ForgetIn(sha256=sha256, capture=capture, reason=reason))
