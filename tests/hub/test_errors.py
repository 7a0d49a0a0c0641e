"""One table for the errors of all four floors."""

from __future__ import annotations

import importlib
import inspect

import pytest

import hub.errors
from hub.error_table import INTERNAL, TABLE, exit_code_of, is_expected, problem_of
from hub.errors import HubAnswerError, HubError

MODULES = ("hub.errors", "finetune.errors", "serving.errors", "registry.errors")
# The root of each floor, and what stands in for an exception that nobody foresaw: their sentences are for the log.
WITHOUT_A_ROW = {"HubError", "FinetuneError", "ServingError", "RegistryError", "InternalError"}


def _errors() -> list[type[Exception]]:
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        found += [
            kind
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Exception) and kind.__module__ == name
        ]
    return found


@pytest.mark.parametrize("kind", _errors(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_every_floor_has_a_row_of_its_own_kind(kind: type[Exception]) -> None:
    if kind is HubAnswerError:  # carries the row that the hub sent
        return
    row = next((TABLE[ancestor] for ancestor in kind.__mro__ if ancestor in TABLE), None)
    assert row is not None
    assert (kind.__name__ in WITHOUT_A_ROW) == (row is INTERNAL)


def test_slugs_name_one_exit_code_each() -> None:
    codes: dict[str, set[int]] = {}
    for problem in TABLE.values():
        codes.setdefault(problem.slug, set()).add(problem.exit_code)
        assert 400 <= problem.status <= 599
    assert {slug: found for slug, found in codes.items() if len(found) > 1} == {}


def test_a_subclass_without_a_row_takes_its_ancestors() -> None:
    class OddCellError(hub.errors.UnknownCellError):
        pass

    assert problem_of(OddCellError()).status == 404
    assert problem_of(ZeroDivisionError()) is INTERNAL
    assert not is_expected(HubError("x"))
    assert not is_expected(KeyError("x"))


@pytest.mark.parametrize(
    ("status", "body", "exit_code"),
    [
        (404, b'{"type":"urn:parcelhub:problem:unknown-cell","title":"t","detail":"no cell"}', 3),
        (400, b'{"type":"urn:parcelhub:problem:bad-request","title":"t"}', 2),
        (502, b"<html>a proxy</html>", 1),
        (404, b"", 2),
    ],
)
def test_a_refusal_ends_a_command_as_the_same_error_would_have_locally(
    status: int, body: bytes, exit_code: int
) -> None:
    assert exit_code_of(HubAnswerError.of(status, body)) == exit_code


def test_field_errors_are_part_of_the_sentence() -> None:
    body = b'{"title":"t","detail":"bad","errors":[{"field":"cell","message":"too long"}]}'
    assert str(HubAnswerError.of(400, body)) == "bad (cell: too long)"
