"""The REST resources, one module each: routes, who may use them, and the client's calls, declared as `RESOURCE`.

A route checks nothing by itself and decides nothing: guards say who may, structs say what is well-formed, the services
do the work, `hub.http.problems` tells what went wrong. A new module here is a new resource; no list names it.
"""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Import every module of this package, so that its resource is registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
