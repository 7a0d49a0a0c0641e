"""Robots and their tokens: what Triton checks against the cell, and what the hub takes outcomes with.

A robot's token is a row of the token table with the scope `robot` and one `cell:<name>` for each of its cells. Its
SHA-256 goes into the serving folder, so that robots are let in while the hub is down, and locked out within a second.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path

from hub.accounts.tokens import CELL_SCOPE, ID_LENGTH, ROBOT_SCOPE, Identity, Tokens, leave_token
from hub.errors import ForbiddenError, InputError, UnauthorizedError, UnknownCellError, UnknownRobotError
from hub.migrations.tables import timestamp
from hub.models.cells import Cells
from hub.schemas.serving import Robot
from registry.catalog.catalog import Catalog
from serving.folder.access import RobotGrant, write_grants

PREFIX = "robot:"
LOCAL = "local"


class Robots:
    """The tokens of robots."""

    def __init__(self, catalog: Catalog, tokens: Tokens, cells: Cells, folder: Path) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._cells = cells
        self._folder = folder
        self._syncing = threading.Lock()

    def add(self, name: str, cells: Sequence[str]) -> str:
        """Make a robot's token, which is returned this once.

        Raises UnknownCellError, and InputError for a name that is taken.
        """
        scopes = {ROBOT_SCOPE, *(CELL_SCOPE + cell for cell in cells)}
        with self._catalog.write() as db:
            # Looked at where it is written: no second robot of the name, and no cell that is deleted meanwhile.
            for cell in cells:
                if cell != "*" and not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone():
                    raise UnknownCellError(f"there is no cell {cell!r}; create it with `parcelhub cell create {cell}`")
            if db.execute("SELECT 1 FROM hub_tokens WHERE name = ?", [PREFIX + name]).fetchone():
                raise InputError(f"there is a robot {name!r} already; remove it first to give it another token")
            token = self._tokens.issue_in(db, PREFIX + name, scopes)
        self.sync()
        return token

    def ensure_local(self, file: Path) -> None:
        """Make the robot `local`, good for every cell, and leave its token for this machine's own use: the demo's
        robot and `parcelhub segment`. One whose file was lost gets a new token; the old one stops working."""
        name = PREFIX + LOCAL
        with contextlib.suppress(OSError, UnauthorizedError):
            if self._tokens.identify(file.read_text(encoding="ascii").strip()).name == name:
                return
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_tokens WHERE name = ?", [name])
            token = self._tokens.issue_in(db, name, {ROBOT_SCOPE, CELL_SCOPE + "*"})
        leave_token(file, token)

    def all(self) -> list[Robot]:
        """All robots by name; not this machine's own, `local`, which the hub makes itself."""
        return [
            Robot(id=digest[:ID_LENGTH], name=name, cells=cells, created_at=timestamp(made))
            for digest, name, cells, made in self._rows()
            if name != LOCAL
        ]

    def remove(self, id_: str) -> None:
        """End a robot's token, at once. Raises UnknownRobotError."""
        if not any(robot.id == id_ for robot in self.all()):
            raise UnknownRobotError(f"there is no robot {id_!r}")
        self._tokens.revoke(id_)
        self.sync()

    def sync(self) -> None:
        """Make robots.json say what the token table says. One at a time: rows that are read last are written last."""
        with self._syncing:
            write_grants(self._folder, {d: RobotGrant(name, frozenset(cells)) for d, name, cells, _ in self._rows()})

    def _rows(self) -> list[tuple[str, str, list[str], float]]:
        rows = self._catalog.query(
            "SELECT sha256, name, scopes, created_at FROM hub_tokens WHERE starts_with(name, ?) ORDER BY name", [PREFIX]
        )
        found = []
        for digest, name, scopes, made in rows:
            cells = sorted(one.removeprefix(CELL_SCOPE) for one in scopes.split() if one.startswith(CELL_SCOPE))
            found.append((digest, name.removeprefix(PREFIX), cells, made))
        return found


def require_cell(who: Identity, cell: str | None) -> str | None:
    """The cell that a robot may speak for: the one it named, or its only one. Others than robots name any."""
    allowed = who.robot_cells
    if allowed is None or "*" in allowed:
        return cell
    if cell is None and len(allowed) == 1:
        return next(iter(allowed))
    if cell not in allowed:
        raise ForbiddenError(f"the token of {who.name!r} is not good for the cell {cell!r}")
    return cell
