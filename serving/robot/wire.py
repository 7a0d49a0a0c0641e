"""What both robot clients say and hear: KServe v2 requests of the model `segmenter`, answers, and errors by code."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.errors import ClientError, DeadlineExceeded, Overloaded, RequestRejected, ServerUnavailable
from serving.instances import Instances

MODEL: Final = "segmenter"
ImageIn = bytes | npt.NDArray[np.uint8] | Path

CHANNEL: Final[list[tuple[str, Any]]] = [
    # gRPC lends one connection to all channels with equal settings; a pool of its own makes it one per client.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Without these a channel that failed a few times would wait up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This one is how long a connection may take to be made: a TLS handshake on a busy machine takes its time.
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A cut cable says nothing: a ping every ten seconds does, between picks as well.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

_CODE = re.compile(r"(?:\[[^\]]*\] )*([a-z_]{3,30}): (.*)", re.DOTALL)
_AWAY = ("Stub process", "stub process", "Server is stopping", "Server exiting")
_NO_MODEL = re.compile(r"(no available versions|\bis not ready\b|\bunknown model\b|\bis (un)?loading\b)", re.IGNORECASE)
"""What Triton says while its model is put away: it stops, or it has not loaded the model yet."""
FALLBACK_CODES: Final = frozenset(
    {"warming", "adapter", "wrong_base", "digest", "unknown_variant", "serving", "slots", "not_finite"}
)
"""Errors that are the variant's, not the request's: another variant may answer."""
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one frame.

    Attributes:
        served_by: `base/<name>@<revision>` or `<cell>@<version> on base/<name>@<revision>`.
        request_id: names this request in captures and outcomes.
        round_trip_s: seconds from the call to the answer, as the robot saw it.
        fallback: whether the last good variant answered because the routed one could not.
        instead_of: the variant that should have answered by the server's routing and could not; None where it did.
        camera: `ok`, the kind of fault that the camera shows (`serving.observed.camera_kinds`), or `cannot_tell`; as
            known before this frame. None where the server does not watch cameras, or no cell was named.
        novelty: `ok`, `new` (the cell's packages have changed lately), `learning`, or `cannot_tell`; as known before
            this frame. None where the server does not watch for it, or no cell was named.
    """

    instances: Instances
    served_by: str
    request_id: str
    round_trip_s: float
    fallback: bool = False
    instead_of: str | None = None
    camera: str | None = None
    novelty: str | None = None

    @property
    def variant(self) -> str | None:
        """`<cell>@<version>`, None where the base answered."""
        name, found, _ = self.served_by.partition(" on base/")
        return name if found else None


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files: the CA to trust (None: the system's), and for mutual TLS the client's own certificate and key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def arguments(self) -> dict[str, Any]:
        """For tritonclient's constructors. Raises OSError for a file that cannot be read."""
        ca = self.ca
        if ca is None:
            found = ssl.get_default_verify_paths().cafile
            ca = Path(found) if found else None
        return {
            "ssl": True,
            "root_certificates": None if ca is None else str(ca),
            "certificate_chain": None if self.certificate is None else str(self.certificate),
            "private_key": None if self.key is None else str(self.key),
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """One request before it is sent. `variant` excludes `cell`."""

    cell: str | None = None
    variant: str | None = None
    line: str | None = None
    robot: str | None = None
    min_score: float | None = None
    request_id: str = ""
    camera: str | None = None

    def parameters(self) -> dict[str, str]:
        """The request parameters. Floats travel as text: not every server version knows floating-point ones."""
        said: dict[str, str | float | None] = {
            "cell": self.cell if self.variant is None else None,
            "variant": self.variant,
            "line": self.line,
            "robot": self.robot,
            "camera": self.camera,
            "min_score": self.min_score,
        }
        return {
            key: value if isinstance(value, str) else repr(value) for key, value in said.items() if value is not None
        }


@dataclass(slots=True)
class Memory:
    """What a client remembers between requests: the last good variant per cell and line, and recent answers."""

    last_good: OrderedDict[tuple[str | None, str | None], str] = field(default_factory=OrderedDict)
    recent: OrderedDict[str, tuple[Ask, str, tuple[int, int, int]]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, ask: Ask, answer: Answer) -> None:
        """Remember an answer."""
        with self.lock:
            if ask.variant is None and answer.variant is not None:
                self.last_good[ask.cell, ask.line] = answer.variant
                self.last_good.move_to_end((ask.cell, ask.line))
                while len(self.last_good) > _REMEMBERED:
                    self.last_good.popitem(last=False)
            elif ask.variant is None:
                self.last_good.pop((ask.cell, ask.line), None)
            found = answer.instances
            self.recent[answer.request_id] = (ask, answer.served_by, (len(found), found.height, found.width))
            while len(self.recent) > _REMEMBERED:
                self.recent.popitem(last=False)

    def fallback_for(self, ask: Ask) -> str | None:
        """The variant that answered this cell and line last."""
        return self.last_good.get((ask.cell, ask.line))

    def context_of(self, request_id: str) -> Mapping[str, str | None]:
        """What is known of the answer that an outcome is about."""
        found = self.recent.get(request_id)
        if found is None:
            return {}
        ask, served_by, _ = found
        return {"cell": ask.cell, "line": ask.line, "robot": ask.robot, "served_by": served_by}

    def shape_of(self, request_id: str) -> tuple[int, int, int] | tuple[None, None, None]:
        """How many instances an answer had, and its frame's height and width; None where it is forgotten."""
        found = self.recent.get(request_id)
        return (None, None, None) if found is None else found[2]


class Inputs:
    """The input tensors of one thread, made once and filled again for each request."""

    __slots__ = ("_tensors",)

    def __init__(self) -> None:
        self._tensors: dict[str, triton.InferInput] = {}

    def fill(self, image: ImageIn) -> triton.InferInput:
        """The tensor for an image. Raises RequestRejected for what is no image."""
        name, values = as_tensor(image)
        tensor = self._tensors.get(name)
        if tensor is None:
            tensor = self._tensors[name] = triton.InferInput(name, list(values.shape), "UINT8")
        tensor.set_shape(list(values.shape))
        tensor.set_data_from_numpy(values)
        return tensor


def as_tensor(image: ImageIn) -> tuple[str, npt.NDArray[np.uint8]]:
    """(input name, uint8 [1, ...]) of JPEG or PNG bytes, of such a file, or of uint8 [H, W, 3]. Raises RequestRejected
    for other pixels."""
    if isinstance(image, Path):
        image = image.read_bytes()
    if isinstance(image, bytes):
        return "image", np.frombuffer(image, np.uint8)[None]
    values = np.ascontiguousarray(image)
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
        raise RequestRejected(f"pixels must be uint8 [H, W, 3], got {values.dtype} {values.shape}", "image")
    return "pixels", values[None]


def read_answer(result: triton.InferResult, seconds: float, *, fallback: bool = False) -> Answer:
    """The answer in a response."""

    def text(name: str) -> str:
        return str(result.as_numpy(name).tobytes(), "utf-8")

    missed = result.as_numpy("instead_of")
    height, width = result.as_numpy("size")[0].tolist()
    instances = Instances(
        height,
        width,
        result.as_numpy("boxes")[0],
        result.as_numpy("scores")[0],
        tuple(json.loads(text("labels"))),
        tuple(mask.encode("ascii") for mask in json.loads(text("masks"))),
    )
    instead_of = text("instead_of") if missed is not None else None
    camera, novelty = (text(name) if result.as_numpy(name) is not None else None for name in ("camera", "novelty"))
    return Answer(instances, text("served_by"), text("request_id"), seconds, fallback, instead_of, camera, novelty)


def mapped(error: InferenceServerException, url: str, timeout_s: float) -> ClientError:
    """Our error for one of gRPC's. `ServerUnavailable` is the only one after which asking again makes sense."""
    status = (error.status() or "").removeprefix("StatusCode.")
    message = error.message() or ""
    found = _CODE.fullmatch(message)
    if found and found[1] == "busy":
        return Overloaded(f"{url} is too busy to answer in time; the request was not started: {found[2]}")
    if any(text in message for text in _AWAY):
        return ServerUnavailable(f"{url} is restarting: {message}")
    if found is None and _NO_MODEL.search(message):
        return ServerUnavailable(f"{url} is stopping, or has not loaded its model yet: {message}")
    if status == "DEADLINE_EXCEEDED" or status == "CANCELLED":
        return DeadlineExceeded(f"no answer from {url} within {timeout_s} s")
    if found and status in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "INTERNAL") and found[1] != "failed":
        return RequestRejected(found[2], found[1])
    if status in ("UNAVAILABLE", "NOT_FOUND"):
        return ServerUnavailable(f"{url} does not answer: {message}")
    if status == "INVALID_ARGUMENT":
        return RequestRejected(message or "the server rejected the request", "request")
    return ClientError(f"{url}: {message}")
