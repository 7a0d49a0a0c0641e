"""Tokens that are good for cells and belong to no person: those of robots, and those of serving sites.

One is a row of the token table with the scope of its kind and one `cell:<name>` for each of its cells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.accounts.tokens import CELL_SCOPE, Tokens, leave_token
from hub.errors import InputError, UnauthorizedError, UnknownCellError
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.catalog.remembered import Reads

LOCAL: Final = "local"
"""The one on the hub's own machine, good for every cell."""


@dataclass(frozen=True, slots=True)
class CellToken:
    """A row: SHA-256 of the token, its holder's name, its cells (`*`: all), when it was made (epoch seconds)."""

    sha256: str
    name: str
    cells: frozenset[str]
    made: float


@dataclass(frozen=True, slots=True)
class HolderKind:
    """What holds such tokens: `word` for people ("robot"), `scope` of its tokens."""

    word: str
    scope: str

    @property
    def prefix(self) -> str:
        """What names of its tokens begin with."""
        return f"{self.word}:"

    def rows(self, db: Reads | Cursor) -> list[CellToken]:
        """All of the kind, by name."""
        found = db.execute(
            "SELECT sha256, name, scopes, created_at FROM hub_tokens WHERE starts_with(name, ?) ORDER BY name",
            [self.prefix],
        ).fetchall()
        return [
            CellToken(
                digest,
                name.removeprefix(self.prefix),
                frozenset(one.removeprefix(CELL_SCOPE) for one in scopes.split() if one.startswith(CELL_SCOPE)),
                made,
            )
            for digest, name, scopes, made in found
            if self.scope in scopes.split()
        ]


class CellTokens:
    """Makes the tokens of one kind."""

    def __init__(self, catalog: Catalog, tokens: Tokens, kind: HolderKind) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._kind = kind

    def add(self, name: str, cells: Sequence[str]) -> str:
        """Make a token, which is returned this once.

        Raises UnknownCellError, and InputError for a name that is taken.
        """
        kind = self._kind
        with self._catalog.write() as db:
            # Looked at where it is written: no second one of the name, and no cell that is deleted meanwhile.
            for cell in cells:
                if cell != "*" and not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone():
                    raise UnknownCellError(f"there is no cell {cell!r}; create it with `parcelhub cell create {cell}`")
            if db.execute("SELECT 1 FROM hub_tokens WHERE name = ?", [kind.prefix + name]).fetchone():
                raise InputError(f"there is a {kind.word} {name!r} already; remove it first to give it another token")
            return self._tokens.issue_in(db, kind.prefix + name, {kind.scope, *(CELL_SCOPE + cell for cell in cells)})

    def ensure_local(self, file: Path) -> None:
        """Make the one of this machine and leave its token in a file; one whose file was lost gets a new token, and the
        old one stops working."""
        name = self._kind.prefix + LOCAL
        with contextlib.suppress(OSError, UnauthorizedError):
            if self._tokens.identify(file.read_text(encoding="ascii").strip()).name == name:
                return
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_tokens WHERE name = ?", [name])
            token = self._tokens.issue_in(db, name, {self._kind.scope, CELL_SCOPE + "*"})
        leave_token(file, token)
