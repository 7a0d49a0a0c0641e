"""Requests that are wrong in every way we can think of, certificates, and load that keeps count."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.errors import ClientError
from serving.robot.client import RobotClient
from tests.serving.conftest import scene


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
