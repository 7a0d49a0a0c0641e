"""One tenant's damaged variant costs that tenant its promotion, and nobody else anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.folder.routing import CellRoute, RoutingTable
from serving.observed.server_status import ServerStatus, read_status
from serving.triton.engine import Engine, Query, Reply
from tests.serving.conftest import make_base, make_variant, publish, scene
from tests.serving.triton.test_engine import BASE, NORTH, SOUTH, served, until

WEIGHTS = "adapter_model.safetensors"


def edit(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file({name: change(one).contiguous() for name, one in tensors.items()}, folder / WEIGHTS)

    return damage


def config(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


DAMAGES = {
    "8-bit floats": edit(lambda one: one.to(torch.float8_e4m3fn)),
    "8-bit floats with infinities": edit(lambda one: one.to(torch.float8_e5m2)),
    "whole numbers": edit(lambda one: one.to(torch.int8)),
    "too large for float32": edit(lambda one: one.double() * 1e300),
    "infinite once scaled": edit(lambda one: torch.full_like(one, 3e38)),
    "a huge change": edit(lambda one: one * 1e6),
    "alpha": config(lora_alpha=10**400),
    "an alpha that diverges": config(lora_alpha=1e30),
    "deep JSON": lambda folder: (folder / "variant.json").write_text("[" * 200_000),
    "no safetensors": lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_variant_is_refused_alone_and_after_a_restart_too(
    damage: Callable[[Path], None], serving_folder: Path
) -> None:
    shutil.copytree(serving_folder / "variants/north@v1", serving_folder / "variants/north@v2")
    damage(serving_folder / "variants/north@v2")
    engine = Engine(serving_folder, check_every_s=0.02)
    try:
        publish(serving_folder, 2, {"north": CellRoute(fleet="north@v2"), "south": CellRoute(fleet="south@v2")})
        until(lambda: served(engine, cell="south") == SOUTH)
        assert served(engine, cell="north") == NORTH, "what it had before"
        until(lambda: told(serving_folder) == ["north@v2"])
        assert set(engine.faults) == {"north@v2"}
    finally:
        engine.close()
    again = Engine(serving_folder, check_every_s=0.02)
    try:
        assert served(again, cell="south") == SOUTH
        (reply,) = again.answer([Query(scene(), cell="north")])
        assert isinstance(reply, Reply)
        assert (reply.served_by, reply.instead_of) == (BASE, "north@v2")
    finally:
        again.close()


def told(folder: Path) -> list[str]:
    status = read_status(folder)
    return [one.variant for one in status.refused] if status is not None and status.table_version == 2 else []


def test_what_is_mended_answers_again_without_a_new_table(serving_folder: Path) -> None:
    folder = serving_folder / "variants/north@v1"
    moved = folder.rename(serving_folder / "away")
    engine = Engine(serving_folder, check_every_s=0.02, retry_s=0.02)
    try:
        assert served(engine, cell="north") == BASE
        moved.rename(folder)
        until(lambda: served(engine, cell="north") == NORTH)
    finally:
        engine.close()


def test_an_answer_that_is_not_finite_is_the_bases_and_says_so(serving_folder: Path) -> None:
    engine = Engine(serving_folder, check_every_s=0.02, retry_s=60)
    try:
        bank = engine._state.segmenter._bank
        assert bank is not None
        bank._adapters["north@v1"].packed.block.fill_(float("nan"))
        for _ in range(2):
            replies = engine.answer([Query(scene(), cell="north"), Query(scene(), cell="south")])
            said = [(one.served_by, one.instead_of) for one in replies if isinstance(one, Reply)]
            assert said == [(BASE, "north@v1"), (BASE, None)]
        assert served(engine, variant="north@v1") in ("NotFinite", "AdapterError")
    finally:
        engine.close()


def test_one_bad_entry_leaves_the_rest_of_the_table_in_force(serving_folder: Path) -> None:
    engine = Engine(serving_folder, check_every_s=0.02)
    try:
        table = RoutingTable.parse((serving_folder / "routing.json").read_bytes())
        cells = {"north": CellRoute(fleet="north@v1"), "south": CellRoute(fleet="south@v2")}
        value = json.loads(RoutingTable(2, table.base, cells, table.digests).to_json())
        value["cells"]["north"]["beta_share"] = "half"
        part = serving_folder / "part"
        part.write_text(json.dumps(value))
        part.replace(serving_folder / "routing.json")
        until(lambda: served(engine, cell="south") == SOUTH)
        assert served(engine, cell="north") == NORTH
    finally:
        engine.close()


def test_a_status_survives_its_file() -> None:
    status = ServerStatus("x", 5.0, 3, "universal@v1", looked={"a@v1 0": ""})
    assert ServerStatus.parse(status.to_json()) == status


def test_a_new_base_with_a_damaged_variant_answers_the_cell_itself(serving_folder: Path) -> None:
    engine = Engine(serving_folder, check_every_s=0.02)
    try:
        assert served(engine, cell="north") == NORTH
        make_base(serving_folder / "base/universal@v2", seed=5)
        folder = make_variant(serving_folder / "base/universal@v2", serving_folder / "variants/north@v9", seed=6)
        (folder / "variant.json").write_text("{")
        publish(serving_folder, 2, {"north": CellRoute(fleet="north@v9"), "south": CellRoute()}, base="universal@v2")
        until(lambda: served(engine, cell="south") == "base/universal@v2")
        assert served(engine, cell="north") == "base/universal@v2", "not a variant of the base before"
    finally:
        engine.close()
