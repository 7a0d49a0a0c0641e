"""What lies in the data folder beside the registry and nobody comes back for: removed while the hub runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from hub.clock import Elapsed
from registry.blobs.disk import is_full

log = logging.getLogger("parcelhub.housekeeping")

FIRST: Final = timedelta(minutes=1)
EVERY: Final = timedelta(hours=1)
UPLOADS_S: Final = 7 * 86_400.0
"""No upload is kept for longer without a sign of life."""


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many of each kind were removed."""

    workspaces: int = 0
    uploads: int = 0
    parts: int = 0

    def __str__(self) -> str:
        return f"{self.workspaces} workspaces of jobs, {self.uploads} uploads, {self.parts} uploads in parts"


class Housekeeping:
    """Removes workspaces of jobs that ended, and uploads that nobody goes on with."""

    def __init__(
        self,
        workspaces: Path,
        *,
        ended: Callable[[float], list[str]],
        known: Callable[[], set[str]],
        forget_uploads: Callable[[float], int],
        forget_parts: Callable[[float], int],
        workspace_grace: timedelta,
        elapsed: Elapsed,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`ended` gives the jobs that ended before a time (epoch seconds), `known` all of them. Uploads are forgotten
        as if it was earlier by the seconds that are given."""
        self._workspaces = workspaces
        self._ended = ended
        self._known = known
        self._forget_uploads = forget_uploads
        self._forget_parts = forget_parts
        self._grace = workspace_grace.total_seconds()
        self._elapsed = elapsed
        self._now = now

    def run(self) -> Tidied:
        """Remove what is over. What fails is logged and tried again next time; nothing keeps the rest from going."""
        self._elapsed.look()
        week = self._elapsed.leapt(UPLOADS_S)
        return Tidied(
            workspaces=self._try("workspaces", self._forget_workspaces),
            uploads=self._try("uploads", lambda: self._forget_uploads(week)),
            parts=self._try("parts of uploads", lambda: self._forget_parts(week)),
        )

    def _forget_workspaces(self) -> int:
        """Failed and cancelled jobs may be tried again from their checkpoint for as long as the grace."""
        before = self._now() - self._grace - self._elapsed.leapt(self._grace)
        ended, known = set(self._ended(before)), self._known()
        gone = 0
        for place in list(self._workspaces.iterdir()) if self._workspaces.is_dir() else ():
            with contextlib.suppress(OSError):
                if place.name in ended or (place.name not in known and place.stat().st_mtime < before):
                    shutil.rmtree(place)
                    gone += 1
        return gone

    def _try(self, what: str, forget: Callable[[], int]) -> int:
        try:
            return forget()
        except Exception as error:
            if is_full(error):
                log.warning("disk full: %s are not all removed; they are tried again", what)
            else:
                log.exception("%s could not be removed, and will be tried again", what)
            return 0
