"""The real git, and git-lfs, against a hub in a process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from hub.settings import Settings
from tests.hub.material import tiny_weights

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")


class Git:
    """git with a home of its own, which knows no settings of this machine."""

    def __init__(self, home: Path, *, lfs: bool) -> None:
        self.home = home
        home.mkdir()
        self.env = os.environ | {
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(home / "config"),
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
        }
        if lfs:
            self("lfs", "install")

    def __call__(self, *args: object, fails: bool = False) -> str:
        done = subprocess.run(
            ["git", *map(str, args)], env=self.env, cwd=self.home, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout.strip()


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "home", lfs=False)


def address(hub: Settings, api: HfApi, repo: str, kind: str = "") -> str:
    return f"{hub.url.replace('://', f'://user:{api.token}@')}/{kind}{repo}"


@pytest.fixture
def full(ann: HfApi, repo: str) -> str:
    """A repo with a history, folders, large files with and without patterns, a tag and a branch."""
    ann.upload_file(path_or_fileobj=b"# Dock\n", path_in_repo="README.md", repo_id=repo)
    weights = tiny_weights(b"1")
    operations = [
        CommitOperationAdd("model.safetensors", weights),
        CommitOperationAdd("deep/er/a b.txt", b"one"),
        CommitOperationAdd("deep/er.txt", b"two"),
        CommitOperationAdd("deep-er", b"three"),
        CommitOperationAdd("odd [name] é.raw", b"bytes\0" * 100),  # large by its content, named by no pattern
        CommitOperationAdd("empty.bin", b""),
    ]
    ann.create_commit(repo, operations, commit_message="files\n\nand why")
    ann.create_tag(repo, tag="v1")
    ann.create_branch(repo, branch="side/line")
    ann.upload_file(path_or_fileobj=b"side", path_in_repo="side.txt", repo_id=repo, revision="side/line")
    for number in range(3):
        ann.upload_file(path_or_fileobj=f"{number}".encode(), path_in_repo="deep/n.txt", repo_id=repo)
    return repo


def test_clone_is_whole_and_the_same_every_time(live_hub: Settings, ann: HfApi, full: str, git: Git) -> None:
    url = address(live_hub, ann, full)
    git("clone", "-q", url, "one")
    git("clone", "-q", f"{url}.git", "two")
    for folder in ("one", "two"):
        assert git("-C", folder, "fsck", "--full", "--strict", "--no-dangling") == ""
    heads = "for-each-ref", "--format=%(refname) %(objectname)"
    assert git("-C", "one", *heads) == git("-C", "two", *heads)
    work = git.home / "one"
    assert (work / "deep/er/a b.txt").read_bytes() == b"one"
    assert (work / "deep/n.txt").read_bytes() == b"2"
    assert (work / "empty.bin").read_bytes() == b""
    sha256 = hashlib.sha256(tiny_weights(b"1")).hexdigest()
    assert f"oid sha256:{sha256}" in (work / "model.safetensors").read_text()
    assert git("-C", "one", "rev-list", "--count", "HEAD") == str(len(ann.list_repo_commits(full)))
    assert git("-C", "one", "tag") == "v1"
    assert git("-C", "one", "show", "origin/side/line:side.txt") == "side"
    # Files that git would call changed would be a clone that nobody can work in.
    assert git("-C", "one", "status", "--porcelain") == ""
    # Names lead both ways: git's name of a commit is a revision, and each commit says ours.
    sha1 = git("-C", "one", "rev-parse", "HEAD")
    ours = ann.model_info(full, revision=sha1).sha
    assert ours == ann.model_info(full).sha == ann.model_info(full, revision="HEAD").sha
    assert f"Hub-Commit: {ours}" in git("-C", "one", "log", "-1", "--format=%B")


def test_fetch_brings_what_is_new(live_hub: Settings, ann: HfApi, full: str, git: Git) -> None:
    git("clone", "-q", address(live_hub, ann, full), "one")
    before = git("-C", "one", "rev-parse", "HEAD")
    ann.upload_file(path_or_fileobj=b"new", path_in_repo="deep/new.txt", repo_id=full)
    ann.create_tag(full, tag="v2")
    git("-C", "one", "pull", "-q", "--ff-only")
    git("-C", "one", "fetch", "-q", "--tags")
    assert git("-C", "one", "rev-parse", "HEAD^") == before
    assert (git.home / "one/deep/new.txt").read_bytes() == b"new"
    assert git("-C", "one", "tag") == "v1\nv2"
    assert git("-C", "one", "fsck", "--strict", "--no-dangling") == ""
    pull = ann.create_pull_request(full, title="look")
    git("-C", "one", "fetch", "-q", "origin", f"refs/pr/{pull.num}:look")
    assert git("-C", "one", "rev-parse", "look") == git("-C", "one", "rev-parse", "HEAD")


def test_shallow(live_hub: Settings, ann: HfApi, full: str, git: Git) -> None:
    total = len(ann.list_repo_commits(full))
    git("clone", "-q", "--depth", "1", address(live_hub, ann, full), "one")
    count = "-C", "one", "rev-list", "--count", "HEAD"
    assert git(*count) == "1"
    ann.upload_file(path_or_fileobj=b"new", path_in_repo="new.txt", repo_id=full)
    git("-C", "one", "pull", "-q", "--ff-only")
    assert git(*count) == "2"
    git("-C", "one", "fetch", "-q", "--deepen", "1")
    assert git(*count) == "3"
    git("-C", "one", "fetch", "-q", "--depth", "2")
    assert git(*count) == "2"
    git("-C", "one", "fetch", "-q", "--unshallow")
    assert git(*count) == str(total + 1)
    assert git("-C", "one", "fsck", "--full", "--strict", "--no-dangling") == ""
    git("clone", "-q", "--shallow-exclude=v1", address(live_hub, ann, full), "two")
    assert git("-C", "two", "rev-list", "--count", "HEAD") == "4"
    git("clone", "-q", "--no-local", "--branch", "v1", "--single-branch", address(live_hub, ann, full), "tag")
    assert not (git.home / "tag/deep/n.txt").exists()


def test_empty_and_dataset(live_hub: Settings, ann: HfApi, git: Git) -> None:
    name = f"acme/set-{uuid.uuid4().hex[:8]}"
    ann.create_repo(name, repo_type="dataset")
    ann.upload_file(path_or_fileobj=b"a,b\n", path_in_repo="rows.csv", repo_id=name, repo_type="dataset")
    git("clone", "-q", address(live_hub, ann, name, "datasets/"), "set")
    assert (git.home / "set/rows.csv").read_bytes() == b"a,b\n"
    ann.super_squash_history(name, repo_type="dataset")
    git("clone", "-q", address(live_hub, ann, name, "datasets/"), "squashed")
    assert git("-C", "squashed", "rev-list", "--count", "HEAD") == "1"


def test_rules_are_those_of_downloads(live_hub: Settings, ann: HfApi, eve: HfApi, git: Git) -> None:
    name = f"acme/secret-{uuid.uuid4().hex[:8]}"
    ann.create_repo(name, private=True)
    assert "could not read Username" in git("clone", f"{live_hub.url}/{name}", "x", fails=True)
    assert "Authentication failed" in git(
        "clone", f"{live_hub.url.replace('://', '://u:bad@')}/{name}", "x", fails=True
    )
    assert "not found" in git("clone", address(live_hub, eve, name), "x", fails=True)
    git("clone", "-q", address(live_hub, ann, name), "own")
    ann.update_repo_settings(name, private=False, gated="manual")
    assert "403" in git("clone", address(live_hub, eve, name), "x", fails=True)
    ann.grant_access(name, "eve")
    git("clone", "-q", address(live_hub, eve, name), "granted")
    (git.home / "own/new.txt").write_text("x")
    git("-C", "own", "add", ".")
    git("-C", "own", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    assert "403" in git("-C", "own", "push", fails=True)
    old = git("-c", "protocol.version=0", "clone", address(live_hub, ann, name), "old", fails=True)
    assert "speaks version 2" in old


@needs_lfs
def test_lfs_brings_the_bytes(live_hub: Settings, ann: HfApi, full: str, tmp_path: Path) -> None:
    git = Git(tmp_path / "lfs-home", lfs=True)
    git("clone", "-q", address(live_hub, ann, full), "one")
    work = git.home / "one"
    assert (work / "model.safetensors").read_bytes() == tiny_weights(b"1")
    assert (work / "odd [name] é.raw").read_bytes() == b"bytes\0" * 100
    assert git("-C", "one", "lfs", "fsck") == "Git LFS fsck OK"
    assert git("-C", "one", "status", "--porcelain") == ""
    # Uploads by git-lfs itself: its own batch, its own names.
    (work / "more.bin").write_bytes(b"more" * 1000)
    git("-C", "one", "add", ".")
    git("-C", "one", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    git("-C", "one", "lfs", "push", "--all", "origin")
    oid = hashlib.sha256(b"more" * 1000).hexdigest()
    answer = ann.create_commit(
        full, [CommitOperationAdd("more.bin", b"more" * 1000)], commit_message="the same bytes, there already"
    )
    assert answer.oid
    assert ann.get_paths_info(full, ["more.bin"])[0].lfs["sha256"] == oid


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
