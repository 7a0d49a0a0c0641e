"""`parcelhub up`, and the parts it starts: `hub`, `serve`, `worker`, `job run`."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import err, set_up_logging, settings_options
from hub.error_table import EXIT_FAILURE

if TYPE_CHECKING:
    from hub.settings import Settings
    from registry.errors import CatalogBrokenError

log = logging.getLogger("parcelhub.hub")

_END_SECONDS = 20.0  # of a hub whose catalog broke; a clean end takes one or two


@click.command()
@click.option("--host", help="Address to listen on [PARCELHUB_HOST].")
@click.option("--port", type=int, help="The hub's port [PARCELHUB_PORT].")
@settings_options
def up(settings: Settings, host: str | None, port: int | None) -> None:
    """Run the hub, Triton and the worker over one data folder, until Ctrl-C.

    \b
    Example:
      parcelhub up --data ./parcelhub-data
    """
    from hub.locks import data_folder_lock
    from hub.stack.stack import build_parts, check_machine
    from hub.stack.supervisor import Supervisor

    set_up_logging()
    # These parts belong together, wherever the clients of this machine's environment turn to.
    settings = replace(settings, host=host or settings.host, port=port or settings.port, hub_url="")
    first = not settings.admin_token_file.exists()
    with data_folder_lock(settings.data, "up"):
        check_machine(settings)
        supervisor = Supervisor(build_parts(settings))
        _on_stop_signals(supervisor.request_stop)
        supervisor.start()
        try:
            tell_up(settings, first=first)
            supervisor.watch()
        finally:
            supervisor.stop()


def tell_up(settings: Settings, *, first: bool) -> None:
    """Where the pages and the robots' endpoint are; at the first start also how to sign in."""
    hub = settings.told_url
    said = f"pages at {hub}/ui/, robots at {settings.triton_grpc}, the API described at {hub}/schema"
    err.print(f"[bold green]up[/]: {said}", soft_wrap=True, highlight=False)
    if first:
        file = settings.admin_token_file.absolute()
        err.print(
            f"[bold]sign in[/] with the operator's token: cat {escape(str(file))}", soft_wrap=True, highlight=False
        )


@click.command()
@click.option("--host", help="Address to listen on [PARCELHUB_HOST].")
@click.option("--port", type=int, help="Port [PARCELHUB_PORT].")
@settings_options
def hub(settings: Settings, host: str | None, port: int | None) -> None:
    """Run the REST service alone.

    \b
    Example:
      parcelhub hub --data ./parcelhub-data --port 8400
    """
    # What a start makes stays; looking through it again and again would take a sixth of the start.
    gc.disable()
    import uvicorn

    from hub.app import create_app
    from hub.locks import check_ports, data_folder_lock
    from hub.services import Services
    from hub.stack.processes import die_with_parent

    die_with_parent()
    set_up_logging()
    settings = replace(settings, host=host or settings.host, port=port or settings.port)
    check_ports(settings.host, {"hub": settings.port})
    broken: list[CatalogBrokenError] = []

    def give_up(error: CatalogBrokenError) -> None:
        """A catalog that DuckDB gave up on answers nothing more in this process: whoever watches us starts another."""
        log.critical("the catalog broke, the hub ends: %s", error.reason)
        broken.append(error)
        # Should the clean end hang on what is broken, this one does not.
        last = threading.Timer(_END_SECONDS, os._exit, [EXIT_FAILURE])
        last.daemon = True
        last.start()
        os.kill(os.getpid(), signal.SIGTERM)

    with data_folder_lock(settings.data, "hub"):
        services = Services.open(settings)  # here, so that what keeps it from opening is told in its own sentence
        config = uvicorn.Config(
            create_app(settings, on_broken=give_up, opening=lambda _: services),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,  # followers of event streams would hold a shutdown for ever
        )
        gc.freeze()
        gc.enable()
        # After its own graceful stop uvicorn raises the signal again: it finds this handler, and we end normally.
        _on_stop_signals(lambda: None)
        server = uvicorn.Server(config)
        server.run()
        gc.unfreeze()  # else the interpreter's end takes what was frozen for leaked, and says so at length
    if broken or not server.started:
        raise SystemExit(EXIT_FAILURE)


@click.command()
@click.option("--tls-cert", type=click.Path(path_type=Path), help="PEM certificate of the gRPC endpoint.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--tls-client-ca", type=click.Path(path_type=Path), help="Robots must show a certificate that it signed.")
@click.option(
    "--check-robots/--no-check-robots",
    default=None,
    help="Robots need a token that is good for their cell [PARCELHUB_CHECK_ROBOTS, on].",
)
@click.option("--shared-memory", is_flag=True, help="Robots on this machine may use shared memory.")
@settings_options
def serve(
    settings: Settings,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    check_robots: bool | None,
    shared_memory: bool,
) -> None:
    """Run Triton alone, on the serving folder that a hub keeps.

    What it observes goes to the hub (--hub, or the one on this machine) with the site's own token, which is that of
    PARCELHUB_SITE_TOKEN; while the hub is away it waits here.

    \b
    Example:
      parcelhub serve --data ./parcelhub-data
      parcelhub serve --check-robots --tls-cert server.pem --tls-key server.key --tls-client-ca robots-ca.pem
    """
    from hub.stack.processes import die_with_parent
    from hub.stack.stack import triton_config
    from serving.triton.launcher import TritonServer

    die_with_parent()
    set_up_logging()
    config = triton_config(
        replace(
            settings,
            tls_cert=tls_cert or settings.tls_cert,
            tls_key=tls_key or settings.tls_key,
            tls_client_ca=tls_client_ca or settings.tls_client_ca,
            check_robots=settings.check_robots if check_robots is None else int(check_robots),
            shared_memory=int(shared_memory or settings.shared_memory),
        )
    )
    stopping = threading.Event()
    _on_stop_signals(stopping.set)
    with TritonServer(config) as server, _uplink(settings):
        server.supervise()
        stopping.wait()


@contextlib.contextmanager
def _uplink(settings: Settings) -> Iterator[None]:
    """The carrier between this site and its hub, where the site has a token."""
    from serving.observed.carrier import Carrier

    token = settings.local_site_token()
    if token is None:
        log.warning("this site has no token (PARCELHUB_SITE_TOKEN): nothing is sent to the hub, no wish is fetched")
        yield
        return
    carrier = Carrier(settings.telemetry_folder, settings.url, token)
    carrier.start()
    try:
        yield
    finally:
        carrier.close()


@click.command()
@settings_options
def worker(settings: Settings) -> None:
    """Run jobs that are queued at the hub, one at a time; light ones, such as the check of a dataset, beside it.

    \b
    Example:
      parcelhub worker --hub http://hub.example:8400
    """
    from hub.client.client import HubClient
    from hub.jobs.worker import Workers
    from hub.stack.processes import die_with_parent

    die_with_parent()
    set_up_logging()
    with HubClient.of(settings) as client:
        one = Workers(settings, client)
        _on_stop_signals(one.request_stop)
        one.run()


@click.group()
def job() -> None:
    """Jobs, seen from inside."""


@job.command("run")
@click.argument("job_id")
@settings_options
def run(settings: Settings, job_id: str) -> int:
    """Be the process of a job that a worker claimed. Workers call this; people rarely do.

    \b
    Example:
      PARCELHUB_TOKEN=... parcelhub job run 3f9a2c61
    """
    from hub.jobs.run import run_job
    from hub.stack.processes import die_with_parent, give_way

    die_with_parent()
    if settings.jobs_give_way:
        give_way()
    set_up_logging()
    return run_job(settings, job_id)


def _on_stop_signals(request_stop: Callable[[], None]) -> None:
    def handle(_: int, __: FrameType | None) -> None:
        request_stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
