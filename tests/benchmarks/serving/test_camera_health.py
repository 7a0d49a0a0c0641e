"""Camera health: each kind of fault on a cell's camera, what is no fault, and decisions over time."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from benchmarks.fleet.cameras import CellCamera, Pool
from benchmarks.fleet.faults import FAULTS
from benchmarks.fleet.health import WITHIN_S, learnt
from benchmarks.fleet.light import Day
from benchmarks.fleet.streams import EVERY_S, Stream
from serving.observed.camera_health import CameraHealth
from serving.observed.camera_kinds import ADVICE, KINDS, Kind
from serving.observed.cusum import DAY_S, LOOK_S, SHOWS, Cusum, Recovery, threshold, weight
from serving.observed.spool import Spool
from serving.observed.views import View

SEED = 8
Saved = tuple[dict[str, np.ndarray], dict[str, object]]


@cache
def cell() -> tuple[Pool, Saved, float]:
    """A cell's frames, its camera as it was learnt, and the time after that."""
    pool = CellCamera(SEED, size=160).pool(busy=30, idle=2, novel=10)
    health, stream = learnt(pool, SEED)
    assert health.learnt
    return pool, health.save(), stream.at


def camera() -> tuple[CameraHealth, Stream]:
    pool, saved, at = cell()
    health = CameraHealth()
    assert health.restore(*saved)
    stream = Stream(pool, Day.of(SEED), np.random.default_rng(3), at=at + EVERY_S)
    stream.keep_busy()
    for image, seen_at in stream.frames(8):
        health.observe(View.of(image), seen_at)
    return health, stream


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_noticed_named_and_over_when_it_is_gone(kind: Kind) -> None:
    health, stream = camera()
    assert health.state.camera == "ok"
    stream.fault = FAULTS[kind](0.6, np.random.default_rng(1), 160)
    planted_at = stream.at
    for image, at in stream.frames(int(WITHIN_S / EVERY_S)):
        state = health.observe(View.of(image), at)
        if state.word == "fault":
            break
    assert state.camera == kind
    assert state.since is not None
    assert planted_at <= state.since < planted_at + WITHIN_S
    stream.fault = None
    for image, at in stream.frames(90):
        state = health.observe(View.of(image), at)
    assert state.camera == "ok"
    assert ADVICE[kind].remedy


def test_new_packages_a_standing_belt_and_a_passing_hand_are_no_faults() -> None:
    health, stream = camera()
    stream.novel = 0.7
    assert all(health.observe(View.of(image), at).kind is None for image, at in stream.frames(150))
    stream.novel = 0.0
    standing = stream.pool.busy[3]
    stream._idle_until, stream._busy_until, stream._standing = stream.at + 300, np.inf, standing
    assert all(health.observe(View.of(image), at).kind is None for image, at in stream.frames(150))
    noise = np.random.default_rng(6)
    for _ in range(3):  # two frames of an arm before the lens, now and then
        for image, at in stream.frames(30):
            health.observe(View.of(image), at)
        for image, at in stream.frames(2):
            arm = image.copy()
            arm[:, :90] = np.clip(120 + noise.normal(0, 4, (160, 90, 3)), 0, 255)
            assert health.observe(View.of(arm), at).kind is None


def test_what_cannot_be_told_is_said() -> None:
    health = CameraHealth()
    pool = cell()[0]
    stream = Stream(pool, Day.of(SEED), np.random.default_rng(4), at=9 * 3600.0)
    image = stream.frame()
    state = health.observe(View.of(image), 1e9)
    assert state.camera == "cannot_tell"
    assert "1 of 100 frames" in state.reason
    black = CameraHealth()
    for k in range(150):
        state = black.observe(View.of(np.zeros((120, 160, 3), np.uint8)), 1e9 + k)
    assert state.camera == "cannot_tell"
    assert "black" in state.reason
    grey = CameraHealth()
    flat = np.random.default_rng(0).normal(128, 3, (4000, 120, 160, 1)).astype(np.uint8)
    k = 0
    while not grey.learnt and k < 4000:
        state = grey.observe(View.of(np.repeat(flat[k], 3, axis=2)), 1e9 + k)
        k += 1
    assert grey.learnt
    state = grey.observe(View.of(np.repeat(flat[0], 3, axis=2)), 1e9 + k)
    assert "moved" in state.blind
    assert state.camera == "ok"
    with pytest.raises(ValueError, match="too small"):
        View.of(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        View.of(np.zeros((80, 80), np.uint8))  # type: ignore[arg-type]


def test_a_camera_of_another_size_cannot_be_told_and_is_learnt_anew() -> None:
    health, stream = camera()
    for k, (image, at) in enumerate(stream.frames(25)):
        state = health.observe(View.of(image[:120]), at)
        assert state.camera == "cannot_tell"
        if k < 10:
            assert "160 x 120" in state.reason
    assert not health.learnt
    back, stream = camera()
    for image, at in stream.frames(3):
        assert back.observe(View.of(image[:120]), at).camera == "cannot_tell"
    image = stream.frame()
    assert back.observe(View.of(image), stream.at).camera == "ok", "a single odd frame costs nothing"


def test_what_was_learnt_survives_and_damage_does_not_spread() -> None:
    _, (arrays, document), _ = cell()
    assert CameraHealth().restore(arrays, document)
    assert sum(values.nbytes for values in arrays.values()) < 512 * 1024
    for change in (
        {"format": 99},
        {"size": None},
        {"ordinary": {"gain": "x"}},
        {"p0": {}},
        {"fault": ["haunted", 1.0]},
    ):
        assert not CameraHealth().restore(arrays, {**document, **change})
    for missing in ("log", "edges", "window_mask"):
        assert not CameraHealth().restore({k: v for k, v in arrays.items() if k != missing}, document)
    assert not CameraHealth().restore({**arrays, "log": arrays["log"][0]}, document)
    assert not CameraHealth().restore({}, {"format": 1})


def test_a_fault_is_remembered_over_a_restart() -> None:
    health, stream = camera()
    stream.fault = FAULTS["dark"](0.8, np.random.default_rng(1), 160)
    for image, at in stream.frames(30):
        health.observe(View.of(image), at)
    again = CameraHealth()
    assert again.restore(*health.save())
    assert (again.state.kind, again.state.since) == ("dark", health.state.since)


def test_times_that_lie_do_not_decide() -> None:
    """Frames from the past, or years ahead, count as one look at most."""
    health, stream = camera()
    stream.fault = FAULTS["dark"](0.8, np.random.default_rng(1), 160)
    for k in range(4):
        state = health.observe(View.of(stream.frame()), 4e9 * (k % 2))
    assert state.kind is None


def test_the_threshold_follows_from_the_time_between_false_alarms() -> None:
    assert threshold(30 * DAY_S, 9) == pytest.approx(math.log(30 * DAY_S / LOOK_S * 9))
    with pytest.raises(ValueError, match="at least"):
        threshold(1.0, 1)
    assert (weight(-5.0), weight(0.4), weight(100.0)) == (0.0, pytest.approx(0.1), 1.0)
    # Short enough to be tried: a mean of at least e^h looks between false alarms, at the share that was learnt.
    rng = np.random.default_rng(0)
    limit, runs = threshold(400 * LOOK_S, 1), []
    for _ in range(300):
        total, looks = Cusum(p0=0.05), 0
        while total.add(bool(rng.random() < 0.05), float(looks), 1.0) < limit:
            looks += 1
        runs.append(looks)
    assert np.mean(runs) > 400
    quick = Cusum(p0=0.05)
    seen = [quick.add(bool(rng.random() < SHOWS), float(k), 1.0) for k in range(40)]
    assert max(seen) > limit
    over = Recovery()
    assert max(over.add(False, 0.05, 1.0) for _ in range(12)) > threshold(3600.0, 1)


def test_the_spool_keeps_what_is_whole(tmp_path) -> None:
    spool = Spool(tmp_path / "uplink")
    assert list(spool.names()) == []
    spool.put("0" * 32, 5.0, {"type": "alert"})
    (tmp_path / "uplink" / f".0000000000001-{'1' * 32}.json.77").write_text("{")
    assert [spool.read(name) for name in spool.names()] == [{"type": "alert", "id": "0" * 32}]
    assert spool.read("../../etc/passwd") is None


def test_a_noisy_camera_is_not_learnt_on_an_empty_belt() -> None:
    """Noise alone is no motion: what is learnt of a view without packages takes the first of them for a hidden lens."""
    pool = cell()[0]
    noise = np.random.default_rng(8)
    empty = pool.idle[0].image.astype(np.float32)
    health = CameraHealth()
    for k in range(300):
        frame = np.clip(empty + noise.normal(0, 6, empty.shape), 0, 255).astype(np.uint8)
        state = health.observe(View.of(frame), 1e9 + 2 * k)
    assert not health.learnt and state.camera == "cannot_tell"
