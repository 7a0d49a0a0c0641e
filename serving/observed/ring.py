"""The last minutes of frames at a site, in a folder that never grows past its bytes; encrypted where a key is set.

    ring/<milliseconds>-<random>.frame     JSON, then the picture; with a key all of it is AES-256-GCM

What is not sampled from here within minutes is overwritten, and nobody has seen it.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from registry.durable import write_file

log = logging.getLogger(__name__)

MAX_BYTES: Final = 256 * 1024**2
MAX_FRAME_BYTES: Final = 32 * 1024**2
KEY_VARIABLE: Final = "PARCELHUB_RING_KEY"
_NAME = re.compile(r"[0-9]{13}-[0-9a-f]{12}\.frame")
_PLAIN, _SEALED = b"PHF0", b"PHF1"
_NONCE = 12


def read_key(text: str) -> bytes | None:
    """A key of 32 bytes as base64, None for none. Raises ValueError for anything else."""
    if not text:
        return None
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{KEY_VARIABLE} is not base64") from error
    if len(key) != 32:
        raise ValueError(f"{KEY_VARIABLE} holds {len(key)} bytes; a key has 32")
    return key


@dataclass(frozen=True, slots=True)
class RingSettings:
    """How large the ring may grow, and the key that its frames are encrypted with; 0 bytes: novelty is not watched."""

    max_bytes: int = MAX_BYTES
    key: bytes | None = field(default=None, repr=False)


class FrameRing:
    """The folder. One process; thread-safe."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, key: bytes | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._cipher = None if key is None else AESGCM(key)
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if not _NAME.fullmatch(entry.name) or self._foreign(Path(entry.path)):
                Path(entry.path).unlink(missing_ok=True)  # half a file, or of another key
                continue
            self._sizes[entry.name] = entry.stat().st_size
            self._total += self._sizes[entry.name]
        self._bound()

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._total

    def put(self, at: float, document: dict[str, Any], picture: bytes) -> str:
        """Keep a frame; the oldest ones go. Returns its name, "" for one that is too large."""
        text = json.dumps(document, separators=(",", ":")).encode()
        name = f"{max(int(at * 1000), 0):013d}-{secrets.token_hex(6)}.frame"
        data = self._sealed(name, len(text).to_bytes(4, "big") + text + picture)
        if len(data) > min(MAX_FRAME_BYTES, self._max_bytes) or not _NAME.fullmatch(name):
            return ""
        with self._lock:
            write_file(self._folder / name, data)
            self._sizes[name] = len(data)
            self._total += len(data)
            self._bound()
        return name

    def names(self, *, since: float = 0.0, until: float = 1e11) -> Iterator[str]:
        """Names of the frames of a time, oldest first."""
        with self._lock:
            names = sorted(self._sizes)
        yield from (name for name in names if since * 1000 - 1 <= int(name[:13]) <= until * 1000)

    def read(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        """(document, picture); None where it is gone or was changed."""
        if not _NAME.fullmatch(name):
            return None
        try:
            data = self._opened(name, (self._folder / name).read_bytes())
            length = int.from_bytes(data[:4], "big")
            document = json.loads(data[4 : 4 + length])
        except (OSError, ValueError, InvalidTag):
            return None
        return (document, data[4 + length :]) if isinstance(document, dict) else None

    def forget(self, cell: str) -> int:
        """Remove the frames of a cell; how many there were."""
        count = 0
        for name in list(self.names()):
            found = self.read(name)
            if found is not None and found[0].get("cell") == cell:
                with self._lock:
                    self._total -= self._sizes.pop(name, 0)
                (self._folder / name).unlink(missing_ok=True)
                count += 1
        return count

    def _sealed(self, name: str, data: bytes) -> bytes:
        if self._cipher is None:
            return _PLAIN + data
        nonce = secrets.token_bytes(_NONCE)
        return _SEALED + nonce + self._cipher.encrypt(nonce, data, name.encode())

    def _opened(self, name: str, data: bytes) -> bytes:
        mark, data = data[:4], data[4:]
        if self._cipher is None and mark == _PLAIN:
            return data
        if self._cipher is not None and mark == _SEALED:
            return self._cipher.decrypt(data[:_NONCE], data[_NONCE:], name.encode())
        raise ValueError("of another key")

    def _foreign(self, path: Path) -> bool:
        """Whether it was written without the key that is set now, or with one that is not."""
        try:
            with path.open("rb") as file:
                return file.read(4) != (_PLAIN if self._cipher is None else _SEALED)
        except OSError:
            return True

    def _bound(self) -> None:
        while self._sizes and self._total > self._max_bytes:
            name = min(self._sizes)
            self._total -= self._sizes.pop(name)
            (self._folder / name).unlink(missing_ok=True)
