"""Uploads over plain HTTP in the three ways there are: inside a commit, over Git LFS, and in Xet chunks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import httpx
import numpy as np

from registry.blobs.blobs import CHUNK
from registry.xet import hashes

UploadRoute = Literal["commit", "lfs", "xet"]
UPLOAD_ROUTES: Final[tuple[UploadRoute, ...]] = ("commit", "lfs", "xet")
_TAG: Final = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_END: Final = b"\xff" * 32 + bytes(16)
_CHUNK: Final = 60_000


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A file of a commit that the hub said it has."""

    repo: str
    commit: str
    path: str
    sha256: str


class Uploader:
    """One client with connections of its own. Raises httpx.HTTPError, also for a refusal."""

    def __init__(self, url: str, token: str, *, timeout: float = 120.0) -> None:
        self._token = token
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=timeout)

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def ensure_repo(self, repo: str) -> None:
        """Make the dataset repo unless it is there."""
        namespace, name = repo.split("/")
        answer = self._http.post("/api/repos/create", json={"type": "dataset", "organization": namespace, "name": name})
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()

    def upload(self, repo: str, path: str, data: bytes, way: UploadRoute) -> Acknowledged:
        """Upload a file and commit it."""
        sha256 = hashlib.sha256(data).hexdigest()
        if way == "commit":
            value = {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64"}
            line: dict[str, Any] = {"key": "file", "value": value}
        else:
            if way == "lfs":
                self._put_lfs(repo, sha256, len(data), lambda: data)
            else:
                self._put_xet(repo, sha256, data)
            line = {"key": "lfsFile", "value": {"path": path, "algo": "sha256", "oid": sha256, "size": len(data)}}
        return self._commit(repo, path, sha256, line)

    def upload_file(self, repo: str, path: str, source: Path, sha256: str, size: int) -> Acknowledged:
        """Upload a file of any size over LFS, a piece in memory at a time, and commit it."""
        self._put_lfs(repo, sha256, size, lambda: _pieces(source))
        value = {"path": path, "algo": "sha256", "oid": sha256, "size": size}
        return self._commit(repo, path, sha256, {"key": "lfsFile", "value": value})

    def download(self, repo: str, revision: str, path: str, target: Path) -> str:
        """Write a file of a revision to `target`; gives its sha256.

        By the standard library's client: httpx computes as long for a gigabyte as copying and hashing it takes, and
        the hub's rate is wanted. Raises OSError.
        """
        place = urlsplit(str(self._http.base_url))
        hasher, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
        connection = HTTPConnection(place.hostname or "", place.port, timeout=3600)
        with contextlib.closing(connection), target.open("wb", buffering=0) as out:
            headers = {"Authorization": f"Bearer {self._token}"}
            connection.request("GET", f"/datasets/{repo}/resolve/{revision}/{path}", headers=headers)
            answer = connection.getresponse()
            if answer.status != httpx.codes.OK:
                raise OSError(f"{path}: the hub answers {answer.status}")
            while size := answer.readinto(buffer):
                hasher.update(buffer[:size])
                out.write(buffer[:size])
        return hasher.hexdigest()

    def _commit(self, repo: str, path: str, sha256: str, line: dict[str, Any]) -> Acknowledged:
        lines = [{"key": "header", "value": {"summary": path, "description": ""}}, line]
        answer = self._http.post(
            f"/api/datasets/{repo}/commit/main",
            content="\n".join(map(json.dumps, lines)),
            headers={"Content-Type": "application/x-ndjson"},
        )
        answer.raise_for_status()
        return Acknowledged(repo, answer.json()["commitOid"], path, sha256)

    def read(self, repo: str, revision: str, path: str) -> bytes:
        """The bytes of a file of a revision. Raises httpx.HTTPStatusError with what the hub says."""
        answer = self._http.get(f"/datasets/{repo}/resolve/{revision}/{path}")
        if answer.is_error:  # in the hub's own words: a file that cannot be read must say why
            words = f"{answer.status_code}: {answer.text[:300]}"
            raise httpx.HTTPStatusError(words, request=answer.request, response=answer)
        return answer.content

    def read_model(self, repo: str, revision: str, path: str) -> bytes:
        """As `read`, of a model repo."""
        answer = self._http.get(f"/{repo}/resolve/{revision}/{path}")
        answer.raise_for_status()
        return answer.content

    def get(self, path: str) -> Any:  # noqa: ANN401  # whatever JSON says
        """An answer in JSON."""
        answer = self._http.get(path)
        answer.raise_for_status()
        return answer.json()

    def pages(self, path: str) -> Iterator[Any]:
        """The items of a list, page after page."""
        following = path
        while following:
            answer = self._http.get(following)
            answer.raise_for_status()
            yield from answer.json()
            following = answer.links.get("next", {}).get("url", "")

    def _put_lfs(self, repo: str, sha256: str, size: int, content: Callable[[], bytes | Iterator[bytes]]) -> None:
        body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": sha256, "size": size}]}
        answer = self._http.post(f"/datasets/{repo}.git/info/lfs/objects/batch", json=body)
        answer.raise_for_status()
        for one in answer.json()["objects"]:
            if actions := one.get("actions"):
                # The link proves itself.
                sent = httpx.put(actions["upload"]["href"], content=content(), timeout=self._http.timeout)
                sent.raise_for_status()

    def _put_xet(self, repo: str, sha256: str, data: bytes) -> None:
        answer = self._http.get(f"/api/datasets/{repo}/xet-write-token/main")
        answer.raise_for_status()
        grant = answer.json()
        headers = {"Authorization": f"Bearer {grant['accessToken']}"}
        name, xorb, shard = packed(data, sha256)
        for route, body in ((f"/v1/xorbs/default/{name}", xorb), ("/v1/shards", shard)):
            httpx.post(grant["casUrl"] + route, content=body, headers=headers, timeout=120).raise_for_status()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def noise(dice: random.Random, least: int = 1000, most: int = 200_000) -> bytes:
    """Bytes that nothing shrinks."""
    return dice.randbytes(dice.randint(least, most))


def packed(data: bytes, sha256: str) -> tuple[str, bytes, bytes]:
    """A file as one xorb of stored chunks: the xorb's hash and bytes, and the shard that makes the file known."""
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    raw = b"".join(hashes.chunk_hash(chunk) for chunk in chunks)
    lengths = np.array([len(chunk) for chunk in chunks], np.uint32)
    xorb = hashes.xorb_hash(hashes.as_hashes(raw), lengths)
    sizes = [len(chunk).to_bytes(3, "little") for chunk in chunks]
    body = b"".join(b"\0" + size + b"\0" + size + chunk for size, chunk in zip(sizes, chunks, strict=True))
    flags = 1 << 31 | 1 << 30  # with proofs, with the sha256
    file = hashes.file_hash(hashes.as_hashes(raw), lengths)
    rows = [file + _u32(flags, 1, 0, 0), xorb + _u32(0, len(data), 0, len(chunks)), hashes.range_hash(raw) + bytes(16)]
    rows.append(hashes.from_text(sha256) + bytes(16))
    shard = _TAG + (2).to_bytes(8, "little") + bytes(8) + b"".join(rows) + _END + _END
    return hashes.to_text(xorb), body, shard


def _u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)
