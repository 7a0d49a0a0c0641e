"""The OpenAPI schema against the running service: no 5xx, no answer that it does not document."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup

from hub.client.client import HubClient
from hub.settings import Settings
from tests.scale import scaled

EXAMPLES = int(os.environ.get("PARCELHUB_SCHEMA_EXAMPLES", scaled(3, 30)))
SKIPPED = ("/events", "/maintenance/backup")
"""A stream without an end, and what writes wherever it is told."""

load_all_checks()


def checks() -> list[Any]:
    names = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
    return schemathesis.checks.CHECKS.get_by_names(names)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_answer_is_one_that_the_schema_documents(live_hub: Settings) -> None:
    with HubClient.of(live_hub) as client:
        client.create_cell("x")
    headers = {"Authorization": f"Bearer {live_hub.client_token()}"}
    schema = schemathesis.openapi.from_url(f"{live_hub.url}/schema/openapi.json")
    wrong: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.endswith(SKIPPED) or not operation.path.startswith("/api/v1"):
            continue

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        def attempt(case: Any) -> None:
            try:
                case.call_and_validate(headers=headers, checks=checks())
            except FailureGroup as failure:
                raise AssertionError(f"{case.operation.label}: {failure.exceptions[0]}") from failure

        try:
            given(case=operation.as_strategy())(attempt)()
        except AssertionError as error:
            wrong.append(str(error)[:600])
    assert wrong == [], "\n\n".join(wrong)
