"""The client's side of captures."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import serving as v


class CaptureCalls(Calls):
    """These calls, as part of `HubClient`."""

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
