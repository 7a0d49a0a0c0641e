"""The hub's REST service as one Litestar application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from hub import __version__
from hub.api.auth import BearerMiddleware, signed_in
from hub.api.cells import CellController, health
from hub.api.jobs import JobController, ReportController, WorkerController, create_finetune
from hub.api.models import ModelController, routing
from hub.api.parts import repo_of_path, services_of
from hub.api.problems import answer_error
from hub.api.repos import BlobController, RepoController
from hub.services import Services
from hub.settings import Settings

log = logging.getLogger("parcelhub.hub")

MAX_JSON_BYTES = 32 * 1024**2
"""A commit of 100,000 files fits; blobs have a limit of their own."""


def create_app(settings: Settings) -> Litestar:
    """The application; its services open with it and close with it."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        services = await anyio.to_thread.run_sync(Services.open, settings)
        app.state.services = services
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(services.close)

    api = Router(
        "/api/v1",
        route_handlers=[
            health,
            CellController,
            BlobController,
            RepoController,
            create_finetune,
            JobController,
            WorkerController,
            ReportController,
            ModelController,
            routing,
        ],
        guards=[signed_in],
        middleware=[BearerMiddleware],
        dependencies={
            "services": Provide(services_of, sync_to_thread=False),
            "repo": Provide(repo_of_path, sync_to_thread=False),
        },
        security=[{"bearer": []}],
    )
    return Litestar(
        route_handlers=[api],
        lifespan=[lifespan],
        exception_handlers={Exception: answer_error},
        request_max_body_size=MAX_JSON_BYTES,
        openapi_config=_openapi(),
        logging_config=None,  # the process that runs the application decides about logging
    )


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(
        type="http", scheme="bearer", description="`<data>/admin.token`, or a token made by the operator"
    )
    return OpenAPIConfig(
        title="parcelhub",
        version=__version__,
        description="A hub for one universal package-segmentation model and its many robot cells.",
        components=Components(security_schemes={"bearer": bearer}),
        use_handler_docstrings=True,
    )
