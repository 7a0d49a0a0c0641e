"""Starts tritonserver, waits until it answers, restarts it when it dies, leaves nothing behind. Imports no torch."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import psutil  # type: ignore[import-untyped]
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.errors import PortInUse, ServerFailed
from serving.triton.installation import Installation
from serving.triton.model_repository import MAX_BATCH, MODEL, write_model_repository

log = logging.getLogger(__name__)

_GUARD = Path(__file__).with_name("guard.py")
_MAX_LOG_BYTES = 16 * 1024 * 1024
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_STABLE_S = 60.0


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """How to run the server.

    Attributes:
        data: the data folder; `triton/` in it holds the model repository, the backend folder and the log.
        serving: the serving folder; `data/serving` by default.
        host: the address to listen on; the local machine only, unless told otherwise.
        shm_bytes: shared memory between server and stub at start, sized for a full batch of camera frames: growing it
            in the middle of a request is slow, and it is never given back.
        grace_s: how long requests in flight may take at shutdown.
        torch_threads: threads of the model's own arithmetic; torch decides when None.
        hot_variants: how many variants are kept in memory.
    """

    data: Path
    serving: Path | None = None
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    shm_bytes: int = 128 * 1024 * 1024
    shm_growth_bytes: int = 32 * 1024 * 1024
    max_batch: int = MAX_BATCH
    queue_delay_us: int = 1000
    grace_s: float = 5.0
    torch_threads: int | None = None
    hot_variants: int = 256

    @property
    def url(self) -> str:
        """host:port of the gRPC endpoint, as clients on this machine reach it."""
        return f"{'127.0.0.1' if self.host in ('0.0.0.0', '::') else self.host}:{self.grpc_port}"  # noqa: S104

    @property
    def log_file(self) -> Path:
        """Triton's own log."""
        return self.data / "triton" / "triton.log"


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
        client = triton.InferenceServerClient(self.config.url)
        try:
            while not _model_ready(client):
                if not self.running:
                    raise ServerFailed("tritonserver ended while it was starting", self.log_tail())
                if time.monotonic() > deadline:
                    raise ServerFailed(f"tritonserver is not ready after {timeout_s:.0f} s", self.log_tail())
                time.sleep(0.1)
        finally:
            client.close()

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
        for port, purpose in (
            (config.grpc_port, "gRPC"),
            (config.http_port, "HTTP"),
            (config.metrics_port, "metrics"),
        ):
            _check_port(config.host, port, purpose)
        models = config.data / "triton" / "models"
        write_model_repository(models, max_batch=config.max_batch, queue_delay_us=config.queue_delay_us)
        environment["PARCELHUB_SERVING"] = str((config.serving or config.data / "serving").absolute())
        environment["PARCELHUB_HOT_VARIANTS"] = str(config.hot_variants)
        # numpy only multiplies small matrices there; its threads would take the cores from the model's.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        if config.torch_threads is not None:
            environment["PARCELHUB_TORCH_THREADS"] = str(config.torch_threads)
        self._clean_shared_memory()
        guard = [sys.executable, "-I", str(_GUARD), str(config.grace_s)]
        with _open_log(config.log_file) as output:
            self._process = subprocess.Popen(
                [*guard, *_command(config, installation, backends, models, self._shm_prefix)],
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
        for segment in Path("/dev/shm").glob(f"{self._shm_prefix}*"):  # noqa: S108
            segment.unlink(missing_ok=True)


def _command(
    config: TritonConfig, installation: Installation, backends: Path | None, models: Path, shm_prefix: str
) -> list[str]:
    command = [
        str(installation.binary),
        f"--model-repository={models.absolute()}",
        "--model-control-mode=explicit",
        f"--load-model={MODEL}",
        "--exit-on-error=true",
        f"--exit-timeout-secs={max(int(config.grace_s), 1)}",
        f"--grpc-address={config.host}",
        f"--grpc-port={config.grpc_port}",
        f"--http-address={config.host}",
        f"--http-port={config.http_port}",
        f"--metrics-address={config.host}",
        f"--metrics-port={config.metrics_port}",
        f"--backend-config=python,shm-default-byte-size={config.shm_bytes}",
        f"--backend-config=python,shm-growth-byte-size={config.shm_growth_bytes}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
    ]
    if backends is not None:
        command.append(f"--backend-directory={backends.absolute()}")
    if shutil.which("nvidia-smi") is None:
        command.append("--allow-gpu-metrics=false")
    return command


def _model_ready(client: triton.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready(client_timeout=1.0)) and bool(
            client.is_model_ready(MODEL, client_timeout=1.0)
        )
    except InferenceServerException:
        return False


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
