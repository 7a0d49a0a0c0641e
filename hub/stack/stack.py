"""What `parcelhub up` consists of: the hub, Triton and the worker, and how each says that it is ready."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx

from hub.client.client import HubClient
from hub.errors import AnotherServiceError, HubError, StackError
from hub.locks import check_ports
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn
from hub.stack.supervisor import Part
from serving.observed.captures import CapturePolicy
from serving.triton.config import Tls, TritonConfig
from serving.triton.installation import Installation
from serving.triton.model_repository import MODEL

TRITON_READY_SECONDS = 180.0
"""Its first start imports torch from a cold disk."""


def check_machine(settings: Settings) -> None:
    """Raise for what would keep the stack from starting, before anything is started."""
    check_ports(settings.host, {"hub": settings.port})
    triton_ports = {name: port for name, port in settings.ports.items() if name != "hub"}
    check_ports(settings.triton_host, triton_ports)
    installation = Installation.find()
    backends = installation.prepare_backends(settings.data / "triton" / "backends")
    installation.check_libraries(backends, installation.environment())


def build_parts(settings: Settings) -> list[Part]:
    """The parts in the order of their start: Triton needs the hub's serving folder, the worker needs the hub."""
    return [
        Part("hub", _starter(settings, "hub"), lambda: hub_ready(settings)),
        Part("triton", _starter(settings, "serve"), lambda: triton_ready(settings), TRITON_READY_SECONDS),
        Part("worker", _starter(settings, "worker"), lambda: True),
    ]


def hub_ready(settings: Settings) -> bool:
    """Whether a hub answers at the port of these settings. Raises StackError if something else does."""
    url = settings.local_url
    try:
        with HubClient(url, "", timeout=2.0) as client:
            client.health()
    except AnotherServiceError as error:
        said = f"another service answers at {url}, not the hub: free the port, or set PARCELHUB_PORT"
        raise StackError(said) from error
    except HubError:
        return False
    return True


def triton_ready(settings: Settings) -> bool:
    """Whether robots get answers."""
    return _answers(f"{triton_config(settings).http_url}/v2/models/{MODEL}/ready")


def triton_config(settings: Settings) -> TritonConfig:
    """How Triton runs by these settings."""
    tls = None
    if settings.tls_cert != Path():
        client_ca = settings.tls_client_ca if settings.tls_client_ca != Path() else None
        tls = Tls(settings.tls_cert, settings.tls_key, client_ca)
    return TritonConfig(
        data=settings.data,
        serving=settings.serving_folder,
        host=settings.triton_host,
        grpc_port=settings.triton_grpc_port,
        http_port=settings.triton_http_port,
        metrics_port=settings.triton_metrics_port,
        telemetry=settings.telemetry_folder,
        captures=CapturePolicy(
            settings.capture_low_score,
            settings.capture_share,
            settings.capture_max_bytes,
            settings.capture_max_count,
            tuple(name.strip() for name in settings.capture_selectors.split(",") if name.strip()),
        ),
        observe=bool(settings.observe),
        check_tokens=bool(settings.check_robots),
        tls=tls,
        shared_memory=bool(settings.shared_memory),
    )


def _starter(settings: Settings, command: str) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: spawn(parcelhub_command(command), env=settings.environment(), stdout=subprocess.PIPE)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0).is_success
    except httpx.HTTPError:
        return False
