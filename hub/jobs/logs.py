"""What the processes of jobs print, as the hub keeps it: one file per job, written by its worker piece by piece."""

from __future__ import annotations

import codecs
import threading
from pathlib import Path

from hub.accounts.redaction import masked
from hub.schemas.resources import LogPart
from registry import durable

MAX_LOG_BYTES = 16 * 1024**2
"""What goes beyond is not kept: the end of a log that long says nothing that its first part did not."""
MAX_PART = 256 * 1024


class JobLogs:
    """The folder of logs. Positions are bytes of UTF-8."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._lock = threading.Lock()

    def append(self, job_id: str, offset: int, text: str) -> int:
        """Add a piece that belongs at `offset`. Returns where the next one belongs.

        A piece that came before, whole or in part, is not written twice; one behind a gap is not written, and the
        answer says from where to send again.
        """
        # A secret that was printed is replaced by as many bytes: positions are the worker's, too.
        data = masked(text).encode("utf-8", "replace")
        path = self._path(job_id)
        with self._lock:
            size = path.stat().st_size if path.exists() else 0
            if offset > size:
                return size
            data = data[size - offset :][: max(0, MAX_LOG_BYTES - size)]
            if data:
                durable.append(path, data)
            return size + len(data)

    def size(self, job_id: str) -> int:
        """Bytes there are of a job's log."""
        path = self._path(job_id)
        return path.stat().st_size if path.exists() else 0

    def read(self, job_id: str, *, offset: int = 0, limit: int = MAX_PART, final: bool = False) -> LogPart:
        """A piece from `offset` on, cut where a character ends; `final` is passed on."""
        size = self.size(job_id)
        start = min(offset, size)
        data = b""
        if start < size:
            with self._path(job_id).open("rb") as file:
                file.seek(start)
                data = file.read(min(limit, MAX_PART))
        whole, used = decode_piece(data, final=start + len(data) >= size)
        return LogPart(text=whole, offset=start, next=start + used, size=size, final=final)

    def tail(self, job_id: str, lines: int, *, final: bool = False) -> LogPart:
        """The last lines, as far as one piece holds them."""
        size = self.size(job_id)
        part = self.read(job_id, offset=max(0, size - MAX_PART), final=final)
        kept = part.text.splitlines(keepends=True)[-lines:] if lines else []
        return LogPart(
            text="".join(kept),
            offset=max(0, part.next - len("".join(kept).encode())),
            next=part.next,
            size=size,
            final=final,
        )

    def _path(self, job_id: str) -> Path:
        # Job ids come from the table, never from a request; this is for whoever changes that.
        return self._folder / f"{Path(job_id).name}.log"


def decode_piece(data: bytes, *, final: bool) -> tuple[str, int]:
    """The text of a piece of a log, and how many of its bytes that is.

    What is no UTF-8 becomes U+FFFD; unless `final`, a character that is cut by the end is left for the next piece.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, final)
    return text, len(data) - len(decoder.getstate()[0])
