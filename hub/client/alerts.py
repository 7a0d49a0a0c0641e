"""The client's side of alerts."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas.loop import Alert, AlertNote


class AlertCalls(Calls):
    """These calls, as part of `HubClient`."""

    def alerts(self, **wanted: str) -> list[Alert]:
        """Newest first; `wanted`: `cell`, `state`, `after` (an alert's id), `limit`."""
        return self._call("GET", "/alerts", list[Alert], params=wanted)

    def alert(self, alert_id: str) -> Alert:
        """One alert: camera, fault, since when, what to do."""
        return self._call("GET", _alert(alert_id), Alert)

    def alert_picture(self, alert_id: str, name: str) -> bytes:
        """`before` or `after`, a JPEG."""
        return self._send("GET", f"{_alert(alert_id)}/pictures/{quote(name, safe='')}").content

    def acknowledge_alert(self, alert_id: str, note: str = "") -> Alert:
        """Say that somebody looks after it."""
        return self._call("POST", _alert(alert_id) + "/acknowledge", Alert, AlertNote(note=note))

    def close_alert(self, alert_id: str, note: str = "") -> Alert:
        """Say that it was dealt with."""
        return self._call("POST", _alert(alert_id) + "/close", Alert, AlertNote(note=note))


def _alert(alert_id: str) -> str:
    return f"/alerts/{quote(alert_id, safe='')}"
