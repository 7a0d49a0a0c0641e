"""Commits and trees that nothing reaches go after their grace; refs, lineage, decisions and statements keep theirs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import AddFile, Artifact, Edge, Registry, RepoId
from registry.errors import BlobNotFoundError, RevisionNotFoundError
from registry.maintenance.row_collection import RowsCollected, collect_rows
from tests.scale import scaled

NOW, LONG = timedelta(0), timedelta(days=7)
REPO = RepoId.parse("acme/dock")
NOTHING = RowsCollected(0, 0)


@pytest.fixture
def commit(registry, add):
    """Commit one file with bytes of its own to a repo that is made when needed."""

    def commit(text: str, repo: RepoId = REPO, **options: object) -> str:
        registry.repos.create(repo, exist_ok=True)
        file = add("file.txt", text.encode())
        return registry.repos.commit(repo, [file], message=text, author="t", **options).id

    return commit


def collect(registry: Registry, grace: timedelta = NOW, *, dry_run: bool = False) -> RowsCollected:
    found = collect_rows(registry.catalog, registry.blobs, grace, dry_run=dry_run)
    assert not registry.examine(quick=True).damaged
    return found


def count(registry: Registry, table: str) -> int:
    return registry.catalog.query(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608


def test_squashed_history_goes_after_its_grace(registry, commit):
    old = [commit(f"{number}") for number in range(5)]
    registry.repos.tag(REPO, "v3", old[3])
    new = registry.repos.squash(REPO, "main", message="one", author="t").id
    assert collect(registry, LONG, dry_run=True) == NOTHING
    assert count(registry, "unreached") == 0  # only looked
    assert collect(registry, LONG) == NOTHING
    assert [row[0] for row in registry.catalog.query("SELECT id FROM unreached")] == [old[4]]
    assert collect(registry, NOW, dry_run=True) == RowsCollected(1, 0)
    assert registry.repos.resolve(REPO, old[4]).id == old[4]
    assert collect(registry) == RowsCollected(1, 0)  # its tree is the new one's too
    with pytest.raises(RevisionNotFoundError):
        registry.repos.resolve(REPO, old[4])
    assert [each.id for each in registry.repos.history(REPO, "v3")] == old[3::-1]
    registry.repos.delete_ref(REPO, "v3", "tag")
    assert collect(registry) == RowsCollected(4, 4)
    assert [each.id for each in registry.repos.history(REPO, "main")] == [new]
    assert (count(registry, "commits"), count(registry, "trees"), count(registry, "tree_pages")) == (1, 1, 1)
    assert count(registry, "repo_blobs") == 1
    assert count(registry, "unreached") == 0
    assert collect(registry) == NOTHING


def test_one_that_is_reached_again_has_its_whole_grace_again(registry, commit):
    first = commit("first")
    registry.repos.squash(REPO, "main", message="one", author="t")
    assert collect(registry, LONG) == NOTHING
    registry.repos.branch(REPO, "back", first)
    assert collect(registry) == NOTHING
    assert count(registry, "unreached") == 0
    assert registry.repos.history(REPO, "back")[0].id == first


def test_what_was_built_on_something_old_keeps_it(registry, commit):
    """It was marked long ago; in between somebody went on from there, and took that back just now."""
    first = commit("first")
    registry.repos.squash(REPO, "main", message="one", author="t")
    collect(registry, LONG)
    with registry.catalog.write() as tx:
        tx.execute("UPDATE unreached SET since = since - INTERVAL 30 DAY")
    registry.repos.branch(REPO, "back", first)
    second = commit("second", branch="back")
    registry.repos.delete_ref(REPO, "back", "branch")
    assert collect(registry, LONG) == NOTHING
    assert [each.id for each in registry.repos.history(REPO, second)] == [second, first]


def test_trees_of_a_deleted_repo(registry, commit):
    other = RepoId.parse("acme/other")
    commit("shared")
    for text in ("shared", "own"):
        commit(text, other)
    registry.repos.delete(other)
    assert collect(registry, LONG) == NOTHING
    assert count(registry, "trees") == 2
    assert collect(registry) == RowsCollected(0, 1)
    assert (count(registry, "trees"), count(registry, "tree_pages")) == (1, 1)
    assert registry.repos.tree(REPO, "main")
    # And what is made anew, although its tree is still in memory, is whole.
    commit("own")
    assert not registry.examine(quick=True).damaged


def test_blobs_go_in_the_same_collection(registry, commit):
    commit("old")
    (gone,) = registry.repos.tree(REPO, "main")
    commit("new")
    registry.repos.squash(REPO, "main", message="one", author="t")
    time.sleep(0.01)
    blobs, _, rows = registry.collect(NOW, LONG)
    assert (blobs.blobs, rows) == (1, RowsCollected(2, 1))
    with pytest.raises(BlobNotFoundError):
        registry.blobs.read(gone.sha256)
    assert registry.directory.holders(gone.sha256) == ()
    assert not registry.examine().damaged


def test_evidence_keeps_what_it_names(registry, variants, commit):
    commits = [commit(f"{number}") for number in range(4)]
    node = Artifact("dataset", str(REPO), commits[1])
    deck = registry.blobs.put_bytes(f'{{"dataset": "{commits[2]}"}}'.encode()).sha256
    registry.lineage.record([Edge(Artifact("deck", deck, deck), node, "dataset")])
    registry.repos.squash(REPO, "main", message="one", author="t")
    assert collect(registry) == RowsCollected(1, 0)
    assert [each.id for each in registry.repos.history(REPO, commits[2])] == commits[2::-1]


def test_what_a_discussion_says_by_its_short_id_stays(registry, commit):
    from registry import MigrationSet

    first = commit("first")
    registry.repos.squash(REPO, "main", message="one", author="t")
    with registry.catalog.write() as tx:
        tx.execute("CREATE TABLE talk (text VARCHAR)")
        tx.execute("INSERT INTO talk VALUES (?)", [f"see {first[:40]}, please"])
    assert MigrationSet  # tables of other floors count without being known
    assert collect(registry) == NOTHING
    with registry.catalog.write() as tx:
        tx.execute("DROP TABLE talk")
    assert collect(registry) == RowsCollected(1, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["commit", "commit", "branch", "squash", "unbranch", "tag", "untag", "delete", "mark", "collect"]
        ),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=scaled(5, 60), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_what_refs_reach_is_always_there(tmp_path_factory, steps):
    """Any order of changes and collections: nothing that a ref leads to is missing, nothing else stays."""
    with Registry.open(tmp_path_factory.mktemp("walk")) as registry:
        repos = registry.repos
        names = [RepoId.parse(f"acme/repo-{number}") for number in range(3)]
        for number, (what, which, value) in enumerate(steps):
            repo, branch = names[which], ("main", "side")[value % 2]
            repos.create(repo, exist_ok=True)
            there = {(ref.name, ref.kind) for ref in repos.refs(repo)}
            if what == "commit" and (branch == "main" or (branch, "branch") in there):
                info = registry.blobs.put_bytes(b"%d" % value)
                file = AddFile("a.txt", info.sha256, info.size)
                repos.commit(repo, [file], message="m", author="a", branch=branch)
            elif what == "branch" and ("main", "branch") in there and ("side", "branch") not in there:
                repos.branch(repo, "side", "refs/heads/main")
            elif what == "squash" and (branch, "branch") in there:
                repos.squash(repo, branch, message="m", author="a")
            elif what == "unbranch" and ("side", "branch") in there:
                repos.delete_ref(repo, "side", "branch")
            elif what == "tag" and (branch, "branch") in there and (f"v{number}", "tag") not in there:
                repos.tag(repo, f"v{number}", f"refs/heads/{branch}")
            elif what == "untag" and (tags := [name for name, kind in there if kind == "tag"]):
                repos.delete_ref(repo, tags[value % len(tags)], "tag")
            elif what == "delete":
                repos.delete(repo)
            elif what == "mark":
                collect_rows(registry.catalog, registry.blobs, LONG)
            elif what == "collect":
                collect(registry)
                reached = {
                    each.id
                    for name in names
                    if registry.catalog.query("SELECT 1 FROM repos WHERE name = ?", [name.name])
                    for ref in repos.refs(name)
                    for each in repos.history(name, ref.commit, 1000)
                }
                assert {row[0] for row in registry.catalog.query("SELECT id FROM commits")} == reached
                trees = registry.catalog.query("SELECT count(*) FROM trees ANTI JOIN commits ON tree = digest")
                assert trees == [(0,)]


CHILD = """
import os, sys
from datetime import timedelta
from pathlib import Path
from registry import AddFile, Registry, RepoId
from registry.maintenance.row_collection import collect_rows

with Registry.open(Path(sys.argv[1])) as registry:
    turn = 0
    while True:
        for number in range(3):
            repo = RepoId.parse(f"acme/repo-{number}")
            registry.repos.create(repo, exist_ok=True)
            for _ in range(3):
                info = registry.blobs.put_bytes(os.urandom(20))
                file = AddFile("a.txt", info.sha256, info.size)
                registry.repos.commit(repo, [file], message="m", author="a")
            registry.repos.squash(repo, "main", message="m", author="a")
        registry.repos.delete(repo)
        collect_rows(registry.catalog, registry.blobs, timedelta(0))
        turn += 1
        os.write(1, b"turn\\n")
"""


@pytest.mark.slow
def test_a_collection_that_is_killed_leaves_nothing_half_done(tmp_path: Path) -> None:
    for round_ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        time.sleep(0.13 * round_)
        child.send_signal(signal.SIGKILL)
        child.stdout.close()
        child.wait()
        with Registry.open(tmp_path) as registry:
            assert not registry.examine(quick=True).damaged
    with Registry.open(tmp_path) as registry:
        collect(registry)
        # A kill before the squash leaves a history of several commits, and that one stays.
        reached = [
            each.id
            for (name,) in registry.catalog.query("SELECT name FROM repos")
            for ref in registry.repos.refs(RepoId("model", "acme", name))
            for each in registry.repos.history(RepoId("model", "acme", name), ref.commit)
        ]
        assert {row[0] for row in registry.catalog.query("SELECT id FROM commits")} == {*reached}
        assert registry.catalog.query("SELECT count(*) FROM trees ANTI JOIN commits ON tree = digest") == [(0,)]
