"""The client's side of sites: their tokens, and what they observe. What a site itself sends is
`serving.observed.carrier`."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import sites as v


class SiteCalls(Calls):
    """These calls, as part of `HubClient`."""

    def sites(self) -> list[v.Site]:
        """All sites, by name."""
        return self._call("GET", "/sites", list[v.Site])

    def add_site(self, name: str, cells: list[str]) -> str:
        """Make a site's token, shown this once."""
        return self._call("POST", "/sites", v.NewSite, {"name": name, "cells": cells}).token

    def remove_site(self, site_id: str) -> None:
        """End a site's token."""
        self._send("DELETE", f"/sites/{quote(site_id, safe='')}")

    def site_cameras(self, cell: str | None = None) -> list[v.CameraStatistics]:
        """What sites said last of the cameras, the newest first."""
        params = {} if cell is None else {"cell": cell}
        return self._call("GET", "/sites/cameras", list[v.CameraStatistics], params=params)
