"""The client's side of refreshes: a cell's policy, its runs and its timeline."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas.refresh import Refresh, RefreshNote, RefreshPolicy, RefreshPolicySet, RefreshRun, Step


class RefreshCalls(Calls):
    """These calls, as part of `HubClient`."""

    def refresh(self, cell: str) -> Refresh:
        """A cell's policy, its refreshes, and what it waits for."""
        return self._call("GET", _refresh(cell), Refresh)

    def refresh_policies(self, cell: str) -> list[RefreshPolicy]:
        """Versions of the policy, newest first."""
        return self._call("GET", _refresh(cell) + "/policies", list[RefreshPolicy])

    def set_refresh_policy(self, cell: str, asked: RefreshPolicySet) -> RefreshPolicy:
        """Put another version of the policy in force."""
        return self._call("PUT", _refresh(cell) + "/policy", RefreshPolicy, asked)

    def pause_refresh(self, cell: str, note: str = "", *, paused: bool = True) -> RefreshPolicy:
        """Let the rule wait, or go on; what runs goes on."""
        action = "/pause" if paused else "/resume"
        return self._call("POST", _refresh(cell) + action, RefreshPolicy, RefreshNote(note=note))

    def refresh_now(self, cell: str) -> RefreshRun:
        """Start a refresh, whatever the policy asks for."""
        return self._call("POST", _refresh(cell) + "/now", RefreshRun)

    def refresh_run(self, cell: str, run: str) -> RefreshRun:
        """One refresh."""
        return self._call("GET", _run(cell, run), RefreshRun)

    def veto_refresh(self, cell: str, run: str, note: str = "") -> RefreshRun:
        """End a refresh; what it offered is put away."""
        return self._call("POST", _run(cell, run) + "/veto", RefreshRun, RefreshNote(note=note))

    def undo_refresh(self, cell: str, run: str, note: str = "") -> RefreshRun:
        """Take back what a refresh changed: stages, variant, images."""
        return self._call("POST", _run(cell, run) + "/undo", RefreshRun, RefreshNote(note=note))

    def timeline(self, cell: str, **wanted: str) -> list[Step]:
        """Newest first; `wanted`: `limit`, `after` (a step's id), `kind`."""
        return self._call("GET", f"/cells/{quote(cell, safe='')}/timeline", list[Step], params=wanted)


def _refresh(cell: str) -> str:
    return f"/cells/{quote(cell, safe='')}/refresh"


def _run(cell: str, run: str) -> str:
    return f"{_refresh(cell)}/runs/{quote(run, safe='')}"
