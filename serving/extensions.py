"""Modules of other packages that an operator named: each registers what it brings while it is imported.

`PARCELHUB_EXTENSIONS` is a list of module names with commas between them. Nothing else is ever imported: neither what
happens to be installed nor what a dataset, a model or a request names. What a module may register is written in
docs/extending.md; every register calls `load` before it answers.
"""

from __future__ import annotations

import importlib
import os
import re
import threading

from serving.errors import ExtensionError

VARIABLE = "PARCELHUB_EXTENSIONS"
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_loaded: set[str] = set()
_lock = threading.RLock()


def named(text: str) -> tuple[str, ...]:
    """The module names in a setting. Raises ExtensionError for what is none."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in found:
        if not _NAME.fullmatch(name):
            raise ExtensionError(f"{VARIABLE}: {name!r} is no name of a Python module")
    return found


def load(text: str | None = None) -> None:
    """Import the modules that `text` names, those of the environment by default, each once.

    Raises ExtensionError for one that cannot be imported: the operator named it, so it is missed.
    """
    wanted = os.environ.get(VARIABLE, "") if text is None else text
    if not wanted:
        return
    with _lock:
        for name in named(wanted):
            if name in _loaded:
                continue
            _loaded.add(name)  # first: it may ask a register itself while it is imported
            try:
                importlib.import_module(name)
            except Exception as error:
                _loaded.discard(name)
                said = f"{type(error).__name__}: {error}"
                raise ExtensionError(f"{VARIABLE}: {name} cannot be imported ({said})") from error
