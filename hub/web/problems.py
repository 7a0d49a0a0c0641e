"""How errors look in the browser: a page with the sentence, from the same table as everywhere."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.response import Redirect

from hub.error_table import INTERNAL, log_failure, plain, problem_of
from hub.errors import UnauthorizedError
from hub.web.render import page

log = logging.getLogger("parcelhub.web")


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of the pages. Who has no session is sent to sign in, and comes back."""
    reading = request.method in ("GET", "HEAD")
    # A picture or a stream of a page whose session ended is not sent there: each would be given a sign-in form of its
    # own, and the last one's proof would undo that of the form on the screen.
    navigating = request.headers.get("sec-fetch-dest", "document") == "document"
    if isinstance(error, UnauthorizedError) and reading and navigating:
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return Redirect(f"/ui/sign-in?next={quote(back, safe='')}")
    if isinstance(error, ValidationException):
        status, title, detail = 400, "The address is not well-formed", ""
    elif isinstance(error, HTTPException):
        status, title, detail = error.status_code, HTTPStatus(error.status_code).phrase, ""
    else:
        problem = problem_of(error)
        status, title, detail = problem.status, problem.title, str(plain(error))
        if status >= 500:
            log_failure(log, f"{request.method} {request.url.path}", error)
        if problem is INTERNAL:  # the sentence was written for us, and may hold paths or SQL
            detail = "Something that was not expected; the hub's log has it."
    hints = {
        401: "Your session has ended. Sign in again.",
        403: "Ask an operator of this hub for a token that may do this.",
        404: "It may have been renamed or removed, or it belongs to another team.",
        429: "Wait a little and try again.",
    }
    return page(
        request, "error.html", status=status, title=title, detail=detail, hint=hints.get(status, ""), code=status
    )
