"""Pictures of datasets for the browser: always made anew by the server, so that no byte of an upload reaches a page."""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from hub.errors import RefusedFileError
from registry.blobs.blobs import BlobStore
from registry.blobs.disk import is_full, is_read_only
from serving.errors import ImageError
from serving.image_header import MAX_BYTES, MAX_PIXELS, image_size

THUMB, FULL = 336, 1600
"""Long edges in pixels: of a tile, and of a whole picture."""
_QUALITY = {THUMB: 72, FULL: 86}
_CACHE_BYTES = 2 * 1024**3
_SWEEP_EVERY = 1000
_AT_ONCE = 2
_PART, _PART_SECONDS = "part-", 3600
"""How the names of files begin that are being written, and after how long nobody is writing them any more."""


class Pictures:
    """JPEGs and drawings by the digest of what they are made of, made once and kept in a folder of bounded size."""

    def __init__(self, folder: Path, blobs: BlobStore, *, max_bytes: int = _CACHE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._slots = threading.Semaphore(_AT_ONCE)  # a wall of thumbnails must not take all threads
        self._made = 0
        self._lock = threading.Lock()

    def jpeg(self, sha256: str, size: int, edge: int) -> bytes:
        """The picture as JPEG, its long edge at most `edge` pixels. EXIF rotation is ignored, as robots ignore it.

        Raises RefusedFileError for what is no picture.
        """
        return self.kept(f"{sha256}-{edge}.jpg", lambda: self._shrunk(sha256, size, edge))

    def kept(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The file of this name, made now if it is not there. Names begin with a digest."""
        path = self._folder / name[:2] / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        with self._slots:
            data = make()
        try:
            self._keep(path, data)
        except OSError as error:
            if not (is_full(error) or is_read_only(error)):
                raise
            return data  # it is made again each time, and shown all the same
        self._count()
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PART, delete=False) as file:
            draft = Path(file.name)
            try:
                file.write(data)
                file.flush()
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        draft.replace(path)

    def _shrunk(self, sha256: str, size: int, edge: int) -> bytes:
        if size > MAX_BYTES:
            raise RefusedFileError("the file is too large to be a picture")
        return shrink(self._blobs.read(sha256), edge)

    def fresh(self, data: bytes, edge: int) -> bytes:
        """As `jpeg`, of bytes that are no blob, and kept nowhere. Raises RefusedFileError."""
        with self._slots:
            return shrink(data, edge)

    def _count(self) -> None:
        with self._lock:
            self._made += 1
            due = self._made % _SWEEP_EVERY == 1
        if due:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what was not made lately, until the folder has room again."""
        files = []
        for entry in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another thread has given its file the name it is to have
                found = entry.stat()
                if not entry.name.startswith(_PART) or found.st_mtime < time.time() - _PART_SECONDS:
                    files.append((found.st_mtime, found.st_size, entry))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= 0.9 * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def text_key(*parts: object) -> str:
    """A name for something that is made of these."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def shrink(data: bytes, edge: int) -> bytes:
    """A JPEG or PNG as JPEG, its long edge at most `edge` pixels. Raises RefusedFileError for what is no picture."""
    if len(data) > MAX_BYTES:
        raise RefusedFileError("the file is too large to be a picture")
    try:
        kind, height, width = image_size(data)
        if not 0 < height * width <= MAX_PIXELS:
            raise RefusedFileError(f"the picture has {width}x{height} pixels; the limit is {MAX_PIXELS:,}")
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            if kind == "jpeg":
                picture.draft("RGB", (edge, edge))
            small = picture.convert("RGB")
            small.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
    except (ImageError, UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise RefusedFileError(f"the picture cannot be read ({error})") from error
    target = io.BytesIO()
    small.save(target, "JPEG", quality=_QUALITY.get(edge, 80))
    return target.getvalue()
