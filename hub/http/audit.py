"""The audit log: written for every change as its answer leaves, read by the operator.

One place for all routes, so that no handler can forget it: what is asked with GET changes nothing, everything else is
kept unless it is listed here as no change of consequence. Handlers add digests with `note`.
"""

from __future__ import annotations

from typing import Any, cast

import anyio.to_thread
from litestar.connection import ASGIConnection
from litestar.types import HTTPScope, Message
from litestar.types import Scope as AsgiScope

from hub.accounts.redaction import redacted
from hub.accounts.tokens import Identity
from hub.services import Services

_KEY = "parcelhub_audit"
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED = 403
_QUIET = frozenset(
    # A worker's heartbeat and a job's progress are in the job's own events; bytes are nobody's until a commit names
    # them; the rest only asks, with a body.
    {"claim", "heartbeat", "release", "progress", "add_log", "put_blob", "put_file"}
    | {"preupload", "model_batch", "dataset_batch", "batch", "verify", "put_object", "put_part", "complete"}
    | {"validate_yaml", "paths_info", "put_xorb", "put_shard", "telemetry", "duplicate", "report_outcomes"}
    | {"model_upload_pack", "dataset_upload_pack"}
)


def note(request: ASGIConnection[Any, Any, Any, Any], **detail: Any) -> None:  # noqa: ANN401  # whatever JSON can say
    """Add what a change produced (digests, names) to the entry that its request leaves."""
    request.scope["state"].setdefault(_KEY, {}).update(detail)


async def record_change(message: Message, scope: AsgiScope) -> None:
    """Before an answer is sent: the entry first, so that no change is acknowledged that is not in the log."""
    if message["type"] != "http.response.start":  # what a websocket sends is called otherwise
        return
    asked = cast("HTTPScope", scope)
    if asked["method"] in _READS:
        return
    handler = scope.get("route_handler")
    status = message["status"]
    user = scope.get("user")
    name = getattr(handler, "handler_name", "") or ""
    if not isinstance(user, Identity) or (status >= 400 and status != _REFUSED) or name in _QUIET:
        return
    services: Services = scope["litestar_app"].state.services
    client = scope.get("client")
    address = client[0] if client else ""
    path = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace") or scope["path"]
    detail = scope["state"].get(_KEY, {})

    def write() -> None:
        services.audit.record(
            who=user.owner,
            token=user.name,
            action=name,
            subject=redacted(f"{asked['method']} {path}"),
            status=status,
            address=address,
            detail=detail,
        )

    await anyio.to_thread.run_sync(write)
