"""The Triton model itself, run by Triton's Python stub: requests in, responses out, the engine in between.

Every tensor crosses by DLPack and none by numpy. The stub of the Triton wheel was compiled against numpy 1 and reads an
array's item size at the wrong place of a numpy 2 array: BYTES tensors come out as garbage in both directions. DLPack
is the same in either world, and text travels as UTF-8 bytes (UINT8), lists of text as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb

from serving.errors import (
    RequestError,
    ServingError,
    UnknownCell,
    UnknownVariant,
    VariantWarming,
)
from serving.preprocess import Image
from serving.triton.engine import Engine, Query, Reply

SERVING_FOLDER = "PARCELHUB_SERVING"
THREADS = "PARCELHUB_TORCH_THREADS"
HOT_VARIANTS = "PARCELHUB_HOT_VARIANTS"

# By name: the stub puts TritonError into its module only after it has imported this one.
_STATUS = (
    ((UnknownCell, UnknownVariant), "NOT_FOUND"),
    ((VariantWarming,), "UNAVAILABLE"),
    ((RequestError,), "INVALID_ARG"),
)


class Request(Protocol):
    """What we use of `pb.InferenceRequest`."""

    def parameters(self) -> str: ...
    def request_id(self) -> str: ...


class TritonPythonModel:
    """What the stub looks for by name: `initialize`, `execute`, `finalize`."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Load the base and the routed variants. Raises TritonModelException, which fails the model's load."""
        logging.getLogger("serving").addHandler(_TritonLog())
        logging.getLogger("serving").setLevel(logging.INFO)
        folder = os.environ.get(SERVING_FOLDER)
        if not folder:
            raise pb.TritonModelException(f"{SERVING_FOLDER} must name the serving folder")
        threads = os.environ.get(THREADS)
        if threads:
            torch.set_num_threads(int(threads))
        try:
            self._engine = Engine(Path(folder), hot=int(os.environ.get(HOT_VARIANTS, "256")))
        except ServingError as error:
            raise pb.TritonModelException(f"{error.code}: {error}") from error

    def execute(self, requests: Sequence[Request]) -> list[object]:
        """One response per request, in order. A bad request gets its own error; its neighbours get answers."""
        responses: list[object] = [None] * len(requests)
        queries, places = [], []
        for i, request in enumerate(requests):
            try:
                queries.append(_query(request))
                places.append(i)
            except ServingError as error:
                responses[i] = _failure(error)
        for i, result in zip(places, self._engine.answer(queries), strict=True):
            if isinstance(result, Reply):
                responses[i] = _success(result, requests[i].request_id())
            else:
                responses[i] = _failure(result)
        return responses

    def finalize(self) -> None:
        """Stop the background thread."""
        self._engine.close()


def _query(request: Request) -> Query:
    parameters = json.loads(request.parameters() or "{}")
    texts = {}
    for key in ("cell", "variant", "line"):
        value = parameters.get(key)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200):
            raise RequestError(f"parameter '{key}' must be a text of 1 to 200 characters")
        texts[key] = value
    return Query(_image(request), **texts, min_score=_min_score(parameters.get("min_score", 0.05)))


def _min_score(value: object) -> float:
    # Not every client can send a floating-point parameter, so a number in a text is as good.
    try:
        score = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise RequestError(f"parameter 'min_score' must be between 0 and 1, got {value!r}")
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
    return row.tobytes() if name == "image" else row


def _success(reply: Reply, request_id: str) -> object:
    instances = reply.instances
    masks = [counts.decode("ascii") for counts in instances.masks]
    return pb.InferenceResponse(
        [
            _tensor("scores", instances.scores),
            _tensor("boxes", instances.boxes),
            _tensor("size", np.array([instances.height, instances.width], np.int32)),
            _text("labels", json.dumps(instances.labels)),
            _text("masks", json.dumps(masks)),
            _text("served_by", reply.served_by),
            _text("request_id", request_id or uuid.uuid4().hex),
        ]
    )


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
