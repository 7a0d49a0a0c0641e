"""Large files in parts, with parts small enough for a test."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from litestar.testing import TestClient

import hub.hf.lfs
from hub.services import Services

DATA = bytes(range(256)) * 10
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def upload(
    raw: TestClient[Any], admin: dict[str, str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the batch says of a file of 2,560 bytes in parts of 1,000."""
    monkeypatch.setattr(hub.hf.lfs, "MULTIPART_FROM", 1000)
    monkeypatch.setattr(hub.hf.lfs, "PART_BYTES", 1000)
    services.users.put("ann")
    token = services.tokens.issue("t", ["contribute"], user="ann")
    raw.headers["Authorization"] = f"Bearer {token}"
    assert raw.post("/api/repos/create", json={"name": "dock"}).status_code == 200
    body = {"operation": "upload", "transfers": ["multipart"], "objects": [{"oid": DIGEST, "size": len(DATA)}]}
    answer = raw.post("/ann/dock.git/info/lfs/objects/batch", json=body).json()
    assert answer["transfer"] == "multipart"
    actions: dict[str, Any] = answer["objects"][0]["actions"]
    assert sorted(actions["upload"]["header"]) == ["1", "2", "3", "chunk_size"]
    return actions


def put(raw: TestClient[Any], upload: dict[str, Any], number: int, data: bytes) -> Any:
    return raw.put(urlsplit(upload["upload"]["header"][str(number)]).path, content=data)


def complete(raw: TestClient[Any], upload: dict[str, Any], numbers: list[int]) -> int:
    body = {"oid": DIGEST, "parts": [{"partNumber": number, "etag": "x"} for number in numbers]}
    return raw.post(urlsplit(upload["upload"]["href"]).path, json=body).status_code


def test_parts_come_in_any_order_and_again(raw: TestClient[Any], upload: dict[str, Any], services: Services) -> None:
    parts = [DATA[:1000], DATA[1000:2000], DATA[2000:]]
    for number in (3, 1, 1):
        answer = put(raw, upload, number, parts[number - 1])
        assert answer.headers["etag"] == f'"{hashlib.sha256(parts[number - 1]).hexdigest()}"'
    assert complete(raw, upload, [1, 2, 3]) == 400  # one is missing
    assert not services.registry.blobs.exists(DIGEST)
    assert put(raw, upload, 2, parts[1]).status_code == 200
    assert complete(raw, upload, [1, 2]) == 400
    assert complete(raw, upload, [1, 2, 3]) == 200
    assert services.registry.blobs.read(DIGEST) == DATA
    assert list(services.hf.parts_folder.iterdir()) == []
    path = urlsplit(upload["verify"]["href"]).path
    assert raw.post(path, json={"oid": DIGEST, "size": len(DATA)}).status_code == 200
    assert raw.post(path, json={"oid": DIGEST, "size": 1}).status_code == 400


@pytest.mark.parametrize(("number", "data"), [(1, b"x" * 999), (1, b"x" * 1001), (3, b"x" * 1000), (4, b"")])
def test_parts_of_the_wrong_size(
    raw: TestClient[Any], upload: dict[str, Any], services: Services, number: int, data: bytes
) -> None:
    address = urlsplit(upload["upload"]["header"]["1"]).path.removesuffix("1") + str(number)
    assert raw.put(address, content=data).status_code in (400, 413)
    assert [part for folder in services.hf.parts_folder.iterdir() for part in folder.iterdir()] == []


def test_wrong_bytes_are_never_shown_and_the_upload_starts_anew(
    raw: TestClient[Any], upload: dict[str, Any], services: Services
) -> None:
    for number, size in ((1, 1000), (2, 1000), (3, 560)):
        assert put(raw, upload, number, b"x" * size).status_code == 200
    assert complete(raw, upload, [1, 2, 3]) == 422
    assert not services.registry.blobs.exists(DIGEST)
    assert list(services.hf.parts_folder.iterdir()) == []
