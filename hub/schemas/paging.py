"""Pages of lists: at most `limit` items behind the key `after`; the next page is a `Link` header (RFC 8288)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.params import QueryParameter

T = TypeVar("T")
MAX_LIMIT = 1000
DEFAULT_LIMIT = 100

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="The most items of the answer.")]
After = Annotated[
    str, QueryParameter(max_length=300, description="The last item of the page before, as its `Link` gives it.")
]


def paged(
    request: Request[Any, Any, Any], items: Sequence[T], limit: int, key: Callable[[T], object]
) -> Response[list[T]]:
    """The first `limit` items; if there is one more, a link to the page that begins with it.

    Ask the catalog for `limit + 1` items: the last one says only that there is more.
    """
    page = list(items[:limit])
    headers = {}
    if len(items) > limit:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != "after"]
        query = urlencode([*kept, ("after", str(key(page[-1])))])
        headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return Response(page, headers=headers)
