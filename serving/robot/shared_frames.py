"""Frames through system shared memory, for robots on the server's own host: the picture is not copied into gRPC.

The server has to allow it (`parcelhub serve --shared-memory`). One region per client thread grows with the largest
frame; it is registered again when the server has been restarted, and removed when the client closes.
"""

from __future__ import annotations

import contextlib
import secrets
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.robot.wire import ImageIn, as_tensor

_GROWTH = 1 << 20


class SharedFrames:
    """The region of one thread."""

    def __init__(self, client: triton.InferenceServerClient) -> None:
        self._client = client
        self._memory: SharedMemory | None = None
        self._registered = False
        self._name = f"parcelhub-{secrets.token_hex(8)}"

    def fill(self, image: ImageIn) -> triton.InferInput:
        """Put an image into the region and return the input that refers to it. Raises InferenceServerException."""
        name, values = as_tensor(image)
        memory = self._room(values.nbytes)
        room: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.ndarray((values.nbytes,), np.uint8, buffer=memory.buf)
        room[:] = values.reshape(-1)
        del room  # a view that stays would keep the region from being closed
        if not self._registered:
            with contextlib.suppress(InferenceServerException):
                self._client.unregister_system_shared_memory(self._name)
            self._client.register_system_shared_memory(self._name, f"/{memory.name.lstrip('/')}", memory.size)
            self._registered = True
        tensor = triton.InferInput(name, list(values.shape), "UINT8")
        tensor.set_shared_memory(self._name, values.nbytes)
        return tensor

    def forget(self) -> None:
        """The server no longer knows the region: register it with the next frame."""
        self._registered = False

    def close(self) -> None:
        """Give the region back."""
        if self._registered:
            with contextlib.suppress(InferenceServerException):
                self._client.unregister_system_shared_memory(self._name)
            self._registered = False
        if self._memory is not None:
            self._memory.close()
            with contextlib.suppress(FileNotFoundError):
                self._memory.unlink()
            self._memory = None

    def _room(self, size: int) -> SharedMemory:
        if self._memory is None or self._memory.size < size:
            self.close()
            self._memory = SharedMemory(create=True, size=-(-size // _GROWTH) * _GROWTH)
        return self._memory


def is_forgotten(error: InferenceServerException) -> bool:
    """Whether the server says that it does not know the region, as after its restart."""
    message = error.message() or ""
    return "shared memory region" in message and ("Unable to find" in message or "unable to find" in message)
