from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import RoutingError, UnknownCell, UnknownVariant
from serving.folder.routing import (
    ROUTING,
    CellRoute,
    Resolved,
    RoutingTable,
    ServingFolder,
    materialise,
    place_of,
    write_routing,
)
from tests.scale import scaled

names = st.from_regex(r"\A[a-z][a-z0-9-]{0,8}\Z")
variants = st.none() | st.builds("{}@v{}".format, names, st.integers(1, 9))
routes = st.builds(
    CellRoute,
    variants,
    variants,
    variants,
    st.dictionaries(names, st.sampled_from(["station", "beta"]), max_size=2),
    st.floats(0, 1),
)


@settings(max_examples=scaled(25, 500), deadline=None)
@given(st.integers(0, 1000), st.dictionaries(names, routes, max_size=5))
def test_a_table_survives_its_file(version: int, cells: dict[str, CellRoute]) -> None:
    table = RoutingTable(version, "universal@v1", cells, {"base/universal@v1/model.safetensors": "a" * 64})
    assert RoutingTable.parse(table.to_json()) == table


@pytest.mark.parametrize(
    ("route", "line", "variant"),
    [
        (CellRoute(None, None, "c@v1"), None, "c@v1"),
        (CellRoute("c@v3", "c@v2", "c@v1", {"test": "station", "l2": "beta"}), "test", "c@v3"),
        (CellRoute("c@v3", "c@v2", "c@v1", {"test": "station", "l2": "beta"}), "l2", "c@v2"),
        (CellRoute("c@v3", "c@v2", "c@v1", {"test": "station", "l2": "beta"}), "l1", "c@v1"),
        (CellRoute(None, "c@v2", "c@v1", {"test": "station"}), "test", "c@v2"),
        (CellRoute("c@v3", None, None, {}), "l1", None),
    ],
)
def test_a_line_gets_its_stage_or_the_next_settled_one(route: CellRoute, line: str | None, variant: str | None) -> None:
    assert RoutingTable(1, "universal@v1", {"c": route}).resolve("c", line) == variant


def test_a_canary_is_a_share_of_the_lines_and_each_line_stays_where_it_is() -> None:
    lines = [f"line-{number}" for number in range(2000)]
    before: set[str] = set()
    for share in (0.0, 0.05, 0.25, 1.0):
        table = RoutingTable(1, "universal@v1", {"c": CellRoute(None, "c@v2", "c@v1", beta_share=share)})
        routed = {line: table.route("c", line, "r1") for line in lines}
        beta = {line for line, one in routed.items() if one == Resolved("c@v2", "beta")}
        assert all(one == Resolved("c@v1", "fleet") for line, one in routed.items() if line not in beta)
        assert abs(len(beta) / len(lines) - share) < 0.03
        assert before <= beta, "growing the share moves none back"
        before = beta
        assert table.resolve("c") == "c@v1", "who says neither line nor robot is no canary"
    table = RoutingTable(1, "universal@v1", {"c": CellRoute(None, None, "c@v1", beta_share=1.0)})
    assert table.route("c", "line-1") == Resolved("c@v1", "fleet"), "no beta variant: the fleet's"


def test_two_cells_do_not_have_the_same_canaries() -> None:
    robots = [f"robot-{number}" for number in range(200)]
    assert [place_of("a", robot) < 0.5 for robot in robots] != [place_of("b", robot) < 0.5 for robot in robots]


def test_an_unknown_cell_is_named() -> None:
    with pytest.raises(UnknownCell, match="'north'"):
        RoutingTable(1, "universal@v1").resolve("north")


def test_a_broken_variant_costs_a_cell_its_promotion_only() -> None:
    before = RoutingTable(1, "universal@v1", {"a": CellRoute(fleet="a@v1"), "b": CellRoute(fleet="b@v1")})
    after = RoutingTable(2, "universal@v1", {"a": CellRoute(fleet="a@v2"), "b": CellRoute(fleet="b@v2")})
    kept = after.keeping(before, frozenset({"a@v2"}))
    assert (kept.version, kept.resolve("a"), kept.resolve("b")) == (2, "a@v1", "b@v2")
    assert after.keeping(None, frozenset({"a@v2"})).resolve("a") is None


def test_what_there_is_in_a_cell_is_for_the_base_alone() -> None:
    there = ("box", "poly_bag")
    table = RoutingTable(
        1, "universal@v1", {"a": CellRoute(classes=there), "b": CellRoute(fleet="b@v2", classes=there)}
    )
    assert RoutingTable.parse(table.to_json()) == table
    assert table.route("a").classes == there
    assert table.route("b").classes == ()
    assert table.keeping(None, frozenset({"b@v2"})).route("b").classes == there


GOOD = {"version": 1, "base": "universal@v1", "cells": {"c": {"fleet": "c@v1"}}, "digests": {}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"base": "../universal@v1"}, "base must be"),
        ({"cells": []}, "cells must be"),
        ({"cells": {"../c": {}}}, "not a cell name"),
        ({"cells": {"c": {"fleet": "../../etc@v1"}}}, "fleet must be"),
        ({"cells": {"c": {"flet": None}}}, "unknown keys"),
        ({"cells": {"c": {"lines": {"l1": "everywhere"}}}}, "lines must map"),
        ({"cells": {"c": {"beta_share": 1.5}}}, "beta_share"),
        ({"cells": {"c": {"beta_share": True}}}, "beta_share"),
        ({"cells": {"c": {"classes": "box"}}}, "classes must be"),
        ({"cells": {"c": {"classes": [1]}}}, "classes must be"),
        ({"cells": {"c": {"classes": ["x"] * 201}}}, "classes must be"),
        ({"digests": {"x": "abc"}}, "no SHA-256"),
    ],
)
def test_a_malformed_table_is_refused_by_key(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RoutingError, match=sentence):
        RoutingTable.parse(json.dumps(GOOD | change).encode())


def test_a_reader_keeps_the_last_good_table(tmp_path: Path) -> None:
    folder = ServingFolder(tmp_path, check_every_s=0.0)
    with pytest.raises(RoutingError, match="cannot be read"):
        folder.table()
    write_routing(tmp_path, RoutingTable(1, "universal@v1"))
    first = folder.table()
    assert folder.table() is first
    (tmp_path / ROUTING).write_text("{")
    assert folder.table() is first
    (tmp_path / ROUTING).unlink()
    assert folder.table() is first
    write_routing(tmp_path, RoutingTable(2, "universal@v1"))
    assert folder.table().version == 2
    with pytest.raises(RoutingError):
        write_routing(tmp_path, RoutingTable(3, "no revision"))
    assert folder.table().version == 2


@pytest.mark.parametrize("name", ["../routing.json", "c", "c@v1/../..", "/etc@v1", ""])
def test_a_variant_name_never_leaves_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownVariant):
        ServingFolder(tmp_path).variant_folder(name)


def test_materialise_is_whole_or_absent(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    with pytest.raises(FileNotFoundError):
        materialise(tmp_path / "s", "variants/c@v1", {"a": source, "b": tmp_path / "missing"})
    assert not (tmp_path / "s/variants/c@v1").exists()
    made = materialise(tmp_path / "s", "variants/c@v1", {"a": source})
    assert (made / "a").read_text() == "x"
    assert [path.name for path in made.parent.iterdir()] == ["c@v1"]
    assert materialise(tmp_path / "s", "variants/c@v1", {}) == made


def test_the_hubs_side_imports_no_torch() -> None:
    modules = "serving.robot.client, serving.instances, serving.errors, serving.folder.routing, serving.triton.launcher"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_variants_on_other_bases() -> None:
    cells = {"a": CellRoute(fleet="a@v1"), "b": CellRoute(beta="b@v2", fleet="b@v1")}
    table = RoutingTable(3, "universal@v2", cells, bases={"a@v1": "universal@v1", "b@v1": "universal@v1"})
    assert RoutingTable.parse(table.to_json()) == table
    assert table.all_bases() == ("universal@v2", "universal@v1")
    assert [table.base_of(name) for name in ("a@v1", "b@v2")] == ["universal@v1", "universal@v2"]
    told = table.told_on("universal@v1", {"universal@v1", "universal@v2"})
    assert told.bases == {"b@v2": "universal@v2"} and told.cells == table.cells
    assert told.told_on("universal@v2", {"universal@v2"}).cells == {"a": CellRoute(), "b": CellRoute(beta="b@v2")}
    # What stays of the table before keeps its base.
    after = RoutingTable(4, "universal@v2", {"a": CellRoute(fleet="a@v9")})
    assert after.keeping(table, frozenset({"a@v9"})).bases == {"a@v1": "universal@v1"}


@pytest.mark.parametrize(
    "bases",
    [
        [],
        {"a": "universal@v1"},
        {"a@v1": "universal"},
        {"a@v1": 1},
        {f"a@v{k}": f"universal@v{k}" for k in range(2, 6)},
    ],
)
def test_bases_that_are_none(bases: object) -> None:
    value = json.loads(RoutingTable(1, "universal@v1").to_json()) | {"bases": bases}
    with pytest.raises(RoutingError, match="bases"):
        RoutingTable.parse(json.dumps(value).encode())
