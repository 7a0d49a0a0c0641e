"""Which robot tokens are good for which cells, as a file beside the routing table: Triton checks without the hub.

`robots.json`: `{"tokens": {"<sha256 of the token>": {"robot": "arm-3", "cells": ["dock-7"]}}}`; `["*"]` is every
cell. Only hashes are in it. A token is 256 random bits, so a plain SHA-256 is enough and a look-up tells nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.durable import write_file
from serving.errors import RoutingError, Unauthorized

log = logging.getLogger(__name__)

ROBOTS = "robots.json"
MAX_BYTES = 64 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RobotGrant:
    """What one token allows: the robot's name, and its cells ("*" is every cell)."""

    robot: str
    cells: frozenset[str]

    def allows(self, cell: str) -> bool:
        """Whether the robot may ask for `cell`."""
        return "*" in self.cells or cell in self.cells


def token_hash(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def parse_grants(data: bytes) -> dict[str, RobotGrant]:
    """Read and check robots.json: SHA-256 -> grant. Raises RoutingError."""
    if len(data) > MAX_BYTES:
        raise RoutingError(f"{ROBOTS} has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    try:
        tokens = json.loads(data)["tokens"]
        return {digest: _grant(digest, entry) for digest, entry in tokens.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoutingError(f"{ROBOTS} is not valid: {error}") from error


def _grant(digest: str, entry: Mapping[str, object]) -> RobotGrant:
    robot, cells = entry["robot"], entry["cells"]
    if not _SHA256.fullmatch(digest) or not isinstance(robot, str) or not isinstance(cells, list):
        raise ValueError("a token needs a SHA-256, a robot's name and a list of cells")
    if not all(isinstance(cell, str) for cell in cells):
        raise ValueError("cells must be names")
    return RobotGrant(robot, frozenset(cells))


def write_grants(folder: Path, grants: Mapping[str, RobotGrant]) -> None:
    """Replace robots.json atomically; readable by the owner alone."""
    tokens = {digest: {"robot": one.robot, "cells": sorted(one.cells)} for digest, one in sorted(grants.items())}
    data = json.dumps({"tokens": tokens}, indent=1).encode()
    target = folder / ROBOTS
    if target.is_file() and target.read_bytes() == data:
        return
    write_file(target, data, mode=0o600)


class RobotAccess:
    """The grants as they are now; looks at the file at most every `check_every_s` seconds. Thread-safe."""

    def __init__(self, folder: Path, *, check_every_s: float = 0.2) -> None:
        self._file = folder / ROBOTS
        self._every = check_every_s
        self._lock = threading.Lock()
        self._next_check = 0.0
        self._state: tuple[int, int, int] | None = None
        self._grants: Mapping[str, RobotGrant] = {}

    def check(self, token: str | None, cell: str | None) -> RobotGrant:
        """The token's grant. Raises Unauthorized without a token, and for a cell that it is not good for.

        A request that names no cell asks the base itself, which any robot may.
        """
        if not token:
            raise Unauthorized("this server wants a robot's token (metadata 'authorization: Bearer <token>')")
        grant = self._current().get(token_hash(token))
        if grant is None:
            raise Unauthorized("the token is unknown or was revoked")
        if cell is not None and not grant.allows(cell):
            raise Unauthorized(f"the token of robot '{grant.robot}' is not good for cell '{cell}'")
        return grant

    def robot_of(self, token: str | None) -> str | None:
        """Whose token it is; None for one that is unknown."""
        grant = self._current().get(token_hash(token)) if token else None
        return None if grant is None else grant.robot

    def _current(self) -> Mapping[str, RobotGrant]:
        with self._lock:
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + self._every
                self._reload()
            return self._grants

    def _reload(self) -> None:
        try:
            status = self._file.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self._state:
                self._state, self._grants = state, parse_grants(self._file.read_bytes())
        except FileNotFoundError:
            self._state, self._grants = None, {}  # no file, no grants: closed, not open
        except (OSError, RoutingError) as error:
            log.warning("%s; the tokens known before stay", error)
