"""How errors leave the service: RFC 9457 problem documents, from the one table in `hub.errors`."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from hub.error_table import EXIT_FAILURE, INTERNAL, Problem, log_failure, plain, problem_of

log = logging.getLogger("parcelhub.api")

_BAD_REQUEST = Problem(400, "bad-request", "The request is not well-formed", EXIT_FAILURE)
_MEDIA_TYPE = "application/problem+json"


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The exception handler of the API, and of what no router caught."""
    if isinstance(error, ValidationException):
        return _document(request, _BAD_REQUEST, error.detail, errors=_fields(error.extra))
    if isinstance(error, HTTPException):
        phrase = HTTPStatus(error.status_code).phrase
        slug = phrase.lower().replace(" ", "-")
        headers = dict(error.headers or {})
        return _document(request, Problem(error.status_code, slug, phrase, EXIT_FAILURE), error.detail, headers=headers)
    problem = problem_of(error)
    detail = str(plain(error))
    if problem.status >= 500:
        log_failure(log, f"{request.method} {request.url.path}", error)
    if problem is INTERNAL:  # the sentence was written for us, and may hold paths or SQL
        detail = "an error that was not expected; the hub's log has it"
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    return _document(request, problem, detail, headers=headers)


def _document(
    request: Request[Any, Any, Any],
    problem: Problem,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> Response[dict[str, Any]]:
    body: dict[str, Any] = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "instance": request.url.path,
    }
    if errors:
        body["errors"] = errors
    # A HEAD has no body to tell the reason in.
    content: Any = b"" if request.method == "HEAD" else body
    return Response(content, status_code=problem.status, media_type=_MEDIA_TYPE, headers=headers)


def _fields(extra: Any) -> list[dict[str, str]]:  # noqa: ANN401  # Litestar's own type
    """Which field is wrong and why, out of what Litestar collected."""
    if not isinstance(extra, list):
        return []
    return [{"field": str(one.get("key", "body")), "message": str(one.get("message", ""))} for one in extra]
