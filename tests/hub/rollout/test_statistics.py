from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.rollout.statistics import Rate, SequentialTest, wilson


@pytest.mark.parametrize(
    ("successes", "picks", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, picks: int, low: float, high: float) -> None:
    found = wilson(successes, picks)
    assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_wilson_lies_around_the_share_and_inside_0_and_1(successes: int, failures: int) -> None:
    rate = Rate(successes, successes + failures)
    low, high = rate.interval
    assert 0 <= low <= high <= 1
    if rate.value is not None:
        assert low <= rate.value <= high
        assert low < high


def test_counts_that_are_no_share_are_refused() -> None:
    with pytest.raises(ValueError, match="no share"):
        wilson(3, 2)
    for wrong in ({"good": 0.5, "bad": 0.5}, {"good": 1.0, "bad": 0.5}, {"good": 0.9, "bad": 0.8, "alpha": 0.0}):
        with pytest.raises(ValueError, match=r"rates|alpha"):
            SequentialTest(**wrong)
    with pytest.raises(ValueError, match="at_most"):
        SequentialTest(0.9, 0.8, at_most=-1)


def shares(test: SequentialTest, rate: float, runs: int, limit: int = 20_000) -> dict[str, float]:
    """How often simulated variants of a true rate get each verdict, and how many picks that takes on average."""
    rng = random.Random(f"{test} {rate}")
    counts = {"good": 0.0, "bad": 0.0, "open": 0.0, "picks": 0.0}
    for _ in range(runs):
        result = test.run(rng.random() < rate for _ in range(limit))
        counts[result.verdict] += 1 / runs
        counts["picks"] += result.rate.picks / runs
    return counts


@pytest.mark.parametrize(
    "test",
    [
        SequentialTest(0.95, 0.90, alpha=0.01, beta=0.05),
        SequentialTest(0.95, 0.85, alpha=0.01, beta=0.05),
        SequentialTest(0.80, 0.70, alpha=0.05, beta=0.10),
        SequentialTest(0.99, 0.95, alpha=0.05, beta=0.05),
    ],
)
def test_error_rates_are_the_stated_ones(test: SequentialTest) -> None:
    """Wald's bounds, plus three standard errors of the simulation itself."""
    runs = 1500
    good, bad = shares(test, test.good, runs), shares(test, test.bad, runs)
    for wrong, bound in ((good["bad"], test.alpha / (1 - test.beta)), (bad["good"], test.beta / (1 - test.alpha))):
        assert wrong <= bound + 3 * (bound * (1 - bound) / runs) ** 0.5
    assert good["open"] == bad["open"] == 0
    assert shares(test, (1 + 3 * test.good) / 4, 300)["bad"] < test.alpha, "better than good is judged bad more rarely"


def test_a_bounded_trial_ends_and_still_keeps_its_promises_roughly() -> None:
    test = SequentialTest(0.95, 0.85, alpha=0.05, beta=0.05, at_most=200)
    good, bad = shares(test, test.good, 2000), shares(test, test.bad, 2000)
    assert good["open"] == bad["open"] == 0
    assert good["bad"] < 0.07
    assert bad["good"] < 0.07
    assert max(good["picks"], bad["picks"]) < 100, "far fewer picks than the fixed number"


def test_a_watch_that_repeats_finds_what_turns_bad_later() -> None:
    test = SequentialTest(0.95, 0.85, alpha=0.001, beta=0.05, repeat=True)
    rng = random.Random(7)
    late = [rng.random() < 0.96 for _ in range(1000)] + [rng.random() < 0.6 for _ in range(200)]
    found = test.run(late)
    assert found.verdict == "bad"
    assert 1000 < found.rate.picks < 1060
    assert test.run(late[:1000]).verdict == "open"
    once = SequentialTest(0.95, 0.85, alpha=0.001, beta=0.05)
    assert once.run(late).verdict == "good", "without repeat it stops at its first verdict"


def test_no_picks_no_verdict() -> None:
    result = SequentialTest(0.9, 0.8).run([])
    assert (result.verdict, result.rate.value, result.rate.interval) == ("open", None, (0.0, 1.0))
