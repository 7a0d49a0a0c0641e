"""Child processes that never outlive their parent, and that end when told to."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from serving.cores import CORES

JOB_NICENESS = 10
PARENT_VARIABLE = "PARCELHUB_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def give_way() -> None:
    """Let this process, and what it starts, run where nothing else wants the core: a fine-tune waits, a robot cannot.

    A core whose only work is idle counts as free, and the robots' server gets it at once. Kernels that group processes
    by session (autogroup) weigh the groups first, whatever is said of the processes in them: there the group is made as
    light as can be, if it is this process's own, as `spawn` makes it. A forward pass beside a training that was nice
    and no more took 85 ms; beside one that gives way 28, as alone.
    """
    os.nice(JOB_NICENESS)
    if sys.platform != "linux":
        return
    with suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():
        with suppress(OSError):  # a kernel without autogroup
            Path("/proc/self/autogroup").write_text("19")


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the process that started us dies, however it dies.

    Called by the child itself at its start (a `preexec_fn` would run between fork and exec of a threaded
    parent, which can deadlock). Does nothing in a process that `spawn` did not start.
    """
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call above: no signal will come
        raise SystemExit(0)


def parcelhub_command(*args: str) -> list[str]:
    """The command line of a `parcelhub` child: this interpreter, so that no PATH decides what runs."""
    return [sys.executable, "-m", "hub.cli.main", *args]


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child in its own process group (a Ctrl-C reaches only us; we pass it on in our order)."""
    return subprocess.Popen(
        list(command),
        env={**CORES, **os.environ, **(env or {}), PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout is not None else None,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], *, grace_seconds: float) -> int:
    """End a child and its whole group: SIGTERM, then SIGKILL after the grace. Returns its exit status."""
    if process.poll() is None:
        signal_group(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_seconds)
    signal_group(process.pid, signal.SIGKILL)  # grandchildren that ignored the first one, or the child itself
    return process.wait()


def signal_group(group: int, number: int) -> None:
    """Signal a process group that may be gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
