"""Bodies of requests, before any handler sees them."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.exceptions import SerializationException


class HubBodies(Request[Any, Any, Any]):
    """A request whose body, if it cannot be read, is refused as what it is: the caller's mistake."""

    async def json(self) -> Any:  # noqa: ANN401  # whatever JSON says
        """The body. Raises SerializationException, also for what the decoder has errors of its own for."""
        try:
            return await super().json()
        except UnicodeDecodeError as error:
            raise SerializationException("the body is not UTF-8") from error
        except RecursionError as error:
            raise SerializationException("the body is nested too deeply") from error
