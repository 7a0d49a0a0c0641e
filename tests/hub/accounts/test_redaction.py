"""No secret in a log line: whatever was issued in a busy run is in none of what it logged."""

from __future__ import annotations

import hashlib
import io
import logging
import secrets
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.redaction import HIDDEN, redact_logs, redacted
from hub.services import Services


@pytest.fixture
def lines() -> Any:
    redact_logs()
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield out
    root.removeHandler(handler)


@pytest.mark.parametrize("prefix", ["hf_", "ph_", "whsec_"])
def test_messages_values_and_tracebacks(lines: io.StringIO, prefix: str) -> None:
    token, link = prefix + secrets.token_urlsafe(32), f"{secrets.token_urlsafe(90)}.{secrets.token_urlsafe(32)}"
    log = logging.getLogger("parcelhub.test")
    log.error("token %s", token)
    log.error(f"GET /lfs/objects/{link}")  # what a careless line does
    try:
        raise RuntimeError(f"PUT http://hub/xet-fetch/{link} with Bearer {token}")  # noqa: TRY301
    except RuntimeError as error:
        log.exception("%s failed", f"/lfs/parts/{link}/3", exc_info=error)
    said = lines.getvalue()
    assert token not in said
    assert link not in said
    assert link.rpartition(".")[2] not in said
    assert said.count(HIDDEN) >= 4


@pytest.mark.parametrize("prefix", ["ph_", "hf_"])
def test_tokens_of_any_length_are_known_by_their_prefix(prefix: str) -> None:
    """Those that were made elsewhere and taken over are as long as their makers liked."""
    for length in (16, 34, 60):
        token = prefix + ("aB3" * 30)[:length]
        assert redacted(f"no user of {token}!") == f"no user of {HIDDEN}!"
    assert redacted(f"{prefix}hub is no token") == f"{prefix}hub is no token"


def test_digests_stay_readable() -> None:
    text = f"blob {hashlib.sha256(b'x').hexdigest()} of cells/dock-7@v1"
    assert redacted(text) == text


def test_a_failing_upload_leaves_no_link(
    raw: TestClient[Any], services: Services, admin: dict[str, str], lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link's own route fails in the middle, as when a client hangs up."""
    raw.post("/api/repos/create", headers=admin, json={"name": "acme/dock", "type": "dataset"})
    body = {"operation": "upload", "objects": [{"oid": "a" * 64, "size": 5}], "transfers": ["basic"]}
    batch = raw.post("/datasets/acme/dock.git/info/lfs/objects/batch", headers=admin, json=body).json()
    href = batch["objects"][0]["actions"]["upload"]["href"]

    def hang_up(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"the client left {href}")

    monkeypatch.setattr(type(services.hf.registry.blobs), "writer", hang_up)
    assert raw.put(href.replace("http://testserver.local", ""), content=b"12345").status_code == 500
    said = lines.getvalue()
    assert "failed" in said
    assert href.rpartition("/")[2] not in said
