"""The client's side of cells."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import core as s


class CellCalls(Calls):
    """These calls, as part of `HubClient`."""

    def health(self) -> s.Health:
        """Whether the hub answers, and its version."""
        return self._call("GET", "/health", s.Health)

    def cells(self) -> list[s.Cell]:
        """All cells that the caller sees."""
        return [cell for page in self._pages("/cells", list[s.Cell]) for cell in page]

    def create_cell(self, name: str, description: str = "", *, team: str = "", classes: Sequence[str] = ()) -> s.Cell:
        """Make a cell; with `classes`, the base answers it in these labels alone."""
        asked = {"name": name, "description": description, "team": team, "classes": list(classes)}
        return self._call("POST", "/cells", s.Cell, asked)

    def change_cell(
        self,
        name: str,
        *,
        description: str | None = None,
        team: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> s.Cell:
        """Change a cell; None leaves a value as it is."""
        asked = {"description": description, "team": team, "classes": None if classes is None else list(classes)}
        return self._call("PATCH", f"/cells/{quote(name, safe='')}", s.Cell, asked)

    def delete_cell(self, name: str) -> None:
        """Remove a cell and its production data; refused while a variant is served."""
        self._send("DELETE", f"/cells/{quote(name, safe='')}")
