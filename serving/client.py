"""The robot's side: send a frame, get instances. KServe v2 over unary gRPC; imports no torch."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.errors import ClientError, DeadlineExceeded, RequestRejected, ServerUnavailable
from serving.instances import Instances

MODEL = "segmenter"
_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one frame.

    Attributes:
        served_by: `base/<name>@<revision>` or `<cell>@<version> on base/<name>@<revision>`.
        request_id: names this request in captures and outcomes.
        round_trip_s: seconds from the call to the answer, as the robot saw it.
    """

    instances: Instances
    served_by: str
    request_id: str
    round_trip_s: float


class RobotClient:
    """Asks a parcelhub Triton server. May be shared between threads; each thread gets its own channel.

    `cell`, `robot` and `line` given here are the defaults of every request. `timeout_s` bounds one call, retries while
    a variant is being loaded included.
    """

    def __init__(
        self,
        url: str,
        *,
        cell: str | None = None,
        robot: str | None = None,
        line: str | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        """`url` is `host:port` of Triton's gRPC endpoint."""
        self._url = url
        self._defaults = {"cell": cell, "robot": robot, "line": line}
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._opened: list[triton.InferenceServerClient] = []
        self._lock = threading.Lock()

    def segment(
        self,
        image: bytes | npt.NDArray[np.uint8] | Path,
        *,
        cell: str | None = None,
        variant: str | None = None,
        line: str | None = None,
        min_score: float | None = None,
        request_id: str = "",
    ) -> Answer:
        """Segment one frame.

        Args:
            image: JPEG or PNG bytes, the path of such a file, or uint8 [H, W, 3] RGB.
            cell: routed by stage; replaces the client's own. variant: pinned, `<cell>@<version>`, instead of a cell.
            min_score: instances below are left out; the server's floor by default.

        Raises:
            RequestRejected: this request is at fault; `reason_code` says how (`unknown_cell`, `image`, ...).
            DeadlineExceeded, ServerUnavailable, ClientError.
        """
        started = time.monotonic()
        parameters: dict[str, str | float | None] = {**self._defaults, "min_score": min_score}
        if variant is not None:
            parameters |= {"cell": None, "variant": variant}
        elif cell is not None:
            parameters["cell"] = cell
        if line is not None:
            parameters["line"] = line
        # Floats travel as text: not every server version knows floating-point parameters.
        sent = {k: v if isinstance(v, str) else repr(v) for k, v in parameters.items() if v is not None}
        tensor = _input(image.read_bytes() if isinstance(image, Path) else image)
        while True:
            left = self._timeout_s - (time.monotonic() - started)
            if left <= 0:
                raise DeadlineExceeded(f"no answer from {self._url} within {self._timeout_s} s")
            try:
                result = self._client().infer(
                    MODEL, [tensor], parameters=sent, request_id=request_id, client_timeout=left
                )
                return _answer(result, time.monotonic() - started)
            except InferenceServerException as error:
                code, _, reason = (error.message() or "").rpartition("] ")[2].partition(": ")
                if code != "warming":
                    raise self._mapped(error, code, reason) from error
                time.sleep(min(_RETRY_S, max(left, 0.0)))

    def ready(self) -> bool:
        """Whether the server is up and the model answers."""
        try:
            return bool(self._client().is_model_ready(MODEL, client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    def close(self) -> None:
        """Close the channels of all threads."""
        with self._lock:
            for client in self._opened:
                client.close()
            self._opened.clear()
            self._local = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _client(self) -> triton.InferenceServerClient:
        client = getattr(self._local, "client", None)
        if client is None:
            # gRPC lends one connection to all channels with equal settings; a pool of its own makes it one per thread.
            options = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
            client = triton.InferenceServerClient(self._url, channel_args=options)
            self._local.client = client
            with self._lock:
                self._opened.append(client)
        return client

    def _mapped(self, error: InferenceServerException, code: str, reason: str) -> ClientError:
        status = (error.status() or "").removeprefix("StatusCode.")
        if status in ("INVALID_ARGUMENT", "NOT_FOUND") and reason and " " not in code:
            return RequestRejected(reason, code)
        if status in ("UNAVAILABLE", "NOT_FOUND"):
            return ServerUnavailable(f"{self._url} does not answer: {error.message()}")
        if status == "DEADLINE_EXCEEDED":
            return DeadlineExceeded(f"no answer from {self._url} within {self._timeout_s} s")
        if status == "INVALID_ARGUMENT":
            return RequestRejected(error.message() or "the server rejected the request", "request")
        return ClientError(f"{self._url}: {error.message()}")


def _input(image: bytes | npt.NDArray[np.uint8]) -> triton.InferInput:
    if isinstance(image, bytes):
        name, values = "image", np.frombuffer(image, np.uint8)
    else:
        name, values = "pixels", np.ascontiguousarray(image)
        if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 3:
            raise RequestRejected(f"pixels must be uint8 [H, W, 3], got {values.dtype} {values.shape}", "image")
    tensor = triton.InferInput(name, [1, *values.shape], "UINT8")
    tensor.set_data_from_numpy(values[None])
    return tensor


def _answer(result: triton.InferResult, seconds: float) -> Answer:
    def text(name: str) -> str:
        return str(result.as_numpy(name).tobytes(), "utf-8")

    height, width = result.as_numpy("size")[0].tolist()
    instances = Instances(
        height,
        width,
        result.as_numpy("boxes")[0],
        result.as_numpy("scores")[0],
        tuple(json.loads(text("labels"))),
        tuple(mask.encode("ascii") for mask in json.loads(text("masks"))),
    )
    return Answer(instances, text("served_by"), text("request_id"), seconds)
