"""The client's side of production: outcomes, captures, roll-outs, trials, robots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import serving as v
from hub.schemas.events import Event, EventChange, EventMerge, EventSplit, EventState, Finding
from hub.schemas.failures import CorrectionIn, Failure, ForgetIn, Forgotten
from hub.schemas.loop import Alert, AlertNote
from serving.observed.failure_kinds import Verdict


class ProductionCalls(Calls):
    """These calls, as part of `HubClient`."""

    def report_outcomes(self, outcomes: list[dict[str, Any]]) -> v.OutcomesTaken:
        return self._call("POST", "/outcomes", v.OutcomesTaken, {"outcomes": outcomes})

    def rates(self, by: str = "cell", **wanted: str) -> v.Rates:
        """`wanted`: `cell`, `variant`, `stage`, `class`, `days`."""
        return self._call("GET", "/outcomes/rates", v.Rates, params={"by": by, **wanted})

    def captures(self, **wanted: str) -> list[v.Capture]:
        """Newest first; `wanted`: `cell`, `reason`, `outcome`, `since`, `until`, `before` (a capture's id), `limit`."""
        return self._call("GET", "/captures", list[v.Capture], params=wanted)

    def capture_image(self, capture_id: str, folder: Path) -> Path:
        """Write a capture's frame into a folder. Returns its path."""
        answer = self._send("GET", f"/captures/{quote(capture_id, safe='')}/image")
        suffix = ".png" if answer.headers.get("content-type") == "image/png" else ".jpg"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{capture_id}{suffix}"
        target.write_bytes(answer.content)
        return target

    def alerts(self, **wanted: str) -> list[Alert]:
        """Newest first; `wanted`: `cell`, `state`, `after` (an alert's id), `limit`."""
        return self._call("GET", "/alerts", list[Alert], params=wanted)

    def alert(self, alert_id: str) -> Alert:
        return self._call("GET", _alert(alert_id), Alert)

    def alert_picture(self, alert_id: str, name: str) -> bytes:
        """`before` or `after`, a JPEG."""
        return self._send("GET", f"{_alert(alert_id)}/pictures/{quote(name, safe='')}").content

    def acknowledge_alert(self, alert_id: str, note: str = "") -> Alert:
        return self._call("POST", _alert(alert_id) + "/acknowledge", Alert, AlertNote(note=note))

    def close_alert(self, alert_id: str, note: str = "") -> Alert:
        return self._call("POST", _alert(alert_id) + "/close", Alert, AlertNote(note=note))

    def failures(self, **wanted: str) -> list[Failure]:
        """Newest first; `wanted`: `cell`, `verdict`, `since`, `until`, `after` (a failed pick's id), `limit`."""
        return self._call("GET", "/failures", list[Failure], params=wanted)

    def failure(self, failure_id: str) -> Failure:
        return self._call("GET", _failure(failure_id), Failure)

    def correct_failure(self, failure_id: str, verdict: Verdict, note: str = "") -> Failure:
        said = CorrectionIn(verdict=verdict, note=note)
        return self._call("POST", _failure(failure_id) + "/correct", Failure, said)

    def forget(self, *, sha256: str | None = None, capture: str | None = None, reason: str = "") -> Forgotten:
        """Forget one picture everywhere, named by its digest or by a capture."""
        return self._call("POST", "/forget", Forgotten, ForgetIn(sha256=sha256, capture=capture, reason=reason))

    def package_events(self, **wanted: str) -> list[Event]:
        """The one that would gain most first; `wanted`: `cell`, `state`, `limit`."""
        return self._call("GET", "/events", list[Event], params=wanted)

    def package_event(self, event_id: str) -> Event:
        return self._call("GET", _event(event_id), Event)

    def event_findings(self, event_id: str, limit: int = 50) -> list[Finding]:
        return self._call("GET", _event(event_id) + "/findings", list[Finding], params={"limit": str(limit)})

    def finding_picture(self, finding_id: str) -> bytes:
        """A JPEG."""
        return self._send("GET", f"/findings/{quote(finding_id, safe='')}/picture").content

    def change_event(
        self, event_id: str, *, name: str | None = None, state: EventState | None = None, note: str | None = None
    ) -> Event:
        return self._call("PATCH", _event(event_id), Event, EventChange(name=name, state=state, note=note))

    def merge_events(self, event_id: str, other: str) -> Event:
        return self._call("POST", _event(event_id) + "/merge", Event, EventMerge(other=other))

    def split_event(self, event_id: str, findings: list[str] | None = None, name: str = "") -> Event:
        """Returns the new one."""
        return self._call("POST", _event(event_id) + "/split", Event, EventSplit(findings=findings or [], name=name))

    def rollout(self, cell: str) -> v.Rollout:
        return self._call("GET", _rollout(cell), v.Rollout)

    def set_lines(self, cell: str, lines: Mapping[str, str]) -> v.Rollout:
        return self._call("PUT", _rollout(cell) + "/lines", v.Rollout, {"lines": dict(lines)})

    def set_share(self, cell: str, share: float) -> v.Rollout:
        return self._call("PUT", _rollout(cell) + "/share", v.Rollout, {"share": share})

    def start_trial(self, cell: str, trial: v.TrialIn) -> v.Trial:
        return self._call("POST", _rollout(cell) + "/trials", v.Trial, trial)

    def trial(self, trial_id: str) -> v.Trial:
        return self._call("GET", f"/trials/{quote(trial_id, safe='')}", v.Trial)

    def stop_trial(self, trial_id: str) -> v.Trial:
        return self._call("DELETE", f"/trials/{quote(trial_id, safe='')}", v.Trial)

    def robots(self) -> list[v.Robot]:
        return self._call("GET", "/robots", list[v.Robot])

    def add_robot(self, name: str, cells: list[str]) -> str:
        return self._call("POST", "/robots", v.NewRobot, {"name": name, "cells": cells}).token

    def remove_robot(self, robot_id: str) -> None:
        self._send("DELETE", f"/robots/{quote(robot_id, safe='')}")


def _alert(alert_id: str) -> str:
    return f"/alerts/{quote(alert_id, safe='')}"


def _failure(failure_id: str) -> str:
    return f"/failures/{quote(failure_id, safe='')}"


def _event(event_id: str) -> str:
    return f"/events/{quote(event_id, safe='')}"


def _rollout(cell: str) -> str:
    return f"/rollouts/{quote(cell, safe='')}"
