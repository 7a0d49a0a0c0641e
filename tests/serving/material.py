"""Requests that are wrong in every way we can think of, certificates, and load that keeps count."""

from __future__ import annotations

import random
import struct
import subprocess
import threading
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.client import RobotClient
from serving.errors import ClientError
from serving.wire import CHANNEL, MODEL
from tests.serving.conftest import encode, scene


def png_bomb(width: int = 10_000, height: int = 10_000) -> bytes:
    """A valid PNG of 100 megapixels in 300 kB: all zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = b"\0" * (3 * width + 1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@dataclass(slots=True)
class Fuzz:
    """Makes bad requests from a seed, and sends them. All must get an error."""

    rng: random.Random
    jpeg: bytes = field(default_factory=lambda: encode(scene()))
    bomb: bytes = field(default_factory=png_bomb)

    def make(self) -> tuple[str, list[triton.InferInput], dict[str, Any]]:
        """(what is wrong, inputs, parameters)."""
        rng = self.rng
        kind = rng.choice(
            ["random", "truncated", "bomb", "flipped header", "empty batch", "two images", "wrong shape", "wrong dtype",
             "wrong parameter", "unknown cell", "no input", "both inputs", "flat pixels", "huge claim", "long text"]
        )  # fmt: skip
        image, parameters = self.jpeg, {"cell": "north"}
        inputs: list[triton.InferInput] | None = None
        if kind == "random":
            image = rng.randbytes(rng.randint(1, 20_000))
        elif kind == "truncated":
            image = self.jpeg[: rng.randint(1, len(self.jpeg) // 2)]
        elif kind == "bomb":
            image = self.bomb
        elif kind == "flipped header":
            head = bytearray(self.jpeg)
            head[rng.randint(0, 2)] ^= 1 << rng.randint(0, 7)
            image = bytes(head)
        elif kind == "huge claim":
            at = self.jpeg.index(b"\xff\xc0")
            image = self.jpeg[: at + 5] + b"\xff\xff\xff\xff" + self.jpeg[at + 9 :]
        elif kind == "wrong parameter":
            parameters = rng.choice(
                [{"min_score": "high"}, {"min_score": "-1"}, {"min_score": "nan"}, {"cell": ""}, {"line": ""},
                 {"cell": "north", "variant": "north@v1"}, {"cell": 5}, {"variant": True}]
            )  # fmt: skip
        elif kind == "unknown cell":
            parameters = rng.choice(
                [{"cell": "../../etc"}, {"cell": rng.randbytes(8).hex()}, {"variant": "../x@v1"}, {"variant": "north"}]
            )
        elif kind == "long text":
            parameters = {rng.choice(["cell", "variant", "line", "robot"]): "x" * rng.randint(201, 5000)}
        elif kind == "no input":
            inputs = []
        elif kind == "both inputs":
            inputs = [_tensor("image", np.frombuffer(self.jpeg, np.uint8)[None]), _tensor("pixels", scene()[None])]
        elif kind == "two images":
            inputs = [_tensor("image", np.zeros((2, 50), np.uint8))]
        elif kind == "empty batch":
            inputs = [_tensor("image", np.zeros((1, 0), np.uint8))]
        elif kind == "wrong shape":
            shape = rng.choice([(1, 8, 8), (1, 8, 8, 4), (8, 8, 3), (1, 2, 8, 8, 3), (1, 0, 8, 3)])
            inputs = [_tensor("pixels", np.zeros(shape, np.uint8))]
        elif kind == "flat pixels":
            inputs = [_tensor("pixels", np.zeros((1, 100), np.uint8))]
        elif kind == "wrong dtype":
            dtype, name = rng.choice([(np.float32, "FP32"), (np.int64, "INT64"), (np.int8, "INT8")])
            inputs = [_tensor("pixels", np.zeros((1, 8, 8, 3), dtype), name)]
        if inputs is None:
            inputs = [_tensor("image", np.frombuffer(image, np.uint8)[None])]
        return kind, inputs, parameters


def _tensor(name: str, values: Any, dtype: str = "UINT8") -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), dtype)
    tensor.set_data_from_numpy(values)
    return tensor


def fuzz(url: str, count: int, seed: int) -> Counter[str]:
    """Send bad requests; how many of each kind were refused. Fails on one that got an answer."""
    made, refused = Fuzz(random.Random(seed)), Counter[str]()
    client = triton.InferenceServerClient(url, channel_args=CHANNEL)
    try:
        for _ in range(count):
            kind, inputs, parameters = made.make()
            try:
                client.infer(MODEL, inputs, parameters=parameters, client_timeout=30)
            except InferenceServerException as error:
                assert error.status() != "StatusCode.DEADLINE_EXCEEDED", f"{kind}: no answer"
                refused[kind] += 1
            else:
                raise AssertionError(f"{kind} was answered")
    finally:
        client.close()
    return refused


@dataclass(slots=True)
class Load:
    """Robots that ask all the time: what they got, from whom, and the longest time without an answer."""

    url: str
    cells: tuple[str, ...]
    robots: int = 3
    timeout_s: float = 5.0
    served: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    longest_gap_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        for number in range(self.robots):
            self._threads.append(threading.Thread(target=self._run, args=(number,), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self.timeout_s + 10)

    def _run(self, number: int) -> None:
        image = scene(seed=number)
        last = time.monotonic()
        with RobotClient(self.url, cell=self.cells[number % len(self.cells)], timeout_s=self.timeout_s) as robot:
            while not self._stop.is_set():
                try:
                    served = robot.segment(image).served_by
                except ClientError as error:
                    with self._lock:
                        self.failed.append(f"{type(error).__name__}: {error}")
                    time.sleep(0.02)
                    continue
                now = time.monotonic()
                with self._lock:
                    self.served[served] += 1
                    self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now


def certificates(folder: Path) -> dict[str, Path]:
    """A CA, a server's and a robot's certificate that it signed, and a stranger's, made with `cryptography`."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder.mkdir(parents=True, exist_ok=True)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def make(text: str, issuer: Any = None) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(text))
            .issuer_name(issuer[1].subject if issuer else name(text))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
        if issuer is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(issuer[0] if issuer else key, hashes.SHA256())
        (folder / f"{text}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{text}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return key, made

    ca, other = make("ca"), make("other-ca")
    for text, signer in (("server", ca), ("robot", ca), ("stranger", other)):
        make(text, signer)
    return {path.name: path for path in folder.iterdir()}


def run_python(*arguments: str, timeout: float = 120) -> str:
    """Standard output of a Python child process."""
    import sys

    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=timeout
    ).stdout
