"""Where the parts of a large upload wait for the last one, and when they are forgotten."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

LINK_SECONDS = 24 * 3600.0
"""A link must outlive the upload of everything that one batch announced."""


def remove_parts(folder: Path) -> None:
    """Forget the parts of an upload."""
    for part in list(folder.glob("*")) + list(folder.glob(".*")):
        part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_stale_parts(root: Path, leapt: float = 0.0, *, older_than_seconds: float = 2 * LINK_SECONDS) -> int:
    """Forget uploads that nobody can finish any more: their links have expired. Gives their number.
    The clock leapt ahead by `leapt` seconds lately."""
    gone = 0
    for folder in list(root.iterdir()):
        with contextlib.suppress(OSError):
            if folder.is_dir() and folder.stat().st_mtime < time.time() - leapt - older_than_seconds:
                remove_parts(folder)
                gone += 1
    return gone
