"""Cameras, as the backend sees them: which camera a request came from, what is known of it, and a look at its frame."""

from __future__ import annotations

from pathlib import Path

from serving.errors import ServingError
from serving.observed.camera_kinds import CameraState
from serving.observed.observer import BESIDE_ANSWERS, CameraKey, Observer
from serving.triton.queries import Query, Reply


class Watching:
    """Watches the cameras of the requests that are answered, where there is a folder for what it learns."""

    def __init__(self, telemetry: Path | None) -> None:
        """Without a folder nothing is watched."""
        self._observer = None if telemetry is None else Observer(telemetry, share=BESIDE_ANSWERS)

    def state(self, query: Query, result: Reply | ServingError) -> CameraState | None:
        """What is known of the camera before this frame; None where nothing is watched, and for errors."""
        key = _camera_of(query)
        if self._observer is None or key is None or isinstance(result, ServingError):
            return None
        return self._observer.state_of(key)

    def look(self, query: Query, result: Reply | ServingError, at: float) -> None:
        """Hand the frame over to be looked at: a reference and no more. Returns at once."""
        key = _camera_of(query)
        if self._observer is not None and key is not None and isinstance(result, Reply) and result.pixels is not None:
            self._observer.offer(key, result.pixels, at)

    def close(self) -> None:
        """Look at what waits and end the thread."""
        if self._observer is not None:
            self._observer.close()


def _camera_of(query: Query) -> CameraKey | None:
    """The camera that a frame came from; None where no cell is named."""
    cell = query.of_cell
    return None if cell is None else CameraKey(cell, query.line, query.camera)
