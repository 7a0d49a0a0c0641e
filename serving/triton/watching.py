"""Cameras, as the backend sees them: which camera a request came from, what is known of it, and looks at its frame:
whether the camera is in order, and whether there is anything new in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from serving.errors import ServingError
from serving.folder.routing import ServingFolder
from serving.observed.camera_kinds import CameraState
from serving.observed.captures import CaptureStore
from serving.observed.novelty_watch import Frame, NoveltyWatch
from serving.observed.observer import BESIDE_ANSWERS, CameraKey, Observer
from serving.observed.ring import FrameRing, RingSettings
from serving.observed.uplink import Uplink
from serving.triton.doubting import SiteDoubts
from serving.triton.embedding import SiteEmbeddings
from serving.triton.queries import Query, Reply

log = logging.getLogger(__name__)

NOVELTY_BESIDE_ANSWERS: Final = 0.03
"""Share of the time that looks for novelty may take beside answers."""


class Watching:
    """Watches the cameras of the requests that are answered, where there is a folder for what it learns."""

    def __init__(
        self,
        telemetry: Path | None,
        *,
        serving: Path | None = None,
        captures: CaptureStore | None = None,
        base_in_place: Callable[[], str] = str,
        ring: RingSettings | None = None,
        uplink: Uplink | None = None,
    ) -> None:
        """Without a folder nothing is watched; without a serving folder and captures novelty is not. Alerts and samples
        go through `uplink`, the one on this disk unless said."""
        self._observer = None if telemetry is None else Observer(telemetry, share=BESIDE_ANSWERS, uplink=uplink)
        self._novelty: NoveltyWatch | None = None
        if telemetry is not None and serving is not None and captures is not None and ring is not None:
            site = SiteEmbeddings(ServingFolder(serving), base_in_place)
            try:
                frames = FrameRing(telemetry / "ring", max_bytes=ring.max_bytes, key=ring.key)
            except OSError as error:  # robots are answered all the same
                log.warning("novelty is not watched: %s", error)
                return
            self._novelty = NoveltyWatch(
                telemetry,
                captures,
                site.embed,
                site.reference,
                share=NOVELTY_BESIDE_ANSWERS,
                ring=frames,
                uplink=uplink,
                doubts=SiteDoubts(ServingFolder(serving), base_in_place),
            )

    def state(self, query: Query, result: Reply | ServingError) -> CameraState | None:
        """What is known of the camera before this frame; None where nothing is watched, and for errors."""
        key = _camera_of(query)
        if self._observer is None or key is None or isinstance(result, ServingError):
            return None
        return self._observer.state_of(key)

    def novelty(self, query: Query, result: Reply | ServingError) -> str | None:
        """What is known of what the camera shows before this frame; None where novelty is not watched, and for
        errors."""
        key = _camera_of(query)
        if self._novelty is None or key is None or isinstance(result, ServingError):
            return None
        return self._novelty.state_of(key)

    def look(self, query: Query, result: Reply | ServingError, at: float) -> None:
        """Hand the frame over to be looked at: a reference and no more. Returns at once."""
        key = _camera_of(query)
        if self._observer is not None and key is not None and isinstance(result, Reply) and result.pixels is not None:
            self._observer.offer(key, result.pixels, at)

    def look_for_news(self, query: Query, result: Reply | ServingError, request_id: str, at: float) -> None:
        """Hand over a frame of a camera that is in order, to be looked at for novelty. Returns at once."""
        key = _camera_of(query)
        if self._novelty is None or key is None or not isinstance(result, Reply) or result.pixels is None:
            return
        frame = Frame(
            key, result.pixels, result.instances, request_id, at, result.served_by, result.variant, query.robot
        )
        self._novelty.offer(frame)

    def close(self) -> None:
        """Look at what waits and end the threads."""
        if self._observer is not None:
            self._observer.close()
        if self._novelty is not None:
            self._novelty.close()


def _camera_of(query: Query) -> CameraKey | None:
    """The camera that a frame came from; None where no cell is named."""
    cell = query.of_cell
    return None if cell is None else CameraKey(cell, query.line, query.camera)
