# ruff: noqa: N818 - the name says what is wrong; "UnknownCellError" says no more.
"""Every error the serving floor raises, grouped by who can do something about it.

`code` is the short, stable word that travels over the wire (the Triton backend prefixes its error text with it, the
robot client reads it back), so a robot can react without parsing a sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

MAX_REASON = 300
"""Characters of what an error quotes from outside."""


def bounded(text: str, limit: int = MAX_REASON) -> str:
    """Text from outside that is fit for a log line, a page and a file: printable, and not long."""
    short = text if len(text) <= limit else f"{text[: limit - 3]}..."
    return "".join(one if one.isprintable() else "?" for one in short)


class ServingError(Exception):
    """Root of this floor's errors."""

    code: ClassVar[str] = "serving"


class InternalError(ServingError):
    """Raised in place of an exception that nobody foresaw. Its text stays in the log: no robot needs it."""

    code = "internal"

    def __init__(self, error: Exception) -> None:
        super().__init__(f"an unexpected {type(error).__name__}; the server's log says more")


# --- what a caller sent -----------------------------------------------------------------------------------------------


class RequestError(ServingError):
    """Raised when one request cannot be answered as it was sent; its neighbours in the batch are unaffected."""

    code = "request"


class ImageError(RequestError):
    """Raised when image bytes are not a whole JPEG or PNG, or an image is over the limits."""

    code = "image"


class UnknownCell(RequestError):
    """Raised when a request names a cell that the routing table does not hold."""

    code = "unknown_cell"

    def __init__(self, cell: str) -> None:
        self.cell = cell
        super().__init__(f"unknown cell '{cell}': the routing table does not name it")


class UnknownVariant(RequestError):
    """Raised when a request pins a variant that is not in the serving folder."""

    code = "unknown_variant"

    def __init__(self, variant: str) -> None:
        self.variant = variant
        super().__init__(f"unknown variant '{variant}': it is not in the serving folder")


class VariantWarming(RequestError):
    """Raised when a variant is being read from disk; the robot client asks again by itself within its time limit."""

    code = "warming"


class InstancesError(ServingError):
    """Raised when arrays do not make a valid `Instances` (lengths, dtypes, not finite, bad RLE)."""

    code = "instances"


class Unauthorized(RequestError):
    """Raised when a request carries no token that is good for the cell it names."""

    code = "unauthorized"


class DeadlinePassed(RequestError):
    """Raised when the robot that sent a request has stopped waiting for its answer."""

    code = "deadline"


class TooBusy(RequestError):
    """Raised when a request is not started, as its answer would come after its deadline or the queue is full."""

    code = "busy"


class OutcomeInvalid(ServingError):
    """Raised when an outcome is none of the known ones, or names no request."""

    code = "outcome"


# --- what is stored ---------------------------------------------------------------------------------------------------


class BaseError(ServingError):
    """Raised when a base folder cannot be loaded (missing file, unknown family, digest mismatch)."""

    code = "base"


class AdapterError(ServingError):
    """Raised when a variant's files cannot be served. `variant` and `path` say which one."""

    code = "adapter"
    passing: ClassVar[bool] = False
    """Whether the same files may be read later: the fault is not in what they hold."""

    def __init__(self, message: str, *, variant: str | None = None, path: Path | None = None) -> None:
        message = self.reason = bounded(message)
        self.variant = variant
        self.path = path
        who = f"variant '{variant}': " if variant else ""
        where = f" ({path.name})" if path else ""
        super().__init__(f"{who}{message}{where}")

    def of(self, variant: str | None) -> Self:
        """The same error, saying which variant it is about."""
        return type(self)(self.reason, variant=variant, path=self.path)


class AdapterUnreadable(AdapterError):
    """Raised when a variant's files cannot be read now: one is missing, the disk fails, there is no memory."""

    passing = True


class NotFinite(AdapterError):
    """Raised in place of an answer when what the network says of an image is not finite numbers. `variant` is None
    where the base said it."""

    code = "not_finite"
    passing = True


class WrongBase(AdapterError):
    """Raised when a variant was trained on another base (or another revision of it) than the one that is loaded."""

    code = "wrong_base"


class DigestMismatch(AdapterError):
    """Raised when a file's SHA-256 is not the one the routing table names."""

    code = "digest"


class NoFreeSlot(ServingError):
    """Raised when one batch asks for more different variants than there are adapter slots."""

    code = "slots"


class ReferenceUnreadable(ServingError):
    """Raised when a cell's reference for novelty is missing, damaged or of another version."""

    code = "no_reference"


class CaptureNotFound(ServingError):
    """Raised when there is no such capture: it was never kept, or it made room for newer ones."""

    code = "no_capture"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no capture '{name}'; the oldest ones make room for new ones")


class RoutingError(ServingError):
    """Raised when routing.json is missing, malformed or over its limits."""

    code = "routing"


class StatusError(ServingError):
    """Raised when status.json is malformed or over its limits."""

    code = "status"


# --- the Triton process -----------------------------------------------------------------------------------------------


class TritonError(ServingError):
    """Root of the launcher's errors."""

    code = "triton"


class TritonNotFound(TritonError):
    """Raised when no tritonserver binary is on this machine; says what to install."""

    code = "triton_not_found"


class LibraryMissing(TritonError):
    """Raised when tritonserver or its Python stub needs a shared library that the loader cannot find."""

    code = "library_missing"

    def __init__(self, binary: Path, missing: tuple[str, ...], hint: str) -> None:
        self.binary = binary
        self.missing = missing
        super().__init__(f"{binary.name} needs {', '.join(missing)}, which the loader cannot find. {hint}")


class PortInUse(TritonError):
    """Raised when a port that Triton should listen on is taken."""

    code = "port_in_use"

    def __init__(self, port: int, purpose: str, holder: str | None) -> None:
        self.port = port
        self.holder = holder
        by = f" by {holder}" if holder else ""
        super().__init__(f"port {port} ({purpose}) is already in use{by}; choose another or stop that process")


class ServerFailed(TritonError):
    """Raised when tritonserver ends or does not become ready. `log_tail` holds its last log lines."""

    code = "server_failed"

    def __init__(self, message: str, log_tail: str = "") -> None:
        self.log_tail = log_tail
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)


# --- what a robot sees ------------------------------------------------------------------------------------------------


class ClientError(ServingError):
    """Root of the robot client's errors."""

    code = "client"


class RequestRejected(ClientError):
    """Raised when the server answered that this request is at fault. `reason_code` is the server's error code."""

    code = "rejected"

    def __init__(self, message: str, reason_code: str) -> None:
        self.reason_code = reason_code
        super().__init__(message)


class DeadlineExceeded(ClientError):
    """Raised when no answer came within the client's time limit."""

    code = "deadline"


class ServerUnavailable(ClientError):
    """Raised when the server cannot be reached, is starting, or has the model not loaded."""

    code = "unavailable"


class Overloaded(ClientError):
    """Raised when the server refused a request that would have waited past its deadline: take the next frame."""

    code = "overloaded"


# --- what an operator named -------------------------------------------------------------------------------------------


class ExtensionError(ServingError):
    """Raised for a module named in PARCELHUB_EXTENSIONS that cannot be loaded."""

    code = "extension"
