from __future__ import annotations

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import DeleteFile, DeleteFolder, FileEntry, Readers, RepoId, Variant
from registry.catalog.migrations import REGISTRY
from registry.errors import (
    EntryNotFoundError,
    InvalidValueError,
    RefExistsError,
    RefProtectedError,
    RepoExistsError,
    RepoInUseError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from registry.promotion.policy import FIRST
from registry.repos.git_ids import git_sha1, pointer
from registry.repos.purge import purge
from tests.scale import scaled

REPO = RepoId("model", "Acme", "Dock")
ALL = Readers(everything=True)


@pytest.fixture
def repos(registry):
    registry.repos.create(REPO)
    return registry.repos


@pytest.fixture
def commit(repos, add):
    def commit(files: dict[str, bytes], **options):
        return repos.commit(REPO, [add(*file) for file in files.items()], **({"message": "m", "author": "a"} | options))

    return commit


def test_names_are_found_in_any_case_and_after_a_move(registry, repos):
    find = registry.directory.find
    assert find(RepoId("model", "aCME", "dOCK")).info.id == REPO
    with pytest.raises(RepoExistsError):
        repos.create(RepoId("model", "acme", "dock"))
    target = RepoId("model", "Acme", "Gate")
    moved = registry.directory.move(REPO, target)
    assert moved.key == find(REPO).info.key == find(target).info.key
    assert (find(REPO).moved, find(target).moved) == (True, False)
    assert find(REPO).info.id == target
    with pytest.raises(RepoNotFoundError):
        repos.get(REPO)
    # A new repo takes the name over, and the redirect is gone; going back is then not possible.
    new = repos.create(REPO)
    assert find(REPO).info == new
    with pytest.raises(RepoExistsError):
        registry.directory.move(target, RepoId("model", "ACME", "DOCK"))


def test_a_repo_may_change_the_case_of_its_name_and_go_back(registry, repos):
    for name in ("acme/dock", "Other/x", "Acme/Dock"):
        target = RepoId.parse(name)
        at = registry.directory.find(REPO).info.id
        assert registry.directory.move(at, target).id == target
    assert registry.directory.find(RepoId.parse("other/X")).info.id == REPO
    with pytest.raises(InvalidValueError):
        registry.directory.move(REPO, RepoId("dataset", "Acme", "Dock"))
    repos.delete(REPO)
    for name in ("acme/dock", "other/x"):
        with pytest.raises(RepoNotFoundError):
            registry.directory.find(RepoId.parse(name))


def test_settings(registry, repos):
    configure = registry.directory.configure
    assert (configure(REPO, private=True).private, configure(REPO, gated="manual").gated) == (True, "manual")
    assert configure(REPO) == repos.get(REPO)
    with pytest.raises(InvalidValueError):
        configure(REPO, gated="maybe")


SEARCHES = (
    ({}, ["a/one", "b/two", "b/three"]),
    ({"order": "name"}, ["a/one", "b/three", "b/two"]),
    ({"order": "created"}, ["b/three", "b/two", "a/one"]),
    ({"terms": ["O", "tW"]}, ["b/two"]),
    ({"terms": ["%"]}, []),
    ({"namespace": "B"}, ["b/two", "b/three"]),
    ({"readers": Readers()}, ["a/one", "b/three"]),
    ({"readers": Readers(frozenset({"b"}))}, ["a/one", "b/two", "b/three"]),
    ({"gated": True}, ["b/three"]),
    ({"gated": False}, ["a/one", "b/two"]),
    ({"limit": 1, "offset": 1}, ["b/two"]),
)


def test_search(registry, add):
    for name in ("a/one", "b/two", "b/three"):
        registry.repos.create(RepoId.parse(name), private=name == "b/two")
    registry.repos.commit(RepoId.parse("b/two"), [add("x", b"1")], message="m", author="a")
    registry.repos.commit(RepoId.parse("a/one"), [add("x", b"1")], message="m", author="a")
    registry.repos.create(RepoId("dataset", "a", "one"))
    registry.directory.configure(RepoId.parse("b/three"), gated="auto")
    for options, names in SEARCHES:
        found = registry.directory.search("model", **({"readers": ALL, "order": "modified"} | options))
        assert [str(one.info.id) for one in found] == names, options
        assert all((one.head is None) == (str(one.info.id) == "b/three") for one in found), options


def test_branches_may_share_a_tags_name_and_the_tag_is_meant(repos, commit):
    first = commit({"a": b"1"}, tags=["v1"])
    repos.branch(REPO, "v1", "main")
    second = commit({"a": b"2"}, branch="v1")
    assert repos.resolve(REPO, "v1") == repos.resolve(REPO, "refs/tags/v1") == first
    assert repos.resolve(REPO, "refs/heads/v1") == second
    assert repos.ref(REPO, "v1").kind == "tag"
    repos.delete_ref(REPO, "v1", "tag")
    assert repos.resolve(REPO, "v1") == second
    with pytest.raises(RefExistsError):
        repos.tag(REPO, "v1", "main")


def test_refs_go_away(repos, commit):
    commit({"a": b"1"})
    repos.branch(REPO, "side", "main")
    repos.delete_ref(REPO, "side", "branch")
    for name, kind in (("side", "branch"), ("main", "tag"), ("v9", "tag")):
        with pytest.raises(RevisionNotFoundError):
            repos.delete_ref(REPO, name, kind)
    with pytest.raises(RefProtectedError):
        repos.delete_ref(REPO, "main", "branch")


def test_pull_requests_have_refs(repos, commit):
    first = commit({"a": b"1"})
    assert repos.pull(REPO, 7, "main").name == "refs/pr/7"
    proposed = commit({"b": b"2"}, branch="refs/pr/7")
    assert proposed.parent == first.id == repos.resolve(REPO, "main").id
    assert repos.resolve(REPO, "refs/pr/7") == proposed
    with pytest.raises(RevisionNotFoundError):
        commit({"b": b"2"}, branch="refs/pr/8")


def test_squash_keeps_the_files_and_other_refs(repos, commit):
    commit({"a": b"1"}, tags=["v1"])
    last = commit({"b": b"2"})
    made = repos.squash(REPO, "main", message="one", author="a")
    assert (made.parent, made.tree) == (None, last.tree)
    assert repos.history(REPO, "main") == (made,)
    assert len(repos.history(REPO, "v1")) == 1
    with pytest.raises(RevisionNotFoundError):
        repos.squash(REPO, "side", message="one", author="a")


def test_folders_are_deleted(repos, commit):
    commit({"d/a": b"1", "d/e/b": b"2", "dx": b"3"})
    with pytest.raises(EntryNotFoundError):
        repos.commit(REPO, [DeleteFolder("dx")], message="m", author="a")
    with pytest.raises(EntryNotFoundError):
        repos.commit(REPO, [DeleteFile("d")], message="m", author="a")
    repos.commit(REPO, [DeleteFile("d/e", or_folder=True), DeleteFolder("d")][:1], message="m", author="a")
    assert [entry.path for entry in repos.tree(REPO, "main")] == ["d/a", "dx"]


def test_large_files_stay_large_and_change_the_tree(repos, add):
    plain = add("a", b"1")
    large = FileEntry("a", plain.sha256, plain.size, lfs=True)
    first = repos.commit(REPO, [plain], message="m", author="a")
    second = repos.commit(REPO, [large], message="m", author="a")
    assert first.tree != second.tree
    assert repos.entry(REPO, first.id, "a") == plain
    assert repos.entry(REPO, second.id, "a") == large
    assert repos.tree(REPO, second.id) == (large,)


def test_a_tag_that_names_a_served_variant_stays(registry, publish):
    publish("cells/dock-7", "v1")
    variant = Variant.parse("cells/dock-7@v1")
    policy = FIRST.digest
    registry.stages.move("dock-7", variant, "candidate", actor="a", evidence={}, policy_digest=policy, note="")
    with pytest.raises(RefProtectedError):
        registry.repos.delete_ref(variant.repo, "v1", "tag")
    with pytest.raises(RefProtectedError):
        purge(registry.catalog, registry.repos, registry.blobs, variant.repo, ["0" * 64])


def test_holders(registry, repos, commit, add):
    commit({"a": b"here"})
    digest = hashlib.sha256(b"here").hexdigest()
    ((info, size),) = registry.directory.holders(digest)
    assert (info.id, size) == (REPO, 4)
    assert registry.directory.holders("0" * 64) == ()
    repos.delete(REPO)
    assert registry.directory.holders(digest) == ()


def test_purge_rewrites_history(registry, repos, commit):
    commit({"keep": b"k"}, tags=["v0"])
    commit({"gone": b"g"}, tags=["v1"])
    repos.branch(REPO, "side", "main")
    last = commit({"later": b"l"})
    digest = hashlib.sha256(b"g").hexdigest()
    assert purge(registry.catalog, repos, registry.blobs, REPO, [digest]) == 2
    assert [entry.path for entry in repos.tree(REPO, "main")] == ["keep", "later"]
    assert [entry.path for entry in repos.tree(REPO, "side")] == ["keep"]
    assert [entry.path for entry in repos.tree(REPO, "v1")] == ["keep"]
    assert [c.message for c in repos.history(REPO, "main")] == ["m"] * 3
    with pytest.raises(RevisionNotFoundError):
        repos.resolve(REPO, last.id)
    assert registry.directory.holders(digest) == ()
    assert purge(registry.catalog, repos, registry.blobs, REPO, [digest]) == 0


def test_purge_leaves_what_lineage_names(registry, repos, commit):
    from registry import Artifact, Edge

    made = commit({"a": b"1"})
    edge = Edge(Artifact("variant", "x", made.id), Artifact("base", "b", "0" * 64), "base")
    registry.lineage.record([edge])
    with pytest.raises(RepoInUseError):
        purge(registry.catalog, repos, registry.blobs, REPO, [hashlib.sha256(b"1").hexdigest()])


@settings(deadline=None, max_examples=scaled(12, 200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5, unique=True))
def test_git_ids_are_gits(registry, contents):
    entries = []
    for number, data in enumerate(contents):
        info = registry.blobs.put_bytes(data)
        entries.append(FileEntry(f"f{number}", info.sha256, info.size))
    expected = [hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() for data in contents]  # noqa: S324
    found = registry.git_ids.of(entries)
    assert [found[entry.sha256] for entry in entries] == expected == [git_sha1(data) for data in contents]
    assert registry.git_ids.of(entries) == found


def test_git_ids_of_known_things():
    assert git_sha1(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert pointer("0" * 64, 3).splitlines()[0] == b"version https://git-lfs.github.com/spec/v1"


def test_a_catalog_of_the_first_version_comes_along(tmp_path):
    """Refs, histories and possession are there after the tables changed."""
    from registry import Catalog, MigrationSet, Registry

    with Registry.open(tmp_path / "new") as registry:
        registry.repos.create(REPO)
        info = registry.blobs.put_bytes(b"weights")
        made = registry.repos.commit(REPO, [FileEntry("w", info.sha256, 7)], message="m", author="a", tags=["v1"])
        rows = {
            table: registry.catalog.query(f"SELECT {columns} FROM {table}")  # noqa: S608
            for table, columns in {
                "repos": "key, type, namespace, name, private, created_at",
                "commits": "*",
                "refs": "repo, name, kind, commit",
                "trees": "*",
                "tree_pages": "digest, paths, sha256s, sizes",
            }.items()
        }
    old = MigrationSet("registry", REGISTRY.steps[:1])
    with Catalog.open(tmp_path / "old" / "catalog.duckdb", [old]) as catalog, catalog.write() as tx:
        for table, found in rows.items():
            for row in found:
                tx.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    with Registry.open(tmp_path / "old") as registry:
        assert registry.repos.resolve(REPO, "v1") == made
        assert registry.repos.entry(REPO, "main", "w").size == 7
        assert registry.directory.find(RepoId("model", "acme", "dock")).info.id == REPO
        assert [size for _, size in registry.directory.holders(info.sha256)] == [7]
