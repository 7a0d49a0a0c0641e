"""The client's side of roll-outs, trials and robots."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import serving as v


class RolloutCalls(Calls):
    """These calls, as part of `HubClient`."""

    def rollout(self, cell: str) -> v.Rollout:
        """A cell's lines, canary share, trials and what is in place."""
        return self._call("GET", _rollout(cell), v.Rollout)

    def set_lines(self, cell: str, lines: Mapping[str, str]) -> v.Rollout:
        """Say which stage each line is on."""
        return self._call("PUT", _rollout(cell) + "/lines", v.Rollout, {"lines": dict(lines)})

    def set_share(self, cell: str, share: float) -> v.Rollout:
        """Give `beta` this share (0 to 1) of the lines that are not named."""
        return self._call("PUT", _rollout(cell) + "/share", v.Rollout, {"share": share})

    def start_trial(self, cell: str, trial: v.TrialIn) -> v.Trial:
        """Start a sequential test of a stage."""
        return self._call("POST", _rollout(cell) + "/trials", v.Trial, trial)

    def trial(self, trial_id: str) -> v.Trial:
        """One trial."""
        return self._call("GET", f"/trials/{quote(trial_id, safe='')}", v.Trial)

    def stop_trial(self, trial_id: str) -> v.Trial:
        """End a trial without a verdict."""
        return self._call("DELETE", f"/trials/{quote(trial_id, safe='')}", v.Trial)

    def robots(self) -> list[v.Robot]:
        """Robots and their cells, without tokens."""
        return self._call("GET", "/robots", list[v.Robot])

    def add_robot(self, name: str, cells: list[str]) -> str:
        """Make a robot. Returns its token: the hub tells it this once."""
        return self._call("POST", "/robots", v.NewRobot, {"name": name, "cells": cells}).token

    def remove_robot(self, robot_id: str) -> None:
        """Remove a robot; its token ends within a second."""
        self._send("DELETE", f"/robots/{quote(robot_id, safe='')}")


def _rollout(cell: str) -> str:
    return f"/rollouts/{quote(cell, safe='')}"
