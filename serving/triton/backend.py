"""The Triton model itself, run by Triton's Python stub: requests in, responses out, scheduler and engine in between.

Every tensor crosses by DLPack and none by numpy. The stub of the Triton wheel was compiled against numpy 1 and reads an
array's item size at the wrong place of a numpy 2 array: BYTES tensors come out as garbage in both directions. DLPack
is the same in either world, and text travels as UTF-8 bytes (UINT8), lists of text as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb

from serving.errors import (
    DeadlinePassed,
    InternalError,
    RequestError,
    ServingError,
    TooBusy,
    UnknownCell,
    UnknownVariant,
    VariantWarming,
    bounded,
)
from serving.inference.preprocess import Image
from serving.inference.runners import EngineChoice
from serving.observed.captures import Capture, CaptureStore
from serving.observed.selectors import Answered
from serving.observed.telemetry import Prediction, Recorder
from serving.observed.uplink import CAPTURES, DiskUplink
from serving.triton.backend_settings import BackendSettings
from serving.triton.engine import Engine, Query, Reply
from serving.triton.heartbeat import Heartbeat
from serving.triton.metrics import VariantMetrics
from serving.triton.replies import Replies, Sender
from serving.triton.scheduler import CPU_ROWS, CUDA_ROWS, Scheduler
from serving.triton.watching import Watching

log = logging.getLogger(__name__)

# By name: the stub puts TritonError into its module only after it has imported this one.
_STATUS = (
    ((UnknownCell, UnknownVariant), "NOT_FOUND"),
    ((VariantWarming,), "UNAVAILABLE"),
    ((DeadlinePassed,), "CANCELLED"),
    ((TooBusy,), "UNAVAILABLE"),
    ((RequestError,), "INVALID_ARG"),
)


class Request(Protocol):
    """What we use of `pb.InferenceRequest`."""

    def parameters(self) -> str:
        """The request's parameters as a JSON object; "" if there are none."""

    def request_id(self) -> str:
        """The caller's id; "" if there is none."""

    def timeout(self) -> int:
        """Microseconds that the caller waits; 0: no end."""

    def get_response_sender(self) -> Sender:
        """What the answer goes by, also after `execute` has returned."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that was understood. `came` is when, by the performance counter; `timeout_s` how long it may wait from
    then on, 0 where it does not say."""

    query: Query
    id: str
    sender: Sender
    came: float
    timeout_s: float
    bulk: bool

    @property
    def cell(self) -> str:
        """Whose turn it is in the queue."""
        return self.query.cell or (self.query.variant or "").partition("@")[0]


class TritonPythonModel:
    """What the stub looks for by name: `initialize`, `execute`, `finalize`."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Load the base and the routed variants. Raises TritonModelException, which fails the model's load."""
        logging.getLogger("serving").addHandler(_TritonLog())
        logging.getLogger("serving").setLevel(logging.INFO)
        try:
            settings = BackendSettings.read(os.environ)
            choice = EngineChoice.read(os.environ)
            self._scheduler = Scheduler(
                self._answer,
                self._refuse,
                settings.batching,
                rows=CUDA_ROWS if torch.cuda.is_available() else CPU_ROWS,
                start=lambda: self._load(settings, choice),
                gone=lambda asked: asked.sender.is_cancelled(),
            )
        except ServingError as error:
            raise pb.TritonModelException(f"{error.code}: {error}") from error
        # Only now: an export or a compilation may hold Python's lock for long, and has the guard's time to start.
        self._heartbeat = Heartbeat(settings.heartbeat)
        self._policy, self._recorder, captures, uplink = settings.captures, None, None, None
        if (telemetry := settings.telemetry) is not None:
            captures = CaptureStore(telemetry / CAPTURES, settings.captures)
            uplink = DiskUplink(telemetry, captures=captures)
            self._recorder = Recorder(telemetry, captures, uplink=uplink)
        self._watching = Watching(
            telemetry if settings.observe else None,
            serving=settings.serving,
            captures=captures,
            base_in_place=lambda: self._engine.base_name,
            ring=settings.ring if settings.ring.max_bytes else None,
            uplink=uplink,
        )
        self._metrics = VariantMetrics(pb, collect=self._count)
        self._replies = Replies()

    def execute(self, requests: Sequence[Request]) -> None:
        """Queue the requests and return: the next batch takes them. A bad request gets its own error at once."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._accept(request, sender)
            except ServingError as error:
                self._fail(sender, error)
            except Exception as error:
                log.exception("a request could not be read")
                self._fail(sender, InternalError(error))

    def finalize(self) -> None:
        """Answer what waits and stop the background threads; what they hold is written."""
        self._scheduler.close()
        self._engine.close()
        self._replies.close()
        self._heartbeat.close()
        self._metrics.close()
        if self._recorder is not None:
            self._recorder.close()
        self._watching.close()

    def _load(self, settings: BackendSettings, choice: EngineChoice) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._engine = Engine(settings.serving, hot=settings.hot, check_tokens=settings.check_tokens, choice=choice)

    def _accept(self, request: Request, sender: Sender) -> None:
        came = time.perf_counter()
        parameters = json.loads(request.parameters() or "{}")
        query = _query(request, parameters)
        self._enter(
            _Asked(
                query,
                _request_id(request.request_id()),
                sender,
                came,
                timeout_s=request.timeout() / 1e6,
                bulk=parameters.get("bulk") is True,
            )
        )

    def _enter(self, asked: _Asked) -> None:
        """Queue a request whose variant is in memory; another one comes back here when it is. Its deadline runs on."""
        try:
            if not self._engine.expect(asked.query, partial(self._enter, asked)):
                return
            self._scheduler.put(
                asked,
                key=asked.cell,
                timeout_s=asked.timeout_s,
                waited_s=time.perf_counter() - asked.came,
                size=asked.query.size,
                bulk=asked.bulk,
            )
        except ServingError as error:
            self._refuse(asked, error)
        except Exception as error:
            log.exception("a request could not be queued")
            self._refuse(asked, InternalError(error))

    def _fail(self, sender: Sender, error: ServingError) -> None:
        self._replies.put(sender, lambda: _failure(error))
        self._metrics.failed(None, error.code)

    def _answer(self, batch: Sequence[_Asked], waited: Sequence[float]) -> None:
        at = time.time()
        with self._heartbeat.batch():
            answers = self._engine.answer([asked.query for asked in batch])
        for asked, result in zip(batch, answers, strict=True):
            if isinstance(result, VariantWarming):
                self._enter(asked)  # others pushed its variant out of memory while it was in the queue
            else:
                self._reply(asked, result, at, len(batch))
        self._metrics.batch(waited)

    def _refuse(self, asked: _Asked, error: ServingError) -> None:
        self._reply(asked, error, time.time(), 0)

    def _reply(self, asked: _Asked, result: Reply | ServingError, at: float, batch: int) -> None:
        """Send an answer or an error and note it: when its batch began, and how many were computed with it."""
        camera = self._watching.state(asked.query, result)
        if isinstance(result, Reply):
            news = self._watching.novelty(asked.query, result)
            beside = {"camera": None if camera is None else camera.camera, "novelty": news}
            self._replies.put(asked.sender, lambda: _success(result, asked.id, beside))
        else:
            self._replies.put(asked.sender, lambda: _failure(result))
        try:
            fit = camera is None or camera.word != "fault"
            self._note(asked.id, asked.query, result, at, time.perf_counter() - asked.came, batch, fit=fit)
            if not asked.bulk:
                self._watching.look(asked.query, result, at)
                if fit:
                    self._watching.look_for_news(asked.query, result, asked.id, at)
        except Exception:
            # It has its answer, and so shall its neighbours, whatever is wrong with the records.
            log.exception("a request could not be noted")

    def _note(
        self,
        request_id: str,
        query: Query,
        result: Reply | ServingError,
        at: float,
        seconds: float,
        batch: int,
        *,
        fit: bool,
    ) -> None:
        """Count a request that took `seconds` since it came and hand its record to the telemetry thread. A frame that
        is not `fit`, of a camera at fault, is not kept: nothing is to be learnt from it."""
        reply: Reply | None = None
        if isinstance(result, Reply):
            reply = result
            self._metrics.answered(reply.variant, reply.stage, seconds)
        else:
            # By names that lead to something: other texts would be the client's to fill memory and disk with.
            query = self._engine.known(query)
            self._metrics.failed(query.variant, result.code)
        if self._recorder is None:
            return
        found = reply.instances if reply is not None else None
        top = float(found.scores[0]) if found is not None and len(found) else None
        prediction = Prediction(
            request_id=request_id,
            at=at,
            cell=query.cell,
            line=query.line,
            robot=query.robot,
            variant=reply.variant if reply is not None else query.variant,
            base=reply.base if reply is not None else None,
            stage=reply.stage if reply is not None else None,
            table_version=reply.table_version if reply is not None else 0,
            instances=len(found) if found is not None else 0,
            top_score=top,
            top_label=found.labels[0] if found is not None and len(found) else None,
            labels=dict(Counter(found.labels).most_common(20)) if found is not None else {},
            latency_ms=round(seconds * 1000, 2),
            batch=batch,
            error=None if reply is not None else getattr(result, "code", "serving"),
            caller=self._engine.caller(query),
            height=found.height if found is not None else None,
            width=found.width if found is not None else None,
        )
        capture = None
        if reply is not None and fit:
            frame = Answered(request_id, top, reply.instances, query.cell, query.camera, at)
            if (reason := self._policy.choose(frame)) is not None:
                who = (query.cell, query.line, query.robot, query.camera)
                capture = Capture(query.image, reply.instances, request_id, at, reason, reply.served_by, *who)
        self._recorder.record(prediction, capture)

    def _count(self, metrics: VariantMetrics) -> None:
        """What the engine counted so far; the metrics' own thread asks."""
        counts = self._engine.counts
        for metric, per_variant in (("hits", counts.hits), ("misses", counts.misses), ("loads", counts.loads)):
            for variant, total in per_variant.copy().items():
                metrics.total(f"parcelhub_adapter_{metric}_total", total, variant)
        metrics.refused({variant: error.code for variant, error in self._engine.faults.items()})
        metrics.total("parcelhub_queue_length", self._scheduler.waiting + self._engine.held)
        metrics.total("parcelhub_slot_swaps_total", self._engine.swaps)
        metrics.total("parcelhub_routing_version", self._engine.table_version)
        metrics.serving(self._engine.base_name, self._engine.runs_on)


def _query(request: Request, parameters: dict[str, Any]) -> Query:
    texts: dict[str, str | None] = {}
    for key in ("cell", "variant", "line", "robot", "camera"):
        value = parameters.get(key)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable()):
            raise RequestError(f"parameter '{key}' must be a text of 1 to 200 printable characters")
        texts[key] = value
    return Query(
        _image(request),
        **texts,
        min_score=_min_score(parameters.get("min_score", 0.05)),
        token=_token(parameters),
    )


def _request_id(said: str) -> str:
    """The robot's own id of the request, or one of ours. It is sent back, recorded and named in outcomes."""
    if not said:
        return uuid.uuid4().hex
    if len(said) > 200 or not said.isprintable():
        raise RequestError("a request id has at most 200 printable characters")
    return said


def _token(parameters: dict[str, Any]) -> str | None:
    """The robot's token: the parameter `token`, or the `authorization` metadata, which Triton forwards as one."""
    for key, value in parameters.items():
        if key.lower() == "authorization" and isinstance(value, str) and value.lower().startswith("bearer "):
            return value[7:].strip()
    token = parameters.get("token")
    return token if isinstance(token, str) else None


def _min_score(value: object) -> float:
    # Not every client can send a floating-point parameter, so a number in a text is as good.
    try:
        score = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise RequestError(f"parameter 'min_score' must be between 0 and 1, got {bounded(repr(value), 60)}")
    return score


def _image(request: Request) -> bytes | Image:
    given = {name: pb.get_input_tensor_by_name(request, name) for name in ("image", "pixels")}
    if (given["image"] is None) == (given["pixels"] is None):
        raise RequestError("send either 'image' (encoded bytes) or 'pixels' (uint8 [H, W, 3])")
    name, tensor = next((name, tensor) for name, tensor in given.items() if tensor is not None)
    shape = list(tensor.shape())
    if shape[0] != 1 or 0 in shape:
        raise RequestError(f"'{name}' must hold one image, got shape {shape}; send one image per request")
    row: Image = torch.utils.dlpack.from_dlpack(tensor.to_dlpack())[0].cpu().numpy()
    # A copy: what Triton handed over is its own again when `execute` returns.
    return row.tobytes() if name == "image" else row.copy()


def _success(reply: Reply, request_id: str, beside: Mapping[str, str | None]) -> object:
    instances = reply.instances
    masks = [counts.decode("ascii") for counts in instances.masks]
    outputs = [
        _tensor("scores", instances.scores),
        _tensor("boxes", instances.boxes),
        _tensor("size", np.array([instances.height, instances.width], np.int32)),
        _text("labels", json.dumps(instances.labels)),
        _text("masks", json.dumps(masks)),
        _text("served_by", reply.served_by),
        _text("request_id", request_id),
    ]
    for name, said in {"instead_of": reply.instead_of, **beside}.items():
        outputs += [] if said is None else [_text(name, said)]
    return pb.InferenceResponse(outputs)


def _tensor(name: str, values: np.ndarray[Any, Any]) -> object:
    if not values.size:
        # The stub takes the strides of an empty DLPack tensor for not contiguous; with no bytes numpy's way is safe.
        return pb.Tensor(name, values[None])
    # A copy: the arrays of Instances are read-only, and DLPack has no way to say so.
    return pb.Tensor.from_dlpack(name, torch.from_numpy(values.copy())[None])


def _text(name: str, text: str) -> object:
    return _tensor(name, np.frombuffer(text.encode(), np.uint8))


def _failure(error: ServingError) -> object:
    status = next((s for kinds, s in _STATUS if isinstance(error, kinds)), "INTERNAL")
    return pb.InferenceResponse(error=pb.TritonError(f"{error.code}: {error}", getattr(pb.TritonError, status)))


class _TritonLog(logging.Handler):
    """Sends our log lines to Triton's own log."""

    def emit(self, record: logging.LogRecord) -> None:
        write = pb.Logger.log_error if record.levelno >= logging.ERROR else pb.Logger.log_info
        write(self.format(record))
