"""Files that survive a power loss: whoever acknowledges something that lies in a file writes it here.

A rename alone is atomic, not durable: after a power loss the new name may lead to a file without bytes, or be gone. So
the bytes are synced first, then comes the rename, then the folder that has the name is synced. Only then may somebody
be told that it is done. Every function raises OSError, and leaves no draft behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path


def write_file(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o666) -> None:
    """Make `path` hold `data`, whole or not at all, and durably. `mode` is that of the file, before the umask.

    Its folder is made if it is not there.
    """
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish(draft: Path, path: Path) -> None:
    """Give a finished draft its name, durably; the draft may have been written by anybody."""
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add bytes to the end of a file, durably; of bytes that do not fit, none stay."""
    fresh = not path.exists()
    with path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            os.fsync(file.fileno())
        except BaseException:
            os.ftruncate(file.fileno(), before)
            raise
    if fresh:
        sync_folder(path.parent)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder whose name survives a power loss, as do those of the folders on the way that were made for it."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names inside a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
