"""Who may report the outcome of which request: its cell's robots, and the people of its team."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.accounts.tokens import Identity
from hub.errors import ForbiddenError, InputError
from hub.models.cells import Cells
from hub.rollout.robots import PREFIX, require_cell
from hub.rollout.telemetry import Telemetry
from hub.rollout.votes import Said
from serving.robot.outcomes import Outcome

AHEAD_S: Final = 300.0
"""A robot's clock may be so far ahead of the hub's."""


class Ballot:
    """One caller's outcomes, looked at before they are kept. What is not on record yet is looked at when it is."""

    def __init__(self, who: Identity, cells: Cells, telemetry: Telemetry, *, now: float) -> None:
        self._who = who
        self._cells = cells
        self._telemetry = telemetry
        self._now = now
        self._teams: dict[str, bool] = {}
        self.speaker = who.name.removeprefix(PREFIX) if who.robot_cells is not None else None
        """The robot that reports; None for a person."""

    def admit(self, row: dict[str, Any]) -> dict[str, Any]:
        """The outcome with the cell that its reporter speaks for. Raises ForbiddenError, InputError, UnknownCellError.

        Words name no cell and no robot that the caller did not name.
        """
        request_id, picked_at = row["request_id"], row["picked_at"]
        if picked_at > self._now + AHEAD_S:
            raise InputError(
                f"the pick of {request_id!r} lies {picked_at - self._now:,.0f} s in the future; set the robot's clock"
            )
        if picked_at < self._now - self._telemetry.keep_days * 86_400:
            raise InputError(f"the pick of {request_id!r} is older than the {self._telemetry.keep_days} days kept here")
        said = self._telemetry.request(request_id)
        row = _with_pick(row, said)
        if self._who.robot_cells is not None:
            return row | {"cell": self._of_robot(row["cell"], request_id, said)}
        return row | {"cell": self._of_person(row["cell"], request_id, said)}

    def _of_robot(self, cell: str | None, request_id: str, said: Said | None) -> str | None:
        allowed = self._who.robot_cells or frozenset()
        if cell is None and said is not None and said.cell in allowed:
            cell = said.cell
        cell = require_cell(self._who, cell)
        if said is None:
            return cell
        if said.cell is not None and (cell or said.cell) != said.cell:
            raise ForbiddenError(f"the request {request_id!r} was not made for a cell of this robot's token")
        if said.caller is not None and said.caller != self.speaker:
            raise ForbiddenError(f"the request {request_id!r} was not made by this robot")
        return cell

    def _of_person(self, cell: str | None, request_id: str, said: Said | None) -> str | None:
        who = self._who
        if who.sees_all:
            if cell is not None and said is not None and said.cell not in (None, cell):
                raise ForbiddenError(f"the request {request_id!r} was not made for the cell {cell!r}")
            return cell
        if cell is None and said is not None:
            cell = said.cell
        if cell is None:
            raise InputError(f"name the cell of the request {request_id!r}: it is not on record (yet)")
        if cell not in self._teams:
            self._teams[cell] = bool(team := self._cells.get(cell).team) and who.owns(team)
        if not self._teams[cell] or (said is not None and said.cell not in (None, cell)):
            raise ForbiddenError(f"the request {request_id!r} was not made for a cell of yours")
        return cell


def _with_pick(row: Mapping[str, Any], said: Said | None) -> dict[str, Any]:
    """The row as it is kept. Raises OutcomeInvalid for an instance or a point that the answer, if it is known, does not
    have; of one that is not on record yet, that is found when the pick is judged."""
    kept = {name: value for name, value in row.items() if name != "point"}
    point = row.get("point")
    kept["point_x"], kept["point_y"] = (None, None) if point is None else point
    if said is not None:
        claim = Outcome(
            row["request_id"], row["outcome"], row["picked_at"], instance=row.get("instance"), point=row.get("point")
        )
        claim.check(said.instances, said.height, said.width)
    return kept
