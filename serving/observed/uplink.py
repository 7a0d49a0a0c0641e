"""The uplink of a site: the one way by which alerts, statistics, captures and predictions go to the hub.

Whatever runs beside Triton hands what it has to an `Uplink` and knows no folder of the hub's. What `put` or `capture`
took is kept durably until the hub has it (store and forward), within bounds, and counts once: its id follows from what
it says, so that whoever is killed in between may say it again.

`DiskUplink` keeps it in these folders. A hub on the same disk reads them; for one that is elsewhere
`serving.observed.carrier` carries them over HTTP, and nothing else here changes. What the hub asks of the site, its
wishes, comes by that carrier in both cases.

    uplink/        messages, taken up and removed by the hub (`serving.observed.spool`)
    captures/      frames with what was answered (`serving.observed.captures`)
    incoming/      segments of predictions (`serving.observed.segments`), sealed each second
    statistics/    the newest word about each camera (`serving.observed.camera_words`)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from serving.observed import camera_words
from serving.observed.camera_words import CameraWord
from serving.observed.captures import Capture, CaptureStore
from serving.observed.segments import INCOMING, PREDICTIONS, SegmentWriter
from serving.observed.spool import UPLINK, Spool

CAPTURES: Final = "captures"


class Uplink(Protocol):
    """What a site says to its hub. Thread-safe, but for `predictions` and `seal`, which one thread calls."""

    def put(self, message_id: str, at: float, document: dict[str, Any]) -> None:
        """Keep a message (an alert) for the hub; the same id again changes nothing.

        Args:
            message_id: 32 lower-case hexadecimal digits. at: epoch seconds.

        Raises ValueError for what is no message, OSError where the disk fails.
        """
        ...

    def capture(self, capture: Capture) -> str:
        """Keep a frame for the hub; the same frame for the same reason again changes nothing. Returns its id.

        Raises OSError where the disk fails.
        """
        ...

    def statistics(self, word: CameraWord) -> None:
        """Keep what is known of a camera; it takes the place of the word before. Raises OSError, ValueError."""
        ...

    def predictions(self, lines: Sequence[bytes]) -> None:
        """Keep lines about answered requests. They outlive this process, and the hub sees them within a second or two.

        Raises OSError where the disk fails.
        """
        ...

    def seal(self, *, now: bool) -> None:
        """Let the hub see the lines that are old enough; all of them if `now`. Raises OSError."""
        ...


class DiskUplink:
    """The uplink of a site on the hub's own disk."""

    def __init__(self, folder: Path, *, captures: CaptureStore | None = None) -> None:
        """`folder` is the telemetry folder; without `captures` they have the default bounds."""
        self._folder = folder
        self._spool = Spool(folder / UPLINK)
        self._captures = captures or CaptureStore(folder / CAPTURES)
        self._writer: SegmentWriter | None = None

    def put(self, message_id: str, at: float, document: dict[str, Any]) -> None:
        """As `Uplink.put`: into the spool, which the hub reads."""
        self._spool.put(message_id, at, document)

    def capture(self, capture: Capture) -> str:
        """As `Uplink.capture`: into the hub's own folder of captures."""
        return self._captures.add(capture)

    def statistics(self, word: CameraWord) -> None:
        """As `Uplink.statistics`: into a file of the camera."""
        camera_words.keep(self._folder, word)

    def predictions(self, lines: Sequence[bytes]) -> None:
        """As `Uplink.predictions`: to the end of the open segment."""
        self._segments().append(lines)

    def seal(self, *, now: bool) -> None:
        """As `Uplink.seal`: the open segment is sealed now, or once it is old or large enough."""
        if now:
            self._segments().seal()
        else:
            self._segments().tick()

    def _segments(self) -> SegmentWriter:
        # Made when it is needed: it adopts what a killed process left, which is for its one writer to do.
        if self._writer is None:
            self._writer = SegmentWriter(self._folder / INCOMING, PREDICTIONS)
        return self._writer
