"""Requests that are wrong in every way we can think of, sent to a real server among requests that are right.

What is counted is what a server owes: an error for each wrong request, the right answer for each right one beside it,
and memory that stays within bounds.
"""

from __future__ import annotations

import json
import random
import struct
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from pycocotools import mask as coco_mask
from tritonclient.utils import InferenceServerException

from benchmarks.serving.scenarios import frames, resident_bytes
from serving.inference.preprocess import decode_image
from serving.instances import Instances
from serving.robot.wire import CHANNEL, MODEL, read_answer

TIMEOUT_S: Final = 120.0
"""No request here may take so long: one that does counts as not answered."""
COMPARED: Final = 10
"""So many of the most certain instances of a healthy answer are looked for again beside wrong requests."""
_HEALTHY: Final = {"min_score": "0.0"}
"""Right requests ask for every instance: a base that is sure of nothing must not make the comparison empty."""


def png_bomb(width: int = 10_000, height: int = 10_000) -> bytes:
    """A valid PNG of 100 megapixels in 300 kB: all zeros."""
    packer = zlib.compressobj(9)
    row = b"\0" * (3 * width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (_png_chunk(b"IHDR", header), _png_chunk(b"IDAT", body), _png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request that must be refused: what is wrong with it, its inputs, its parameters."""

    kind: str
    inputs: list[triton.InferInput]
    parameters: Mapping[str, Any]


class Fuzzer:
    """Makes wrong requests from a seed. `cell` is one that the server knows; `jpeg` and `pixels` are a good frame."""

    KINDS: Final = (
        *("random", "truncated", "bomb", "flipped header", "empty batch", "two images", "wrong shape", "wrong dtype"),
        *("wrong parameter", "unknown cell", "no input", "both inputs", "flat pixels", "huge claim", "long text"),
        *("missing parameters", "unknown input", "cut png", "bytes as text"),
    )

    def __init__(self, seed: int, *, cell: str, variant: str, pixels: npt.NDArray[np.uint8], bomb: bytes = b"") -> None:
        self._rng = random.Random(seed)
        self._cell, self._variant, self._pixels = cell, variant, pixels
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        self._jpeg = cv2.imencode(".jpg", bgr)[1].tobytes()
        self._png = cv2.imencode(".png", bgr)[1].tobytes()
        self._bomb = bomb or png_bomb()

    def make(self, kind: str | None = None) -> Wrong:
        """A request of this kind, or of any."""
        kind = kind or self._rng.choice(self.KINDS)
        image = self._image(kind)
        if image is not None:
            return Wrong(kind, [_encoded(image)], {"cell": self._cell})
        parameters = self._parameters(kind)
        if parameters is not None:
            return Wrong(kind, [_encoded(self._jpeg)], parameters)
        return Wrong(kind, self._inputs(kind), {} if kind == "missing parameters" else {"cell": self._cell})

    def _image(self, kind: str) -> bytes | None:
        rng, jpeg = self._rng, self._jpeg
        if kind == "random":
            return rng.randbytes(rng.randint(1, 20_000))
        if kind == "truncated":
            return jpeg[: rng.randint(1, len(jpeg) // 2)]
        if kind == "cut png":
            return self._png[: rng.randint(1, len(self._png) // 2)]
        if kind == "bomb":
            return self._bomb
        if kind == "flipped header":
            head = bytearray(jpeg)
            head[rng.randint(0, 2)] ^= 1 << rng.randint(0, 7)
            return bytes(head)
        if kind == "huge claim":
            at = jpeg.index(b"\xff\xc0")
            return jpeg[: at + 5] + b"\xff\xff\xff\xff" + jpeg[at + 9 :]
        return None

    def _parameters(self, kind: str) -> dict[str, Any] | None:
        rng, cell, variant = self._rng, self._cell, self._variant
        if kind == "wrong parameter":
            choices: list[dict[str, Any]] = [
                *({"min_score": "high"}, {"min_score": "-1"}, {"min_score": "nan"}, {"cell": ""}, {"line": ""}),
                *({"cell": cell, "variant": variant}, {"cell": 5}, {"variant": True}, {"robot": 7}),
            ]
            return rng.choice(choices)
        if kind == "unknown cell":
            return rng.choice(
                [{"cell": "../../etc"}, {"cell": rng.randbytes(8).hex()}, {"variant": "../x@v1"}, {"variant": cell}]
            )
        if kind == "long text":
            return {rng.choice(["cell", "variant", "line", "robot"]): "x" * rng.randint(201, 5000)}
        return None

    def _inputs(self, kind: str) -> list[triton.InferInput]:
        rng, jpeg = self._rng, np.frombuffer(self._jpeg, np.uint8)[None]
        if kind in ("no input", "missing parameters"):
            return []
        if kind == "both inputs":
            return [_tensor("image", jpeg), _tensor("pixels", self._pixels[None])]
        if kind == "unknown input":
            return [_tensor(rng.choice(["picture", "IMAGE", "scores"]), jpeg)]
        if kind == "two images":
            return [_tensor("image", np.zeros((2, 50), np.uint8))]
        if kind == "empty batch":
            return [_tensor("image", np.zeros((1, 0), np.uint8))]
        if kind == "flat pixels":
            return [_tensor("pixels", np.zeros((1, 100), np.uint8))]
        if kind == "bytes as text":
            tensor = triton.InferInput("image", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[self._jpeg]], np.object_))
            return [tensor]
        if kind == "wrong shape":
            shape = rng.choice([(1, 8, 8), (1, 8, 8, 4), (8, 8, 3), (1, 2, 8, 8, 3), (1, 0, 8, 3)])
            return [_tensor("pixels", np.zeros(shape, np.uint8))]
        dtype, name = rng.choice([(np.float32, "FP32"), (np.int64, "INT64"), (np.int8, "INT8")])
        return [_tensor("pixels", np.zeros((1, 8, 8, 3), dtype), name)]


def _tensor(name: str, values: npt.NDArray[Any], dtype: str = "UINT8") -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), dtype)
    tensor.set_data_from_numpy(values)
    return tensor


def _encoded(image: bytes) -> triton.InferInput:
    return _tensor("image", np.frombuffer(image, np.uint8)[None])


@dataclass(frozen=True, slots=True)
class Healthy:
    """A right request, and what the server answered to it when it was alone."""

    picture: bytes
    cell: str
    expected: Instances


@dataclass(slots=True)
class FuzzResult:
    """What a server did with wrong requests. `refused` and `answered` are by kind; `codes` by status and code.

    `mixed_batches` are those in which the backend had a wrong and a right request at once, as its telemetry says.
    """

    refused: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    unanswered: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    neighbours: int = 0
    compared: list[int] = field(default_factory=list)
    neighbours_failed: list[str] = field(default_factory=list)
    neighbours_wrong: list[str] = field(default_factory=list)
    mixed_batches: int = 0
    restarts: int = 0
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether everyone got what is due, and the server lived."""
        return not (
            self.answered or self.unanswered or self.neighbours_failed or self.neighbours_wrong or self.restarts
        )

    def figures(self) -> dict[str, Any]:
        """For a report."""
        half = self.memory[len(self.memory) // 2 :]
        return {
            "requests": sum(self.refused.values()) + sum(self.answered.values()) + len(self.unanswered),
            "seconds": round(self.seconds, 1),
            "refused_by_kind": dict(sorted(self.refused.items())),
            "codes": dict(self.codes.most_common()),
            "answered_by_kind": dict(self.answered),
            "unanswered": self.unanswered[:5],
            "neighbours": self.neighbours,
            "instances_compared_in_each": self.compared,
            "neighbours_failed": len(self.neighbours_failed),
            "neighbours_with_another_answer": len(self.neighbours_wrong),
            "first_of_both": [*self.neighbours_failed, *self.neighbours_wrong][:5],
            "batches_with_wrong_and_right": self.mixed_batches,
            "server_restarts": self.restarts,
            "memory_mb": [round(one / 1e6, 1) for one in self.memory],
            # The first half fills caches and shared memory up to a full batch of frames; after it nothing may grow.
            "growth_in_second_half": round(half[-1] / half[0] - 1, 4) if len(half) > 1 and half[0] else None,
        }


def run_fuzz(
    url: str,
    *,
    requests: int,
    cells: tuple[str, str] = ("cell-0", "cell-1"),
    telemetry: Path | None = None,
    seed: int = 0,
    clients: int = 4,
    pid: Callable[[], int | None] = lambda: None,
    report: Callable[[int], None] = lambda _: None,
) -> FuzzResult:
    """Send so many wrong requests from `clients` threads; each sends right ones together with them.

    The server must know the two cells, and `v1` of the first. `pid` says which server process is there, `telemetry`
    where the backend writes its predictions.
    """
    found, lock = FuzzResult(), threading.Lock()
    pictures = frames(2, (240, 320))
    healthy = [Healthy(one, cell, _answer(url, one, cell)) for one, cell in zip(pictures, cells, strict=True)]
    found.compared = [len(_certain(one.expected)) for one in healthy]
    pixels, bomb = decode_image(pictures[0]), png_bomb()
    began, server, every = time.monotonic(), pid(), max(requests // 20, 1)
    left = iter(range(requests))

    def client(number: int) -> None:
        one = Fuzzer(seed * 1000 + number, cell=cells[0], variant=f"{cells[0]}@v1", pixels=pixels, bomb=bomb)
        connection = triton.InferenceServerClient(url, channel_args=CHANNEL)
        try:
            while True:
                with lock:
                    at = next(left, None)
                if at is None:
                    return
                _together(connection, one.make(), healthy, at, found, lock)
                if at % every == 0:
                    resident = resident_bytes()
                    with lock:
                        found.memory.append(resident)
                report(at + 1)
        finally:
            connection.close()

    found.memory.append(resident_bytes())
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.memory.append(resident_bytes())
    found.seconds = time.monotonic() - began
    found.restarts = int(pid() != server)
    if telemetry is not None:
        found.mixed_batches = _mixed_batches(telemetry)
    return found


def _together(
    connection: triton.InferenceServerClient,
    wrong: Wrong,
    healthy: Sequence[Healthy],
    number: int,
    found: FuzzResult,
    lock: threading.Lock,
) -> None:
    """One wrong request with a right one on either side, all under way at once."""
    done: dict[str, Any] = {}
    over = threading.Semaphore(0)

    def keep(name: str) -> Callable[[Any, Any], None]:
        def callback(result: Any, error: Any) -> None:  # noqa: ANN401  # tritonclient's own
            done[name] = error if error is not None else result
            over.release()

        return callback

    right = {"before": healthy[number % 2], "after": healthy[(number + 1) % 2]}
    before, after = ((name, [_encoded(one.picture)], {"cell": one.cell, **_HEALTHY}) for name, one in right.items())
    calls = [before, ("wrong", wrong.inputs, dict(wrong.parameters)), after]
    for name, inputs, parameters in calls:
        try:
            request_id = f"{name}-{number}"
            connection.async_infer(
                MODEL, inputs, keep(name), request_id=request_id, parameters=parameters, client_timeout=TIMEOUT_S
            )
        except InferenceServerException as error:  # refused before it left, as a parameter of a type that is not sent
            keep(name)(None, error)
    for _ in calls:
        over.acquire(timeout=TIMEOUT_S + 10)
    with lock:
        _count_wrong(wrong.kind, done.get("wrong"), found)
        for name, one in right.items():
            found.neighbours += 1
            answer = done.get(name)
            if not isinstance(answer, triton.InferResult):
                found.neighbours_failed.append(f"beside {wrong.kind}: {answer}")
            elif not same_answer(one.expected, read_answer(answer, 0.0).instances):
                found.neighbours_wrong.append(f"beside {wrong.kind}")


def _count_wrong(kind: str, answer: object, found: FuzzResult) -> None:
    if isinstance(answer, InferenceServerException):
        status = str(answer.status() or "client").removeprefix("StatusCode.")
        code = (answer.message() or "").partition(":")[0]
        found.codes[f"{status} {code}" if code.isidentifier() else status] += 1
        if status in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
            found.unanswered.append(f"{kind}: {answer}")
        else:
            found.refused[kind] += 1
    elif answer is None:
        found.unanswered.append(kind)
    else:
        found.answered[kind] += 1


def _answer(url: str, picture: bytes, cell: str) -> Instances:
    client = triton.InferenceServerClient(url, channel_args=CHANNEL)
    try:
        inputs = [_encoded(picture)]
        result = client.infer(MODEL, inputs, parameters={"cell": cell, **_HEALTHY}, client_timeout=TIMEOUT_S)
        return read_answer(result, 0.0).instances
    finally:
        client.close()


def same_answer(expected: Instances, got: Instances) -> bool:
    """Whether the most certain instances are there again: same label, score within 0.05, mask IoU of at least 0.9.

    Not bit by bit: sums over a batch are rounded in another order than those over one row, in bfloat16 by much. What
    is looked for here is another row's answer, or a part of one.
    """
    if (expected.height, expected.width) != (got.height, got.width):
        return False
    for at in _certain(expected):
        like = [
            k
            for k in range(len(got))
            if got.labels[k] == expected.labels[at] and abs(float(got.scores[k] - expected.scores[at])) <= 0.05
        ]
        size = [expected.height, expected.width]
        one = {"size": size, "counts": expected.masks[at]}
        others = [{"size": size, "counts": got.masks[k]} for k in like]
        if not others or float(np.max(coco_mask.iou([one], others, [0] * len(others)))) < 0.9:
            return False
    return True


def _certain(answer: Instances) -> list[int]:
    """The instances that are compared: the best ones, as far as they are half as certain as the best of all."""
    best = np.argsort(-answer.scores, kind="stable")[:COMPARED]
    found: list[int] = best[answer.scores[best] >= 0.5 * answer.scores[best[:1]]].tolist() if len(best) else []
    return found


def _mixed_batches(telemetry: Path) -> int:
    """Batches (rows of one start time) in which one row is an error and another is none."""
    batches: dict[float, set[bool]] = defaultdict(set)
    # The backend's telemetry thread writes within some seconds; what the hub took up already is not here.
    for file in sorted((telemetry / "incoming").glob("predictions-*")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
                batches[row["at"]].add(row["error"] is None)
            except (ValueError, KeyError):  # a line that is being written
                continue
    return sum(len(kinds) == 2 for kinds in batches.values())
