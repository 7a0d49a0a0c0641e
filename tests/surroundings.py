"""What every process of a test run finds: one thread to compute on, compiled modules, a temporary folder in memory.

Said once, when pytest starts; workers and what tests start inherit it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108  # pytest makes a folder of its own there
_ENOUGH = 6 * 1024**3
"""Bytes that have to be free: a run leaves some two gigabytes, a data folder at a time takes 10 MB."""


def one_thread() -> None:
    """Each process computes on one thread.

    With as many threads as cores in each of several processes, they wait for one another most of the time.
    """
    numbers = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    names = (*numbers, "OPENCV_FOR_THREADS_NUM", "LP_NUM_THREADS")  # the last: Mesa's, which draws without a GPU
    os.environ.update(dict.fromkeys(names, "1"))


def compiled_modules() -> None:
    """Python keeps what it compiled, also in containers that turn that off.

    Else each process that a test starts compiles torch, transformers and us anew: longer than its work takes.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def temporary_in_memory() -> None:
    """The temporary folder lies in memory where there is plenty, unless TMPDIR says where.

    A catalog, a store and a queue wait for the disk at each change. What a killed process wrote is there for the next
    one all the same: that needs the system's memory, not the disk. Of a machine that dies, no test tells anything.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    place = os.statvfs(_MEMORY)
    if min(place.f_bavail * place.f_frsize, _available()) >= _ENOUGH:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None  # ask again


def _available() -> int:
    """Bytes of memory that could be taken; 0 where the system does not say."""
    try:
        words = Path("/proc/meminfo").read_text().split()
        return int(words[words.index("MemAvailable:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


one_thread()
compiled_modules()
temporary_in_memory()
