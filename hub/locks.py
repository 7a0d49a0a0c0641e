"""One owner for one data folder, and a look at which ports are taken."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.errors import DataFolderInUseError, PortInUseError, SettingsError


@contextmanager
def data_folder_lock(data: Path, name: str) -> Iterator[None]:
    """Hold `<data>/<name>.lock`; the kernel lets go of it when the process ends, however it ends. Raises
    DataFolderInUseError while another process holds it."""
    make_data_folder(data)
    path = data / f"{name}.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise DataFolderInUseError(
                f"the data folder {data} is in use by process {owner};"
                " stop that one, or name another folder with --data"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock is what counts, the number is for people
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


def make_data_folder(data: Path) -> None:
    """Create the data folder, for its owner only: it holds images and the admin token. Raises SettingsError where that
    cannot be, or it is not writable."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"the data folder {data} cannot be made: {error.strerror}") from error
    if not os.access(data, os.W_OK | os.X_OK):
        raise SettingsError(f"the data folder {data} is not writable")


def port_is_free(host: str, port: int) -> bool:
    """Whether we could listen there now (a port in TIME_WAIT counts as free, as it does for the servers)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Raise PortInUseError for the first service whose port is taken."""
    for service, port in ports.items():
        if not port_is_free(host, port):
            variable = f"PARCELHUB_{'PORT' if service == 'hub' else service.upper().replace(' ', '_') + '_PORT'}"
            raise PortInUseError(f"port {port} ({service}) on {host} is in use; free it, or set {variable}")


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody uses at the moment, all different."""
    probes = []
    try:
        for _ in range(count):
            probe = socket.socket()
            probes.append(probe)
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
