"""How to run tritonserver: a value object, and the command line it makes. Imports no torch."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import TritonError
from serving.observed.captures import CapturePolicy
from serving.triton.backend_settings import BackendSettings
from serving.triton.installation import Installation
from serving.triton.model_repository import MODEL
from serving.triton.scheduler import Batching

ADMIN_HEADER = "parcelhub-admin"
_RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
"""What changes the server or reads its memory: closed to all who do not hold the admin key."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of the gRPC endpoint. With `client_ca`, clients must show a certificate that it signed (mutual TLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Raise TritonError for a file that is not there, before Triton fails in its own words."""
        for file in (self.certificate, self.key, self.client_ca):
            if file is not None and not os.access(file, os.R_OK):
                raise TritonError(f"the TLS file {file.name} cannot be read")


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """How to run the server.

    Attributes:
        data: the data folder; `triton/` in it holds the model repository, the backend folder and the log.
        serving: the serving folder; `data/serving` by default.
        host: the address to listen on; the local machine only, unless told otherwise.
        shm_bytes: shared memory between server and stub at start, sized for a full batch of camera frames: growing it
            in the middle of a request is slow, and it is never given back.
        batching: how requests are put together, and how long they may wait.
        grace_s: how long requests in flight may take at shutdown.
        hang_s: a backend that gave no sign of life for so long is ended and started again. Longer than anything
            that holds Python's lock, such as a large model that is being loaded.
        stuck_s: so is one that has been computing one batch for so long.
        torch_threads: threads of the model's own arithmetic; torch decides when None.
        hot_variants: how many variants are kept in memory.
        telemetry: where predictions and captures go; None keeps neither.
        captures: which frames are kept there.
        observe: whether cameras are watched, where telemetry is kept.
        check_tokens: requests need a robot's token that is good for their cell.
        tls: encrypts gRPC. HTTP has no TLS in Triton, so it then listens on the local machine only.
        shared_memory: lets robots on this host register shared memory; who may reach the port may then read any region
            under /dev/shm that this user owns, so it is off unless asked for.
    """

    data: Path
    serving: Path | None = None
    host: str = "127.0.0.1"
    grpc_port: int = 8001
    http_port: int = 8000
    metrics_port: int = 8002
    shm_bytes: int = 128 * 1024 * 1024
    shm_growth_bytes: int = 32 * 1024 * 1024
    batching: Batching = field(default_factory=Batching)
    grace_s: float = 10.0
    hang_s: float = 10.0
    stuck_s: float = 60.0
    torch_threads: int | None = None
    hot_variants: int = 256
    telemetry: Path | None = None
    captures: CapturePolicy = field(default_factory=CapturePolicy)
    check_tokens: bool = False
    tls: Tls | None = None
    shared_memory: bool = False
    observe: bool = True

    @property
    def url(self) -> str:
        """host:port of the gRPC endpoint, as clients on this machine reach it."""
        return f"{_reached(self.host)}:{self.grpc_port}"

    @property
    def http_host(self) -> str:
        """Where HTTP and the metrics listen."""
        return self.host if self.tls is None else "127.0.0.1"

    @property
    def http_url(self) -> str:
        """Address of the HTTP endpoint on this machine."""
        return f"http://{_reached(self.http_host)}:{self.http_port}"

    @property
    def log_file(self) -> Path:
        """Triton's own log."""
        return self.data / "triton" / "triton.log"

    @property
    def admin_key_file(self) -> Path:
        """Holds the key that the restricted protocols ask for; readable by the owner alone."""
        return self.data / "triton" / "admin.key"

    def backend_settings(self) -> BackendSettings:
        """What the backend is told."""
        return BackendSettings(
            serving=self.serving or self.data / "serving",
            telemetry=self.telemetry,
            threads=self.torch_threads,
            hot=self.hot_variants,
            check_tokens=self.check_tokens,
            captures=self.captures,
            batching=self.batching,
            observe=self.observe,
        )

    def guard_options(self, heartbeat: Path | None) -> list[str]:
        """What the guard is told, before the command that it runs."""
        options = ["--grace", str(self.grace_s), "--hang", str(self.hang_s), "--stuck", str(self.stuck_s)]
        options += ["--probe", self.http_url.removeprefix("http://")]
        return options if heartbeat is None else [*options, "--heartbeat", str(heartbeat)]

    def command(self, installation: Installation, backends: Path | None, models: Path, shm_prefix: str) -> list[str]:
        """The command line of tritonserver. Writes the admin key at its first use."""
        closed = [name for name in _RESTRICTED if name != "shared-memory" or not self.shared_memory]
        key = f"{ADMIN_HEADER}={self._admin_key()}"
        command = [
            str(installation.binary),
            f"--model-repository={models.absolute()}",
            "--model-control-mode=explicit",
            f"--load-model={MODEL}",
            "--exit-on-error=true",
            f"--exit-timeout-secs={max(int(self.grace_s), 1)}",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.grpc_port}",
            f"--http-address={self.http_host}",
            f"--http-port={self.http_port}",
            f"--metrics-address={self.http_host}",
            f"--metrics-port={self.metrics_port}",
            f"--grpc-restricted-protocol={','.join(closed)}:{key}",
            f"--http-restricted-api={','.join(closed)}:{key}",
            "--grpc-header-forward-pattern=(?i)authorization",
            "--http-header-forward-pattern=(?i)authorization",
            # Robots that wait between picks ping, so that a dead connection is noticed before the next pick. Without
            # leave for it, the server takes that for an attack and hangs up after the third ping.
            "--grpc-keepalive-permit-without-calls=true",
            "--grpc-http2-min-recv-ping-interval-without-data=5000",
            f"--backend-config=python,shm-default-byte-size={self.shm_bytes}",
            f"--backend-config=python,shm-growth-byte-size={self.shm_growth_bytes}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        ]
        if self.tls is not None:
            self.tls.check()
            command += [f"--grpc-server-cert={self.tls.certificate}", f"--grpc-server-key={self.tls.key}"]
            if self.tls.client_ca is None:
                command.append("--grpc-use-ssl=true")
            else:
                command += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.tls.client_ca}"]
        if backends is not None:
            command.append(f"--backend-directory={backends.absolute()}")
        if shutil.which("nvidia-smi") is None:
            command.append("--allow-gpu-metrics=false")
        return command

    def _admin_key(self) -> str:
        file = self.admin_key_file
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return file.read_text(encoding="ascii").strip()
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            key = secrets.token_hex(24)
            out.write(key + "\n")
        return key


def _reached(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
