from __future__ import annotations

import itertools
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import DecisionRecord, Registry, RepoId, Variant, Verdict
from registry.canonical import sha256_of
from registry.errors import (
    BlobNotFoundError,
    InvalidNameError,
    InvalidValueError,
    MoveRefusedError,
    NotFoundError,
    NothingToRollBackError,
    RepoInUseError,
    RevisionNotFoundError,
    StageError,
)
from registry.promotion.policy import FIRST
from registry.stage_types import HELD_STAGES, STAGES
from tests.registry.conftest import EVALUATED, POLICY
from tests.scale import scaled

CELL = "dock-7"


@pytest.fixture
def move(registry):
    def move(variant, to_stage, cell=CELL, **options):
        given = {"actor": "ann", "evidence": EVALUATED, "policy_digest": POLICY} | options
        return registry.stages.move(cell, variant, to_stage, **given)

    return move


@pytest.fixture
def rollback(registry):
    def rollback(cell=CELL, **options):
        return registry.stages.rollback(cell, "bob", **options)

    return rollback


def held(registry, cell=CELL):
    return {s: v.version for s, v in registry.stages.current(cell).items() if v is not None}


def standing(registry, cell=CELL):
    return {a.variant.version: a.stage for a in registry.stages.assignments(cell)}


def test_the_way_to_the_fleet(registry, move, variants):
    v1 = variants[0]
    assert registry.stages.current(CELL) == {"station": None, "beta": None, "fleet": None}
    records = [move(v1, stage) for stage in ("candidate", "station", "beta", "fleet")]
    assert [(r.from_stage, r.to_stage) for r in records] == [
        (None, "candidate"),
        ("candidate", "station"),
        ("station", "beta"),
        ("beta", "fleet"),
    ]
    assert held(registry) == {"fleet": "v1"}
    (assignment,) = registry.stages.assignments()
    assert (assignment.cell, assignment.variant, assignment.decision) == (CELL, v1, records[-1].id)
    assert assignment.commit == registry.repos.resolve(v1.repo, "v1").id
    assert registry.stages.history(CELL) == tuple(reversed(records))


def test_the_holder_makes_room(registry, move, variants):
    v1, v2, v3, _ = variants
    move(v1, "fleet")
    move(v2, "beta")
    record = move(v3, "fleet", note="better on black bags")
    assert (record.holder, record.note) == (v1, "better on black bags")
    assert held(registry) == {"fleet": "v3", "beta": "v2"}
    assert standing(registry) == {"v1": "candidate", "v2": "beta", "v3": "fleet"}
    for cell in (None, CELL):
        served = registry.stages.assignments(cell, stages=HELD_STAGES)
        assert [(a.variant, a.stage) for a in served] == [(v2, "beta"), (v3, "fleet")]


def test_rollback_goes_back_and_further_back(registry, move, rollback, variants):
    v1, v2, v3, v4 = variants
    first = move(v1, "fleet")
    second = move(v2, "fleet")
    move(v3, "fleet")
    record = rollback(note="drops")
    assert (record.kind, record.variant, record.holder, record.restores) == ("rollback", v2, v3, second.id)
    assert standing(registry) == {"v1": "candidate", "v2": "fleet", "v3": "candidate"}
    assert rollback().restores == first.id
    assert held(registry) == {"fleet": "v1"}
    with pytest.raises(NothingToRollBackError):
        rollback()
    move(v4, "fleet")
    assert rollback().variant == v1
    assert len(registry.stages.history(CELL)) == 7


def test_rollback_after_the_fleet_was_emptied(registry, move, rollback, variants):
    v1, v2, *_ = variants
    move(v1, "fleet")
    move(v2, "fleet")
    move(v2, "candidate")
    assert held(registry) == {}
    assert rollback().variant == v2
    assert rollback().variant == v1


def test_rollback_passes_over_the_archived(registry, move, rollback, variants):
    v1, v2, v3, _ = variants
    for variant in (v1, v2, v3):
        move(variant, "fleet")
    move(v2, "archived")
    assert rollback().variant == v1
    assert standing(registry) == {"v1": "fleet", "v2": "archived", "v3": "candidate"}


def test_a_beta_rollback_does_not_rob_the_fleet(registry, move, rollback, variants):
    v1, v2, *_ = variants
    move(v1, "beta")
    move(v1, "fleet")
    move(v2, "beta")
    with pytest.raises(NothingToRollBackError):
        rollback(stage="beta")
    assert held(registry) == {"fleet": "v1", "beta": "v2"}


def test_a_fleet_rollback_takes_the_variant_from_a_lower_stage(registry, move, rollback, variants):
    v1, v2, *_ = variants
    move(v1, "fleet")
    move(v2, "fleet")
    move(v1, "station")
    assert rollback().from_stage == "station"
    assert held(registry) == {"fleet": "v1"}


def test_a_refusal_is_recorded_and_changes_nothing(registry, move, variants):
    v1 = variants[0]
    move(v1, "beta")
    with pytest.raises(MoveRefusedError, match="fleet needs evidence for: evaluation") as caught:
        move(v1, "fleet", evidence={"evaluation": {}, "note": "trust me"})
    record = caught.value.record
    assert not record.allowed
    assert held(registry) == {"beta": "v1"}
    assert registry.stages.history(CELL, limit=1) == (record,)
    assert registry.stages.decision(record.id) == record
    with pytest.raises(NotFoundError):
        registry.stages.decision("0" * 64)


@pytest.mark.parametrize(
    ("start", "to_stage", "reason"),
    [("station", "station", "already"), ("archived", "fleet", "archived"), ("archived", "archived", "already")],
)
def test_senseless_moves_are_refused(registry, move, variants, start, to_stage, reason):
    move(variants[0], start)
    with pytest.raises(MoveRefusedError, match=reason):
        move(variants[0], to_stage)
    assert standing(registry) == {"v1": start}
    move(variants[0], "candidate")


@pytest.mark.parametrize("stage", HELD_STAGES)
def test_what_a_look_found_refuses_a_served_stage_whatever_the_gate_says(registry, move, variants, stage):
    move(variants[0], "candidate")
    found = "what it says of the packaged pictures is not finite numbers"
    with pytest.raises(MoveRefusedError) as refusal:
        move(variants[0], stage, evidence=EVALUATED | {"look": found})
    record = refusal.value.record
    assert (record.verdict, record.reason) == ("refused", f"it cannot serve: {found}")
    assert held(registry) == {}
    assert move(variants[0], "archived", evidence={"look": found}).allowed, "out of the way it may go"


def test_compare_and_swap(registry, move, rollback, variants):
    v1, v2, v3, _ = variants
    move(v1, "fleet", expected_current=None)
    move(v2, "fleet", expected_current=v1)
    for lost in (lambda: move(v3, "fleet", expected_current=v1), lambda: rollback(expected_current=None)):
        with pytest.raises(MoveRefusedError, match="held by cells/dock-7@v2") as caught:
            lost()
        assert registry.stages.history(CELL, limit=1) == (caught.value.record,)
    assert held(registry) == {"fleet": "v2"}
    rollback(expected_current=v2)


def test_one_of_many_wins_the_fleet(registry, move, variants):
    results = []

    def run(variant):
        try:
            results.append(move(variant, "fleet", expected_current=None))
        except MoveRefusedError as error:
            results.append(error.record)

    threads = [threading.Thread(target=run, args=(variant,)) for variant in variants]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = [record for record in results if record.allowed]
    assert registry.stages.current(CELL)["fleet"] == won.variant
    assert len(registry.stages.history(CELL)) == 4


def test_records_are_blobs_that_chain_and_replay(registry, move, rollback, variants):
    move(variants[0], "fleet", evidence={"evaluation": {"AP": 0.5, "sha256": "ab" * 32}, "ä": [1, 2.5, None]})
    move(variants[1], "fleet")
    with pytest.raises(MoveRefusedError):
        move(variants[2], "fleet", evidence={})
    rollback()
    link = registry.stages.history(CELL, limit=1)[0].id
    seen = []
    while link is not None:  # from digests alone
        document = registry.blobs.read(link)
        record = DecisionRecord.parse(document)
        assert record.id == sha256_of(document) == link
        assert record.policy is None or registry.blobs.read(record.policy) == FIRST.document
        seen.append(record)
        link = record.previous
    assert tuple(seen) == registry.stages.history(CELL)
    assert [record.verdict for record in seen] == ["allowed", "refused", "allowed", "allowed"]


def test_cells_do_not_meddle(registry, move, rollback, publish, variants):
    publish("cells/dock-8", "v1")
    move(variants[0], "fleet")
    move(Variant.parse("cells/dock-8@v1"), "fleet", cell="dock-8")
    move(variants[0], "fleet", cell="dock-9")  # a neighbour tries our variant
    move(variants[1], "fleet")
    rollback()
    assert [(a.cell, str(a.variant), a.stage) for a in registry.stages.assignments()] == [
        ("dock-7", "cells/dock-7@v1", "fleet"),
        ("dock-7", "cells/dock-7@v2", "candidate"),
        ("dock-8", "cells/dock-8@v1", "fleet"),
        ("dock-9", "cells/dock-7@v1", "fleet"),
    ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"variant": Variant.parse("cells/dock-7@v9")}, RevisionNotFoundError),
        ({"variant": Variant.parse("cells/dock-7@main")}, StageError),
        ({"to_stage": "moon"}, StageError),
        ({"cell": "../x"}, InvalidNameError),
        ({"policy_digest": "ab" * 32}, BlobNotFoundError),
        ({"policy_digest": "v1"}, InvalidValueError),
        ({"evidence": {"AP": float("nan")}}, InvalidValueError),
        ({"actor": ""}, InvalidValueError),
    ],
)
def test_what_is_no_attempt_leaves_no_record(registry, move, variants, options, error):
    with pytest.raises(error):
        move(**({"variant": variants[0], "to_stage": "station"} | options))
    assert registry.stages.history(CELL) == ()


def test_rollback_needs_a_held_stage(rollback):
    with pytest.raises(StageError):
        rollback(stage="candidate")
    with pytest.raises(NothingToRollBackError):
        rollback()


def test_the_gate_sees_the_whole_request(tmp_path, variants, registry):
    requests = []

    def gate(request):
        requests.append(request)
        return Verdict(False, "not on a Friday")

    stages = type(registry.stages)(registry.catalog, registry.blobs, registry.repos, gate)
    with pytest.raises(MoveRefusedError, match="not on a Friday"):
        stages.move(CELL, variants[0], "beta", actor="ann", evidence={"a": 1}, policy_digest=POLICY)
    (request,) = requests
    assert (request.cell, request.variant, request.from_stage, request.to_stage) == (CELL, variants[0], None, "beta")
    assert (request.holder, request.evidence, request.policy) == (None, {"a": 1}, POLICY)


def test_a_served_repo_cannot_be_deleted(registry, move, variants):
    repo = RepoId.parse("cells/dock-7")
    registry.repos.create(RepoId.parse("cells/dock-7", "dataset"))
    move(variants[0], "beta")
    with pytest.raises(RepoInUseError, match="dock-7 \\(beta\\)"):
        registry.repos.delete(repo)
    registry.repos.delete(RepoId.parse("cells/dock-7", "dataset"))
    move(variants[0], "archived")
    registry.repos.delete(repo)


def test_stages_outlive_the_process(tmp_path):
    root = tmp_path / "again"
    with Registry.open(root) as registry:
        repo = RepoId.parse("cells/c")
        registry.repos.create(repo)
        registry.repos.commit(repo, [], message="", author="a", tags=["v1", "v2"])
        for version in ("v1", "v2"):
            registry.stages.move(
                "c", Variant(repo, version), "fleet", actor="a", evidence=EVALUATED, policy_digest=POLICY
            )
    with Registry.open(root) as registry:
        assert registry.stages.rollback("c", "a").variant.version == "v1"


fresh = itertools.count()
ACTIONS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(STAGES)) | st.sampled_from(HELD_STAGES), min_size=1, max_size=14
)


@pytest.mark.slow
@settings(max_examples=scaled(6, 100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_whatever_happens_a_stage_has_one_holder(registry, move, rollback, variants, actions):
    cell = f"c{next(fresh)}"  # the fixture is shared by all examples
    attempts = 0
    for action in actions:
        try:
            if isinstance(action, str):
                rollback(cell, stage=action)
            else:
                move(variants[action[0]], action[1], cell=cell)
            attempts += 1
        except NothingToRollBackError:
            pass
        except MoveRefusedError:
            attempts += 1
        stages = list(standing(registry, cell).values())
        assert all(stages.count(stage) <= 1 for stage in HELD_STAGES)
        # The log and the state tell the same story.
        for stage in HELD_STAGES:
            rows = registry.catalog.query(
                "SELECT variant FROM stage_holds WHERE cell = ? AND stage = ? AND NOT undone "
                "ORDER BY number DESC LIMIT 1",
                [cell, stage],
            )
            now = registry.stages.current(cell)[stage]
            assert (rows[0][0] if rows else None) == (None if now is None else str(now))
    assert len(registry.stages.history(cell)) == attempts
