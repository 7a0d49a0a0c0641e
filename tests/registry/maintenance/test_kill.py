"""What was acknowledged survives `kill -9`, and nothing else is ever half there."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry import Registry, RepoId
from tests.scale import scaled

ROUNDS = scaled(4, 40)

# Writes versions of several files in two threads, acknowledges each commit on its own line, until it is killed.
CHILD = """
import os, sys, threading
from pathlib import Path
from registry import AddFile, Registry, RepoId

registry = Registry.open(Path(sys.argv[1]))
repo = RepoId.parse("cells/dock-7")
registry.repos.create(repo, exist_ok=True)

def work(name):
    number = 0
    while True:
        number += 1
        ops = []
        for k in range(4):
            info = registry.blobs.put_bytes(os.urandom(2000 + 500 * k))
            ops.append(AddFile(f"{name}/{k}.bin", info.sha256, info.size))
        tag = f"{name}-{os.getpid()}-{number}"
        commit = registry.repos.commit(repo, ops, message=tag, author=name, tags=[tag])
        os.write(1, f"{commit.id} {tag}\\n".encode())

for name in ("a", "b"):
    threading.Thread(target=work, args=(name,)).start()
"""


def run_until_killed(root: Path, seconds: float) -> list[tuple[str, str]]:
    """The acknowledged commit ids and tags of one life."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True)
    first = child.stdout.readline()  # only then is it in the middle of things
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    # A line the kill cut short acknowledges nothing.
    whole = [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
    return [tuple(line.split()) for line in whole]


@pytest.mark.slow
def test_acknowledged_commits_survive_kills(tmp_path):
    repo = RepoId.parse("cells/dock-7")
    dice = random.Random(7)
    acknowledged: dict[str, str] = {}
    for _ in range(ROUNDS):
        acknowledged |= run_until_killed(tmp_path, dice.uniform(0.0, 0.35))
        with Registry.open(tmp_path) as registry:
            head = registry.repos.resolve(repo, "main")
            history = registry.repos.history(repo, "main", limit=100_000)
            assert history[0] == head
            assert history[-1].parent is None
            assert acknowledged.keys() <= {commit.id for commit in history}
            for commit_id, tag in acknowledged.items():
                assert registry.repos.resolve(repo, tag).id == commit_id
            # An unacknowledged commit may be there, but then whole: with its tag and its tree.
            tags = {ref.commit: ref.name for ref in registry.repos.refs(repo) if ref.kind == "tag"}
            assert {commit.id: commit.message for commit in history} == tags
            assert registry.catalog.query("SELECT count(*) FROM commits") == [(len(history),)]
            for commit in history[:30]:
                tree = registry.repos.tree(repo, commit.id)
                assert len(tree) in (4, 8)
                for entry in tree:
                    data = registry.blobs.local_path(entry.sha256).read_bytes()
                    assert len(data) == entry.size
                    assert hashlib.sha256(data).hexdigest() == entry.sha256
    stored = [path for path in (tmp_path / "blobs" / "sha256").rglob("*") if path.is_file()]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in stored)
    assert len(acknowledged) >= ROUNDS
