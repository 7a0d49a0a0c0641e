"""The API's description as a page of the hub's own: every operation, its parameters and what it answers.

It is made of the OpenAPI document without a script and without an address outside the hub, so that it is there where
the internet is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin, YamlRenderPlugin

from hub.web.render import static_url

_METHODS = ("get", "post", "put", "patch", "delete", "head")


class ApiPage(OpenAPIRenderPlugin):
    """Renders `/schema`."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, UTF-8. It is made once: the document never changes, and nobody needs a token to ask for it."""
        if self._made is None:
            self._made = self._make(request, openapi_schema)
        return self._made

    def _make(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        groups = grouped(openapi_schema)
        schemas = openapi_schema.get("components", {}).get("schemas", {})
        info = openapi_schema["info"]
        document = self.get_openapi_json_route(request)
        return (
            _template()
            .render(
                title=info["title"],
                version=info["version"],
                about=info.get("description", ""),
                document=document,
                groups=groups,
                structs={name: fields_of(one) for name, one in sorted(schemas.items())},
                static=static_url,
            )
            .encode()
        )


class OnceYaml(YamlRenderPlugin):
    """The document as YAML, made once: it takes seconds of the one thread that answers everybody."""

    def __init__(self) -> None:
        super().__init__()
        self._made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """UTF-8."""
        if self._made is None:
            self._made = super().render(request, openapi_schema)
        return self._made


def grouped(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Operations by their first tag, in the document's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if (operation := item.get(method)) is None:
                continue
            body = operation.get("requestBody", {}).get("content", {})
            found.setdefault((operation.get("tags") or ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "id": operation.get("operationId", f"{method}-{path}"),
                    "words": operation.get("description") or operation.get("summary") or "",
                    "parameters": [
                        {
                            "name": one.get("name", ""),
                            "place": one.get("in", ""),
                            "required": one.get("required", False),
                            "type": type_of(one.get("schema", {})),
                            "words": one.get("description", ""),
                        }
                        for one in operation.get("parameters", [])
                    ],
                    "body": [type_of(one.get("schema", {})) for one in body.values()],
                    "answers": [
                        {
                            "status": status,
                            "words": one.get("description", ""),
                            "type": [type_of(kind.get("schema", {})) for kind in one.get("content", {}).values()],
                        }
                        for status, one in sorted(operation.get("responses", {}).items())
                    ],
                }
            )
    return found


def fields_of(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object's schema."""
    required = set(schema.get("required", ()))
    return [
        {"name": name, "type": type_of(one), "required": name in required, "words": one.get("description", "")}
        for name, one in schema.get("properties", {}).items()
    ]


def type_of(schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `string`, `Job[]`, `integer or null`."""
    if ref := schema.get("$ref"):
        return str(ref).rpartition("/")[2]
    for key in ("oneOf", "anyOf", "allOf"):
        if several := schema.get(key):
            return " or ".join(dict.fromkeys(type_of(one) for one in several))
    if "enum" in schema:
        return " | ".join(str(one) for one in schema["enum"])
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(str(one) for one in kind)
    if kind == "array":
        return f"{type_of(schema.get('items', {}))}[]"
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(more)}"
    return str(kind)


@cache
def _template() -> Any:  # noqa: ANN401  # a template of an untyped library
    text = resources.files("hub.web").joinpath("templates/api.html").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
