"""Clients of other versions against a running hub: each in a virtual environment of its own.

    HF_ENDPOINT=http://127.0.0.1:8400 HF_TOKEN=... python examples/old_clients.py ann/trial
    HF_ENDPOINT=... HF_TOKEN=... python examples/old_clients.py ann/trial --versions 0.36.0 1.19.0

Each version pushes a folder (small files and a large one), tags it, reads it back, lists it, merges a pull request and
reads through the file system; with Xet where it knows it, and once more with `HF_HUB_DISABLE_XET=1`. Needs `uv`, and an
index or a cache that it can install from.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("0.36.0", "1.19.0")
SECONDS = 600

TRIAL = r"""
import json, os, sys, tempfile
from pathlib import Path
import huggingface_hub
from huggingface_hub import HfApi, HfFileSystem, CommitOperationAdd, hf_hub_download, snapshot_download

repo, tag = sys.argv[1], sys.argv[2]
api, done = HfApi(), []
api.create_repo(repo, exist_ok=True)
with tempfile.TemporaryDirectory() as folder:
    source = Path(folder) / "source"
    (source / "deep").mkdir(parents=True)
    (source / "README.md").write_text("---\ntags: [trial]\n---\n# Trial\n")
    large = os.urandom(12_000_000)
    (source / "deep" / "weights.bin").write_bytes(large)
    api.upload_folder(repo_id=repo, folder_path=source, commit_message=tag)
    done.append("upload_folder")
    api.upload_file(repo_id=repo, path_or_fileobj=b"one more", path_in_repo="note.txt")
    done.append("upload_file")
    api.create_tag(repo, tag=tag)
    local = Path(snapshot_download(repo, revision=tag, cache_dir=Path(folder) / "cache"))
    assert (local / "deep" / "weights.bin").read_bytes() == large
    assert (local / "README.md").read_bytes() == (source / "README.md").read_bytes()
    done.append("snapshot_download")
    one = hf_hub_download(repo, "deep/weights.bin", revision=tag, local_dir=Path(folder) / "local")
    assert Path(one).read_bytes() == large
    done.append("hf_hub_download")
    assert HfFileSystem().read_bytes(f"{repo}@{tag}/note.txt") == b"one more"
    done.append("HfFileSystem")
    assert {entry.path for entry in api.list_repo_tree(repo, recursive=True)} >= {"deep/weights.bin", "note.txt"}
    assert api.file_exists(repo, "note.txt") and not api.file_exists(repo, "nothing.txt")
    operations = [CommitOperationAdd("proposal.txt", b"what about this")]
    pull = api.create_commit(repo, operations, commit_message="a proposal", create_pr=True)
    api.merge_pull_request(repo, pull.pr_num)
    assert api.file_exists(repo, "proposal.txt")
    done.append("pull request")
    api.delete_repo(repo)
print(json.dumps({"version": huggingface_hub.__version__, "passed": done}))
"""


def main() -> int:
    """Try every version; exit code 1 if one fails, 77 if none could be installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", help="a repo that the token may create and delete: namespace/name")
    parser.add_argument("--versions", nargs="+", default=list(VERSIONS), metavar="VERSION")
    asked = parser.parse_args()
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        print("uv is not installed", file=sys.stderr)
        return 77
    failed = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        for version in asked.versions:
            python = install(uv, Path(folder) / version, version)
            if python is None:
                continue
            for without_xet in ("0", "1"):
                tried += 1
                failed += not trial(python, f"{asked.repo}-{version.replace('.', '-')}", version, without_xet, folder)
    return 1 if failed else 0 if tried else 77


def install(uv: str, venv: Path, version: str) -> Path | None:
    """A new environment with one version of the client; None if it cannot be had."""
    python = venv / "bin" / "python"
    for words in (["venv", "-q", "--python", sys.executable, str(venv)],
                  ["pip", "install", "-q", "--python", str(python), f"huggingface_hub=={version}"]):  # fmt: skip
        done = subprocess.run([uv, *words], capture_output=True, text=True, check=False, timeout=SECONDS)
        if done.returncode:
            print(f"huggingface_hub {version}: not installed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
    return python


def trial(python: Path, repo: str, version: str, without_xet: str, folder: str) -> bool:
    """Run the trial in that environment, with a cache of its own."""
    home = tempfile.mkdtemp(dir=folder)
    environment = os.environ | {"HF_HOME": home, "HF_HUB_DISABLE_XET": without_xet, "HF_HUB_DISABLE_TELEMETRY": "1"}
    words = [str(python), "-c", TRIAL, repo, f"v-{version}"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    way = "LFS" if without_xet == "1" else "its own choice"
    if done.returncode:
        print(f"huggingface_hub {version} ({way}): FAILED\n{done.stderr[-2000:]}")
        return False
    print(f"huggingface_hub {version} ({way}): {', '.join(json.loads(done.stdout.splitlines()[-1])['passed'])}")
    return True


if __name__ == "__main__":
    sys.exit(main())
