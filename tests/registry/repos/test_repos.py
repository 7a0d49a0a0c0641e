from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import AddFile, DeleteFile, Registry, RepoId
from registry.errors import (
    BlobNotFoundError,
    EntryNotFoundError,
    InvalidNameError,
    InvalidPathError,
    RefConflictError,
    RefExistsError,
    RegistryError,
    RepoExistsError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from registry.repos import trees
from registry.types import FileEntry

REPO = RepoId("model", "base", "universal")
DIGEST = "ab" * 32


@pytest.fixture
def repos(registry):
    registry.repos.create(REPO)
    return registry.repos


@pytest.fixture
def commit(repos, add):
    def commit(files: dict[str, bytes | None], **options):
        ops = [DeleteFile(path) if data is None else add(path, data) for path, data in files.items()]
        return repos.commit(REPO, ops, **({"message": "m", "author": "a"} | options))

    return commit


def paths(repos, revision="main") -> list[str]:
    return [entry.path for entry in repos.tree(REPO, revision)]


def test_create_get_delete(registry):
    repos = registry.repos
    made = repos.create(REPO, private=True)
    assert made.private
    assert repos.get(REPO) == made
    assert repos.create(REPO, exist_ok=True) == made
    with pytest.raises(RepoExistsError):
        repos.create(REPO)
    with pytest.raises(RepoNotFoundError):
        repos.get(RepoId("dataset", "base", "universal"))
    repos.delete(REPO)
    for call in (repos.get, repos.delete, repos.refs):
        with pytest.raises(RepoNotFoundError):
            call(REPO)


def test_a_deleted_repo_comes_back_empty(repos, commit):
    commit({"a": b"1"}, tags=["v1"])
    repos.delete(REPO)
    repos.create(REPO)
    assert repos.refs(REPO) == ()
    commit({"b": b"2"}, expected_parent=None, tags=["v1"])
    assert paths(repos) == ["b"]


def test_list(registry):
    for kind, text in [("model", "cells/b"), ("model", "cells/a"), ("dataset", "cells/a"), ("model", "base/x")]:
        registry.repos.create(RepoId.parse(text, kind))

    def names(**options):
        return [(info.id.type[0], str(info.id)) for info in registry.repos.list(**options)]

    assert names() == [("d", "cells/a"), ("m", "base/x"), ("m", "cells/a"), ("m", "cells/b")]
    assert names(type="model", prefix="cells/") == [("m", "cells/a"), ("m", "cells/b")]
    assert names(type="model", limit=1, offset=1) == [("m", "cells/a")]
    assert names(prefix="%") == []
    assert names(after="model base/x", limit=1) == [("m", "cells/a")]
    registry.directory.configure(RepoId.parse("cells/b"), private=True)
    assert names(type="model", namespaces=["base"]) == [("m", "base/x"), ("m", "cells/a")]
    assert names(type="model", namespaces=["cells"], after="model cells/a") == [("m", "cells/b")]
    assert names(namespaces=[]) == [("d", "cells/a"), ("m", "base/x"), ("m", "cells/a")]


def test_commits_build_on_one_another(repos, commit):
    before = datetime.now(UTC)
    first = commit({"a": b"1", "d/b": b"2"}, message="one", author="ann", tags=["v1"])
    second = commit({"a": b"3", "d/b": None, "c": b""}, message="two")
    assert (first.parent, second.parent) == (None, first.id)
    assert repos.tree(REPO, "v1") == repos.tree(REPO, first.id) != repos.tree(REPO, "main")
    assert paths(repos, "v1") == ["a", "d/b"]
    assert paths(repos) == ["a", "c"]
    assert repos.resolve(REPO, "main") == second
    assert repos.resolve(REPO, "v1") == first
    assert (first.message, first.author, first.repo) == ("one", "ann", REPO)
    assert first.created_at.utcoffset() == timedelta(0)
    assert before <= first.created_at <= second.created_at <= datetime.now(UTC)


def test_short_commit_ids(repos, commit):
    made = commit({"a": b"1"})
    for length in (7, 12, 40, 64):
        assert repos.resolve(REPO, made.id[:length]) == made
    for revision in (made.id[:6], made.id.upper()[:12], "v9", "", "0" * 64, made.id + "0"):
        with pytest.raises(RevisionNotFoundError):
            repos.resolve(REPO, revision)


def test_a_commit_id_of_another_repo_is_unknown(repos, commit):
    made = commit({"a": b"1"})
    other = RepoId("model", "base", "other")
    repos.create(other)
    with pytest.raises(RevisionNotFoundError):
        repos.resolve(other, made.id)


def test_entries(repos, commit):
    commit({"a": b"12", "d/b": b"3"})
    assert repos.entry(REPO, "main", "a").size == 2
    for path in ("A", "d", "d/b/c", "0", "zz", ""):
        with pytest.raises(EntryNotFoundError):
            repos.entry(REPO, "main", path)


@pytest.mark.parametrize("size", [None, 4])
def test_blobs_come_first(registry, repos, size):
    digest = registry.blobs.put_bytes(b"there").sha256 if size else DIGEST
    with pytest.raises(BlobNotFoundError):
        repos.commit(REPO, [AddFile("a", digest, size or 0)], message="", author="a")
    assert repos.refs(REPO) == ()


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"a": b"", "a/b": b""}, InvalidPathError),
        ({"base/x": b""}, InvalidPathError),
        ({"base": None, "base/x": b""}, None),
        ({"nothing": None}, EntryNotFoundError),
        ({}, None),
    ],
)
def test_trees_stay_possible(repos, commit, files, error):
    commit({"base": b"a file"})
    if error is None:
        commit(files)
    else:
        head = repos.resolve(REPO, "main")
        with pytest.raises(error):
            commit(files)
        assert repos.resolve(REPO, "main") == head


def test_tags_never_move(repos, commit):
    first = commit({"a": b"1"}, tags=["v1"])
    with pytest.raises(RefExistsError):
        commit({"a": b"2"}, tags=["v2", "v1"])
    assert repos.resolve(REPO, "main") == first  # all or nothing
    assert [ref.name for ref in repos.refs(REPO)] == ["main", "v1"]
    second = commit({"a": b"2"})
    assert repos.tag(REPO, "v1", first.id).commit == first.id
    for name in ("v1", "main"):
        with pytest.raises(RefExistsError):
            repos.tag(REPO, name, second.id)
    with pytest.raises(RefExistsError):
        commit({"a": b"3"}, branch="v1")
    with pytest.raises(InvalidNameError):
        repos.tag(REPO, second.id, "main")
    assert repos.ref(REPO, "v1").kind == "tag"


def test_branches(repos, commit):
    first = commit({"a": b"1"})
    with pytest.raises(RevisionNotFoundError):
        commit({"a": b"2"}, branch="try/it")
    repos.branch(REPO, "try/it", "main")
    side = commit({"b": b"2"}, branch="try/it")
    assert side.parent == first.id
    assert paths(repos) == ["a"]
    assert paths(repos, "try/it") == ["a", "b"]
    with pytest.raises(RefExistsError):
        repos.branch(REPO, "try/it", "main")


def test_compare_and_swap(repos, commit):
    with pytest.raises(RefConflictError):
        commit({"a": b"1"}, expected_parent=DIGEST)
    first = commit({"a": b"1"}, expected_parent=None)
    with pytest.raises(RefConflictError) as caught:
        commit({"a": b"2"}, expected_parent=None)
    assert (caught.value.expected, caught.value.actual) == (None, first.id)
    assert commit({"a": b"2"}, expected_parent=first.id).parent == first.id


def race(work, count=6):
    results: list[object] = [None] * count

    def run(n):
        try:
            results[n] = work(n)
        except RegistryError as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_of_many_wins_a_compare_and_swap(repos, commit):
    for round_number in range(4):
        head = repos.resolve(REPO, "main").id if round_number else None
        results = race(lambda n, head=head: commit({f"f{n}": b"x"}, expected_parent=head))
        lost = [r for r in results if isinstance(r, RefConflictError)]
        won = [r for r in results if not isinstance(r, Exception)]
        assert (len(won), len(lost)) == (1, 5), results
        assert repos.resolve(REPO, "main") == won[0]


def test_without_compare_and_swap_nobody_loses(repos, commit):
    results = race(lambda n: [commit({f"f{n}-{k}": b"x"}) for k in range(4)])
    assert not [r for r in results if isinstance(r, Exception)]
    assert len(paths(repos)) == 24
    history = repos.history(REPO, "main")
    assert len(history) == 24
    assert {c.id for c in history} == {c.id for made in results for c in made}


def test_one_of_many_wins_a_tag(repos, commit):
    made = [commit({"a": b"%d" % n}) for n in range(6)]
    results = race(lambda n: repos.tag(REPO, "v1", made[n].id))
    assert sum(isinstance(r, RefExistsError) for r in results) == 5


def test_history(repos, commit):
    made = [commit({"a": b"%d" % n}) for n in range(6)]
    repos.branch(REPO, "side", made[2].id)
    side = [commit({"s": b"%d" % n}, branch="side") for n in range(6)]
    ids = [c.id for c in reversed(made)]
    assert [c.id for c in repos.history(REPO, "main")] == ids
    assert [c.id for c in repos.history(REPO, "main", limit=2)] == ids[:2]
    assert repos.history(REPO, made[0].id) == (made[0],)
    assert [c.id for c in repos.history(REPO, "side", limit=8)] == [c.id for c in [*side[::-1], made[2], made[1]]]


def test_versions_of_many_files_share_their_pages(registry, repos, add):
    data = add("x", b"same bytes")
    files = [AddFile(f"images/{n:05}.jpg", data.sha256, data.size) for n in range(3000)]
    repos.commit(REPO, files, message="all", author="a")
    pages = registry.catalog.query("SELECT count(*) FROM tree_pages")[0][0]
    assert 12 <= pages <= 48
    for n in range(10):
        repos.commit(REPO, [add(f"images/{n * 250:05}.jpg", b"%d" % n)], message="one", author="a")
    repos.commit(REPO, [], message="none", author="a")
    assert registry.catalog.query("SELECT count(*) FROM tree_pages")[0][0] == pages + 10
    assert registry.catalog.query("SELECT count(*), max(files) FROM trees") == [(11, 3000)]
    assert len(repos.tree(REPO, "main")) == 3000
    assert repos.entry(REPO, "main", "images/02250.jpg").size == 1
    assert repos.entry(REPO, "main", "images/02251.jpg") == files[2251]


PATHS = st.lists(st.from_regex(r"[a-c]{1,3}(/[a-cé]{1,2}){0,2}", fullmatch=True), max_size=30)


@settings(deadline=None)
@given(PATHS, st.randoms(use_true_random=False))
def test_a_tree_is_a_function_of_its_files(names, random):
    entries = [FileEntry(name, DIGEST, len(name)) for name in dict.fromkeys(names)]
    try:
        tree = trees.build(entries)
    except InvalidPathError:
        assert any(b.startswith(a + "/") for a in names for b in names)
        return
    assert not any(b.startswith(a + "/") for a in names for b in names)
    random.shuffle(entries)
    assert trees.build(entries) == tree
    assert sorted(tree.entries, key=lambda e: e.path.encode()) == list(tree.entries)
    assert set(tree.entries) == set(entries)
    assert entries == [] or trees.build(entries[1:]).digest != tree.digest


def test_everything_is_there_after_reopening(tmp_path):
    with Registry.open(tmp_path) as registry:
        registry.repos.create(REPO)
        info = registry.blobs.put_bytes(b"weights")
        made = registry.repos.commit(
            REPO, [AddFile("model.bin", *(info.sha256, info.size))], message="m", author="a", tags=["v1"]
        )
    with Registry.open(tmp_path) as registry:
        assert registry.repos.resolve(REPO, "v1") == made
        assert registry.repos.entry(REPO, "v1", "model.bin").sha256 == info.sha256
