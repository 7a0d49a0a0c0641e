"""What a server says of itself, as a file in its serving folder: the hub reads it and tells people. No torch here.

    status.json     the table and the base that are in place, and the variants that are not, each with the reason

Written by an atomic rename, when something changes and every few seconds besides, so that a reader can tell a server
that has nothing to say from one that is gone. Bounded: it lists so many refusals and counts the rest. One server owns a
serving folder.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from registry.durable import write_file
from serving.errors import StatusError, bounded
from serving.folder.routing import PINNED

STATUS = "status.json"
LOOKS = "looks"
"""Folder of the hub's requests to look at a variant (`serving.triton.looks`)."""
FORMAT = 1
EVERY_S = 5.0
"""Seconds between two writings of a server that has nothing new to say."""
STALE_S = 20.0
"""A status of this age is of a server that is gone, or that hangs."""
MAX_BYTES = 2 * 1024 * 1024
MAX_LISTED = 2000
MAX_TEXT = 400


@dataclass(frozen=True, slots=True)
class Refused:
    """A variant that the routing names and that does not answer.

    Attributes:
        variant: `<cell>@<version>`.
        code: the error's code; `reason` says it in words.
        since: epoch seconds of the first refusal in a row; tries: how many there were.
        passing: whether it may pass by itself (the disk, the memory), so that it is tried again; of other reasons, only
            when the files change.
    """

    variant: str
    code: str
    reason: str
    since: float
    tries: int = 1
    passing: bool = False


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One status.json.

    Attributes:
        server: names this run of the server. at: epoch seconds when it was written.
        table_version: of the routing table in place, 0 before there is one; base: the one that answers.
        tried_version: of the newest table that was tried; problem: why it is not in place, empty where it is.
        refused: at most MAX_LISTED; refused_count: how many there are.
        looked: variant and the digest of its weights (`dock-7@v3 <sha256>`) to what a look at it found wrong; empty
            text: nothing.
    """

    server: str
    at: float
    table_version: int = 0
    base: str = ""
    tried_version: int = 0
    problem: str = ""
    refused: tuple[Refused, ...] = ()
    refused_count: int = 0
    looked: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The file's bytes; what is beyond the limits is left out."""
        value = asdict(self) | {"format": FORMAT}
        value["refused"] = [
            asdict(one) | {"reason": bounded(one.reason, MAX_TEXT)} for one in self.refused[:MAX_LISTED]
        ]
        value["problem"] = bounded(self.problem, MAX_TEXT)
        newest = list(self.looked.items())[-MAX_LISTED:]
        value["looked"] = {key: bounded(said, MAX_TEXT) for key, said in newest}
        return json.dumps(value, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read and check bytes from outside. Raises StatusError."""
        if len(data) > MAX_BYTES:
            raise StatusError(f"{STATUS} has more than {MAX_BYTES:,} bytes")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise StatusError(f"{STATUS} is not valid JSON") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise StatusError(f"{STATUS} is of no format that is known here")
        refused, looked = value.get("refused"), value.get("looked")
        if not isinstance(refused, list) or len(refused) > MAX_LISTED:
            raise StatusError(f"{STATUS}: refused must be a list of at most {MAX_LISTED}")
        if not isinstance(looked, dict) or len(looked) > MAX_LISTED:
            raise StatusError(f"{STATUS}: looked must be an object of at most {MAX_LISTED}")
        return cls(
            _text(value, "server"),
            _number(value, "at"),
            _count(value, "table_version"),
            _text(value, "base"),
            _count(value, "tried_version"),
            _text(value, "problem"),
            tuple(_refused(one) for one in refused),
            _count(value, "refused_count"),
            {_plain(key): _plain(said) for key, said in looked.items()},
        )


def looked_key(variant: str, sha256: str) -> str:
    """Under what `looked` has a variant whose weights have this digest."""
    return f"{variant} {sha256}"


def ask_for_look(folder: Path, variant: str, digests: Mapping[str, str]) -> None:
    """Ask the server to look at a variant whose files lie in the folder; `digests`: file name -> SHA-256.

    Whoever asks takes it back. Raises OSError.
    """
    (folder / LOOKS).mkdir(exist_ok=True)
    part = folder / LOOKS / f".{variant}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    part.write_text(json.dumps(dict(digests)))
    part.replace(folder / LOOKS / variant)


def take_back_look(folder: Path, variant: str) -> None:
    """Nobody waits for the look any more. Raises OSError."""
    (folder / LOOKS / variant).unlink(missing_ok=True)


def write_status(folder: Path, status: ServerStatus, *, durably: bool = True) -> None:
    """Replace status.json; a beat that says nothing new need not wait for the disk. Raises OSError."""
    if durably:
        write_file(folder / STATUS, status.to_json())
        return
    part = folder / f".{STATUS}.{os.getpid()}.part"
    part.write_bytes(status.to_json())
    part.replace(folder / STATUS)


def read_status(folder: Path) -> ServerStatus | None:
    """The status in a folder, None where no server ever wrote one. Raises StatusError, OSError."""
    try:
        with (folder / STATUS).open("rb") as file:
            return ServerStatus.parse(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        return None


def _refused(value: object) -> Refused:
    if not isinstance(value, dict) or not isinstance(value.get("passing"), bool):
        raise StatusError(f"{STATUS}: refused must hold objects")
    variant = value.get("variant")
    if not isinstance(variant, str) or not PINNED.fullmatch(variant):
        raise StatusError(f"{STATUS}: a refused variant must be named '<cell>@<version>'")
    return Refused(
        variant,
        _text(value, "code"),
        _text(value, "reason"),
        _number(value, "since"),
        _count(value, "tries"),
        value["passing"],
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    return _plain(value.get(key))


def _plain(text: object) -> str:
    if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isprintable():
        raise StatusError(f"{STATUS}: a text must have at most {MAX_TEXT} printable characters")
    return text


def _count(value: Mapping[str, Any], key: str) -> int:
    number = value.get(key)
    if type(number) is not int or not 0 <= number < 2**53:
        raise StatusError(f"{STATUS}: {key} must be a whole number")
    return number


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**53:
        raise StatusError(f"{STATUS}: {key} must be a number")
    return float(number) if math.isfinite(number) else 0.0
