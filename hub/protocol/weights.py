"""How many parameters a model has, by type: read from the headers of its safetensors files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from registry.blobs.blobs import BlobStore
from registry.content.safetensors_header import HeaderError, read_header
from registry.content.window import Window
from registry.errors import BlobStoreError, DigestMismatchError, NotFoundError
from registry.repos.caches import BoundedCache
from registry.types import Digest, FileEntry

MAX_SHARDS: Final = 256


class Weights:
    """Counts, each file's once. Use from any number of threads."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._counts: BoundedCache[Digest, dict[str, int]] = BoundedCache(4096)

    def of(self, files: Sequence[FileEntry]) -> dict[str, Any] | None:
        """`{"parameters": {"F32": n}, "total": n}` of a model's files, adapters among them; None without any.

        Of a repo that has `model*.safetensors` only those count: what lies beside them says the same again.
        """
        found = [file for file in files if file.path.endswith(".safetensors") and "/" not in file.path]
        own = [file for file in found if file.path.startswith(("model.", "model-"))] or found
        if not own or len(own) > MAX_SHARDS:
            return None
        total: Counter[str] = Counter()
        for file in own:
            counted = self._count(file)
            if counted is None:
                return None
            total.update(counted)
        return {"parameters": dict(sorted(total.items())), "total": sum(total.values())}

    def _count(self, file: FileEntry) -> dict[str, int] | None:
        if (known := self._counts.get(file.sha256)) is not None:
            return known
        fetch = self._blobs.iter_range
        counted: Counter[str] = Counter()
        try:
            window = Window(file.size, lambda start, stop: b"".join(fetch(file.sha256, start, stop)))
            for tensor in read_header(window):
                counted[tensor.dtype] += math.prod(tensor.shape)
        except (HeaderError, NotFoundError, DigestMismatchError, BlobStoreError):
            return None
        self._counts.put(file.sha256, dict(counted), 1)
        return dict(counted)
