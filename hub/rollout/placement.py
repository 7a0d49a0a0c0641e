"""What the robots' server says of what was promoted to it: in place, or promoted and not in place, and why."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hub.schemas.serving import Place
from serving.errors import StatusError
from serving.folder.routing import WEIGHTS
from serving.observed.server_status import STALE_S, ServerStatus, ask_for_look, looked_key, read_status, take_back_look

log = logging.getLogger("parcelhub.serving")


class Placement:
    """Reads the status in the serving folder: bytes from outside, checked with limits at each reading."""

    def __init__(self, folder: Path, version: Callable[[], int]) -> None:
        self._folder = folder
        self._version = version

    def status(self) -> ServerStatus | None:
        """What the server last said; None where none has spoken lately."""
        try:
            found = read_status(self._folder)
        except (StatusError, OSError) as error:
            log.warning("what the robots' server says cannot be read: %s", error)
            return None
        return found if found is not None and abs(time.time() - found.at) <= STALE_S else None

    def of(self, held: Mapping[Any, str | None]) -> dict[str, Place]:
        """Stage to what became of its variant `<cell>@<version>`, for each stage that has one."""
        status, version = self.status(), self._version()
        return {stage: _place(variant, status, version) for stage, variant in held.items() if variant is not None}

    def look(self, variant: str, base: str, digests: Mapping[str, str], *, seconds: float = 5.0) -> str:
        """What the robots' server finds wrong with what a variant says, before anybody is served by it.

        `variant` is `<cell>@<version>`, its files lie in the serving folder; `base` is `<name>@<version>`; `digests`
        are file name -> SHA-256. Empty text: nothing. Also empty where no server with this base answers in time: it
        looks again before it serves the variant. Raises OSError where the folder takes no request.
        """
        status, digest = self.status(), digests.get(WEIGHTS)
        if status is None or status.base != base or digest is None:
            return ""
        key = looked_key(variant, digest)
        if key in status.looked:
            return status.looked[key]
        ask_for_look(self._folder, variant, digests)
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                status = self.status()
                if status is not None and key in status.looked:
                    return status.looked[key]
                time.sleep(0.05)
        finally:
            take_back_look(self._folder, variant)
        log.warning("the robots' server did not look at %s within %.0f s", variant, seconds)
        return ""

    def settled(self, held: Mapping[Any, str | None], *, seconds: float = 2.0) -> dict[str, Place]:
        """`of`, once the server has tried the newest table; at once where no server speaks, else within `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.of(held)
            waits = any(place.state == "on its way" for place in found.values())
            if not waits or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)


def _place(variant: str, status: ServerStatus | None, version: int) -> Place:
    if status is None:
        return Place(variant=variant, state="unknown", reason="no server has said what is in place")
    refused = next((one for one in status.refused if one.variant == variant), None)
    if refused is not None and status.table_version >= version:
        return Place(variant=variant, state="promoted, not in place", reason=refused.reason, code=refused.code)
    if status.table_version >= version:
        return Place(variant=variant, state="in place")
    if status.tried_version >= version and status.problem:
        return Place(variant=variant, state="promoted, not in place", reason=status.problem, code="table")
    return Place(variant=variant, state="on its way", reason="the server has not read the newest table yet")
