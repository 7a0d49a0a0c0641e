"""Starts tritonserver, waits until it answers, restarts it when it dies, leaves nothing behind. Imports no torch."""

from __future__ import annotations

import errno
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import psutil  # type: ignore[import-untyped]

from serving.cores import CORES
from serving.errors import PortInUse, ServerFailed
from serving.triton.config import TritonConfig
from serving.triton.installation import Installation
from serving.triton.model_repository import MODEL, write_model_repository

__all__ = ["TritonConfig", "TritonServer"]

log = logging.getLogger(__name__)

_GUARD = Path(__file__).with_name("guard.py")
_SHARED = Path("/dev/shm")  # noqa: S108  # where Triton keeps its shared memory, too
_MAX_LOG_BYTES = 16 * 1024 * 1024
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_STABLE_S = 60.0


class TritonServer:
    """One tritonserver process. `start` and `stop` may be called from any thread, each any number of times."""

    def __init__(self, config: TritonConfig) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        self._shm_prefix = f"parcelhub_{os.getpid()}_{config.grpc_port}_"

    @property
    def running(self) -> bool:
        """Whether the process is alive; `wait_ready` says whether it answers."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the guard above tritonserver: another one after each restart, None while there is none."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises: TritonNotFound, LibraryMissing, PortInUse.
        """
        with self._lock:
            if self.running:
                return
            self._stopping.clear()
            self._spawn()

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Return once the model answers. Raises ServerFailed, with the last log lines, if it ends or takes longer."""
        deadline = time.monotonic() + timeout_s
        while not _model_ready(self.config.http_url):
            if not self.running:
                raise ServerFailed("tritonserver ended while it was starting", self.log_tail())
            if time.monotonic() > deadline:
                raise ServerFailed(f"tritonserver is not ready after {timeout_s:.0f} s", self.log_tail())
            time.sleep(0.1)

    def supervise(self) -> None:
        """From now on, restart the server whenever it dies: after a second at first, then ever more patiently."""
        with self._lock:
            if self._supervisor is None or not self._supervisor.is_alive():
                self._supervisor = threading.Thread(target=self._watch, name="triton", daemon=True)
                self._supervisor.start()

    def stop(self) -> None:
        """End the server and its stubs: SIGTERM, then SIGKILL after the grace time. Returns when all are gone."""
        self._stopping.set()
        supervisor = self._supervisor
        if supervisor is not None and supervisor is not threading.current_thread():
            supervisor.join()
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(self.config.grace_s + 5.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            self._clean_shared_memory()

    def log_tail(self, lines: int = 25) -> str:
        """The last lines of Triton's log that are not of its start-up tables."""
        try:
            with self.config.log_file.open("rb") as file:
                file.seek(max(self.config.log_file.stat().st_size - 64 * 1024, 0))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        useful = [line for line in text.splitlines() if line.strip() and line[0] not in "|+"]
        return "\n".join(useful[-lines:])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        config = self.config
        installation = Installation.find()
        backends = installation.prepare_backends(config.data / "triton" / "backends")
        environment = installation.environment()
        installation.check_libraries(backends, environment)
        for host, port, purpose in (
            (config.host, config.grpc_port, "gRPC"),
            (config.http_host, config.http_port, "HTTP"),
            (config.http_host, config.metrics_port, "metrics"),
        ):
            _check_port(host, port, purpose)
        models = config.data / "triton" / "models"
        write_model_repository(models)
        settings = replace(config.backend_settings(), heartbeat=_SHARED / f"{self._shm_prefix}heartbeat")
        environment.update(settings.environment())
        for name, value in CORES.items():
            environment.setdefault(name, value)
        self._clean_shared_memory()
        guard = [sys.executable, "-I", str(_GUARD), *config.guard_options(settings.heartbeat), "--"]
        with _open_log(config.log_file) as output:
            self._process = subprocess.Popen(
                [*guard, *config.command(installation, backends, models, self._shm_prefix)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _watch(self) -> None:
        failures = 0
        started = time.monotonic()
        while not self._stopping.wait(0.2):
            if self.running:
                continue
            if time.monotonic() - started > _STABLE_S:
                failures = 0
            delay = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            log.warning("tritonserver ended; restarting in %.0f s. Its last lines:\n%s", delay, self.log_tail(8))
            if self._stopping.wait(delay):
                return
            started = time.monotonic()
            try:
                with self._lock:
                    self._spawn()
            except Exception:
                # A port still held, a library gone for a moment: the next round tries again.
                log.exception("tritonserver could not be restarted")

    def _clean_shared_memory(self) -> None:
        # A killed stub cannot remove its own segment, and what is in /dev/shm is memory.
        for segment in _SHARED.glob(f"{self._shm_prefix}*"):
            segment.unlink(missing_ok=True)


def _model_ready(http_url: str) -> bool:
    """Asked over HTTP, which needs no certificates: with TLS it listens on this machine only."""
    for route in ("/v2/health/ready", f"/v2/models/{MODEL}/ready"):
        try:
            with urllib.request.urlopen(http_url + route, timeout=2.0) as answer:  # noqa: S310  # our own http:// address
                if answer.status != 200:
                    return False
        except (OSError, http.client.HTTPException):
            return False
    return True


def _open_log(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _check_port(host: str, port: int, purpose: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(port, purpose, _holder(port)) from error


def _holder(port: int) -> str | None:
    """Name and id of the process that listens on `port`, where the system lets us see it."""
    try:
        connections = psutil.net_connections("tcp")
        for connection in connections:
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return None
