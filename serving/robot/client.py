"""The robot's side: send a frame, get instances, say how the pick went. KServe v2 over unary gRPC; imports no torch.

`serving.robot.aio_client.AsyncRobotClient` is the same for asyncio.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.errors import ClientError, DeadlineExceeded, RequestRejected, ServerUnavailable
from serving.robot.outcomes import Outcome, OutcomeName, OutcomeReporter, hub_sender
from serving.robot.shared_frames import SharedFrames, is_forgotten
from serving.robot.wire import (
    CHANNEL,
    FALLBACK_CODES,
    MODEL,
    Answer,
    Ask,
    ClientTls,
    ImageIn,
    Inputs,
    Memory,
    mapped,
    read_answer,
)

__all__ = ["MODEL", "Answer", "ClientTls", "RobotClient"]

WARMING_PAUSE_S = 0.02
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4)


class RobotClient:
    """Asks a parcelhub Triton server. May be shared between threads; each thread has its own connection.

    Asking changes nothing on the server, so a request that met a dead connection or a server that is restarting is
    sent again by itself until `timeout_s` is over. One that the server refused is not, nor one it had no time for.
    """

    def __init__(
        self,
        url: str,
        *,
        cell: str | None = None,
        robot: str | None = None,
        line: str | None = None,
        camera: str | None = None,
        timeout_s: float = 2.0,
        token: str | None = None,
        tls: ClientTls | None = None,
        shared_memory: bool = False,
        fallback: bool = False,
        hedge_after_s: float | None = None,
        hub: str | None = None,
        outcomes: OutcomeReporter | None = None,
    ) -> None:
        """`url` is `host:port` of Triton's gRPC endpoint.

        Args:
            cell, robot, line: the defaults of every request. camera: its name, where a line has several.
            timeout_s: bounds one call, everything included.
            token: the robot's token, for Triton (where it checks tokens) and for the hub.
            tls: encrypts the connection; None sends in the clear.
            shared_memory: hand frames over in shared memory; for a server on this very host that allows it.
            fallback: where the routed variant cannot answer, ask for the one that answered this cell and line last.
            hedge_after_s: send the request a second time if no answer came for so long, and take the first answer.
                None, the default, never does: a server that is busy would be made busier.
            hub: address of the hub that outcomes go to. outcomes: a reporter that clients share, instead.
        """
        self._url = url
        self._defaults = Ask(cell=cell, robot=robot, line=line, camera=camera)
        self._timeout_s = timeout_s
        self._headers = {"authorization": f"Bearer {token}"} if token else None
        self._tls = {} if tls is None else tls.arguments()
        self._shared_memory = shared_memory
        self._fallback = fallback
        self._hedge_after_s = hedge_after_s
        self._memory = Memory()
        self._own_reporter = OutcomeReporter(hub_sender(hub, token or "")) if hub and outcomes is None else None
        self._reporter = outcomes or self._own_reporter
        self._local = threading.local()
        self._opened: list[_Connection] = []
        self._lock = threading.Lock()

    def segment(
        self,
        image: ImageIn,
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
            min_score: instances below are left out; the server's floor by default, which is far below 0.5, the score
                at which each variant does best (`serving.inference.score_calibration`).

        Raises:
            RequestRejected: this request is at fault; `reason_code` says how (`unknown_cell`, `image`, ...).
            Overloaded: the server refused it at once, as it would have waited past the deadline.
            DeadlineExceeded, ServerUnavailable, ClientError.
        """
        started = time.monotonic()
        ask = ask_of(self._defaults, cell, variant, line, min_score, request_id)
        deadline = started + self._timeout_s
        try:
            answer = self._until(deadline, started, image, ask)
        except RequestRejected as error:
            last_good = self._memory.fallback_for(ask) if self._fallback and variant is None else None
            if last_good is None or error.reason_code not in FALLBACK_CODES:
                raise
            pinned = replace(ask, variant=last_good)
            answer = replace(self._until(deadline, started, image, pinned), fallback=True)
        else:
            self._memory.note(ask, answer)
        return answer

    def report_outcome(
        self,
        answer: Answer | str,
        outcome: OutcomeName,
        *,
        label: str | None = None,
        picked_at: float | None = None,
        instance: int | None = None,
        point: tuple[float, float] | None = None,
        gripper: str | None = None,
    ) -> None:
        """Say what the pick did that followed an answer (or its request id). Never waits for the hub.

        Args:
            label: the class of the picked item; the answer's most certain one where it is left out.
            picked_at: epoch seconds; now where it is left out.
            instance: which instance was picked, counted from 0 in the order of the answer as it came.
            point: where the gripper went, (x, y) in pixels of the frame.
            gripper: what it was picked with, for example `suction 40 mm`.

        Raises OutcomeInvalid, also for an instance that the answer does not have and a point outside of the frame, and
        ClientError where the client was given neither `hub` nor `outcomes`.
        """
        if self._reporter is None:
            raise ClientError("outcomes need the hub's address: RobotClient(..., hub='http://hub:8400', token=...)")
        picked = Picked(instance, point, gripper)
        self._reporter.report(outcome_of(self._memory, answer, outcome, label, picked_at, picked))

    def ready(self) -> bool:
        """Whether the server is up and the model answers."""
        try:
            connection = self._connection()
            return bool(connection.client.is_model_ready(MODEL, headers=self._headers, client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    def close(self) -> None:
        """Send the outcomes that are left and close the connections of all threads."""
        if self._own_reporter is not None:
            self._own_reporter.close()
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
            self._local = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _until(self, deadline: float, started: float, image: ImageIn, ask: Ask) -> Answer:
        attempt = 0
        last: ClientError | None = None
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise last or DeadlineExceeded(f"no answer from {self._url} within {self._timeout_s} s")
            try:
                return read_answer(self._once(image, ask, left), time.monotonic() - started)
            except InferenceServerException as error:
                found = mapped(error, self._url, self._timeout_s)
                found.__cause__ = error
            pause = retry_pause(found, attempt)
            if pause is None or time.monotonic() + pause >= deadline:
                raise found
            last, attempt = found, attempt + 1
            time.sleep(pause)

    def _once(self, image: ImageIn, ask: Ask, left: float) -> triton.InferResult:
        connection = self._connection()
        try:
            return self._send(connection, connection.fill(image), ask, left)
        except InferenceServerException as error:
            if connection.frames is None or not is_forgotten(error):
                raise
            connection.frames.forget()
            return self._send(connection, connection.fill(image), ask, left)

    def _send(self, connection: _Connection, tensor: triton.InferInput, ask: Ask, left: float) -> triton.InferResult:
        arguments: dict[str, Any] = {
            "parameters": ask.parameters(),
            "request_id": ask.request_id,
            # Triton drops it from its queue when this time is over, rather than answer nobody.
            "timeout": max(int(left * 1e6), 1),
            "client_timeout": left,
            "headers": self._headers,
        }
        if self._hedge_after_s is None:
            return connection.client.infer(MODEL, [tensor], **arguments)
        return _hedged(connection.client, tensor, arguments, self._hedge_after_s, left)

    def _connection(self) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            client = triton.InferenceServerClient(self._url, channel_args=CHANNEL, **self._tls)
            connection = _Connection(client, self._shared_memory)
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        return connection


class _Connection:
    """What one thread has: a channel, and its input tensors or its shared memory."""

    __slots__ = ("_inputs", "client", "frames")

    def __init__(self, client: triton.InferenceServerClient, shared: bool) -> None:
        self.client = client
        self._inputs = Inputs()
        self.frames = SharedFrames(client) if shared else None

    def fill(self, image: ImageIn) -> triton.InferInput:
        return self._inputs.fill(image) if self.frames is None else self.frames.fill(image)

    def close(self) -> None:
        if self.frames is not None:
            self.frames.close()
        self.client.close()


def ask_of(
    defaults: Ask,
    cell: str | None,
    variant: str | None,
    line: str | None,
    min_score: float | None,
    request_id: str,
) -> Ask:
    """One call's request over the client's defaults."""
    return replace(
        defaults,
        cell=None if variant is not None else cell or defaults.cell,
        variant=variant,
        line=line or defaults.line,
        min_score=min_score,
        request_id=request_id,
    )


class Picked(NamedTuple):
    """Which instance was picked, where, and with what; None where the robot does not say."""

    instance: int | None
    point: tuple[float, float] | None
    gripper: str | None


def outcome_of(
    memory: Memory,
    answer: Answer | str,
    outcome: OutcomeName,
    label: str | None,
    picked_at: float | None,
    picked: Picked,
) -> Outcome:
    """The outcome with what the client remembers of the answer. Raises OutcomeInvalid."""
    request_id = answer if isinstance(answer, str) else answer.request_id
    made = Outcome(
        request_id,
        outcome,
        time.time() if picked_at is None else picked_at,
        label=label,
        instance=picked.instance,
        point=picked.point,
        gripper=picked.gripper,
        **memory.context_of(request_id),
    )
    if isinstance(answer, str):
        made.check(*memory.shape_of(request_id))
    else:
        found = answer.instances
        made.check(len(found), found.height, found.width)
    return made


def retry_pause(error: ClientError, attempt: int) -> float | None:
    """Seconds to wait before the same request may be sent again; None where it must not be."""
    if isinstance(error, RequestRejected):
        return WARMING_PAUSE_S if error.reason_code == "warming" else None
    if isinstance(error, ServerUnavailable):
        # A little at random: a hundred robots must not come back in the same millisecond.
        return _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)] * random.uniform(0.7, 1.3)
    return None


def _hedged(
    client: triton.InferenceServerClient,
    tensor: triton.InferInput,
    arguments: dict[str, Any],
    after: float,
    left: float,
) -> triton.InferResult:
    """Two requests at most; the first answer counts, and the other request is cancelled."""
    answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    deadline = time.monotonic() + left
    calls: list[Any] = []
    failure = InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")
    try:
        for patience in (min(after, left), left):
            calls.append(
                client.async_infer(
                    MODEL, [tensor], callback=lambda result, error: answers.put((result, error)), **arguments
                )
            )
            until = min(time.monotonic() + patience, deadline)
            with contextlib.suppress(queue.Empty):
                result, error = answers.get(timeout=max(until - time.monotonic(), 0.001))
                if error is None:
                    return result
                failure = error
                break  # an error is an answer too: what to do about it is the caller's part
    finally:
        for call in calls:
            call.cancel()
    raise failure
