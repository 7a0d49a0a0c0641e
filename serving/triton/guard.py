"""Stands between the launcher and tritonserver so that nothing outlives the launcher, not even after `kill -9`.

Run as a script with the standard library only: `python -I guard.py <grace seconds> <command> ...`. Standard input is a
pipe that the launcher holds open. When it closes, because the launcher closed it or is gone, the whole process group
(tritonserver and its Python stubs) gets SIGTERM and, after the grace time, SIGKILL. Exits with the server's own status.
"""

import os
import select
import signal
import subprocess
import sys
import time


def main() -> int:
    """Run the command until it ends or standard input closes."""
    grace = float(sys.argv[1])
    # The group is signalled as a whole; the guard itself has to live through its own SIGTERM to see to the SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
    while child.poll() is None:
        if select.select([0], [], [], 0.2)[0] and not os.read(0, 1):
            os.killpg(0, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            break
    status = child.poll()
    if status is not None and not _others():
        return status if status >= 0 else 128 - status
    # Stubs that are still there, or a server that hangs in its shutdown. This ends the guard as well.
    os.killpg(0, signal.SIGKILL)
    return 137


def _others() -> bool:
    """Whether the group has members besides the guard, after half a second for the stubs to go by themselves."""
    for _ in range(10):
        members = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]  # noqa: PTH208
        if not any(_group_of(pid) == os.getpgid(0) for pid in members):
            return False
        time.sleep(0.05)
    return True


def _group_of(pid: str) -> int:
    try:
        return os.getpgid(int(pid))
    except OSError:
        return -1


if __name__ == "__main__":
    sys.exit(main())
