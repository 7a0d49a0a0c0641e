"""The observer: alerts go out once, whatever is killed when; it never holds an answer up and its memory is bounded."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from serving.observed import observer as observers
from serving.observed.observer import CameraKey, Observer
from serving.observed.spool import UPLINK, Spool

KEY = CameraKey("dock-7", "l1")


def frames(count: int, *, start: int = 0, gain: float = 1.0):
    """A fixed ground with other rectangles on it each time, and a sensor's noise: uint8 [160, 200, 3]."""
    ground = cv2.resize(np.random.default_rng(0).integers(60, 200, (9, 11, 3), np.uint8), (200, 160))
    cv2.rectangle(ground, (4, 4), (196, 156), (230, 230, 230), 3)
    for k in range(start, start + count):
        rng = np.random.default_rng((1, k))
        image = ground.copy()
        for _ in range(3):
            x, y = rng.integers(30, 140), rng.integers(30, 110)
            image[y : y + 25, x : x + 30] = rng.integers(0, 255, 3)
        yield np.clip(image * gain + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def feed(observer: Observer, images, at: float, *, every: float = 4.0, key: CameraKey = KEY) -> float:
    for image in images:
        assert observer.offer(key, image, at)
        assert observer.settle(60)
        at += every
    return at


def messages(folder: Path) -> list[dict]:
    spool = Spool(folder / UPLINK)
    return [document for name in spool.names() if (document := spool.read(name)) is not None]


def test_a_fault_is_told_with_pictures_and_told_again_when_it_is_gone(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    assert observer.state_of(KEY).camera == "cannot_tell"
    at = feed(observer, frames(110), 1e9)
    assert observer.state_of(KEY).camera == "ok"
    assert messages(tmp_path) == []
    at = feed(observer, frames(60, start=200), at)  # a picture of when all was well is kept
    dark_at = at
    at = feed(observer, frames(12, start=300, gain=0.1), at)
    assert observer.state_of(KEY).camera == "dark"
    (told,) = messages(tmp_path)
    assert (told["event"], told["kind"], told["cell"], told["line"]) == ("open", "dark", "dock-7", "l1")
    assert dark_at <= told["since"] < at
    pictures = {
        name: cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), 0)
        for name, text in told["pictures"].items()
    }
    assert pictures["before"].mean() > 4 * pictures["after"].mean()
    feed(observer, frames(40, start=400), at)
    observer.close()
    again = messages(tmp_path)
    assert [one["event"] for one in again] == ["open", "close"]
    assert again[1]["alert"] == told["alert"]


KILLED = """
import os, signal, sys
from pathlib import Path
from serving.observed.observer import Observer
from serving.observed.spool import Spool
from tests.serving.observed.test_observer import frames, feed
def die(self, *arguments):
    os.kill(os.getpid(), signal.SIGKILL)
observer = Observer(Path(sys.argv[1]))
at = feed(observer, frames(110), 1e9)
Spool.put = die
feed(observer, frames(12, start=300, gain=0.1), at)
"""


def test_a_kill_before_the_alert_is_told_loses_nothing(tmp_path: Path) -> None:
    """The state was saved and the message was not: whoever looks next tells it, once."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert messages(tmp_path) == []
    for _ in range(2):
        observer = Observer(tmp_path)
        feed(observer, frames(1, start=320, gain=0.1), 1e9 + 1000)
        assert observer.state_of(KEY).camera == "dark"
        observer.close()
    assert [one["kind"] for one in messages(tmp_path)] == ["dark"]


def test_frames_are_dropped_rather_than_an_answer_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, go = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        held.set()
        assert go.wait(30)

    monkeypatch.setattr(Observer, "_look", slow)
    observer = Observer(tmp_path)
    image = np.zeros((100, 100, 3), np.uint8)
    assert observer.offer(KEY, image, 0.0)
    assert held.wait(30)
    taken = [observer.offer(KEY, image, 0.0) for _ in range(observers.MAX_WAITING + 5)]
    assert taken == [True] * observers.MAX_WAITING + [False] * 5
    assert observer.dropped == 5
    go.set()
    assert observer.settle(30)
    observer.close()
    assert not observer.offer(KEY, image, 0.0)


def test_a_frame_that_cannot_be_judged_ends_nothing(tmp_path: Path) -> None:
    observer = Observer(tmp_path)
    feed(observer, [np.zeros((8, 8, 3), np.uint8)], 1e9)
    assert "too small" in observer.state_of(KEY).reason
    feed(observer, [np.zeros((100, 100), np.uint8)], 1e9)
    feed(observer, frames(1), 1e9)
    assert "1 of 100" in observer.state_of(KEY).reason
    observer.close()


def test_cameras_that_are_silent_are_put_away_and_come_back(tmp_path: Path) -> None:
    observer = Observer(tmp_path, max_cameras=2)
    at = feed(observer, frames(110), 1e9)
    for k in range(4):
        feed(observer, frames(1), at, key=CameraKey(f"other-{k}"))
    assert len(observer._cameras) == 2
    feed(observer, frames(1, start=500), at + 9)
    assert observer.state_of(KEY).camera == "ok"
    observer.close()
    (file,) = (tmp_path / "observed").glob("*.safetensors")
    file.write_bytes(os.urandom(300))
    fresh = Observer(tmp_path)
    feed(fresh, frames(1), at)
    assert fresh.state_of(KEY).camera == "cannot_tell"
    fresh.close()


def test_a_full_disk_delays_the_alert_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Observer(tmp_path)
    at = feed(observer, frames(110), 1e9)
    put, refused = Spool.put, []

    def full(self: Spool, message_id: str, told_at: float, document: dict) -> None:
        if len(refused) < 3:
            refused.append(message_id)
            raise OSError(28, "No space left on device")
        put(self, message_id, told_at, document)

    monkeypatch.setattr(Spool, "put", full)
    feed(observer, frames(16, start=300, gain=0.1), at)
    observer.close()
    assert len(set(refused)) == 1
    assert [one["kind"] for one in messages(tmp_path)] == ["dark"]


def test_names_of_cameras_do_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "MAX_FILES", 2)
    observer = Observer(tmp_path)
    at = feed(observer, frames(110), 1e9)
    learnt = observer._cameras[KEY]
    for k in range(5):
        observer._save(CameraKey("dock-7", f"line-{k}"), learnt)
    observer.close()
    assert len(list((tmp_path / "observed").glob("*.safetensors"))) == 2
    assert at > 1e9
