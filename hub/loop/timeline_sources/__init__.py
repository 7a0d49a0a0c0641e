"""The sources of the timeline, one file each: `steps(catalog, asked)` gives the steps of a page.

A new source is a new file here with that function and a `NAME`; it is found by itself. It reads tables, whosever they
are, and imports no room above this one.
"""

from __future__ import annotations

import importlib
import pkgutil

from hub.loop.timeline_sources.source import Source


def _found() -> tuple[tuple[str, Source], ...]:
    sources = []
    for each in sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name):
        module = importlib.import_module(f"{__name__}.{each.name}")
        if hasattr(module, "steps"):
            sources.append((str(module.NAME), module.steps))
    return tuple(sources)


SOURCES = _found()
