"""The client's side of events and their findings."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas.events import Event, EventChange, EventMerge, EventSplit, EventState, Finding


class EventCalls(Calls):
    """These calls, as part of `HubClient`."""

    def package_events(self, **wanted: str) -> list[Event]:
        """The one that would gain most first; `wanted`: `cell`, `state`, `limit`."""
        return self._call("GET", "/events", list[Event], params=wanted)

    def package_event(self, event_id: str) -> Event:
        """One event: what it is made of, what it costs, its rank in words."""
        return self._call("GET", _event(event_id), Event)

    def event_findings(self, event_id: str, limit: int = 50) -> list[Finding]:
        """Findings of an event."""
        return self._call("GET", _event(event_id) + "/findings", list[Finding], params={"limit": str(limit)})

    def finding_picture(self, finding_id: str) -> bytes:
        """A JPEG."""
        return self._send("GET", f"/findings/{quote(finding_id, safe='')}/picture").content

    def change_event(
        self, event_id: str, *, name: str | None = None, state: EventState | None = None, note: str | None = None
    ) -> Event:
        """Name an event, set its state or note; None leaves a value as it is."""
        return self._call("PATCH", _event(event_id), Event, EventChange(name=name, state=state, note=note))

    def merge_events(self, event_id: str, other: str) -> Event:
        """Make one event of two."""
        return self._call("POST", _event(event_id) + "/merge", Event, EventMerge(other=other))

    def split_event(self, event_id: str, findings: list[str] | None = None, name: str = "") -> Event:
        """Returns the new one."""
        return self._call("POST", _event(event_id) + "/split", Event, EventSplit(findings=findings or [], name=name))


def _event(event_id: str) -> str:
    return f"/events/{quote(event_id, safe='')}"
