"""How often a camera is judged: frames within a second are glanced at, and what they show is decided no later."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from serving.observed import reference as refs
from serving.observed.camera_health import LOOK_EVERY_S, CameraHealth
from serving.observed.camera_kinds import CameraState
from serving.observed.measures import median
from serving.observed.views import View

AT = 1e9


def view(number: int, *, gain: float = 1.0) -> View:
    """A fixed ground with other rectangles on it each time, and a sensor's noise."""
    ground = cv2.resize(np.random.default_rng(0).integers(60, 200, (9, 11, 3), np.uint8), (200, 160))
    cv2.rectangle(ground, (4, 4), (196, 156), (230, 230, 230), 3)
    rng = np.random.default_rng((1, number))
    for _ in range(3):
        x, y = rng.integers(30, 140), rng.integers(30, 110)
        ground[y : y + 25, x : x + 30] = rng.integers(90, 170, 3)
    return View.of(np.clip(ground * gain + rng.normal(0, 3, ground.shape), 0, 255).astype(np.uint8))


@cache
def saved() -> tuple[dict[str, np.ndarray], dict[str, object]]:
    health = CameraHealth()
    for k in range(105):
        health.observe(view(k), AT + 4 * k)
    assert health.state.camera == "ok"
    return health.save()


def learnt() -> CameraHealth:
    health = CameraHealth()
    assert health.restore(*saved())
    return health


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Grows by one with each frame that is judged and not glanced at."""
    seen: list[float] = []
    compare = refs.compare

    def counting(*given: object) -> refs.Compared:
        seen.append(0.0)
        return compare(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(refs, "compare", counting)
    return seen


def feed(health: CameraHealth, at: float, seconds: float, rate: float, *, gain: float = 1.0) -> CameraState:
    for k in range(int(seconds * rate)):
        state = health.observe(view(1000 + k, gain=gain), at + k / rate)
    return state


def test_frames_within_a_second_are_glanced_at(judged: list[float]) -> None:
    health, start = learnt(), AT + 1000
    judged.clear()
    state = feed(health, start, 12.0, 20.0)
    assert state.camera == "ok" and state.frames == 105 + 240
    assert len(judged) <= 12.0 / LOOK_EVERY_S + 1


def test_a_light_that_goes_is_judged_at_once(judged: list[float]) -> None:
    health, start = learnt(), AT + 1000
    feed(health, start, 1.0, 20.0)
    judged.clear()
    state = health.observe(view(5000, gain=0.1), start + 1.0)
    assert len(judged) == 1 and state.suspect == "dark"


def test_a_picture_that_stands_still_is_judged_at_once(judged: list[float]) -> None:
    health, start = learnt(), AT + 1000
    feed(health, start, 1.0, 20.0)
    same = view(7000)
    health.observe(same, start + 1.0)
    judged.clear()
    state = health.observe(same, start + 1.05)
    assert len(judged) == 1 and state.suspect == "frozen"


@pytest.mark.parametrize("rate", [0.5, 1.0, 10.0])
def test_the_frame_rate_changes_nothing_of_when_a_fault_is_known(rate: float) -> None:
    health, start = learnt(), AT + 1000
    feed(health, start, 8.0, rate)
    for k in range(int(60 * rate)):
        if health.observe(view(2000 + k, gain=0.1), start + 8.0 + k / rate).kind is not None:
            break
    assert health.state.kind == "dark" and k / rate < 40.0
    assert health.state.since is not None and health.state.since - (start + 8.0) <= 2.0


def test_the_quick_median_is_the_median() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 10, 577):
        values = rng.normal(0, 1, count).astype(np.float32)
        assert median(values.copy()) == pytest.approx(float(np.median(values)), rel=1e-6)
    assert np.isnan(median(np.zeros(0, np.float32)))
