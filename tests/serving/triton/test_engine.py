from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.errors import (
    AdapterError,
    BaseError,
    ImageError,
    InternalError,
    RequestError,
    RoutingError,
    Unauthorized,
    UnknownCell,
    UnknownVariant,
    VariantWarming,
)
from serving.folder.access import ROBOTS, RobotGrant, token_hash, write_grants
from serving.folder.routing import CellRoute, RoutingTable, write_routing
from serving.triton.engine import Engine, Query, Reply
from serving.triton.queries import MAX_HELD
from tests.serving.conftest import encode, make_base, make_variant, publish, scene, sha256

NORTH = "north@v1 on base/universal@v1"
SOUTH = "south@v2 on base/universal@v1"
BASE = "base/universal@v1"


@pytest.fixture
def engine(serving_folder: Path) -> Iterator[Engine]:
    made = Engine(serving_folder, check_every_s=0.02)
    yield made
    made.close()


def served(engine: Engine, **query: str) -> str:
    reply = engine.answer([Query(scene(), **query)])[0]
    return reply.served_by if isinstance(reply, Reply) else type(reply).__name__


def until(check: Callable[[], bool], seconds: float = 60.0) -> float:
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started


def test_a_batch_answers_each_query_by_itself(engine: Engine) -> None:
    jpeg = encode(scene())
    queries = [
        Query(jpeg, cell="north"),
        Query(jpeg[:300], cell="north"),
        Query(scene(), cell="south"),
        Query(jpeg, cell="west"),
        Query(jpeg, variant="west@v1"),
        Query(jpeg, cell="north", variant="north@v1"),
        Query(np.zeros((3, 3), np.uint8)),
        Query(jpeg),
        Query(np.zeros((1, 3000, 3), np.uint8), cell="north"),
    ]
    got = [r.served_by if isinstance(r, Reply) else type(r) for r in engine.answer(queries)]
    assert got == [NORTH, ImageError, BASE, UnknownCell, UnknownVariant, RequestError, ImageError, BASE, NORTH]
    assert engine.answer([]) == []


def test_the_base_answers_a_cell_in_what_there_is_in_it(engine: Engine, serving_folder: Path) -> None:
    cells = {"north": CellRoute(fleet="north@v1", classes=("box",)), "south": CellRoute(classes=("box",))}
    publish(serving_folder, 2, cells)
    queries = [Query(scene(seed=3), cell=cell, min_score=0.0) for cell in ("south", "north", None)]
    until(lambda: said(engine, queries[0]) == {"box"})
    assert "carton" in said(engine, queries[1]), "a variant has classes of its own"
    assert said(engine, queries[2]) > {"box"}


def said(engine: Engine, query: Query) -> set[str]:
    (reply,) = engine.answer([query])
    assert isinstance(reply, Reply)
    return set(reply.instances.labels)


def test_a_variant_of_finer_pictures_is_answered_beside_the_others(serving_folder: Path) -> None:
    """Robots send what they always sent: masks lie on the frame's own pixels, and nobody else's answer changes."""
    queries = [Query(scene(seed=k), cell=("south", "north")[k % 2], min_score=0.0) for k in range(4)]
    before = Engine(serving_folder)
    plain = before.answer(queries)
    before.close()
    path = serving_folder / "variants" / "north@v1" / "variant.json"
    document = json.loads(path.read_text()) | {"image_size": 128}
    path.unlink()  # it may be a link to the variant's own folder
    path.write_text(json.dumps(document))
    fine = Engine(serving_folder)
    try:
        found = fine.answer(queries)
        assert not fine.faults
    finally:
        fine.close()
    assert [one.served_by for one in found if isinstance(one, Reply)] == [BASE, NORTH, BASE, NORTH]
    for query, one, other in zip(queries, found, plain, strict=True):
        assert isinstance(one, Reply) and isinstance(other, Reply)
        assert (one.instances.height, one.instances.width) == query.image.shape[:2]
        same = one.instances.masks == other.instances.masks and np.allclose(
            one.instances.scores, other.instances.scores, atol=1e-5
        )
        assert same is (query.cell == "south")


def test_a_variant_of_a_size_that_is_not_served_costs_its_cell_alone(serving_folder: Path) -> None:
    path = serving_folder / "variants" / "north@v1" / "variant.json"
    document = json.loads(path.read_text()) | {"image_size": 4096}
    path.unlink()
    path.write_text(json.dumps(document))
    engine = Engine(serving_folder)
    try:
        assert "image_size is 4096" in str(engine.faults["north@v1"])
        assert [served(engine, cell=cell) for cell in ("north", "south")] == [BASE, BASE]
    finally:
        engine.close()


def test_a_cold_variant_warms_up_beside_the_others(engine: Engine) -> None:
    first = engine.answer([Query(scene(), variant="south@v2"), Query(scene(), cell="north")])
    assert isinstance(first[0], VariantWarming)
    assert isinstance(first[1], Reply)
    assert until(lambda: served(engine, variant="south@v2") == SOUTH) < 1.0


def test_a_cold_variant_is_read_before_its_turn_comes(engine: Engine) -> None:
    told: list[bool] = []
    assert engine.expect(Query(scene(), cell="north"), told.clear)
    assert engine.expect(Query(scene()), told.clear)
    cold = Query(scene(), variant="south@v2")
    for _ in range(2):
        assert not engine.expect(cold, lambda: told.append(engine.expect(cold, told.clear)))
    until(lambda: told == [True, True])
    assert engine.counts.loads["south@v2"] == 1
    assert engine.counts.misses["south@v2"] == 2
    assert "south@v2" not in engine.counts.hits, "a hit is an answer"
    assert served(engine, variant="south@v2") == SOUTH
    assert engine.counts.hits["south@v2"] == 1


def test_what_needs_no_computing_is_said_before_the_turn_comes(engine: Engine, serving_folder: Path) -> None:
    for query, wanted in (
        (Query(scene(), cell="nowhere"), UnknownCell),
        (Query(scene(), variant="nowhere@v1"), UnknownVariant),
        (Query(scene(), cell="north", variant="north@v1"), RequestError),
    ):
        with pytest.raises(wanted):
            engine.expect(query, lambda: None)
    (serving_folder / "variants/south@v2/adapter_config.json").write_text("{")
    told: list[bool] = []
    assert not engine.expect(Query(scene(), variant="south@v2"), lambda: told.append(True))
    until(lambda: told == [True])
    with pytest.raises(AdapterError):
        engine.expect(Query(scene(), variant="south@v2"), lambda: None)


def test_only_so_many_wait_for_variants(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is told to ask again; and when the engine closes, those who wait are told so too."""
    monkeypatch.setattr(engine, "_load", lambda _state, _variant: None)
    cold, told = Query(scene(), variant="south@v2"), list[int]()
    for number in range(MAX_HELD):
        assert not engine.expect(cold, lambda number=number: told.append(number))
    with pytest.raises(VariantWarming):
        engine.expect(cold, told.clear)
    assert engine.held == MAX_HELD
    engine.close()
    assert engine.held == 0
    assert told == list(range(MAX_HELD))
    with pytest.raises(VariantWarming):
        engine.expect(cold, told.clear)
    assert engine.expect(Query(scene(), cell="north"), told.clear)


def test_only_so_many_bytes_wait_for_variants(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_load", lambda _state, _variant: None)
    large, small = (Query(np.zeros((side, 1000, 3), np.uint8), variant="south@v2") for side in (50_000, 10))
    assert not engine.expect(large, lambda: None), "one alone may be of any size that a frame may have"
    for query in (small, large):
        with pytest.raises(VariantWarming):
            engine.expect(query, lambda: None)
    assert engine.held == 1


def test_promotion_and_rollback_are_seen_without_a_failed_request(engine: Engine, serving_folder: Path) -> None:
    assert served(engine, cell="south") == BASE
    publish(serving_folder, 2, {"north": CellRoute(fleet="north@v1"), "south": CellRoute(fleet="south@v2")})
    seen = []
    until(lambda: seen.append(served(engine, cell="south")) or seen[-1] == SOUTH)
    publish(serving_folder, 3, {"north": CellRoute(fleet="north@v1"), "south": CellRoute()})
    until(lambda: seen.append(served(engine, cell="south")) or seen[-1] == BASE)
    assert set(seen) == {BASE, SOUTH}


def test_a_damaged_promotion_leaves_the_cell_on_what_it_had(engine: Engine, serving_folder: Path) -> None:
    shutil.copytree(serving_folder / "variants/north@v1", serving_folder / "variants/north@v2")
    cells = {"north": CellRoute(fleet="north@v2"), "south": CellRoute(fleet="south@v2")}
    digest = sha256(serving_folder / "variants/south@v2/adapter_model.safetensors")
    digests = {
        "variants/north@v2/adapter_model.safetensors": "0" * 64,
        "variants/south@v2/adapter_model.safetensors": digest,
    }
    write_routing(serving_folder, RoutingTable(2, "universal@v1", cells, digests))
    until(lambda: served(engine, cell="south") == SOUTH)
    assert served(engine, cell="north") == NORTH


def test_a_damaged_base_never_replaces_a_whole_one(engine: Engine, serving_folder: Path) -> None:
    make_base(serving_folder / "base/universal@v2", seed=5)
    digests = {"base/universal@v2/model.safetensors": "0" * 64}
    cells = {"north": CellRoute(fleet="north@v1"), "south": CellRoute()}
    write_routing(serving_folder, RoutingTable(2, "universal@v2", cells, digests))
    with pytest.raises(BaseError, match=r"SHA-256 of model\.safetensors differs"):
        Engine(serving_folder)
    assert served(engine, cell="south") == BASE


def test_a_new_base_replaces_the_old_with_its_variants(engine: Engine, serving_folder: Path, tmp_path: Path) -> None:
    make_base(serving_folder / "base/universal@v2", seed=5)
    folder = make_variant(serving_folder / "base/universal@v2", serving_folder / "variants/north@v9", seed=6)
    text = (folder / "variant.json").read_text().replace('"revision": "v1"', '"revision": "v2"')
    (folder / "variant.json").write_text(text)
    publish(serving_folder, 2, {"north": CellRoute(fleet="north@v9"), "south": CellRoute()}, base="universal@v2")
    until(lambda: served(engine, cell="south") == "base/universal@v2")
    assert served(engine, cell="north") == "north@v9 on base/universal@v2"
    publish(serving_folder, 3, {"south": CellRoute()}, base="universal@v3")
    time.sleep(0.2)
    assert served(engine, cell="south") == "base/universal@v2"


def test_variants_on_two_bases_answer_in_one_batch(engine: Engine, serving_folder: Path) -> None:
    make_base(serving_folder / "base/universal@v2", seed=5)
    folder = make_variant(serving_folder / "base/universal@v2", serving_folder / "variants/east@v9", seed=6)
    text = (folder / "variant.json").read_text().replace('"revision": "v1"', '"revision": "v2"')
    (folder / "variant.json").write_text(text)
    cells = {"north": CellRoute(fleet="north@v1"), "east": CellRoute(fleet="east@v9"), "south": CellRoute()}
    swaps = engine.swaps
    old = {"north@v1": "universal@v1"}
    write_routing(serving_folder, RoutingTable(2, "universal@v2", cells, _digests(serving_folder), bases=old))
    until(lambda: served(engine, cell="south") == "base/universal@v2")
    queries = [Query(scene(seed=k), cell=cell) for k, cell in enumerate(("north", "east", "south", "north"))]
    wanted = [NORTH, "east@v9 on base/universal@v2", "base/universal@v2", NORTH]
    replies = engine.answer(queries)
    assert [reply.served_by if isinstance(reply, Reply) else reply for reply in replies] == wanted
    alone = [engine.answer([query])[0] for query in queries]
    for one, other in zip(replies, alone, strict=True):
        assert isinstance(one, Reply) and isinstance(other, Reply) and one.base == other.base
        assert one.instances.masks == other.instances.masks, "a row gets what it gets alone"
    assert engine.swaps >= swaps, "the old base was not loaded again"
    # A variant that cannot be read leaves its cell what it had, on its own base.
    broken = dict(cells, north=CellRoute(fleet="south@v2"))
    (serving_folder / "variants/south@v2/adapter_model.safetensors").write_bytes(b"damaged")
    bases = {"south@v2": "universal@v1"}
    write_routing(serving_folder, RoutingTable(3, "universal@v2", broken, _digests(serving_folder), bases=bases))
    until(lambda: engine.table_version == 3)
    assert served(engine, cell="north") == NORTH
    write_routing(serving_folder, RoutingTable(4, "universal@v2", {"south": CellRoute()}))
    until(lambda: engine.table_version == 4)
    assert served(engine, cell="south") == "base/universal@v2"


def test_one_row_that_fails_unexpectedly_fails_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = engine._state.segmenter
    answer = segmenter.answer

    def fragile(images: list[np.ndarray], orders: list[object]) -> object:
        if any(image.shape[0] == 7 for image in images):
            raise RuntimeError("no memory")
        return answer(images, orders)

    monkeypatch.setattr(segmenter, "answer", fragile)
    replies = engine.answer([Query(scene()), Query(scene(7, 20)), Query(scene())])
    assert [isinstance(reply, Reply) for reply in replies] == [True, False, True]
    assert type(replies[1]) is InternalError
    assert "no memory" not in str(replies[1])


def test_a_reply_says_which_stage_it_came_from(engine: Engine, serving_folder: Path) -> None:
    route = CellRoute(beta="south@v2", fleet="north@v1", lines={"line-x": "beta"}, beta_share=0.5)
    publish(serving_folder, 2, {"north": route, "south": CellRoute()})
    until(lambda: served(engine, cell="north", line="line-x") == SOUTH)
    asked = [
        Query(scene(), cell="north", line="line-x"),
        Query(scene(), cell="north"),
        Query(scene(), cell="south"),
        Query(scene(), variant="north@v1"),
        *(Query(scene(), cell="north", robot=f"arm-{number}") for number in range(12)),
    ]
    replies = engine.answer(asked)
    got = [(r.variant, r.stage, r.table_version) for r in replies if isinstance(r, Reply)]
    assert got[:4] == [("south@v2", "beta", 2), ("north@v1", "fleet", 2), (None, None, 2), ("north@v1", "pinned", 2)]
    by_stage = {"beta": ("south@v2", "beta", 2), "fleet": ("north@v1", "fleet", 2)}
    assert got[4:] == [by_stage[route.stage_of("north", None, f"arm-{number}")] for number in range(12)]
    assert len(set(got[4:])) == 2, "some are canaries and some are not"
    assert engine.counts.loads["north@v1"] == 1
    assert engine.counts.hits["south@v2"] > 0
    assert engine.swaps >= 2


def test_tokens_are_checked_against_the_cell(serving_folder: Path) -> None:
    write_grants(
        serving_folder,
        {
            token_hash("mine"): RobotGrant("arm", frozenset({"north"})),
            token_hash("all"): RobotGrant("x", frozenset("*")),
        },
    )
    engine = Engine(serving_folder, check_every_s=0.02, check_tokens=True)
    try:
        for query, wanted in (
            ({"cell": "north", "token": "mine"}, NORTH),
            ({"variant": "north@v1", "token": "mine"}, NORTH),
            ({"cell": "south", "token": "all"}, BASE),
            ({"token": "mine"}, BASE),
            ({"cell": "south", "token": "mine"}, "Unauthorized"),
            ({"variant": "south@v2", "token": "mine"}, "Unauthorized"),
            ({"cell": "north", "token": "other"}, "Unauthorized"),
            ({"cell": "north"}, "Unauthorized"),
        ):
            assert served(engine, **query) == wanted
        with pytest.raises(Unauthorized):
            engine.expect(Query(scene(), cell="south", token="mine"), lambda: None)
        (serving_folder / ROBOTS).write_text("{")
        assert served(engine, cell="north", token="mine") == NORTH, "a broken file changes nothing"
        (serving_folder / ROBOTS).unlink()
        until(lambda: served(engine, cell="north", token="mine") == "Unauthorized")
    finally:
        engine.close()


def test_no_routing_no_engine(tmp_path: Path) -> None:
    with pytest.raises(RoutingError):
        Engine(tmp_path)


def _digests(folder: Path) -> dict[str, str]:
    """The digests of the variants' weights in a serving folder, as its routing table names them."""
    return {str(path.relative_to(folder)): sha256(path) for path in folder.glob("variants/*/adapter_model.safetensors")}
