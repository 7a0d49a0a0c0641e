"""The robot's side for asyncio: the same requests, answers, retries and outcomes as
`serving.robot.client.RobotClient`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from serving.errors import ClientError, DeadlineExceeded, RequestRejected
from serving.robot.client import Picked, ask_of, outcome_of, retry_pause
from serving.robot.outcomes import OutcomeName, OutcomeReporter, hub_sender
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


class AsyncRobotClient:
    """Asks a parcelhub Triton server over one connection; any number of requests may be under way at a time.

    Arguments and errors are those of `RobotClient`; shared memory and hedging are the threads' part.
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
        fallback: bool = False,
        hub: str | None = None,
        outcomes: OutcomeReporter | None = None,
    ) -> None:
        """Call it inside a running event loop: gRPC binds the connection to it."""
        self._url = url
        self._defaults = Ask(cell=cell, robot=robot, line=line, camera=camera)
        self._timeout_s = timeout_s
        self._headers = {"authorization": f"Bearer {token}"} if token else None
        self._fallback = fallback
        self._memory = Memory()
        self._inputs = Inputs()
        self._own_reporter = OutcomeReporter(hub_sender(hub, token or "")) if hub and outcomes is None else None
        self._reporter = outcomes or self._own_reporter
        tls_arguments = {} if tls is None else tls.arguments()
        self._client = triton.InferenceServerClient(url, channel_args=CHANNEL, **tls_arguments)

    async def segment(
        self,
        image: ImageIn,
        *,
        cell: str | None = None,
        variant: str | None = None,
        line: str | None = None,
        min_score: float | None = None,
        request_id: str = "",
    ) -> Answer:
        """Segment one frame; see `RobotClient.segment`."""
        started = time.monotonic()
        deadline = started + self._timeout_s
        ask = ask_of(self._defaults, cell, variant, line, min_score, request_id)
        try:
            answer = await self._until(deadline, started, image, ask)
        except RequestRejected as error:
            last_good = self._memory.fallback_for(ask) if self._fallback and variant is None else None
            if last_good is None or error.reason_code not in FALLBACK_CODES:
                raise
            answer = await self._until(deadline, started, image, replace(ask, variant=last_good))
            return replace(answer, fallback=True)
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
        """Say what the pick did; returns at once. See `RobotClient.report_outcome`. Raises ClientError without the
        hub's address."""
        if self._reporter is None:
            raise ClientError("outcomes need the hub's address: AsyncRobotClient(..., hub='http://hub:8400')")
        picked = Picked(instance, point, gripper)
        self._reporter.report(outcome_of(self._memory, answer, outcome, label, picked_at, picked))

    async def ready(self) -> bool:
        """Whether the server is up and the model answers."""
        try:
            return bool(await self._client.is_model_ready(MODEL, headers=self._headers, client_timeout=self._timeout_s))
        except InferenceServerException:
            return False

    async def close(self) -> None:
        """Send the outcomes that are left and close the connection."""
        if self._own_reporter is not None:
            await asyncio.to_thread(self._own_reporter.close)
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _until(self, deadline: float, started: float, image: ImageIn, ask: Ask) -> Answer:
        attempt = 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"no answer from {self._url} within {self._timeout_s} s")
            try:
                # The tensor is serialised before the first await, so requests under way may share it.
                result = await self._client.infer(
                    MODEL,
                    [self._inputs.fill(image)],
                    parameters=ask.parameters(),
                    request_id=ask.request_id,
                    timeout=max(int(left * 1e6), 1),
                    client_timeout=left,
                    headers=self._headers,
                )
                return read_answer(result, time.monotonic() - started)
            except InferenceServerException as error:
                found = mapped(error, self._url, self._timeout_s)
                found.__cause__ = error
            pause = retry_pause(found, attempt)
            if pause is None or time.monotonic() + pause >= deadline:
                raise found
            attempt += 1
            await asyncio.sleep(pause)
