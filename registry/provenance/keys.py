"""The hub's own signing keys: ed25519, made and kept on this machine, no service needed.

    keys/signing.pem             the private key (PKCS 8), readable by the hub's user alone
    keys/trusted/<key id>.pem    public keys that are believed, this one and those before it

A key's id is the sha256 of its public form (SubjectPublicKeyInfo, DER). To stop believing a key, remove its file from
`trusted`.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from registry.durable import write_file
from registry.errors import KeyRingError
from registry.types import Digest

SIGNING, TRUSTED = "signing.pem", "trusted"
MAX_PEM = 4096
_KEY_FILE = re.compile(r"([0-9a-f]{64})\.pem")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key that is believed; `signs` says that it is the one that signs now. `public` is PEM."""

    id: Digest
    public: str
    since: datetime
    signs: bool


class KeyRing:
    """The keys in a folder. Another process may change them: each use looks again. Use from any number of threads."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        self.folder = folder
        self.fresh = fresh
        """Whether this very call of `open` made the first key."""
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> KeyRing:
        """The ring in `folder`; the first key is made if there is none. Raises KeyRingError."""
        fresh = not (folder / SIGNING).exists()
        ring = cls(folder, fresh=fresh)
        if fresh:
            ring.rotate()
        ring._signer()
        return ring

    def sign(self, message: bytes) -> tuple[Digest, bytes]:
        """The key's id and its signature (64 bytes). Raises KeyRingError."""
        key = self._signer()
        return _id_of(key.public_key()), key.sign(message)

    def believes(self, keyid: str, message: bytes, signature: bytes) -> bool:
        """Whether a trusted key of this id made the signature. Raises KeyRingError."""
        key = self._trusted(keyid)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def trusts(self, keyid: str) -> bool:
        """Whether a key of this id is believed at all."""
        return self._trusted(keyid) is not None

    def rotate(self) -> KeyInfo:
        """Sign with a new key from now on; the old one is still believed. Raises KeyRingError."""
        key = Ed25519PrivateKey.generate()
        public = key.public_key()
        keyid = _id_of(public)
        private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with self._lock:
            try:
                (self.folder / TRUSTED).mkdir(parents=True, exist_ok=True)
                self.folder.chmod(0o700)
                # Believed first: a crash in between leaves a key that signs nothing, not signatures nobody believes.
                write_file(self.folder / TRUSTED / f"{keyid}.pem", _pem_of(public), mode=0o644)
                write_file(self.folder / SIGNING, private_pem, mode=0o600)
            except OSError as error:
                raise KeyRingError(f"cannot write keys to {self.folder}: {error.strerror}") from error
        return next(info for info in self.all() if info.id == keyid)

    def all(self) -> tuple[KeyInfo, ...]:
        """The keys that are believed, newest first. Raises KeyRingError."""
        signing = _id_of(self._signer().public_key())
        found = []
        for path in sorted((self.folder / TRUSTED).glob("*.pem")):
            match = _KEY_FILE.fullmatch(path.name)
            key = self._trusted(match[1]) if match else None
            if match and key is not None:
                since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                found.append(KeyInfo(match[1], _pem_of(key).decode(), since, match[1] == signing))
        return tuple(sorted(found, key=lambda info: (info.signs, info.since), reverse=True))

    def _signer(self) -> Ed25519PrivateKey:
        path = self.folder / SIGNING
        try:
            if path.stat().st_mode & 0o077:
                raise KeyRingError(f"{path} can be read by others; `chmod 600` it, or rotate the keys")
            key = load_pem_private_key(_read(path), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyRingError(f"{path} holds no usable key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyRingError(f"{path} holds no ed25519 key")
        return key

    def _trusted(self, keyid: str) -> Ed25519PublicKey | None:
        if not _KEY_FILE.fullmatch(f"{keyid}.pem"):
            return None
        path = self.folder / TRUSTED / f"{keyid}.pem"
        try:
            key = load_pem_public_key(_read(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyRingError(f"{path} holds no usable key: {error}") from error
        # A file that says it is one key and holds another would let anybody speak in the first one's name.
        return key if isinstance(key, Ed25519PublicKey) and _id_of(key) == keyid else None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_PEM)


def _pem_of(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _id_of(key: Ed25519PublicKey) -> Digest:
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def described(keys: tuple[KeyInfo, ...]) -> list[Mapping[str, object]]:
    """Keys as JSON shows them; nothing in it is secret."""
    return [
        {"id": key.id, "signs": key.signs, "since": key.since.isoformat(timespec="seconds"), "public": key.public}
        for key in keys
    ]
