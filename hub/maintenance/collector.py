"""Removes, once a day, what the registry holds and nobody needs any more."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from registry.errors import RegistryError

log = logging.getLogger("parcelhub.collector")

FIRST: Final = timedelta(minutes=10)
"""After the start, so that a hub that is restarted daily collects as well."""
EVERY: Final = timedelta(days=1)


@contextlib.contextmanager
def collecting(collect: Callable[[], object], *, first: timedelta = FIRST, every: timedelta = EVERY) -> Iterator[None]:
    """Collect in a thread while the block runs; leaving it waits for a collection that has begun.

    What `collect` gives goes into the log, unless it is nothing. A bare count tells an operator nothing: what looks
    every few seconds says itself what it did, and its count is for debugging.
    """
    stop = threading.Event()

    def run() -> None:
        wait = first
        while not stop.wait(wait.total_seconds()):
            wait = every
            try:
                if found := collect():
                    log.log(logging.DEBUG if isinstance(found, int) else logging.INFO, "collected %s", found)
            except RegistryError as error:
                log.warning("the collection failed, and will be tried again: %s", error)
            except Exception:  # this thread is the only one that collects
                log.exception("the collection failed, and will be tried again")

    thread = threading.Thread(target=run, name="collector", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
