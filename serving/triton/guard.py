"""Stands between the launcher and tritonserver so that nothing outlives the launcher, not even after `kill -9`.

Run as a script with the standard library only: `python -I guard.py [options] -- <command> ...`. Standard input is a
pipe that the launcher holds open. When it closes, because the launcher closed it or is gone, the whole process group
(tritonserver and its Python stubs) gets SIGTERM and, after the grace time, SIGKILL. Exits with the server's own status.

It also watches. A tritonserver whose stub was killed goes on saying that it is ready and lets requests hang for a
minute (tried with 2.51), and one whose stub is frozen does so for ever. So the whole group is ended, and the launcher
starts anew, when

- a stub is dead and nobody took note,
- the stub's heartbeat (serving/triton/heartbeat.py) has stopped, or has named one and the same batch for too long,
- the server answered its liveness probe once and does so no more, or never did while its stub has been up for long.

Waiting is counted in time that this process itself was awake: a machine that sleeps or a paused container freezes the
guard as well, and must not cost a restart when it goes on.
"""

import argparse
import http.client
import os
import select
import signal
import subprocess
import sys
import threading
import time

TICK_S = 0.2
STEP_AT_MOST_S = 0.5
PROBE_EVERY_S = 2.0
FIRST_PROBES_EVERY_S = 0.2  # a server may freeze right after it is up: that it lives must be known by then
FIRST_ANSWER_S = 60.0  # from the stub's first beat on
PROBE_TIMEOUT_S = 5.0


def main(arguments: list[str]) -> int:
    """Run the command until it ends or standard input closes."""
    options = _options(arguments)
    # The group is signalled as a whole; the guard itself has to live through its own SIGTERM to see to the SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(options.command, stdin=subprocess.DEVNULL)
    stubs, heart = Stubs(child.pid), Heart(options.heartbeat, options.hang, options.stuck, options.start)
    probe = Probe(options.probe, max(1.5 * options.hang, options.grace + 5.0))
    awake, last = 0.0, time.monotonic()
    while child.poll() is None:
        now = time.monotonic()
        awake, last = awake + min(now - last, STEP_AT_MOST_S), now
        wrong = stubs.wrong() or heart.wrong(awake) or probe.wrong(awake, stub_is_up=heart.beats)
        if wrong:
            sys.stderr.write(f"guard: {wrong}; ending tritonserver\n")
            break
        if select.select([0], [], [], TICK_S)[0] and not os.read(0, 1):
            os.killpg(0, signal.SIGTERM)
            deadline = time.monotonic() + options.grace
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            break
    status = child.poll()
    if status is not None and not _others():
        return status if status >= 0 else 128 - status
    # Stubs that are still there, or a server that hangs in its shutdown. This ends the guard as well.
    os.killpg(0, signal.SIGKILL)
    return 137


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="run tritonserver, and end it when it hangs")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("--heartbeat", default="", help="file that the stub writes; empty: not watched")
    parser.add_argument("--hang", type=float, default=10.0, help="seconds without a beat")
    parser.add_argument("--stuck", type=float, default=60.0, help="seconds that one batch may take")
    parser.add_argument("--start", type=float, default=600.0, help="seconds until the first beat")
    parser.add_argument("--probe", default="", help="host:port of the server's HTTP; empty: not probed")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


class Heart:
    """The stub's heartbeat as the guard sees it. Times are seconds that the guard was awake."""

    def __init__(self, path: str, hang_s: float, stuck_s: float, start_s: float) -> None:
        self._path, self._hang_s, self._stuck_s, self._start_s = path, hang_s, stuck_s, start_s
        self._beat, self._beat_at = "", 0.0
        self._batch, self._batch_at = "0", 0.0

    @property
    def beats(self) -> bool:
        """Whether there has been a beat."""
        return bool(self._beat)

    def wrong(self, awake: float) -> str:
        """What is wrong; empty while nothing is."""
        if not self._path:
            return ""
        try:
            with open(self._path) as file:  # noqa: PTH123  # pathlib costs more than all the rest here
                beat, batch = file.read(64).split()
        except (OSError, ValueError):  # not there yet, or in the middle of its first write
            beat, batch = self._beat, self._batch
        if beat != self._beat:
            self._beat, self._beat_at = beat, awake
        if batch != self._batch or batch == "0":
            self._batch, self._batch_at = batch, awake
        if awake - self._beat_at > (self._hang_s if self._beat else self._start_s):
            what = "hangs" if self._beat else "does not come up"
            return f"the Python stub {what}: no sign of life for {awake - self._beat_at:.0f} s"
        if awake - self._batch_at > self._stuck_s:
            return f"the Python stub has been at one batch for {awake - self._batch_at:.0f} s"
        return ""


class Probe:
    """Asks the server now and then, from a thread, whether it is alive. It may be silent while its stub starts."""

    def __init__(self, address: str, patience_s: float) -> None:
        self._patience_s = patience_s
        self._answers = 0
        self._seen, self._seen_at = 0, 0.0
        if address:
            threading.Thread(target=self._run, args=(address,), daemon=True).start()

    def wrong(self, awake: float, *, stub_is_up: bool) -> str:
        """What is wrong; empty while nothing is."""
        if self._answers != self._seen or not (self._seen or stub_is_up):
            self._seen, self._seen_at = self._answers, awake
        if awake - self._seen_at > (self._patience_s if self._seen else max(self._patience_s, FIRST_ANSWER_S)):
            return f"the server has not answered for {awake - self._seen_at:.0f} s"
        return ""

    def _run(self, address: str) -> None:
        while True:
            time.sleep(PROBE_EVERY_S if self._answers else FIRST_PROBES_EVERY_S)
            connection = http.client.HTTPConnection(address, timeout=PROBE_TIMEOUT_S)
            try:
                connection.request("GET", "/v2/health/live")
                if connection.getresponse().status == 200:
                    self._answers += 1
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()


class Stubs:
    """The Python stubs of a server, looked up now and then and watched in between."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._known: set[str] = set()
        self._next_look = 0.0
        self._dead_since: dict[str, float] = {}

    def wrong(self) -> str:
        """What is wrong: a stub that has been a zombie for half a second (a server that unloads a model buries it)."""
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
                return "a Python stub is dead and tritonserver does not notice"
        return ""

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
    sys.exit(main(sys.argv[1:]))
