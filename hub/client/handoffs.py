"""The client's side of hand-offs: what the hub knows of pictures at other labelling tools."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import handoff as s


class HandOffCalls(Calls):
    """These calls, as part of `HubClient`."""

    def handoffs(self, cell: str, place: str | None = None) -> list[s.HandOff]:
        """Pictures of a cell at other tools."""
        params = {} if place is None else {"place": place}
        return self._call("GET", f"/labels/cells/{quote(cell, safe='')}/handoffs", list[s.HandOff], params=params)

    def hand_off(self, cell: str, asked: s.HandOffIn) -> list[s.HandOff]:
        """Hold pictures for a place; those that are to be sent."""
        return self._call("POST", f"/labels/cells/{quote(cell, safe='')}/handoffs", list[s.HandOff], asked)

    def say_sent(self, task_id: str, place: str, remote: str) -> s.HandOff:
        """A picture got to its place."""
        return self._call("PUT", _task(task_id), s.HandOff, s.Sent(place=place, remote=remote))

    def take_back(self, task_id: str, said: s.Returned) -> s.HandOff:
        """What the tool says of a picture."""
        return self._call("POST", _task(task_id), s.HandOff, said)

    def give_back(self, task_id: str, place: str) -> s.HandOff:
        """Let it wait at the hub again."""
        return self._call("DELETE", _task(task_id), s.HandOff, params={"place": place})


def _task(task_id: str) -> str:
    return f"/labels/tasks/{quote(task_id, safe='')}/handoff"
