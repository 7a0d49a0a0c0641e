"""A folder that older code wrote opens in this code, with everything that it held.

`tests/registry/data/registry-2-xet-1-hub-2.tar.xz` was written by the code of the migrations it is named after: a repo
that was moved, with two tagged commits and a branch; a private dataset with a file that came in chunks; lineage; a
decision.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from hub.tables import HUB
from hub.tables_rollout import ROLLOUT
from registry import Artifact, Registry, RepoId
from registry.backup import make_backup, restore
from registry.fsck import examine_folder
from registry.migrations import REGISTRY
from registry.xet.tables import XET

OLD = Path(__file__).parents[1] / "registry" / "data" / "registry-2-xet-1-hub-2.tar.xz"
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
