"""Novelty where Triton runs: embeddings by a copy of the base in place, references that somebody vouches for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from serving.errors import BaseError, TritonError
from serving.folder.routing import CellRoute, RoutingTable, ServingFolder, write_routing
from serving.inference.embeddings import PATCHES, Embedder
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from serving.observed.appearance import WIDTH, appearance
from serving.observed.novelty_reference import FILE, Reference, Seen
from serving.triton.backend_settings import BackendSettings
from serving.triton.embedding import SiteEmbeddings
from tests.serving.conftest import make_base, publish, scene, sha256


def answered(image: np.ndarray) -> Instances:
    masks = np.zeros((2, *image.shape[:2]), np.bool_)
    masks[0, 10:50, 10:60] = True
    masks[1, 60:110, 80:150] = True
    return Instances.from_masks(masks, ["box", "bag"], [0.9, 0.8])


def test_a_package_is_embedded_by_what_lies_under_its_mask(base_dir: Path) -> None:
    embedder = Embedder.load(base_dir, base_name="universal@v1")
    image = scene()
    found = embedder.embed(image, answered(image))
    assert found.instances.shape == (2, found.patches.shape[1]) and np.isfinite(found.instances).all()
    rows, columns = found.grid
    assert (columns, rows * columns) == (PATCHES, len(found.patches)) and rows == 15
    assert found.covered[0] == 0 and found.covered.reshape(rows, columns)[3, 4] == 1
    again = embedder.embed(image, answered(image))
    assert np.array_equal(found.instances, again.instances)
    changed = image.copy()
    changed[60:110, 80:150] = 255 - changed[60:110, 80:150]
    other = embedder.embed(changed, answered(image))
    apart = np.linalg.norm(other.instances - found.instances, axis=1)
    assert apart[1] > apart[0]
    nothing = embedder.embed(image, Instances.empty(*image.shape[:2]))
    assert nothing.instances.shape == (0, found.instances.shape[1]) and not nothing.covered.any()


def test_what_answers_is_not_what_embeds(base_dir: Path, variant_dirs: dict[str, Path]) -> None:
    segmenter = Segmenter.load(base_dir, base_name="universal@v1")
    before = segmenter.segment([scene()])[0]
    Embedder.load(base_dir, base_name="universal@v1").embed(scene(), answered(scene()))
    assert segmenter.segment([scene()])[0] == before


def test_a_family_without_layers_to_look_at_says_so(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", family="eomt")
    with pytest.raises(BaseError, match="names no layers"):
        Embedder.load(base, base_name="universal@v1")


def test_appearance_changes_little_with_the_lamp_and_much_with_the_colour() -> None:
    image = np.full((120, 160, 3), 120, np.uint8)
    image[10:50, 10:60] = (150, 110, 80)
    image[60:110, 80:150] = (40, 40, 160)
    looks = appearance(image, answered(image))
    assert looks.shape == (2, WIDTH)
    dimmed = appearance((image * 0.7).astype(np.uint8), answered(image))
    assert np.abs(dimmed - looks).max() < 0.25 < np.abs(looks[0] - looks[1]).max()
    assert appearance(image, Instances.empty(120, 160)).shape == (0, WIDTH)


def put_reference(folder: Path, site: SiteEmbeddings, base: str = "universal@v1") -> Path:
    seen: list[Seen] = []
    for k in range(16):
        image = scene(seed=k)
        one = site.embed(image, answered(image))
        assert one is not None
        seen.append(one)
    embedder = site._embedder
    assert embedder is not None
    path = folder / "variants" / "north@v1" / FILE
    Reference.learn(seen, base=base, layers=embedder.layers, tail=WIDTH).save(path)
    return path


def vouch(folder: Path, digest: str) -> None:
    table = publish(folder, 2, {"north": CellRoute(fleet="north@v1")})
    named = {**table.digests, f"variants/north@v1/{FILE}": digest}
    write_routing(folder, RoutingTable(3, table.base, table.cells, named))


def test_a_reference_is_used_where_the_table_vouches_for_it(serving_folder: Path) -> None:
    def site() -> SiteEmbeddings:
        made = SiteEmbeddings(ServingFolder(serving_folder, check_every_s=0.0), lambda: "universal@v1")
        made.embed(scene(), answered(scene()))
        return made

    first = site()
    assert first.reference("north@v1") is None and first.reference(None) is None
    path = put_reference(serving_folder, first)
    assert site().reference("north@v1") is None  # nobody vouches for it
    vouch(serving_folder, "0" * 64)
    assert site().reference("north@v1") is None
    vouch(serving_folder, sha256(path))
    found = site().reference("north@v1")
    assert found is not None
    seen = site().embed(scene(seed=3), answered(scene()))
    assert seen is not None and found.judge(seen).novelty.shape == (2,)
    put_reference(serving_folder, first, base="universal@v9")
    vouch(serving_folder, sha256(path))
    assert site().reference("north@v1") is None  # of another base


def test_the_rings_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = BackendSettings(tmp_path)
    assert BackendSettings.read(settings.environment()) == settings
    key = "A" * 43 + "="
    read = BackendSettings.read({**settings.environment(), "PARCELHUB_RING_KEY": key, "PARCELHUB_RING_BYTES": "0"})
    assert read.ring.key == bytes(32) and read.ring.max_bytes == 0
    assert key not in str(read.environment()) and "key" not in repr(read.ring)
    assert dataclasses.replace(read.ring, key=None).key is None
    with pytest.raises(TritonError, match="PARCELHUB_RING_KEY"):
        BackendSettings.read({**settings.environment(), "PARCELHUB_RING_KEY": "secret"})
