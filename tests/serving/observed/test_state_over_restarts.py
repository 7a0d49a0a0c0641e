"""What detectors know outlives a restart and a kill; a state that is damaged is set aside, and learnt again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.observed.captures import CapturePolicy, CaptureStore
from serving.observed.doubt import Again
from serving.observed.novelty_reference import Reference
from serving.observed.novelty_watch import SHOWS_NEW_S, STATE
from serving.observed.observer import CameraKey, Observer
from serving.observed.state_files import DAMAGED, read_state, write_state
from serving.observed.wishes import WISHES, wish
from tests.serving.observed.test_camera_pace import AT, learnt, saved, view
from tests.serving.observed.test_novelty_watch import KEY, SINCE, Site, look
from tests.serving.observed.test_observer import feed, frames

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    return Reference.learn([look(rng) for _ in range(60)], base="u@v1", layers=())


def test_a_watch_goes_on_where_it_was(reference: Reference, tmp_path: Path) -> None:
    first = Site(tmp_path, reference)
    first.run(150)
    assert first.watch.state_of(KEY) == "ok"
    first.watch.close()
    again = Site(tmp_path, reference)
    again.at = first.at
    again.run(1)
    assert again.watch.state_of(KEY) == "ok", "it need not learn again"
    again.run(60, new=0.5)
    assert again.watch.changes >= 1 and again.watch.state_of(KEY) == "new"
    again.watch.close()
    third = Site(tmp_path, reference)
    third.at = again.at
    third.run(1)
    assert third.watch.state_of(KEY) == "new", "robots go on hearing of it"
    third.at += SHOWS_NEW_S
    third.run(110)
    assert third.watch.state_of(KEY) in ("ok", "learning")


def test_what_was_learnt_of_a_cell_that_is_gone_goes_too(reference: Reference, tmp_path: Path) -> None:
    site = Site(tmp_path, reference)
    site.run(110)
    wish(tmp_path, "a" * 32, "another", "forget", SINCE, ())
    site.watch.grant()
    assert site.watch.state_of(KEY) == "ok"
    wish(tmp_path, "b" * 32, KEY.cell, "forget", SINCE, ())
    site.watch.grant()
    site.watch.close()
    assert site.watch.state_of(KEY) == "cannot_tell"
    state = read_state(tmp_path / "observed" / STATE)
    assert state is not None and state["cameras"] == []


DAMAGE = [
    "",
    "[",
    "[1]",
    "{}",
    '{"format": 99, "cameras": []}',
    '{"format": 1, "cameras": {}}',
    '{"format": 1, "cameras": [{"camera": ["a", [], null]}]}',
    '{"format": 1, "cameras": [{"camera": ["a", null, null], "last_at": "x", "changed_at": 0, "streams": {}}]}',
    '{"format": 1, "cameras": [{"camera": ["a", null, null], "last_at": 0, "changed_at": 0, "streams":'
    ' {"novelty": {"kept": [NaN], "sums": []}}}]}',
]


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_state_is_set_aside_and_learnt_again(reference: Reference, tmp_path: Path, text: str) -> None:
    path = tmp_path / "observed" / STATE
    path.parent.mkdir()
    path.write_text(text)
    site = Site(tmp_path, reference)
    assert path.with_name(STATE + DAMAGED).read_text() == text
    site.run(110)
    assert site.watch.state_of(KEY) == "ok"
    site.watch.close()
    assert read_state(path) is not None


def test_a_state_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_state(path, {"a": float("nan")})
    assert read_state(path) == {"a": 1} and [one.name for one in tmp_path.iterdir()] == ["state.json"]


KILLED = """
import os, signal, sys
from pathlib import Path
from serving.observed.captures import CapturePolicy, CaptureStore
from serving.observed.novelty_watch import NoveltyWatch
from serving.observed.uplink import DiskUplink

class Dying(DiskUplink):
    def capture(self, capture):
        name = super().capture(capture)
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return name

folder = Path(sys.argv[1])
uplink = Dying(folder)
uplink.left = int(sys.argv[2])
watch = NoveltyWatch(
    folder, CaptureStore(folder / "captures", CapturePolicy()), lambda *_: None, lambda _: None,
    start=False, sample=12, uplink=uplink,
)
watch.grant()
"""


@pytest.mark.parametrize("after", [1, 5, 12])
def test_a_sample_that_a_kill_cut_short_is_made_whole_and_no_frame_twice(
    reference: Reference, tmp_path: Path, after: int
) -> None:
    site = Site(tmp_path, reference, sample=12)
    site.run(40)
    wish(tmp_path, "a" * 32, "dock-7", "novelty", SINCE, (), until=site.at)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(after)], cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL and len(site.kept()) == after
    assert list((tmp_path / WISHES).iterdir()), "what was not granted is still asked"
    again = Site(tmp_path, reference, sample=12)
    assert again.watch.grant() == 1 and not list((tmp_path / WISHES).iterdir())
    kept = [one["request_id"] for one in again.kept()]
    assert len(kept) == 12 == len(set(kept))
    store = CaptureStore(tmp_path / "captures", CapturePolicy())
    assert len(list(store.names())) == 12


def test_doubt_of_other_looks_starts_a_sample_and_is_kept(reference: Reference, tmp_path: Path) -> None:
    rng, shift = np.random.default_rng(3), [0.0]

    def doubts(_frame: object) -> Again:
        value = float(rng.uniform(0, 0.2) + shift[0])
        return Again((value, 0.0, 0.0), (), 0.0, value)

    site = Site(tmp_path, None, doubts=doubts, sample=6)
    site.run(200)
    assert not site.watch.changes
    shift[0] = 0.5
    site.run(60)
    kept = site.kept()
    assert kept and {one["reason"] for one in kept} == {"doubt"}
    seen: Any = kept[0]["observed"]
    assert len(seen["unstable"]) == 3 and seen["missing"] == 0.0 and "novelty" not in seen


def test_a_cameras_sums_go_on() -> None:
    health = learnt()
    start = AT + 1000
    for k in range(4):
        state = health.observe(view(3000 + k, gain=0.1), start + 4 * k)
    assert state.kind is None and health._sums["dark"].value > 0
    again = learnt()
    assert again.restore(*health.save())
    assert again._sums["dark"].value == pytest.approx(health._sums["dark"].value)
    noticed: list[int] = []
    for one in (health, again):
        for k in range(20):
            if one.observe(view(4000 + k, gain=0.1), start + 16 + 4 * k).kind == "dark":
                noticed.append(k)
                break
    # Its first frame after the restart is no evidence of its own: how long nobody looked is not known.
    assert len(noticed) == 2 and noticed[1] <= noticed[0] + 1
    assert again.state.since == pytest.approx(start)


@pytest.mark.parametrize("sums", [{"dark": [float("inf"), None]}, {"dark": [-1.0, None]}, {"dark": 3}, "x"])
def test_sums_that_are_none_are_no_state(sums: object) -> None:
    arrays, document = saved()
    assert not learnt().restore(arrays, {**document, "sums": sums})
    older = {name: value for name, value in document.items() if name not in ("sums", "recovery")}
    assert learnt().restore(arrays, older), "written before there were any"


@pytest.mark.parametrize("data", [b"", b"x" * 100])
def test_a_cameras_damaged_file_is_set_aside(tmp_path: Path, data: bytes) -> None:
    key = CameraKey("dock-7", "l1")
    path = tmp_path / "observed" / f"{key.digest}.safetensors"
    path.parent.mkdir()
    path.write_bytes(data)
    observer = Observer(tmp_path)
    feed(observer, frames(3), 1e9)
    observer.close()
    assert path.with_name(path.name + DAMAGED).read_bytes() == data and not path.exists()
