"""State of detectors in files: written whole and durably, and set aside where it is damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from registry.durable import write_file

log = logging.getLogger(__name__)

MAX_STATE_BYTES: Final = 256 * 1024**2
DAMAGED: Final = ".damaged"


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` wrote; None where there is nothing. What is no state is set aside, and None too."""
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        set_aside(path, error)
        return None


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_STATE_BYTES:
        raise ValueError(f"larger than {MAX_STATE_BYTES:,} bytes")
    document = json.loads(path.read_bytes())
    if type(document) is not dict:
        raise ValueError("no object")
    return document


def write_state(path: Path, document: dict[str, Any]) -> None:
    """Keep a state as JSON. Raises OSError, and ValueError for numbers that are not finite."""
    write_file(path, json.dumps(document, separators=(",", ":"), allow_nan=False).encode())


def set_aside(path: Path, error: object) -> None:
    """Give a file another name, beside it, so that what is learnt anew does not overwrite what a person may look at.

    The file that was set aside before goes.
    """
    log.warning("%s is damaged and was set aside; what it held is learnt again: %s", path.name, error)
    try:
        path.replace(path.with_name(path.name + DAMAGED))
    except OSError as failed:
        log.warning("%s could not be set aside: %s", path.name, failed)
