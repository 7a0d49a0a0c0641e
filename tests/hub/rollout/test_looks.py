"""The hub has the robots' server look at a variant before it is promoted."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hub.models.variants import repo_of
from hub.rollout.placement import Placement
from hub.services import Services
from registry.errors import MoveRefusedError
from serving.folder.routing import CellRoute, materialise
from serving.inference.adapter_files import FILES, WEIGHTS
from serving.inference.first_look import look
from serving.inference.segmenter import SegmentOptions
from serving.instances import Instances
from serving.observed.server_status import LOOKS, ServerStatus, ask_for_look, looked_key, read_status, write_status
from serving.triton.engine import Engine
from serving.triton.looks import AT_ONCE, REQUEST_S
from tests.hub.rollout.test_bases_and_folder import hub, make_variant  # noqa: F401  # `hub` is a fixture
from tests.serving.conftest import make_base, publish, sha256
from tests.serving.conftest import make_variant as make_adapter
from tests.serving.triton.test_engine import until

BASE = "universal@v1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    make_adapter(make_base(root / "base"), root / "variant")
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    place = tmp_path / "serving"
    materialise(place, f"base/{BASE}", {path.name: path for path in (made / "base").iterdir()})
    materialise(place, "variants/north@v1", {file: made / "variant" / file for file in FILES})
    publish(place, 1, {"north": CellRoute()})
    return place


@pytest.fixture
def server(folder: Path) -> Iterator[Engine]:
    engine = Engine(folder, check_every_s=0.02)
    until(lambda: read_status(folder) is not None)
    yield engine
    engine.close()


def digests(folder: Path, variant: str) -> dict[str, str]:
    return {file: sha256(folder / "variants" / variant / file) for file in FILES}


def placement(folder: Path) -> Placement:
    return Placement(folder, lambda: 1)


def test_a_sound_variant_passes_and_is_not_kept_in_memory(folder: Path, server: Engine) -> None:
    assert placement(folder).look("north@v1", BASE, digests(folder, "north@v1"), seconds=30) == ""
    status = read_status(folder)
    assert status is not None
    assert status.looked == {f"north@v1 {sha256(folder / 'variants/north@v1' / WEIGHTS)}": ""}
    assert not server._state.segmenter.has_variant("north@v1")
    assert list((folder / LOOKS).iterdir()) == [], "the request is taken back"


def test_a_variant_that_cannot_be_read_is_told_with_its_reason(folder: Path, server: Engine) -> None:
    weights = folder / "variants/north@v1" / WEIGHTS
    save_file({name: one.to(torch.float8_e4m3fn) for name, one in load_file(weights).items()}, weights)
    said = placement(folder).look("north@v1", BASE, digests(folder, "north@v1"), seconds=30)
    assert said
    assert placement(folder).look("north@v1", BASE, digests(folder, "north@v1"), seconds=0) == said, "it is remembered"


def test_requests_that_were_answered_or_left_behind_keep_nobody_waiting(folder: Path, server: Engine) -> None:
    left = [f"alpha@v{k}" for k in range(1, AT_ONCE + 3)]
    for name in left:
        shutil.copytree(folder / "variants/north@v1", folder / "variants" / name)
        ask_for_look(folder, name, digests(folder, name))
    assert placement(folder).look("north@v1", BASE, digests(folder, "north@v1"), seconds=30) == ""
    status = read_status(folder)
    assert status is not None
    assert any(key.startswith("north@v1 ") for key in status.looked)


def test_an_old_request_is_no_request(folder: Path) -> None:
    ask_for_look(folder, "north@v1", digests(folder, "north@v1"))
    past = time.time() - REQUEST_S - 1
    os.utime(folder / LOOKS / "north@v1", (past, past))
    engine = Engine(folder, check_every_s=0.02)
    try:
        assert not engine._looks.answer_asked(engine._state.segmenter)
    finally:
        engine.close()


@pytest.mark.parametrize("status", [None, ServerStatus("other", time.time(), base="universal@v2")])
def test_where_no_server_has_the_base_nobody_waits(folder: Path, status: ServerStatus | None) -> None:
    if status is not None:
        write_status(folder, status)
    assert placement(folder).look("north@v1", BASE, digests(folder, "north@v1"), seconds=300) == ""
    assert not (folder / LOOKS).exists()


def test_what_the_server_finds_refuses_the_promotion_and_is_on_record(
    hub: Services,  # noqa: F811
    tmp_path: Path,
) -> None:
    version = make_variant(hub, tmp_path)
    one = hub.variants.get("dock-7", version)
    digest = next(e.sha256 for e in hub.store.repos.tree(repo_of("dock-7"), one.commit) if e.path == WEIGHTS)
    status = ServerStatus("triton", time.time(), base=BASE, looked={looked_key(one.name, digest): "it is not finite"})
    write_status(hub.settings.serving_folder, status)
    with pytest.raises(MoveRefusedError, match="it cannot serve: it is not finite") as refusal:
        hub.promotions.promote("dock-7", version, "station", actor="ann", note="")
    assert refusal.value.record.evidence["look"] == "it is not finite"
    assert hub.serving_folder.read()["cells"].get("dock-7", {}).get("station") is None
    write_status(
        hub.settings.serving_folder,
        ServerStatus("triton", time.time(), base=BASE, looked={looked_key(one.name, digest): ""}),
    )
    moved = hub.promotions.promote("dock-7", version, "station", actor="ann", note="")
    assert moved.version == one.name


class Says:
    """A segmenter that answers every picture with these scores, for the base and for the variant."""

    def __init__(self, base: list[float], variant: list[float]) -> None:
        self.scores = {None: base, "north@v1": variant}

    def answer(self, images: list[object], orders: list[SegmentOptions]) -> list[Instances]:
        (order,) = orders
        kept = [one for one in self.scores[order.variant] if one >= order.min_score]
        masks = np.ones((len(kept), 4, 4), np.bool_)
        return [Instances.from_masks(masks, ["box"] * len(kept), np.array(kept, np.float32))]


@pytest.mark.parametrize(
    ("base", "variant", "found"),
    [
        ([0.9, 0.8, 0.7], [0.00001], True),
        ([0.9, 0.8, 0.7], [], True),
        ([0.9, 0.8, 0.7], [0.01], False),
        ([0.9, 0.8], [], False),
    ],
)
def test_silence_counts_where_the_base_says_much(base: list[float], variant: list[float], found: bool) -> None:
    assert bool(look(Says(base, variant), "north@v1")) is found  # type: ignore[arg-type]
