"""The hub's REST service as one Litestar application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio.to_thread
from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send

from hub import __version__, api
from hub.accounts.redaction import redact_logs
from hub.hf.paths import keep_encoded_slashes
from hub.hf.problems import answer_unrouted
from hub.hf.routes import add_request_id
from hub.hf.routes import router as protocol_router
from hub.hf.xet import store_routers
from hub.http.access_policy import entrance
from hub.http.audit import record_change
from hub.http.auth import BearerMiddleware
from hub.http.bodies import HubBodies
from hub.http.dependencies import repo_of_path, services_of
from hub.http.documented import document_refusals
from hub.http.job_schemas import JobSpecSchema
from hub.http.problems import answer_error
from hub.http.resources import resources
from hub.maintenance import housekeeping
from hub.maintenance.collector import collecting
from hub.services import Services
from hub.settings import Settings
from hub.web.api_page import ApiPage, OnceYaml
from hub.web.dependencies import Web
from hub.web.guards import secure
from hub.web.problems import answer_error as page_error
from hub.web.routes import routers as page_routers
from hub.webhooks.delivery import Postman, delivering
from registry.catalog.remembered import remembering
from registry.errors import CatalogBrokenError
from serving import extensions

log = logging.getLogger("parcelhub.hub")

PICKS_EVERY = timedelta(seconds=30)
UPLINK_EVERY = timedelta(seconds=5)
"""How soon an alert of a site is known to the hub and to webhooks, whether anybody looks or not."""
FAILURES_FIRST, FAILURES_EVERY = timedelta(minutes=1), timedelta(seconds=30)
"""When failed picks are taken up and their frames looked at again, beside the robots' work."""
MAX_JSON_BYTES = 32 * 1024**2
"""A commit of 100,000 files fits; blobs have a limit of their own."""


class HubApp(Litestar):
    """Routes on addresses whose encoded slashes stay inside their segments (`hub.hf.paths`)."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        """Answer one request. What repositories resolve to is remembered until it is answered."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        keep_encoded_slashes(scope)
        with remembering():  # a request resolves each repository once, however many of its parts ask for it
            await super().__call__(scope, receive, send)


def create_app(
    settings: Settings,
    *,
    on_broken: Callable[[CatalogBrokenError], None] = lambda _: None,
    opening: Callable[[Settings], Services] = Services.open,
) -> Litestar:
    """The application; its services open with it and close with it.

    It opens what `state.settings` names when it starts, so that one application, which takes a second to build, may
    serve one data folder after the other.

    `on_broken` is called when the catalog can no longer be used, and what needs it is answered 503 from then on: end
    the process, a new one opens it again.
    """
    redact_logs()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        services = await anyio.to_thread.run_sync(opening, app.state.settings)
        services.registry.catalog.on_broken = on_broken
        app.state.services = services
        app.state.web = web = Web.over(services)
        looks = timedelta(seconds=services.settings.look_seconds)
        postman = Postman(
            services.registry.catalog,
            services.webhooks,
            seconds=services.settings.webhook_seconds,
            first_pause=services.settings.webhook_pause,
        )
        try:
            with (
                collecting(services.maintenance.collect),
                collecting(services.housekeeping.run, first=housekeeping.FIRST, every=housekeeping.EVERY),
                collecting(services.production.alerts.take_up, first=UPLINK_EVERY, every=UPLINK_EVERY),
                collecting(services.production.site_statistics.take_up, first=UPLINK_EVERY, every=UPLINK_EVERY),
                collecting(
                    services.refreshes.look if services.settings.refresh else services.refreshes.go_on,
                    first=looks,
                    every=looks,
                ),
                collecting(
                    services.promoter.look if services.settings.promote and services.settings.refresh else lambda: 0,
                    first=looks,
                    every=looks,
                ),
                collecting(
                    services.growth.look if services.settings.grow else services.growth.go_on_started,
                    first=looks,
                    every=looks,
                ),
                collecting(services.production.failures.work, first=FAILURES_FIRST, every=FAILURES_EVERY),
                collecting(services.production.events.take_up, first=UPLINK_EVERY, every=UPLINK_EVERY),
                collecting(services.production.pick_changes.take_up, first=PICKS_EVERY, every=PICKS_EVERY),
                delivering(postman),
            ):
                yield
        finally:
            await anyio.to_thread.run_sync(web.close)
            await anyio.to_thread.run_sync(services.close)

    api.load()
    extensions.load(settings.extensions)
    rest = Router(
        "/api/v1",
        route_handlers=[handler for one in resources().values() for handler in one.handlers()],
        middleware=[BearerMiddleware],
        dependencies={
            "services": Provide(services_of, sync_to_thread=False),
            "repo": Provide(repo_of_path, sync_to_thread=False),
        },
        security=[{"bearer": []}],
    )
    app = HubApp(
        route_handlers=[rest, protocol_router(), *store_routers(), *page_routers()],
        guards=[entrance],
        lifespan=[lifespan],
        state=State({"settings": settings}),
        request_class=HubBodies,
        exception_handlers={Exception: _answer_error},
        before_send=[add_request_id, record_change, secure],
        request_max_body_size=MAX_JSON_BYTES,
        openapi_config=_openapi(),
        plugins=[JobSpecSchema()],
        logging_config=None,  # the process that runs the application decides about logging
    )
    document_refusals(app)
    return app


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """For what no router caught, addresses that lead nowhere among it: a page for people, a document for programs."""
    if isinstance(error, NotFoundException) and (answer := answer_unrouted(request)):
        return answer
    return (page_error if request.url.path.startswith("/ui/") else answer_error)(request, error)


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
        render_plugins=[ApiPage(), JsonRenderPlugin(), OnceYaml()],
    )
