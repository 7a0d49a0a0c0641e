"""The folder of pictures that were made before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hub.web import pictures
from hub.web.pictures import Pictures
from registry import Registry

BOUND = 10_000


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pictures]:
    """A folder that is swept at every second picture."""
    monkeypatch.setattr(pictures, "_SWEEP_EVERY", 2)
    with Registry.open(tmp_path / "registry") as registry:
        yield Pictures(tmp_path / "pictures", registry.blobs, max_bytes=BOUND)


def names(folder: Path) -> set[str]:
    return {file.name for file in (folder / "pictures").glob("*/*")}


def test_what_is_there_is_not_made_again(kept: Pictures) -> None:
    assert kept.kept("ab.svg", lambda: b"first") == b"first"
    assert kept.kept("ab.svg", lambda: b"second") == b"first"


def test_a_file_that_goes_while_the_folder_is_swept_is_passed_over(
    kept: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [*glob(folder, pattern), tmp_path / "gone"])
    assert kept.kept("ab.svg", lambda: b"made") == b"made"  # the first one sweeps


def test_what_is_being_written_is_left_alone_and_what_nobody_writes_goes(kept: Pictures, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "ab"
    folder.mkdir()
    for name, age in (("part-new", 60), ("part-old", 7200), ("abold.svg", 3000)):
        (folder / name).write_bytes(b"x" * BOUND)
        os.utime(folder / name, (folder.stat().st_mtime - age,) * 2)
    kept.kept("cd.svg", lambda: b"made")
    assert names(tmp_path) == {"part-new", "cd.svg"}


def test_many_make_pictures_at_once_and_the_folder_keeps_its_bound(kept: Pictures, tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def make(which: int) -> None:
        begin.wait(10)
        for number in range(which, 400, 8):
            assert kept.kept(f"ab{number}.svg", lambda: os.urandom(500)) is not None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    for number in range(2):  # one of them sweeps when nobody writes any more
        kept.kept(f"cd{number}.svg", lambda: b"x")
    assert not any(name.startswith("part-") for name in names(tmp_path))
    assert sum(file.stat().st_size for file in (tmp_path / "pictures").glob("*/*")) <= BOUND
