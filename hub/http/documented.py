"""What the OpenAPI schema says of answers that are no success: every route may refuse, and always in the same form."""

from __future__ import annotations

from http import HTTPStatus

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from hub.error_table import TABLE
from hub.schemas.resources import ProblemDocument

MEDIA_TYPE = "application/problem+json"
PREFIX = "/api/v1"
_FRAMEWORK = (400, 405, 415)
"""What is answered before a handler is asked."""


def document_refusals(app: Litestar) -> None:
    """Give every route of the API the refusals of the one table. Call before the schema is first asked for."""
    statuses = sorted({problem.status for problem in TABLE.values()} | set(_FRAMEWORK))
    specs = {
        status: ResponseSpec(
            ProblemDocument,
            generate_examples=False,
            description=HTTPStatus(status).phrase,
            media_type=MEDIA_TYPE,
        )
        for status in statuses
    }
    for route in app.routes:
        if not route.path.startswith(PREFIX):
            continue
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler):
                handler.responses = {**specs, **(handler.responses or {})}
