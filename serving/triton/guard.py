"""Stands between the launcher and tritonserver so that nothing outlives the launcher, not even after `kill -9`.

Run as a script with the standard library only: `python -I guard.py <grace seconds> <command> ...`. Standard input is a
pipe that the launcher holds open. When it closes, because the launcher closed it or is gone, the whole process group
(tritonserver and its Python stubs) gets SIGTERM and, after the grace time, SIGKILL. Exits with the server's own status.

It also watches the stubs. A tritonserver whose stub was killed goes on saying that it is ready and lets requests hang
for a minute (tried with 2.51). So when a stub is dead and nobody took note, the whole group is ended, and the launcher
starts anew.
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
    stubs = Stubs(child.pid)
    while child.poll() is None:
        if stubs.lost():
            sys.stderr.write("guard: a Python stub is dead and tritonserver does not notice; ending it\n")
            break
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


class Stubs:
    """The Python stubs of a server, looked up now and then and watched in between."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._known: set[str] = set()
        self._next_look = 0.0
        self._dead_since: dict[str, float] = {}

    def lost(self) -> bool:
        """Whether a stub has been a zombie for half a second: a server that unloads a model buries its stub."""
        now = time.monotonic()
        if now >= self._next_look:
            # Cheap enough to do for ever, and too dear for five times a second.
            self._next_look = now + (1.0 if not self._known else 5.0)
            self._known |= {pid for pid in os.listdir("/proc") if pid.isdigit() and self._is_stub(pid)}  # noqa: PTH208
        for pid in tuple(self._known):
            state = _stat(pid)
            if state is None or state[1] != self._server:
                self._known.discard(pid)
                self._dead_since.pop(pid, None)
            elif state[0] != "Z":
                self._dead_since.pop(pid, None)
            elif now - self._dead_since.setdefault(pid, now) >= 0.5:
                return True
        return False

    def _is_stub(self, pid: str) -> bool:
        state = _stat(pid)
        return state is not None and state[1] == self._server and state[2].startswith("triton_python_b")


def _stat(pid: str) -> tuple[str, int, str] | None:
    """(state, parent, name) of a process, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123  # pathlib costs more than all the rest here
            text = file.read()
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets too.
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return state, int(parent), name


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
