"""Wishes: what the hub, or the watch itself, asks of a site: a sample of its ring, or to forget a cell. As files, which
the watch writes itself and `serving.observed.carrier` lays down for the hub.

    wishes/<32 hexadecimal digits>.json     {"cell", "reason", "since", "until", "requests"}; with the reason "forget",
                                            the cell is gone, and its frames go

A wish lies on the disk until it has been granted, so that one that a killed site had begun is granted when it is back.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from registry.durable import write_file
from serving.observed.captures import Reason

log = logging.getLogger(__name__)

WISHES: Final = "wishes"
MAX_WISH_BYTES: Final = 64 * 1024
FORGET: Final = "forget"
_WISH: Final = re.compile(r"[0-9a-f]{32}\.json")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked: frames of `cell` from `since` to `until` (epoch seconds), those of `requests` before others."""

    path: Path
    cell: str
    reason: str
    since: float
    until: float
    requests: tuple[str, ...]

    def done(self) -> None:
        """It was granted."""
        self.path.unlink(missing_ok=True)


def wish(
    folder: Path,
    wish_id: str,
    cell: str,
    reason: Reason | Literal["forget"],
    since: float,
    requests: tuple[str, ...],
    *,
    until: float | None = None,
) -> None:
    """Ask the site for a sample, or to forget a cell, by a file.

    `folder` is the telemetry folder, `wish_id` 32 hexadecimal digits, `since` and `until` (now unless said) epoch
    seconds.
    """
    document = {"cell": cell, "reason": reason, "since": since, "until": until, "requests": list(requests)}
    write_file(folder / WISHES / f"{wish_id}.json", json.dumps(document).encode())


def waiting(folder: Path) -> Iterator[Wish]:
    """The wishes of a telemetry folder; what cannot be read is removed."""
    folder = folder / WISHES
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if _WISH.fullmatch(entry.name))
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        try:
            with path.open("rb") as file:
                said = json.loads(file.read(MAX_WISH_BYTES))
            requests = tuple(str(one) for one in said["requests"])
            until = float(said.get("until") or time.time())
            found = Wish(path, str(said["cell"]), str(said["reason"]), float(said["since"]), until, requests)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("a wish for a sample cannot be read and was left out")
            path.unlink(missing_ok=True)
        else:
            yield found
