"""Every kind of damage is made for real, and must be found and named."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import AddFile, Artifact, Edge, Registry, RepoId, Variant
from registry.errors import CatalogLockedError
from registry.maintenance.fsck import examine_folder
from registry.maintenance.fsck_report import Report
from tests.registry.conftest import EVALUATED, POLICY
from tests.registry.xet_material import content, noise, put, register
from tests.scale import scaled

REPO = RepoId.parse("cells/dock-7")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with commits, a large tree, a variant at a stage, lineage, and a file that came in chunks."""
    root = tmp_path_factory.mktemp("fsck") / "data"
    with Registry.open(root) as registry:
        registry.repos.create(REPO)

        def add(path: str, data: bytes) -> AddFile:
            info = registry.blobs.put_bytes(data)
            return AddFile(path, info.sha256, info.size)

        many = [add(f"images/{n}.txt", b"%d" % n) for n in range(400)]
        registry.repos.commit(REPO, many, message="many", author="ann")
        made = registry.repos.commit(REPO, [add("one.txt", b"one")], message="one", author="ann", tags=["v1"])
        xorb = put(registry.xet, noise(1))
        file = register(registry.xet, [(xorb, 0, 7)])
        registry.repos.commit(REPO, [AddFile("big.bin", file.sha256, file.size, lfs=True)], message="big", author="ann")
        assert registry.blobs.read(file.sha256) == content([(xorb, 0, 7)])
        deck = registry.blobs.put_bytes(b"a deck").sha256
        registry.lineage.record(
            [Edge(Artifact("variant", "cells/dock-7@v1", made.id), Artifact("deck", deck, deck), "deck")]
        )
        registry.stages.move(
            "dock-7", Variant(REPO, "v1"), "candidate", actor="ann", evidence=EVALUATED, policy_digest=POLICY
        )
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def blob_of(root: Path, data: bytes | None = None, *, store: str = "blobs") -> Path:
    """The file of these bytes, or the only one of a store."""
    files = [path for path in (root / store / "sha256").rglob("*") if path.is_file()]
    found = [path for path in files if data is None or path.read_bytes() == data]
    assert len(found) == 1
    return found[0]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


def sql(statement: str, *params: object) -> Callable[[Path], None]:
    """Damage by a statement, as a fault of ours would make it."""

    def damage(root: Path) -> None:
        with Registry.open(root) as registry, registry.catalog.write() as tx:
            tx.execute(statement, params)

    return damage


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings if finding.severity == "damage"}


@pytest.mark.slow
@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_folder(root: Path, quick: bool) -> None:
    seen: list[str] = []
    report = examine_folder(root, quick=quick, progress=lambda what, done, total: seen.append(what))
    assert report.findings == []
    assert not report.damaged
    assert report.checked["commits"] == 3
    assert report.checked["blobs stored"] > 400
    assert report.checked["xorbs stored"] == 1
    assert "rows" in seen
    with Registry.open(root) as registry:
        assert registry.examine(quick=quick).findings == []


class TestBytes:
    @pytest.mark.slow
    def test_a_flipped_bit(self, root: Path) -> None:
        path = blob_of(root, b"one")
        flip(path, 1)
        assert not examine_folder(root, quick=True).damaged  # it has its size
        (found,) = examine_folder(root).findings
        assert (found.kind, found.name) == ("blob-digest", path.name)
        assert "model cells/dock-7@" in found.detail
        assert "one.txt" in found.detail

    @pytest.mark.parametrize("quick", [True, False])
    def test_a_dropped_blob(self, root: Path, quick: bool) -> None:
        path = blob_of(root, b"17")
        path.unlink()
        (found,) = examine_folder(root, quick=quick).findings
        assert (found.kind, found.name) == ("blob-missing", path.name)
        assert "images/17.txt" in found.detail

    def test_a_cut_blob(self, root: Path) -> None:
        path = blob_of(root, b"123")
        path.chmod(0o644)
        path.write_bytes(b"12")
        (found,) = examine_folder(root, quick=True).findings
        assert (found.kind, found.name) == ("blob-size", path.name)
        assert found.detail.startswith("has 2 bytes, not 3; needed by model cells/dock-7@")

    def test_a_flipped_bit_in_a_xorb(self, root: Path) -> None:
        path = blob_of(root, store="blobs/xorbs")
        flip(path, 400)
        report = examine_folder(root)
        assert kinds(report) == {"xorb-digest", "xet-file"}
        (found,) = [one for one in report.findings if one.kind == "xorb-digest"]
        assert found.name == path.name
        assert re.search("xorb [0-9a-f]{64}, part of the file [0-9a-f]{64}", found.detail)

    def test_a_dropped_xorb(self, root: Path) -> None:
        path = blob_of(root, store="blobs/xorbs")
        path.unlink()
        (found,) = examine_folder(root, quick=True).findings
        assert found.kind == "xorb-missing"
        assert path.name in found.detail

    def test_a_dropped_record_of_a_decision(self, root: Path) -> None:
        with Registry.open(root) as registry:
            (decision,) = registry.stages.history("dock-7")
            registry.blobs.delete(decision.id)
        report = examine_folder(root, quick=True)
        assert [(one.kind, one.name) for one in report.findings] == [("decision-blob", decision.id)]

    def test_a_dropped_deck(self, root: Path) -> None:
        path = blob_of(root, b"a deck")
        path.unlink()
        (found,) = examine_folder(root, quick=True).findings
        assert (found.kind, found.name) == ("lineage-lost", f"deck {path.name}")


class TestCatalog:
    @pytest.mark.parametrize("quick", [True, False])
    def test_none(self, root: Path, quick: bool) -> None:
        (root / "catalog.duckdb").unlink()
        report = examine_folder(root, quick=quick)
        assert kinds(report) == {"catalog-missing"}
        assert report.checked["blobs stored"] > 400
        assert not (root / "catalog.duckdb").exists()

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_cut(self, root: Path, share: float) -> None:
        path = root / "catalog.duckdb"
        os.truncate(path, int(path.stat().st_size * share))
        flip(blob_of(root, b"one"), 0)
        assert kinds(examine_folder(root)) == {"catalog-unreadable", "blob-digest"}

    @pytest.mark.slow
    def test_a_flipped_bit_anywhere(self, root: Path) -> None:
        """In any block that holds something: there are blocks that hold nothing (yet, or any more)."""
        path = root / "catalog.duckdb"
        sound = path.read_bytes()
        found = 0
        for at in range(4096 * 3 + 100, len(sound), scaled(1_048_576, 262_144)):
            path.write_bytes(sound)
            flip(path, at)
            found += kinds(examine_folder(root, quick=False)) == {"catalog-unreadable"}
        assert found >= 1

    def test_one_in_use(self, root: Path) -> None:
        with Registry.open(root), pytest.raises(CatalogLockedError):
            examine_folder(root)


ROWS = [
    ("ref-commit", "UPDATE refs SET commit = repeat('0', 64) WHERE name = 'v1'"),
    ("ref-repo", "UPDATE refs SET repo = 77 WHERE name = 'v1'"),
    ("commit-parent", "UPDATE commits SET parent = repeat('0', 64), depth = 1 WHERE message = 'big'"),
    ("commit-depth", "UPDATE commits SET depth = 9 WHERE message = 'big'"),
    ("commit-tree", "UPDATE commits SET tree = repeat('0', 64) WHERE message = 'big'"),
    ("tree-page", "DELETE FROM tree_pages WHERE list_contains(paths, 'one.txt')"),
    ("tree-page-digest", "UPDATE tree_pages SET sizes = list_transform(sizes, lambda x: x + 1) WHERE len(paths) > 1"),
    ("tree-digest", "UPDATE trees SET pages = list_reverse(pages) WHERE len(pages) > 1"),
    ("repo-handle", "DELETE FROM repo_handles"),
    ("repo-blobs", "DELETE FROM repo_blobs WHERE size = 1"),
    ("lineage-artifact", "DELETE FROM artifacts WHERE kind = 'deck'"),
    ("lineage-lost", "UPDATE artifacts SET revision = repeat('0', 64) WHERE kind = 'variant'"),
    ("decision-record", "UPDATE decisions SET record = replace(record, 'allowed', 'refused')"),
    ("stage-decision", "UPDATE stage_variants SET decision = repeat('0', 64)"),
    ("stage-commit", "UPDATE stage_variants SET commit = repeat('0', 64)"),
    ("xet-run", "DELETE FROM xet_xorbs"),
    ("xet-run", "UPDATE xet_files SET ends = [99]"),
    ("xet-size", "UPDATE xet_files SET lengths = [3]"),
    ("xet-registration", "DELETE FROM xet_registrations"),
    ("xet-file", "UPDATE xet_files SET starts = [1], ends = [8]"),
    ("blob-missing", "UPDATE xet_files SET sha256 = repeat('0', 64)"),
]


@pytest.mark.parametrize(("kind", "statement"), ROWS)
def test_rows_that_point_nowhere(root: Path, kind: str, statement: str) -> None:
    sql(statement)(root)
    assert kind in kinds(examine_folder(root))


def test_a_deleted_repo_in_the_lineage_is_no_damage(root: Path) -> None:
    sql("DELETE FROM stage_variants")(root)
    sql("DELETE FROM stage_holds")(root)
    with Registry.open(root) as registry:
        registry.repos.delete(REPO)
    report = examine_folder(root)
    assert not report.damaged
    assert [one.kind for one in report.findings] == ["lineage-lost"]
