"""When a cell is refreshed: a pure function of the policy and of what is known, and versions that stay."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import msgspec
import pytest

from hub.errors import InputError, RefreshStateError, UnknownCellError
from hub.loop.refresh_policy import Facts, decide, in_hours
from hub.schemas.refresh import RefreshPolicyIn
from hub.services import Services

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC).timestamp()
ENOUGH = Facts(labels=True, unused=100)


@pytest.mark.parametrize(
    ("policy", "facts", "code", "says"),
    [
        ({}, ENOUGH, "start", "100 new labelled images"),
        ({}, Facts(labels=True, unused=99), "few labels", "99 new labelled images of 100"),
        ({"enabled": False}, ENOUGH, "off", "switched off"),
        ({"paused": True}, ENOUGH, "paused", "paused"),
        ({}, Facts(labels=False, unused=0), "no labels", "no dataset"),
        ({}, Facts(labels=True, unused=100, running="r1"), "running", "r1"),
        ({}, Facts(labels=True, unused=100, base=False), "no base", "no base"),
        ({}, Facts(labels=True, unused=100, last=NOON - 23 * 3600), "too soon", "2026-07-01T13:00Z"),
        ({}, Facts(labels=True, unused=100, last=NOON - 24 * 3600), "start", "enough"),
        ({}, Facts(labels=True, unused=3, gain=(0.06, "bags")), "start", "expected gain 0.06 (bags)"),
        ({}, Facts(labels=True, unused=0, gain=(0.6, "bags")), "few labels", "expected gain 0.60"),
        ({"min_gain": None}, Facts(labels=True, unused=3, gain=(0.9, "bags")), "few labels", "asked for nothing"),
        ({"begin": "22:00", "end": "06:00"}, ENOUGH, "other hours", "22:00 to 06:00 UTC"),
        ({"begin": "22:00", "end": "06:00", "time_zone": "Asia/Tokyo"}, ENOUGH, "other hours", "Asia/Tokyo"),
        ({"begin": "20:00", "end": "06:00", "time_zone": "Asia/Tokyo"}, ENOUGH, "start", "enough"),
    ],
)
def test_what_the_rule_says(policy: dict[str, object], facts: Facts, code: str, says: str) -> None:
    found = decide(msgspec.convert(policy, RefreshPolicyIn), facts, NOON)
    assert (found.code, says in found.reason) == (code, True), found


@pytest.mark.parametrize(
    ("begin", "end", "inside", "outside"),
    [
        ("08:00", "17:00", ("08:00", "16:59"), ("07:59", "17:00")),
        ("22:00", "06:00", ("22:00", "05:59", "00:00"), ("06:00", "21:59")),
        ("00:00", "24:00", ("00:00", "23:59"), ()),
        ("18:00", "24:00", ("18:00", "23:59"), ("00:00", "17:59")),
        ("09:00", "09:00", ("00:00", "09:00"), ()),
    ],
)
def test_hours(begin: str, end: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    policy = RefreshPolicyIn(begin=begin, end=end)

    def at(clock: str) -> bool:
        hours, minutes = map(int, clock.split(":"))
        return in_hours(policy, datetime(2026, 7, 1, hours, minutes, tzinfo=UTC).timestamp())

    assert all(map(at, inside)) and not any(map(at, outside))


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_labels": 0}, {"min_gain": 0}, {"min_gain": 1.5}, {"begin": "25:00"}, {"end": "7:00"}, {"nope": 1},
        {"labels": ["no-slash"]}, {"max_minutes": 0}, {"tolerance": -0.1}, {"min_hours_between": -1},
    ],
)  # fmt: skip
def test_what_is_no_policy(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, RefreshPolicyIn)


def test_every_change_is_a_version_with_who_made_it(services: Services) -> None:
    services.cells.create("dock-7", "", "acme")
    refreshes = services.refreshes
    assert refreshes.policies.get("dock-7").version == 0
    first = refreshes.set_policy("dock-7", RefreshPolicyIn(min_labels=50), "ann", "fewer")
    assert (first.version, first.set_by, first.note) == (1, "ann", "fewer")
    assert refreshes.set_policy("dock-7", RefreshPolicyIn(min_labels=50), "bob").version == 1, "the same is no change"
    assert refreshes.pause("dock-7", "bob").policy == RefreshPolicyIn(min_labels=50, paused=True)
    assert refreshes.pause("dock-7", "cid", paused=False).version == 3
    assert [one.set_by for one in refreshes.policies.history("dock-7")] == ["cid", "bob", "ann"]
    with pytest.raises(RefreshStateError, match="version 3 by now"):
        refreshes.set_policy("dock-7", RefreshPolicyIn(), "dan", expected=1)
    with pytest.raises(InputError, match="time zone"):
        refreshes.set_policy("dock-7", RefreshPolicyIn(time_zone="Mars/Olympus"), "dan")
    with pytest.raises(InputError, match="time zone"):
        refreshes.set_policy("dock-7", RefreshPolicyIn(time_zone="../../etc/passwd"), "dan")
    with pytest.raises(UnknownCellError):
        refreshes.set_policy("dock-8", RefreshPolicyIn(), "dan")


def test_changes_at_once_are_all_versions(services: Services) -> None:
    services.cells.create("dock-7", "", "acme")

    def change(number: int) -> None:
        services.refreshes.set_policy("dock-7", RefreshPolicyIn(min_labels=number), f"p{number}")

    threads = [threading.Thread(target=change, args=(k,)) for k in range(1, 9)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    history = services.refreshes.policies.history("dock-7")
    assert [one.version for one in history] == list(range(8, 0, -1))
    assert {one.policy.min_labels for one in history} == set(range(1, 9))
