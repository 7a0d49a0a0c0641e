"""The robot's clients against a gRPC server that fails on purpose: faults that Triton does not make to order."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from serving.errors import (
    ClientError,
    DeadlineExceeded,
    OutcomeInvalid,
    Overloaded,
    RequestRejected,
    ServerUnavailable,
)
from serving.robot.aio_client import AsyncRobotClient
from serving.robot.client import RobotClient, retry_pause
from serving.robot.outcomes import OutcomeReporter
from serving.robot.wire import mapped
from tests.serving.triton.test_triton import free_ports

FRAME = np.zeros((4, 6, 3), np.uint8)


class Robots(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers as the table of faults says: one entry per request, then "ok" for ever."""

    def __init__(self, faults: list[Any]) -> None:
        self.faults = faults
        self.asked: list[Any] = []
        self.lock = threading.Lock()

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802  # the protocol's name
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self.lock:
            self.asked.append(request)
            fault = self.faults.pop(0) if self.faults else "ok"
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault != "ok":
            context.abort(*fault)
        variant = request.parameters["variant"].string_param if "variant" in request.parameters else "north@v2"
        answer = service_pb2.ModelInferResponse(model_name="segmenter")
        outputs = {
            "scores": ("FP32", [1, 0], b""),
            "boxes": ("FP32", [1, 0, 4], b""),
            "size": ("INT32", [1, 2], np.array([4, 6], np.int32).tobytes()),
            "labels": ("UINT8", [1, 2], b"[]"),
            "masks": ("UINT8", [1, 2], b"[]"),
        }
        for name, text in (("served_by", f"{variant} on base/universal@v1"), ("request_id", request.id or "made-up")):
            outputs[name] = ("UINT8", [1, len(text)], text.encode())
        for name, (datatype, shape, data) in outputs.items():
            answer.outputs.add(name=name, datatype=datatype, shape=shape)
            answer.raw_output_contents.append(data)
        return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, Robots, grpc.Server]]]:
    servers = []

    def start(*faults: Any, port: int | None = None) -> tuple[str, Robots, grpc.Server]:
        robots = Robots(list(faults))
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 1)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(robots, server)
        url = f"127.0.0.1:{port or free_ports(1)[0]}"
        server.add_insecure_port(url)
        server.start()
        servers.append(server)
        return url, robots, server

    yield start
    for server in servers:
        server.stop(0)


AWAY = (grpc.StatusCode.UNAVAILABLE, "connection lost")
STUB = (grpc.StatusCode.INTERNAL, "Failed to process the request(s): Stub process 'segmenter_0' is not healthy.")
WARMING = (grpc.StatusCode.UNAVAILABLE, "warming: variant 'north@v2' is being loaded; ask again")
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, "image: not a JPEG or PNG file")
FULL = (grpc.StatusCode.UNAVAILABLE, "[request id: x] busy: 256 requests wait already")
EXPIRED = (grpc.StatusCode.UNAVAILABLE, "busy: the request would have been answered past its deadline")
BROKEN = (grpc.StatusCode.INTERNAL, "adapter: variant 'north@v3': the SHA-256 differs")


@pytest.mark.parametrize("faults", [[AWAY], [STUB, AWAY], [WARMING, WARMING]])
def test_what_may_succeed_is_asked_again(serve: Any, faults: list[Any]) -> None:
    url, robots, _ = serve(*faults, *faults)
    with RobotClient(url, cell="north", timeout_s=20) as robot:
        assert robot.segment(FRAME).variant == "north@v2"

    async def ask() -> None:
        async with AsyncRobotClient(url, cell="north", timeout_s=20) as client:
            assert (await client.segment(FRAME)).variant == "north@v2"

    asyncio.run(ask())
    assert len(robots.asked) == 2 * len(faults) + 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [(REFUSED, RequestRejected), (FULL, Overloaded), (EXPIRED, Overloaded), (BROKEN, RequestRejected)],
)
def test_a_refusal_is_never_asked_again(serve: Any, fault: Any, error: type[ClientError]) -> None:
    url, robots, _ = serve(fault)
    with RobotClient(url, timeout_s=20) as robot, pytest.raises(error):
        robot.segment(FRAME)
    assert len(robots.asked) == 1


def test_the_deadline_holds_and_the_server_is_told_of_it(serve: Any) -> None:
    url, robots, _ = serve(3.0)
    with RobotClient(url, timeout_s=0.5) as robot, pytest.raises(DeadlineExceeded):
        robot.segment(FRAME)
    told = robots.asked[0].parameters["timeout"].int64_param
    assert 0 < told <= 500_000
    url, robots, _ = serve(*[AWAY] * 1000)
    with RobotClient(url, timeout_s=0.5) as robot, pytest.raises(ServerUnavailable):
        robot.segment(FRAME)
    assert len(robots.asked) < 20, "with growing pauses"


def test_a_server_that_comes_back_is_found_again(serve: Any) -> None:
    url, _, server = serve()
    port = int(url.rpartition(":")[2])
    with RobotClient(url, timeout_s=30) as robot:
        robot.segment(FRAME)
        server.stop(0).wait()
        threading.Timer(1.0, lambda: serve(port=port)).start()
        assert robot.segment(FRAME).variant == "north@v2"


def test_the_last_good_variant_answers_where_it_is_wanted(serve: Any) -> None:
    url, robots, _ = serve("ok", BROKEN)
    with RobotClient(url, cell="north", fallback=True, timeout_s=20) as robot:
        assert not robot.segment(FRAME).fallback
        answer = robot.segment(FRAME)
        assert (answer.variant, answer.fallback) == ("north@v2", True)
        assert "cell" not in robots.asked[-1].parameters
        robots.faults.append(REFUSED)
        with pytest.raises(RequestRejected):
            robot.segment(FRAME)
    url, robots, _ = serve(BROKEN)
    with RobotClient(url, cell="north", fallback=True, timeout_s=20) as robot, pytest.raises(RequestRejected):
        robot.segment(FRAME)  # nothing was good before


def test_a_hedged_request_takes_the_first_answer(serve: Any) -> None:
    url, robots, _ = serve(5.0)
    with RobotClient(url, hedge_after_s=0.1, timeout_s=20) as robot:
        assert robot.segment(FRAME).round_trip_s < 4.9
        assert len(robots.asked) == 2
        robots.faults.append(REFUSED)
        with pytest.raises(RequestRejected):
            robot.segment(FRAME)
        assert len(robots.asked) == 3, "an error is an answer"


def test_requests_carry_what_they_are_about(serve: Any) -> None:
    url, robots, _ = serve()
    with RobotClient(url, cell="north", line="l1", robot="arm", token="secret", timeout_s=20) as robot:
        robot.segment(b"\xff\xd8\xff", min_score=0.25, request_id="r-1")
        robot.segment(FRAME, variant="south@v1")
        robot.segment(np.zeros((9, 5, 3), np.uint8), cell="south")
        with pytest.raises(RequestRejected):
            robot.segment(np.zeros((4, 4), np.uint8))
    first, second, third = robots.asked
    said = {key: value.string_param for key, value in first.parameters.items() if key != "timeout"}
    assert said == {"cell": "north", "line": "l1", "robot": "arm", "min_score": "0.25"}
    assert (first.id, first.inputs[0].name, list(first.inputs[0].shape)) == ("r-1", "image", [1, 3])
    assert (second.parameters["variant"].string_param, "cell" in second.parameters) == ("south@v1", False)
    assert (third.parameters["cell"].string_param, list(third.inputs[0].shape)) == ("south", [1, 9, 5, 3])


def test_outcomes_carry_what_the_client_remembers(serve: Any) -> None:
    url, _, _ = serve()
    got: list[dict[str, Any]] = []
    reporter = OutcomeReporter(lambda batch: bool(got.extend(dict(one) for one in batch)) or True, flush_every_s=0.01)
    with RobotClient(url, cell="north", line="l1", outcomes=reporter, timeout_s=20) as robot:
        answer = robot.segment(FRAME, request_id="r-7")
        robot.report_outcome(answer, "drop", label="box")
        robot.report_outcome("long-gone", "success")
        with pytest.raises(OutcomeInvalid):
            robot.report_outcome(answer, "fine")  # type: ignore[arg-type]
    assert reporter.flush(10)
    reporter.close()
    assert (got[0]["cell"], got[0]["line"], got[0]["served_by"]) == ("north", "l1", "north@v2 on base/universal@v1")
    assert (got[1]["request_id"], got[1]["cell"]) == ("long-gone", None)
    with RobotClient(url) as robot, pytest.raises(ClientError, match="hub"):
        robot.report_outcome("r", "miss")


@pytest.mark.parametrize("status", ["UNAVAILABLE", "NOT_FOUND", "INVALID_ARGUMENT", "INTERNAL"])
@pytest.mark.parametrize(
    "message",
    [
        "Request for unknown model: 'segmenter' has no available versions",
        "[StatusCode.UNAVAILABLE] Request for unknown model: 'segmenter' has no available versions",
        "Request for unknown model: 'segmenter' is not found",
        "Request for unknown model: 'segmenter' version 1 is not ready",
    ],
)
def test_a_server_without_its_model_is_stopping_or_loading_and_is_asked_again(status: str, message: str) -> None:
    found = mapped(InferenceServerException(message, f"StatusCode.{status}"), "host:1", 2.0)
    assert type(found) is ServerUnavailable
    assert str(found).startswith("host:1 is stopping, or has not loaded its model yet: ") and message in str(found)
    assert retry_pause(found, 0) is not None
    ours = InferenceServerException("unknown_variant: the model is not ready", "StatusCode.NOT_FOUND")
    refused = mapped(ours, "host:1", 2.0)
    assert type(refused) is RequestRejected, "our own words are a refusal, whatever they quote"


@pytest.mark.parametrize(
    ("status", "message", "error", "code"),
    [
        ("INVALID_ARGUMENT", "image: cut [short] here", RequestRejected, "image"),
        (
            "INVALID_ARGUMENT",
            "[StatusCode.INVALID_ARGUMENT] request: got shape [1, 2]; send one",
            RequestRejected,
            "request",
        ),
        ("INVALID_ARGUMENT", "unexpected shape for input 'pixels'", RequestRejected, "request"),
        ("NOT_FOUND", "unknown_cell: unknown cell 'x'", RequestRejected, "unknown_cell"),
        ("NOT_FOUND", "Request for unknown model: 'segmenter' is not found", ServerUnavailable, None),
        ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped", ServerUnavailable, None),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: x", ServerUnavailable, None),
        ("CANCELLED", "Locally cancelled", DeadlineExceeded, None),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", ClientError, None),
    ],
)
def test_errors_are_told_apart(status: str, message: str, error: type[ClientError], code: str | None) -> None:
    found = mapped(InferenceServerException(message, f"StatusCode.{status}"), "host:1", 2.0)
    assert type(found) is error
    assert getattr(found, "reason_code", None) == code
    assert json.dumps(str(found))
