"""Which requests are computed together, who goes first, and who is told that it is too late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import DeadlinePassed, ServingError, TooBusy
from serving.triton.fair_queue import FairQueue
from serving.triton.scheduler import Batching, Scheduler
from tests.scale import scaled


class Held:
    """An engine that stands still at its first batch until it is let go; its clock is moved by hand."""

    def __init__(
        self, batching: Batching | None = None, *, rows: int = 4, gone: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.batches: list[list[str]] = []
        self.waited: list[float] = []
        self.refused: dict[str, ServingError] = {}
        self.now, self.takes, self.fails = 100.0, 0.0, False
        self.started, self._go = threading.Event(), threading.Event()
        self.scheduler: Scheduler[str] = Scheduler(
            self._run, self._refuse, batching or Batching(), rows=rows, gone=gone, clock=lambda: self.now
        )

    def _run(self, items: Sequence[str], waited: Sequence[float]) -> None:
        self.batches.append(list(items))
        self.waited += waited
        self.started.set()
        assert self._go.wait(60)
        self.now += self.takes
        if self.fails:
            raise RuntimeError("out of memory")

    def _refuse(self, item: str, error: ServingError) -> None:
        self.refused[item] = error

    def busy(self) -> None:
        """One request is being computed; what is put now waits."""
        self.scheduler.put("first")
        assert self.started.wait(60)

    def finish(self) -> None:
        self._go.set()
        self.scheduler.close()


def test_what_waits_when_the_engine_is_free_is_the_next_batch() -> None:
    held = Held(rows=4)
    held.busy()
    for number in range(6):
        held.scheduler.put(str(number))
    held.now += 0.25
    assert held.scheduler.waiting == 6
    held.finish()
    assert held.batches == [["first"], list("0123"), list("45")]
    assert held.waited == [0.0, *[0.25] * 6]
    assert held.refused == {}


def test_what_was_waited_elsewhere_counts() -> None:
    held = Held(rows=4)
    held.busy()
    held.scheduler.put("in time", timeout_s=3.0, waited_s=0.5)
    held.scheduler.put("too late", timeout_s=0.5, waited_s=0.5)
    held.scheduler.put("has long", waited_s=0.5)
    held.now += 0.25
    held.finish()
    assert held.batches == [["first"], ["in time", "has long"]]
    assert held.waited == [0.0, 0.75, 0.75]
    assert held.refused.keys() == {"too late"}
    assert isinstance(held.refused["too late"], TooBusy)


def test_bulk_work_waits_for_robots_and_is_never_in_their_batch() -> None:
    held = Held(rows=4)
    held.busy()
    for name in ("b1", "r1", "b2", "r2", "b3"):
        held.scheduler.put(name, bulk=name.startswith("b"))
    held.finish()
    assert held.batches == [["first"], ["r1", "r2"], ["b1", "b2", "b3"]]


def test_a_full_queue_refuses_at_once() -> None:
    held = Held(Batching(max_waiting=3, max_waiting_bytes=100))
    held.busy()
    held.scheduler.put("a", size=60)
    with pytest.raises(TooBusy, match="frames of 60 bytes wait"):
        held.scheduler.put("too large beside it", size=41)
    with pytest.raises(TooBusy, match="60 bytes wait"):
        held.scheduler.put("larger than all of it", key="other", size=1000)
    assert held.refused == {}, "nobody had to leave for it"
    held.scheduler.put("b")
    held.scheduler.put("c")
    with pytest.raises(TooBusy, match="3 requests wait"):
        held.scheduler.put("d")
    held.finish()
    assert held.batches[1:] == [["a", "b", "c"]]
    with pytest.raises(TooBusy, match="stopping"):
        held.scheduler.put("e")


def test_cells_take_turns_and_one_that_floods_the_server_waits_for_itself() -> None:
    held = Held(Batching(max_waiting=6), rows=2)
    held.busy()
    for number in range(6):
        held.scheduler.put(f"a{number}", key="a")
    with pytest.raises(TooBusy):
        held.scheduler.put("a6", key="a")
    held.scheduler.put("b0", key="b")  # the queue is full, and a's newest makes room
    held.scheduler.put("c0", key="c")
    held.scheduler.put("b1", key="b")
    assert set(held.refused) == {"a5", "a4", "a3"}
    with pytest.raises(TooBusy, match="6 requests wait"):
        held.scheduler.put("b2", key="b")  # b would have as many as a
    held.finish()
    assert held.batches[1:] == [["a0", "b0"], ["c0", "a1"], ["b1", "a2"]]


def test_bulk_work_makes_room_for_robots_but_not_the_other_way() -> None:
    held = Held(Batching(max_waiting=2), rows=4)
    held.busy()
    held.scheduler.put("b1", bulk=True)
    held.scheduler.put("r1")
    with pytest.raises(TooBusy):
        held.scheduler.put("b2", key="other", bulk=True)
    held.scheduler.put("r2")
    assert set(held.refused) == {"b1"}
    held.finish()
    assert held.batches[1:] == [["r1", "r2"]]


def test_room_is_given_back_and_an_empty_queue_takes_any_size() -> None:
    held = Held(Batching(max_waiting_bytes=100))
    held.busy()
    held.scheduler.put("a", size=1000, timeout_s=0.1)
    held.now += 1
    held._go.set()
    while held.scheduler.waiting:
        threading.Event().wait(0.005)
    held.scheduler.put("b", size=100)
    held.finish()
    assert set(held.refused) == {"a"}
    assert held.batches[1:] == [["b"]]


def test_what_would_come_too_late_is_refused_and_takes_nobodys_place() -> None:
    held = Held(rows=2)
    held.takes = 1.0
    held.busy()
    held.scheduler.put("over", timeout_s=0.5)
    held.scheduler.put("not in time", timeout_s=2.5)  # 0.5 s would be left, half of what a batch takes
    held.scheduler.put("in time", timeout_s=4)
    held.scheduler.put("patient")
    held.now += 1.0
    held.finish()
    assert held.batches == [["first"], ["in time", "patient"]]
    assert {name: type(error) for name, error in held.refused.items()} == {"over": TooBusy, "not in time": TooBusy}


def test_one_slow_batch_does_not_lock_everybody_out() -> None:
    held = Held()
    held.takes = 60.0
    held.busy()
    held._go.set()
    while held.now == 100.0:
        threading.Event().wait(0.005)
    held.takes = 0.1
    held.scheduler.put("fresh", timeout_s=2)
    held.finish()
    assert held.batches == [["first"], ["fresh"]]


def test_who_would_be_too_late_is_told_at_once() -> None:
    held = Held(rows=2)
    held.takes = 1.0
    held.busy()
    held.scheduler.put("a", timeout_s=0.1)  # how long a frame takes is not known yet
    held._go.set()
    while held.scheduler.waiting or held.now < 101:
        threading.Event().wait(0.005)
    held._go.clear()
    held.started.clear()
    held.scheduler.put("running")
    assert held.started.wait(60)
    held.scheduler.put("next", timeout_s=0.5)  # nobody before it: it is let in, whatever frames took
    held.scheduler.put("second", timeout_s=2.0)
    with pytest.raises(TooBusy, match=r"2 requests before it take 2\.0 s"):
        held.scheduler.put("third", timeout_s=2.9)
    held.scheduler.put("patient", timeout_s=3.1)
    with pytest.raises(TooBusy, match="3 requests before it"):
        held.scheduler.put("bulk", timeout_s=3.9, bulk=True)
    held.scheduler.put("patient bulk", timeout_s=9, bulk=True)
    held.scheduler.put("robots are not behind it", timeout_s=4.1)
    held._go.set()
    held.scheduler.close()


def test_who_has_hung_up_is_not_computed() -> None:
    held = Held(gone=lambda name: name == "gone")
    held.busy()
    held.scheduler.put("gone")
    held.scheduler.put("here")
    held.now += 0.1
    held.finish()
    assert held.batches == [["first"], ["here"]]
    assert isinstance(held.refused["gone"], DeadlinePassed)


def test_a_batch_that_fails_is_refused_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    held = Held(rows=1)
    held.fails = True
    held.busy()
    held.scheduler.put("second")
    held.finish()
    assert held.batches == [["first"], ["second"]]
    assert set(held.refused) == {"first", "second"}
    assert "a batch failed" in caplog.text


def test_the_engine_is_made_by_the_thread_that_runs_batches() -> None:
    names: list[str] = []
    scheduler: Scheduler[str] = Scheduler(
        lambda items, waited: names.append(threading.current_thread().name),
        lambda item, error: None,
        Batching(),
        rows=1,
        start=lambda: names.append(threading.current_thread().name),
    )
    assert names == ["batches"]
    scheduler.put("a")
    scheduler.close()
    assert names == ["batches", "batches"]

    def broken() -> None:
        raise ServingError("no base")

    with pytest.raises(ServingError, match="no base"):
        Scheduler[str](lambda items, waited: None, lambda item, error: None, Batching(), rows=1, start=broken)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"rows": 2000}, {"max_waiting": 0}, {"max_wait_s": 0}])
def test_settings_have_limits(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Batching(**wrong)  # type: ignore[arg-type]


@settings(max_examples=scaled(20, 500), deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.booleans(), st.sampled_from("xyz"), st.floats(0.01, 5), st.floats(0, 2)), max_size=40
    ),
    most=st.integers(1, 40),
    rows=st.integers(1, 8),
    takes=st.floats(0, 1),
)
def test_every_request_is_answered_or_refused_once(
    requests: list[tuple[bool, str, float, float]], most: int, rows: int, takes: float
) -> None:
    held = Held(Batching(max_waiting=most), rows=rows)
    held.takes = takes
    held.busy()
    names = [f"{'b' if bulk else 'r'}{key}{number}" for number, (bulk, key, _, _) in enumerate(requests)]
    full = set()
    for name, (bulk, key, timeout, pause) in zip(names, requests, strict=True):
        try:
            held.scheduler.put(name, key=key, bulk=bulk, timeout_s=timeout)
        except TooBusy:
            full.add(name)
        assert held.scheduler.waiting <= most
        held.now += pause
    held.finish()
    computed = [name for batch in held.batches[1:] for name in batch]
    assert sorted([*computed, *held.refused, *full]) == sorted(names)
    assert all(1 <= len(batch) <= rows and len({name[0] for name in batch}) == 1 for batch in held.batches)
    for line in {name[:2] for name in computed}:
        own = [int(name[2:]) for name in computed if name.startswith(line)]
        assert own == sorted(own), "first come, first served"
    assert "br" not in "".join(name[0] for name in computed), "robots first"


@given(entries=st.lists(st.sampled_from("abc"), max_size=30), key=st.sampled_from("abcd"))
def test_a_fair_queue_says_how_many_leave_before_a_new_entry(entries: list[str], key: str) -> None:
    queue: FairQueue[str] = FairQueue()
    for entry in entries:
        queue.push(entry, entry)
    ahead = queue.ahead(key)
    queue.push(key, "new")
    left = [queue.pop() for _ in range(len(queue))]
    # Of each other key one may leave later, where its turn comes after this one's.
    assert left.index("new") - ahead in (-2, -1, 0)
    turns = [entry for entry in left if entry != "new"]
    assert sorted(turns) == sorted(entries)
    assert len(queue) == 0
