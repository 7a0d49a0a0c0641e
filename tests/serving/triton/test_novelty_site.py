"""Novelty where Triton runs: embeddings by a copy of the base in place, references that somebody vouches for."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.errors import BaseError, TritonError
from serving.folder.routing import CellRoute, RoutingTable, ServingFolder, write_routing
from serving.inference.embeddings import PATCHES, Embedder
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from serving.observed.appearance import WIDTH, appearance
from serving.observed.novelty_reference import FILE, Reference, Seen, seen_of
from serving.observed.novelty_watch import Frame
from serving.observed.observer import CameraKey
from serving.observed.watch_samples import stacked
from serving.triton.backend_settings import BackendSettings
from serving.triton.doubting import SiteDoubts
from serving.triton.embedding import SiteEmbeddings
from tests.serving.conftest import make_base, make_variant, publish, scene, sha256


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
    embedder = site.embedder("universal@v1")
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


def asked(variant: str | None) -> Frame:
    return Frame(CameraKey("north"), scene(), answered(scene()), "r1", 1.79e9, "north@v1", variant)


def test_some_frames_are_looked_at_again_by_the_variant_and_the_base(serving_folder: Path) -> None:
    doubts = SiteDoubts(ServingFolder(serving_folder), lambda: "universal@v1", every=2)
    assert doubts(asked("north@v1")) is None, "one in two"
    again = doubts(asked("north@v1"))
    assert again is not None and len(again.unstable) == len(again.disagreed) == 2
    assert all(0 <= value <= 1 for value in (*again.unstable, *again.disagreed, again.missing, again.frame))
    doubts = SiteDoubts(ServingFolder(serving_folder), lambda: "universal@v1", every=1)
    alone = doubts(asked(None))
    assert alone is not None and alone.disagreed == (), "the base is not asked about itself"
    assert doubts(asked("nobody@v1")) is None, "a variant that is gone"
    assert doubts(asked("north@v1")) is not None


def test_a_frame_is_not_looked_at_by_what_nobody_vouches_for(serving_folder: Path) -> None:
    weights = serving_folder / "variants" / "north@v1" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"evil")
    doubts = SiteDoubts(ServingFolder(serving_folder), lambda: "universal@v1", every=1)
    assert doubts(asked("north@v1")) is None and doubts(asked(None)) is not None
    gone = SiteDoubts(ServingFolder(serving_folder), lambda: "universal@v9", every=1)
    assert gone(asked(None)) is None and gone(asked(None)) is None


def test_an_answer_of_the_same_model_is_in_little_doubt_on_an_even_view(serving_folder: Path) -> None:
    segmenter = Segmenter.load(serving_folder / "base" / "universal@v1", base_name="universal@v1")
    even = np.full((120, 160, 3), 90, np.uint8)
    found = segmenter.segment([even])[0]
    doubts = SiteDoubts(ServingFolder(serving_folder), lambda: "universal@v1", every=1)
    again = doubts(Frame(CameraKey("north"), even, found, "r1", 1.79e9, "base", None))
    assert again is not None and len(again.unstable) == len(found)


def two_bases(folder: Path) -> ServingFolder:
    """South's variant is on another base than most, with a reference of its own there."""
    other = make_base(folder / "base" / "other@v1", seed=5)
    shutil.rmtree(folder / "variants" / "south@v1", ignore_errors=True)
    document = make_variant(other, folder / "variants" / "south@v1", seed=9) / "variant.json"
    base = {"repo": "base/other", "revision": "v1", "commit": "0" * 40}
    document.write_text(json.dumps(json.loads(document.read_text()) | {"base": base}))
    table = publish(folder, 2, {"north": CellRoute(fleet="north@v1"), "south": CellRoute(fleet="south@v1")})
    embedder = Embedder.load(other, base_name="other@v1")
    views = [scene(seed=k) for k in range(16)]
    seen = [seen_of(embedder.embed(view, answered(view)), view, answered(view)) for view in views]
    path = folder / "variants" / "south@v1" / FILE
    Reference.learn(seen, base="other@v1", layers=embedder.layers, tail=WIDTH).save(path)
    digests = dict(table.digests) | {f"variants/south@v1/{FILE}": sha256(path)}
    digests |= {f"base/other@v1/{one.name}": sha256(one) for one in other.iterdir()}
    write_routing(folder, RoutingTable(3, table.base, table.cells, digests, {"south@v1": "other@v1"}))
    return ServingFolder(folder, check_every_s=0.0)


def test_a_variant_on_another_base_is_watched_by_that_base(serving_folder: Path) -> None:
    found = two_bases(serving_folder)
    site = SiteEmbeddings(found, lambda: "universal@v1")
    image = scene(seed=3)
    own = site.embed(image, answered(image), "south@v1")
    main = site.embed(image, answered(image), "north@v1")
    alone = site.embed(image, answered(image), None)
    assert own is not None and main is not None and alone is not None
    assert np.array_equal(main.instances, alone.instances) and not np.array_equal(own.instances, main.instances)
    wanted = Embedder.load(serving_folder / "base" / "other@v1", base_name="other@v1").embed(image, answered(image))
    assert np.array_equal(own.patches, wanted.patches)
    reference = site.reference("south@v1")
    assert reference is not None and reference.base == "other@v1"
    assert 0 <= reference.judge(own).frame_p <= 1
    doubts = SiteDoubts(found, lambda: "universal@v1", every=1)
    for variant in ("south@v1", "north@v1", "south@v1"):
        again = doubts(Frame(CameraKey("south"), image, answered(image), "r1", 1.79e9, variant, variant))
        assert again is not None and len(again.disagreed) == 2


def test_rows_of_several_bases_make_one_sample() -> None:
    found = stacked([np.ones(3, np.float32), np.ones(5, np.float32)])
    assert found.shape == (2, 5) and found[0].tolist() == [1, 1, 1, 0, 0]
