"""A folder that older code wrote opens in this code, with everything that it held.

`tests/registry/data/registry-2-xet-1-hub-2.tar.xz` was written by the code of the migrations it is named after: a repo
that was moved, with two tagged commits and a branch; a private dataset with a file that came in chunks; lineage; a
decision. `registry-2-hub-4-cards.tar.xz`: a model with a card, a private dataset with a broken one, an empty repo, a
squashed one, and what a deleted one left behind.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from hub.migrations.tables import HUB
from hub.migrations.tables_rollout import ROLLOUT
from registry import Artifact, Readers, Registry, RepoId
from registry.backup.backup import make_backup, restore
from registry.catalog.migrations import REGISTRY
from registry.maintenance.fsck import examine_folder
from registry.xet.tables import XET

OLD = Path(__file__).parents[2] / "registry" / "data" / "registry-2-xet-1-hub-2.tar.xz"
WITH_CARDS = OLD.with_name("registry-2-hub-4-cards.tar.xz")
REPO, FRAMES = RepoId.parse("cells/dock-8"), RepoId("dataset", "acme", "frames")
FIRST = "a7fbae8973255c469ab74611253a15e4ff13dc786b3ab2f13b79bbda7b40069d"
SECOND = "21effe5975c4ec21095227ab95dbb4063a9a07b6c0f4fdb91d9af662327356a7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def test_all_is_there(root: Path) -> None:
    with Registry.open(root, extra_migrations=[HUB, ROLLOUT]) as registry:
        versions = registry.catalog.versions()
        assert versions["registry"] == len(REGISTRY.steps)
        assert versions["xet"] == len(XET.steps)
        assert versions["hub"] == len(HUB.steps)
        repos = registry.repos
        assert [commit.id for commit in repos.history(REPO, "main")] == [SECOND, FIRST]
        assert repos.resolve(REPO, "v1").id == repos.resolve(REPO, "trial").id == FIRST
        assert registry.directory.find(RepoId.parse("cells/dock-7")).info.id == REPO
        assert {file.path: registry.blobs.read(file.sha256) for file in repos.tree(REPO, "v2")} == {
            "a.txt": b"three",
            "b/c.txt": b"two",
        }
        assert repos.get(FRAMES).private
        entry = repos.entry(FRAMES, "main", "big.bin")
        assert len(registry.blobs.read(entry.sha256)) == entry.size == 14653
        (edge,) = registry.lineage.parents(Artifact("variant", "cells/dock-8@v2", SECOND))
        assert registry.blobs.read(edge.parent.revision) == b"a deck"
        (decision,) = registry.stages.history("dock-7")
        assert decision.commit == SECOND
        assert not registry.examine().damaged


def test_it_is_looked_after_like_a_new_one(root: Path, tmp_path: Path) -> None:
    assert not examine_folder(root).damaged
    with Registry.open(root) as registry:
        done = make_backup(registry, root, tmp_path / "vault")
    assert done.damaged == ()
    back = restore(tmp_path / "vault", tmp_path / "new")
    assert not back.report.damaged


def test_cards_are_read_once_when_it_is_opened(tmp_path: Path) -> None:
    with tarfile.open(WITH_CARDS) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    for _ in range(2):  # and opened again nothing is left to do
        with Registry.open(tmp_path / "old", extra_migrations=[HUB, ROLLOUT]) as registry:
            assert not registry.catalog.query("SELECT 1 FROM repo_heads WHERE source = ''")
            search, everybody = registry.directory.search, Readers(everything=True)
            (dock,) = search("model", readers=everybody, tags=["boxes"])
            assert dock.card.tags == ("peft", "image-segmentation", "Boxes", "lora", "license:mit")
            assert dock.card.data["license"] == "mit"
            head = registry.repos.resolve(RepoId.parse("cells/dock-7"), "v2")
            assert (dock.head, dock.modified) == (head.id, head.created_at)
            found = search("model", readers=everybody, order="modified")
            # One without a commit counts from when it was made.
            assert [one.info.id.name for one in found] == ["squashed", "empty", "dock-7"]
            (frames,) = search("dataset", readers=everybody)
            assert frames.card.tags == ()
            assert not registry.examine().damaged
