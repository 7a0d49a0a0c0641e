"""Which precision a CPU computes in."""

from __future__ import annotations

import pytest

from serving.inference import precision


@pytest.mark.parametrize(
    ("native", "speedup", "quick"),
    [(False, 9.0, False), (True, 0.5, False), (True, 1.0, False), (True, 1.7, True), (True, precision.QUICKER, True)],
)
def test_what_decides(native: bool, speedup: float, quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bfloat16", lambda: native)
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda: speedup)
    precision.quick_bfloat16.cache_clear()
    try:
        assert precision.quick_bfloat16() is quick
    finally:
        precision.quick_bfloat16.cache_clear()


@pytest.mark.slow
def test_the_speed_is_measured_on_this_machine() -> None:
    assert 0.001 < precision.bfloat16_speedup() < 1000
