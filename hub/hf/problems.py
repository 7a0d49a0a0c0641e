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
from hub.accounts.limits import StorageFullError, TooManyRequestsError
from hub.error_table import INTERNAL, log_failure, plain, problem_of
from hub.protocol.views import oid_of
from registry import errors as registry_errors
from registry.types import split_ref

log = logging.getLogger("parcelhub.hf")

BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  # a sentence clients compare with
MAX_MESSAGE = 500
_BARE_REPO = re.compile(
    r"/api/(models|datasets|spaces|kernels)/[^/]+(/(revision|tree|refs|commits|resolve|paths-info)(/.*)?)?"
)
_FILE_PATH = re.compile(r".*/(resolve|raw)/")
_REASONS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"/(like|likers|likes)$", "likes are not kept"),
        (r"/api/settings/webhooks", "webhooks are made with `parcelhub webhook create`, or POST /api/v1/webhooks"),
        (r"/api/(spaces|kernels)(/|$)", "it keeps models and datasets only"),
        (r"/api/collections", "there are no collections"),
        (r"/api/(papers|daily_papers)", "papers are not kept"),
        (r"/api/(jobs|scheduled-jobs)", "fine-tunes run with `parcelhub finetune`, other jobs do not"),
        (r"/api/(inference|partners)", "models are served to robots by Triton"),
        (r"/(notifications|watch)(/|$)", "nobody is notified; use webhooks"),
        (r"/resource-group", "there are no resource groups; use teams"),
        (r"/compare/", "states are not compared over the protocol"),
        (r"/api/(oauth|telemetry|agent-harnesses)", "nothing is kept of this"),
    )
)
_GIT_PATH = re.compile(r"/(info/refs|git-upload-pack|git-receive-pack|info/lfs/.*)$")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class MovedError(Exception):
    """Raised for reading requests that name a repo by what it was called before; `location` is its new address."""

    def __init__(self, location: str) -> None:
        self.location = location
        super().__init__(f"moved to {location}")


class NotOfferedError(hub_errors.HubError):
    """Raised for what the protocol knows and this hub does not do; says so, and what to use instead."""


class UnprocessableError(hub_errors.InputError):
    """Raised when a request's body is not what the protocol says."""


class BadTokenError(hub_errors.UnauthorizedError):
    """Raised when a request carries a token that is nobody's."""


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """The exception handler of the protocol's routes."""
    if isinstance(error, MovedError):
        return Response({}, status_code=307, headers={"Location": error.location})
    status, code, message, headers = _describe(request, error)
    if status == 401 and _GIT_PATH.search(request.url.path):  # git asks for a password only if this is said
        headers["WWW-Authenticate"] = 'Basic realm="parcelhub", charset="UTF-8"'
    if status >= 500 and not isinstance(error, NotOfferedError):
        log_failure(log, f"{request.method} {request.url.path}", error)
    headers["X-Error-Message"] = message.encode("ascii", "replace").decode().replace("\n", " ").replace("\r", " ")
    if code:
        headers["X-Error-Code"] = code
    return Response({"error": message}, status_code=status, headers=headers)


def answer_unrouted(request: Request[Any, Any, Any]) -> Response[dict[str, Any]] | None:
    """An address of the protocol that no route has. None for others.

    A repo without a namespace is a repo that is not there; a thing that this hub does not do is told apart from it.
    """
    path = request.url.path
    if _BARE_REPO.fullmatch(path) or _FILE_PATH.match(path):
        return answer_error(request, registry_errors.RepoNotFoundError(path))
    if path.startswith("/api/") and not path.startswith("/api/v1/"):
        return answer_error(request, NotOfferedError(not_offered(path)))
    return None


def not_offered(path: str) -> str:
    """What people read instead of an answer."""
    what = next((reason for pattern, reason in _REASONS if pattern.search(path)), "there is no such route")
    return f"Not offered by this hub: {what}. This is not about your token or the repository."


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
        case NotOfferedError():
            return 501, "", str(error), headers
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
