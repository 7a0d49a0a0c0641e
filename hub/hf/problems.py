"""How errors leave over the protocol: the one place that knows its codes and headers.

Clients read `X-Error-Code` and `X-Error-Message`, for a HEAD has no body. What is not listed here has the status that
`hub.errors` gives it.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from hub import errors as hub_errors
from hub.errors import INTERNAL, log_failure, plain, problem_of
from hub.hf.limits import StorageFullError, TooManyRequestsError
from hub.hf.views import oid_of
from registry import errors as registry_errors
from registry.types import split_ref

log = logging.getLogger("parcelhub.hf")

BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  # a sentence clients compare with
MAX_MESSAGE = 500
_REPO_PATH = re.compile(r"/api/(models|datasets|spaces|kernels)/|.*/(resolve|raw)/")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class MovedError(Exception):
    """Raised for reading requests that name a repo by what it was called before; `location` is its new address."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(f"moved to {location}")


class UnprocessableError(hub_errors.InputError):
    """Raised when a request's body is not what the protocol says."""


class BadTokenError(hub_errors.UnauthorizedError):
    """Raised when a request carries a token that is nobody's."""


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The exception handler of the protocol's routes."""
    if isinstance(error, MovedError):
        return Response({}, status_code=307, headers={"Location": error.location})
    status, code, message, headers = _describe(request, error)
    if status >= 500:
        log_failure(log, f"{request.method} {request.url.path}", error)
    headers["X-Error-Message"] = message.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    if code:
        headers["X-Error-Code"] = code
    return Response({"error": message}, status_code=status, headers=headers)


def answer_unrouted(request: Request[Any, Any, Any]) -> Response[dict[str, Any]] | None:
    """An address of the protocol that no route has: a repo without a namespace, for instance. None for others."""
    if not _REPO_PATH.match(request.url.path):
        return None
    return answer_error(request, registry_errors.RepoNotFoundError(request.url.path))


def _describe(request: Request[Any, Any, Any], error: Exception) -> tuple[int, str, str, dict[str, str]]:
    """Status, code, message and headers."""
    anonymous = not request.headers.get("authorization")
    headers: dict[str, str] = {}
    match error:
        case registry_errors.RepoNotFoundError():
            return 401 if anonymous else 404, "RepoNotFound", "Repository not found", headers
        case registry_errors.RevisionNotFoundError():
            return 404, "RevisionNotFound", f"Invalid rev id: {error.revision}", headers
        case registry_errors.EntryNotFoundError():
            if _DIGEST.fullmatch(error.revision):
                headers["X-Repo-Commit"] = oid_of(error.revision)
            if request.method == "POST":
                message = f"A file with this name doesn't exist: {error.path}"
            else:
                message = f"Entry not found: {error.path}"
            return 404, "EntryNotFound", message, headers
        case hub_errors.GatedError():
            return 401 if anonymous else 403, "GatedRepo", str(error), headers
        case BadTokenError():
            return 401, "", BAD_TOKEN, {"WWW-Authenticate": "Bearer"}
        case hub_errors.UnauthorizedError():
            return 401, "", str(error), {"WWW-Authenticate": "Bearer"}
        case registry_errors.RefExistsError():
            kind = (
                "tags" if request.url.path.split("/")[-2:-1] != ["branch"] and "/tag/" in request.url.path else "heads"
            )
            long = error.name if split_ref(error.name)[0] else f"refs/{kind}/{error.name}"
            return 409, "", f"Reference {long} already exists", headers
        case registry_errors.RefProtectedError():
            return 403, "", f"Cannot delete refs/heads/{error.name}: {error.reason}", headers
        case registry_errors.RefConflictError():
            message = "The branch was updated since you opened this page. Please refresh and try again."
            return 412, "", message, headers
        case StorageFullError():
            return 413, "", str(error), headers
        case TooManyRequestsError():
            return 429, "", str(error), dict(error.headers)
        case registry_errors.BlobNotFoundError():
            return 400, "", f"The bytes of {error.sha256} were never uploaded, or are not yours", headers
        case registry_errors.InvalidPathError() | registry_errors.UnsafeFileError():
            return 422, "", str(error)[:MAX_MESSAGE], headers
        case registry_errors.InvalidNameError():
            if "/branch/" in request.url.path:
                return 400, "", f"Invalid reference for a branch: {error}", headers
            return 400, "", str(error), headers
        case ValidationException():
            fields = error.extra if isinstance(error.extra, list) else []
            told = "; ".join(f"{one.get('key', 'body')}: {one.get('message', '')}" for one in fields)
            return 400, "", (told or error.detail)[:MAX_MESSAGE], headers
        case HTTPException():
            return error.status_code, "", error.detail[:MAX_MESSAGE], dict(error.headers or {})
    problem = problem_of(error)
    if problem is INTERNAL:  # the sentence was written for us, and may hold paths or SQL
        return 500, "", "Internal Error - We're working to fix this as soon as possible!", headers
    return problem.status, "", str(plain(error))[:MAX_MESSAGE], headers
