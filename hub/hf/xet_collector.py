"""Removes, once a day, what the content store holds and nobody needs any more."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from registry.errors import RegistryError
from registry.xet import XetStore

log = logging.getLogger("parcelhub.xet")

FIRST: Final = timedelta(minutes=10)
"""After the start, so that a hub that is restarted daily collects as well."""
EVERY: Final = timedelta(days=1)


@contextlib.contextmanager
def collecting(
    store: XetStore, *, grace: timedelta, first: timedelta = FIRST, every: timedelta = EVERY
) -> Iterator[None]:
    """Collect in a thread while the block runs; leaving it waits for a collection that has begun."""
    stop = threading.Event()

    def run() -> None:
        wait = first
        while not stop.wait(wait.total_seconds()):
            wait = every
            try:
                done = store.collect(grace)
            except RegistryError:
                log.exception("the collection failed, and will be tried again")
            else:
                log.info("collected %d files and %d xorbs of %d bytes", done.files, done.xorbs, done.bytes)

    thread = threading.Thread(target=run, name="xet-collector", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
