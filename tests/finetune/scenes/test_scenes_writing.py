"""Sets of scenes on disk: the same bytes from any number of processes, and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.datasets import read_dataset
from finetune.errors import DatasetError
from finetune.scenes import (
    BROAD,
    CELLS,
    DEMO_CELL,
    PHYSICAL_HELD_OUT,
    ScenePlan,
    is_unfinished,
    looks_of,
    write_cell,
    write_scenes,
)
from finetune.scenes.cells import MANY, MOST_PROCESSES
from finetune.scenes.physical.backend import has
from finetune.scenes.writing import UNFINISHED

PLAN = ScenePlan(DEMO_CELL, 12, 3, size=64)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_workers_change_nothing(tmp_path):
    counted: list[int] = []
    alone = contents(write_scenes(tmp_path / "a", PLAN, progress=counted.append))
    assert counted == list(range(13))
    assert contents(write_scenes(tmp_path / "b", PLAN, workers=2)) == alone
    assert not any(UNFINISHED in name for name in alone)
    assert '"tier": "fast"' in alone["README.md"].decode()


@pytest.mark.parametrize(
    ("cell", "images", "cores", "processes"),
    [("demo", MANY, 3, 0), ("gantry", MANY - 1, 3, 0), ("dock", MANY, 3, 3), ("dock", MANY, 64, MOST_PROCESSES)],
)
def test_many_physical_scenes_of_a_cell_have_a_process_a_core(tmp_path, monkeypatch, cell, images, cores, processes):
    asked: list[int] = []
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(
        "finetune.scenes.cells.write_scenes", lambda folder, _plan, *, workers, progress: asked.append(workers)
    )
    write_cell(tmp_path / cell, CELLS[cell], images=images, seed=1)
    assert asked == [processes]


def test_an_unfinished_set_is_gone_on_with_or_refused(tmp_path):
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(done: int) -> None:
        if done == 5:
            raise Stopped

    folder = tmp_path / "set"
    with pytest.raises(Stopped):
        write_scenes(folder, PLAN, progress=stop)
    assert is_unfinished(folder)
    with pytest.raises(DatasetError, match="another recipe"):
        write_scenes(folder, ScenePlan(DEMO_CELL, 12, 4, size=64))
    counted: list[int] = []
    write_scenes(folder, PLAN, progress=counted.append)
    assert counted[0] == 5, "what was written is not made again"
    assert not is_unfinished(folder)
    assert contents(folder) == contents(write_scenes(tmp_path / "whole", PLAN))


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path):
    """SIGKILL while two workers write; the workers end by themselves, the second run makes the same bytes."""
    folder = tmp_path / "set"
    options = ["scenes", "write", "--look", "demo", "--images", "60", "--seed", "3", "--size", "256", "--workers", "2"]
    command = [sys.executable, "-m", "hub.cli.main", *options, "--out"]
    process = subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(list(folder.glob(f"{UNFINISHED}/[0-9]*.json"))) < 8:
            time.sleep(0.01)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert is_unfinished(folder), "killed before it was done"
    while any(Path(f"/proc/{pid}").exists() and "defunct" not in state(pid) for pid in workers):
        time.sleep(0.05)  # the suite's time-out is the limit
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*/frame-*.jpg")}
    first = sorted(int(p.stem) for p in (folder / UNFINISHED).glob("[0-9]*.json"))
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("*/frame-*.jpg")}
    assert all(after[f"frame-{k:04d}.jpg"] == before[f"frame-{k:04d}.jpg"] for k in first), "kept, not made again"
    whole = write_scenes(tmp_path / "whole", ScenePlan(looks_of("fast")["demo"], 60, 3, size=256))
    assert contents(folder) == contents(whole)


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{pid}\n" in status.read_text():
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found


def state(pid: int) -> str:
    try:
        line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("State"))
    except OSError:
        return "defunct"
    return "defunct" if "Z" in line.split()[1] else line


@pytest.mark.slow
@pytest.mark.skipif(not has("mujoco"), reason="mujoco is not installed")
def test_a_physical_set_is_a_dataset_with_its_recipe(tmp_path):
    plan = ScenePlan(PHYSICAL_HELD_OUT["dock"], 3, 5, "physical", 96)
    folder = write_scenes(tmp_path / "a", plan)
    dataset = read_dataset(folder)
    assert [s.split for s in dataset.samples].count("valid") == 1
    assert set(dataset.classes) <= set(PHYSICAL_HELD_OUT["dock"].classes)
    text = (folder / "README.md").read_text()
    assert "Tier `physical`" in text
    assert '"generator": "physical-' in text
    assert '"mujoco"' in text
    assert contents(write_scenes(tmp_path / "b", plan, workers=1)) == contents(folder)


@pytest.mark.slow
@pytest.mark.skipif(not has("mujoco"), reason="mujoco is not installed")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_machine_that_cannot_draw_is_told_what_it_lacks(tmp_path, workers):
    command = [sys.executable, "-m", "hub.cli.main", "scenes", "write", "--tier", "physical", "--images", "2"]
    without = {**os.environ, "MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_DIRS": str(tmp_path)}
    ended = subprocess.run(
        [*command, "--workers", workers, "--out", str(tmp_path / "set")], env=without, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "libgl1-mesa-dri" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_tier_draws_its_own_looks_alone():
    with pytest.raises(ValueError, match="does not draw"):
        ScenePlan(BROAD, 2, 1, "physical")
    with pytest.raises(ValueError, match="does not draw"):
        ScenePlan(PHYSICAL_HELD_OUT["dock"], 2, 1, "fast")
