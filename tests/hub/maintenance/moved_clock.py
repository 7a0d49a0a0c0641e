"""A hub whose clock a file says: `python -m tests.hub.maintenance.moved_clock FILE hub`, FILE holding seconds ahead.

Wall-clock times alone are moved, as somebody who puts the machine's clock moves them; the steady clock runs on.
"""

from __future__ import annotations

import datetime as module
import sys
import time
from pathlib import Path
from typing import Any

_REAL_TIME, _REAL_DATETIME = time.time, module.datetime


class _Dates(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _REAL_DATETIME)


def move_clock(file: Path) -> None:
    """Have this process' clock moved from now on by what `file` says."""

    def moved() -> float:
        return _REAL_TIME() + float(file.read_text())

    class Moved(_REAL_DATETIME, metaclass=_Dates):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return _REAL_DATETIME.fromtimestamp(moved(), tz)

    time.time = moved
    time.time_ns = lambda: int(moved() * 1e9)
    module.datetime = Moved  # type: ignore[misc]


if __name__ == "__main__":
    move_clock(Path(sys.argv[1]))
    from hub.cli.main import run

    sys.exit(run(sys.argv[2:]))
