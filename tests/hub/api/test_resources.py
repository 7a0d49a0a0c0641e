"""Each REST resource is one module of `hub.api` with all of its routes, and what clients rely on stays as it was.

python -m tests.hub.api.test_resources      # writes what is held, after a change that is meant
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from hub import api
from hub.app import create_app
from hub.client.client import HubClient
from hub.http import access_policy
from hub.http.resources import API, resources
from hub.settings import Settings

HELD = Path(__file__).with_name("openapi.txt")
NO_CALLS = {"label-backend", "maintenance"}
"""An annotator asks the one; the other's answers are streams, which `MaintenanceClient` reads."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    return create_app(Settings(data=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def document(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


def lines(document: dict[str, Any]) -> Iterator[str]:
    """What a client relies on: of each operation its address, id, parameters, body and answers; members of schemas."""
    for path, operations in sorted(document["paths"].items()):
        for method, told in sorted(operations.items()):
            if not isinstance(told, dict) or "operationId" not in told:
                continue
            start = f"{method.upper()} {path}"
            yield f"{start} is {told['operationId']}"
            for given in told.get("parameters", []):
                needed = "needs" if given["required"] else "takes"
                yield f"{start} {needed} {given['in']} {given['name']}: {short(given['schema'])}"
            for kind, body in told.get("requestBody", {}).get("content", {}).items():
                yield f"{start} body {kind}: {short(body['schema'])}"
            for status, answer in sorted(told["responses"].items()):
                for kind, body in answer.get("content", {}).items():
                    if status.startswith("2"):
                        yield f"{start} answers {status} {kind}: {short(body['schema'])}"
    for name, schema in sorted(document["components"]["schemas"].items()):
        needed = schema.get("required", [])
        for member, of in sorted(schema.get("properties", {}).items()):
            yield f"{name}.{member}{'' if member in needed else '?'}: {short(of)}"


def short(schema: Any) -> str:
    """A schema without its descriptions."""
    if not isinstance(schema, dict):
        return json.dumps(schema)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kept = {key: value for key, value in schema.items() if key in {"type", "format", "enum", "oneOf", "anyOf", "items"}}
    for key in ("oneOf", "anyOf"):
        if key in kept:
            kept[key] = sorted(short(each) for each in kept[key])
    if "items" in kept:
        kept["items"] = short(kept["items"])
    return json.dumps(kept, sort_keys=True)


def test_nothing_that_clients_rely_on_has_changed(document: dict[str, Any]) -> None:
    now = set(lines(document))
    gone = [line for line in HELD.read_text(encoding="utf-8").splitlines() if line not in now]
    assert gone == [], "changed for clients; if that is meant: python -m tests.hub.api.test_resources"


def test_what_is_held_says_enough(document: dict[str, Any]) -> None:
    held = HELD.read_text(encoding="utf-8").splitlines()
    operations = sum(len(each) for path, each in document["paths"].items() if path.startswith(API))
    assert sum(line.startswith(f"GET {API}") and " is " in line for line in held) > operations // 3
    assert "GET /api/v1/alerts is ApiV1AlertsListAlerts" in held


@pytest.mark.parametrize("module", [each.name for each in pkgutil.iter_modules(api.__path__)])
def test_a_module_is_a_resource_with_rules_for_its_own_routes(module: str) -> None:
    resource = importlib.import_module(f"hub.api.{module}").RESOURCE
    assert resources()[resource.name] is resource
    assert resource.rules
    if resource.name in NO_CALLS:
        assert resource.calls is None
    else:
        assert resource.calls is not None
        assert issubclass(HubClient, resource.calls)


def test_every_rest_route_has_its_rule_from_its_resource(app: Litestar) -> None:
    asked = {
        f"{method} {route.path_format}"
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path_format.startswith(API)
        for method in route.methods - {"OPTIONS"}
    }
    brought = {
        f"{rule.partition(' ')[0]} {API}{rule.partition(' ')[2]}" for one in resources().values() for rule in one.rules
    }
    assert {access_policy._shape(route) for route in asked} <= {access_policy._shape(route) for route in brought}
    assert [route for route in access_policy._table() if f" {API}" in route] == []


if __name__ == "__main__":
    written = create_app(Settings(data=Path("nowhere"))).openapi_schema.to_schema()
    HELD.write_text("\n".join(lines(written)) + "\n", encoding="utf-8")
