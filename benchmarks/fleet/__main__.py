"""`python -m benchmarks.fleet week`: the fleet's own programs by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from benchmarks.fleet.week import main as week

PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {"week": week}


def main(arguments: Sequence[str]) -> int:
    """Run the program that is named first."""
    if not arguments or arguments[0] not in PROGRAMS:
        sys.stderr.write(f"usage: python -m benchmarks.fleet {{{','.join(PROGRAMS)}}} ...\n")
        return 2
    return PROGRAMS[arguments[0]](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
