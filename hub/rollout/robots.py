"""Robots and their tokens: what Triton checks against the cell, and what the hub takes outcomes with.

A robot's token is a row of the token table with the scope `robot` and one `cell:<name>` for each of its cells. Its
SHA-256 goes into the serving folder, so that robots are let in while the hub is down, and locked out within a second.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hub.accounts.cell_tokens import LOCAL, CellToken, CellTokens, HolderKind
from hub.accounts.tokens import ID_LENGTH, ROBOT_SCOPE, Identity, Tokens
from hub.errors import ForbiddenError, UnknownRobotError
from hub.migrations.tables import timestamp
from hub.models.cells import Cells
from hub.schemas.serving import Robot
from registry.catalog.catalog import Catalog
from serving.folder.access import RobotGrant, write_grants

KIND: Final = HolderKind("robot", ROBOT_SCOPE)
PREFIX: Final = KIND.prefix


class Robots:
    """The tokens of robots."""

    def __init__(self, catalog: Catalog, tokens: Tokens, cells: Cells, folder: Path) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._made = CellTokens(catalog, tokens, KIND)
        self._cells = cells
        self._folder = folder
        self._syncing = threading.Lock()

    def add(self, name: str, cells: Sequence[str]) -> str:
        """Make a robot's token, which is returned this once.

        Raises UnknownCellError, and InputError for a name that is taken.
        """
        token = self._made.add(name, cells)
        self.sync()
        return token

    def ensure_local(self, file: Path) -> None:
        """Make the robot `local` and leave its token for this machine's own use: the demo's robot and
        `parcelhub segment`."""
        self._made.ensure_local(file)

    def all(self) -> list[Robot]:
        """All robots by name; not this machine's own, `local`, which the hub makes itself."""
        return [
            Robot(id=one.sha256[:ID_LENGTH], name=one.name, cells=sorted(one.cells), created_at=timestamp(one.made))
            for one in self._rows()
            if one.name != LOCAL
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
            write_grants(self._folder, {one.sha256: RobotGrant(one.name, one.cells) for one in self._rows()})

    def _rows(self) -> list[CellToken]:
        with self._catalog.read() as db:
            return KIND.rows(db)


def require_cell(who: Identity, cell: str | None) -> str | None:
    """The cell that a robot may speak for: the one it named, or its only one. Others than robots name any. Raises
    ForbiddenError for a cell that its token is not good for."""
    allowed = who.robot_cells
    if allowed is None or "*" in allowed:
        return cell
    if cell is None and len(allowed) == 1:
        return next(iter(allowed))
    if cell not in allowed:
        raise ForbiddenError(f"the token of {who.name!r} is not good for the cell {cell!r}")
    return cell
