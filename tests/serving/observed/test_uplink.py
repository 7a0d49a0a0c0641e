"""The uplink of a site: what it took outlives a kill, counts once, and everything that is said goes through it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.instances import Instances
from serving.observed import captures as capturing
from serving.observed.camera_words import CameraWord
from serving.observed.captures import Capture, CaptureStore
from serving.observed.observer import CameraKey, Observer
from serving.observed.telemetry import INCOMING, Prediction, Recorder
from serving.observed.uplink import CAPTURES, DiskUplink
from tests.serving.observed.test_observer import feed, frames

KEPT = 60
CHILD = """
import os, signal, sys
from pathlib import Path
from serving.observed.captures import CaptureStore
from serving.observed.uplink import DiskUplink
from tests.serving.observed.test_uplink import KEPT, capture

folder, die_at = Path(sys.argv[1]), int(sys.argv[2])
uplink = DiskUplink(folder)
for number in range(KEPT):
    uplink.capture(capture(number))
    uplink.predictions([b'{"number": %d}' % number])
    print(number, flush=True)
    if number == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
uplink.seal(now=True)
"""


def capture(number: int, **other: Any) -> Capture:
    image = np.random.default_rng(number).integers(0, 255, (40, 60, 3), np.uint8)
    facts: dict[str, Any] = {"reason": "sample", "cell": "dock-7", "line": "l1", "robot": "arm"} | other
    return Capture(image, Instances.empty(40, 60), f"r{number}", 1.79e9 + number, served_by="base/u@v1", **facts)


def run(folder: Path, die_at: int) -> tuple[int, list[int]]:
    """A site that says all it has, from the beginning; it is killed after a number."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(die_at)], stdout=subprocess.PIPE, text=True, check=False,
        cwd=Path(__file__).parents[3], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    return child.returncode, [int(line) for line in child.stdout.split()]


def test_no_capture_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path / CAPTURES)
    for die_at in (0, 7, 31):
        code, acknowledged = run(tmp_path, die_at)
        assert code == -signal.SIGKILL
        kept = {store.read(name)["request_id"] for name in store.names()}
        assert {f"r{number}" for number in acknowledged} <= kept
    code, _ = run(tmp_path, -1)
    assert code == 0
    kept_all = [store.read(name)["request_id"] for name in store.names()]
    assert sorted(kept_all) == sorted(f"r{number}" for number in range(KEPT)), "each once"
    assert all(store.image(name)[0][:3] == b"\xff\xd8\xff" for name in store.names())


def test_lines_that_were_taken_outlive_a_kill(tmp_path: Path) -> None:
    code, acknowledged = run(tmp_path, 20)
    assert code == -signal.SIGKILL
    DiskUplink(tmp_path).seal(now=True)  # the next process of the site
    lines = [json.loads(line) for path in (tmp_path / INCOMING).glob("*.jsonl") for line in path.open()]
    assert [one["number"] for one in lines] == acknowledged


def test_a_picture_without_its_document_is_written_again_and_counted_once(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path)
    name = store.add(capture(1))
    (tmp_path / f"{name}.json").unlink()  # killed in between
    again = CaptureStore(tmp_path)
    assert again.add(capture(1)) == name
    assert again.read(name)["request_id"] == "r1"
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert again._total == size


@pytest.mark.parametrize(
    "other", [{"reason": "novelty"}, {"cell": "dock-8"}, {"line": None}, {"robot": "other"}, {"camera": "left"}]
)
def test_what_differs_is_another_capture(tmp_path: Path, other: dict[str, Any]) -> None:
    store = CaptureStore(tmp_path)
    assert len({store.add(capture(1)), store.add(capture(1)), store.add(capture(1, **other))}) == 2


def test_another_picture_under_the_same_request_is_another_capture(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path)
    one, two = capture(1), replace(capture(1), image=capture(2).image)
    jpeg = replace(one, image=b"\xff\xd8\xff of a robot")
    assert len({store.add(each) for each in (one, two, jpeg, replace(jpeg))}) == 3


class Heard:
    """An uplink to somewhere else: all that a site says, and nothing on its disk."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.captures: list[Capture] = []
        self.lines: list[bytes] = []
        self.words: list[CameraWord] = []
        self.full = 0

    def put(self, message_id: str, at: float, document: dict[str, Any]) -> None:
        self.messages[message_id] = document

    def capture(self, capture: Capture) -> str:
        if self.full:
            self.full -= 1
            raise OSError(28, "No space left on device")
        self.captures.append(capture)
        return capture.id

    def predictions(self, lines: Sequence[bytes]) -> None:
        self.lines += lines

    def statistics(self, word: CameraWord) -> None:
        self.words.append(word)

    def seal(self, *, now: bool) -> None:
        pass


def prediction(number: int) -> Prediction:
    return Prediction(f"r{number}", 1.0, "dock-7", "l1", "arm", None, "u@v1", None, 1, 0, None, None, {}, 1.0, 1)


def test_another_carrier_takes_all_that_a_site_says(tmp_path: Path) -> None:
    heard = Heard()
    recorder = Recorder(tmp_path, None, tick_s=0.01, uplink=heard)
    recorder.record(prediction(1), capture(1))
    recorder.close()
    observer = Observer(tmp_path, uplink=heard)
    at = feed(observer, frames(110), 1e9)
    feed(observer, frames(12, start=300, gain=0.1), at, key=CameraKey("dock-7", "l1"))
    observer.close()
    assert [one.request_id for one in heard.captures] == ["r1"] and len(heard.lines) == 1
    assert [one["kind"] for one in heard.messages.values()] == ["dark"]
    assert {(one.what, one.cell) for one in heard.words} == {("camera", "dock-7")}
    assert [one.values["state"] for one in heard.words][-1] == "fault" and heard.words[-1].values["kind"] == "dark"
    assert len(heard.words) < 10, "when it changes and once a minute, not with each frame"
    assert not any((tmp_path / name).exists() for name in (CAPTURES, INCOMING, "uplink", "statistics"))


def test_a_disk_that_is_full_for_a_while_costs_no_capture(tmp_path: Path) -> None:
    heard = Heard()
    heard.full = 2
    recorder = Recorder(tmp_path, None, tick_s=0.01, uplink=heard)
    recorder.record(prediction(1), capture(1))
    recorder.record(prediction(2), capture(2))
    while recorder._frames:
        recorder._thread.join(0.01)
    recorder.close()
    assert [one.request_id for one in heard.captures] == ["r1", "r2"]


def test_ids_are_those_that_names_are_read_by(tmp_path: Path) -> None:
    assert capturing.CAPTURE_ID.fullmatch(capture(1).id)
    early = Capture(b"\xff\xd8\xff", Instances.empty(4, 6), "r", -5.0, "sample", "base/u@v1", None, None, None)
    assert capturing.CAPTURE_ID.fullmatch(early.id)
