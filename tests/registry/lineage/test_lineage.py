from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import Artifact, Edge, Lineage
from registry.errors import InvalidNameError, LineageCycleError
from tests.scale import scaled

fresh = itertools.count()


def node(name: object) -> Artifact:
    return Artifact("deck", f"n{name}", hashlib.sha256(str(name).encode()).hexdigest())


def edge(child: object, parent: object, relation: str = "dataset") -> Edge:
    return Edge(node(child), node(parent), relation)


@pytest.fixture
def lineage(registry) -> Lineage:
    return registry.lineage


def walk(relatives):
    return {(relative.artifact.name, relative.distance) for relative in relatives}


def test_a_diamond_is_met_once_by_the_shortest_way(lineage):
    lineage.record([edge("v", "base", "base"), edge("v", "deck", "deck"), edge("deck", "data"), edge("base", "data")])
    lineage.record([edge("data", "raw"), edge("deck", "raw")])
    assert walk(lineage.ancestors(node("v"))) == {("nbase", 1), ("ndeck", 1), ("ndata", 2), ("nraw", 2)}
    assert walk(lineage.descendants(node("raw"))) == {("ndata", 1), ("ndeck", 1), ("nbase", 2), ("nv", 2)}
    assert {(e.parent.name, e.relation) for e in lineage.parents(node("v"))} == {("nbase", "base"), ("ndeck", "deck")}
    assert {e.child.name for e in lineage.children(node("data"))} == {"nbase", "ndeck"}


def test_recording_again_changes_nothing(lineage):
    for _ in range(2):
        lineage.record([edge("v", "base", "base"), edge("v", "base", "teacher")])
    assert len(lineage.parents(node("v"))) == 2
    assert walk(lineage.ancestors(node("v"))) == {("nbase", 1)}


@pytest.mark.parametrize("closing", [edge("a", "a"), edge("a", "c"), edge("b", "c")], ids=["self", "triangle", "pair"])
def test_no_cycles_and_all_or_nothing(lineage, closing):
    lineage.record([edge("b", "a"), edge("c", "b")])
    with pytest.raises(LineageCycleError):
        lineage.record([edge("x", "y"), closing])
    assert lineage.parents(node("x")) == ()
    assert walk(lineage.ancestors(node("c"))) == {("nb", 1), ("na", 2)}


def test_unknown_artifacts_have_no_relatives(lineage):
    assert lineage.ancestors(node("nobody")) == lineage.descendants(node("nobody")) == ()


def test_revisions_are_different_artifacts(lineage):
    old, new = (Artifact("base", "base/universal", digest * 32) for digest in ("aa", "bb"))
    lineage.record([Edge(new, old, "base")])
    assert [r.artifact for r in lineage.ancestors(new)] == [old]
    with pytest.raises(InvalidNameError):
        Edge(new, old, "made from")


def test_a_long_ladder_of_diamonds_stays_quick(lineage):
    edges = [edge(f"{n}{s}", f"{n + 1}{t}") for n in range(25) for s in "ab" for t in "ab"]
    lineage.record(edges)  # 2^25 paths from one end to the other
    assert len(lineage.ancestors(node("0a"))) == 50


@settings(max_examples=scaled(8, 100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=10))
def test_walks_agree_with_a_plain_search(lineage, pairs):
    salt = next(fresh)  # the fixture is shared by all examples
    known: dict[int, set[int]] = {}

    def above(start: int) -> set[int]:
        seen: set[int] = set()
        todo = [start]
        while todo:
            for parent in known.get(todo.pop(), ()):
                if parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
        return seen

    for child, parent in pairs:
        if child == parent or child in above(parent):
            with pytest.raises(LineageCycleError):
                lineage.record([edge(f"{salt}-{child}", f"{salt}-{parent}")])
        else:
            lineage.record([edge(f"{salt}-{child}", f"{salt}-{parent}")])
            known.setdefault(child, set()).add(parent)
    for start in range(7):
        found = {r.artifact for r in lineage.ancestors(node(f"{salt}-{start}"))}
        assert found == {node(f"{salt}-{other}") for other in above(start)}
