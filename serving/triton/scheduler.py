"""Which requests are the next batch: those that wait when the engine is free, robots first, cells by turns, none late.

Triton's own batcher does this too, and waits: with deadlines or priorities in its configuration it hands out a batch
only while a model instance stands idle, and nothing tells it that one has come back, so that a request which arrived
during a batch was looked at again with the next request's arrival or after half a second (`WaitForPayloadSlotAvailable`
in Triton's `dynamic_batch_scheduler.cc`). And a batch it has handed out is answered as a whole. So Triton hands every
request over as it comes, and batches are formed here, the moment the engine is free (continuous batching, after Yu et
al., "Orca", OSDI 2022, for a model whose requests take one pass each).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from statistics import median
from typing import Final, Generic, TypeVar

from serving.errors import DeadlinePassed, InternalError, ServingError, TooBusy
from serving.triton.fair_queue import FairQueue

log = logging.getLogger(__name__)

T = TypeVar("T")
CPU_ROWS, CUDA_ROWS = 4, 32
"""A CPU computes four frames in four times the time of one, so larger batches make robots wait and nothing else."""
_REMEMBERED: Final = 9
_PATIENCE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests are put together. `parcelhub bench batching` measures what suits a machine.

    Attributes:
        rows: most frames in one batch; None: 4 on a CPU, 32 on a CUDA device.
        max_waiting: requests beyond this are refused at once: they would wait past any robot's deadline. The cell
            with the longest line has to make room for others.
        max_waiting_bytes: a request whose frame does not fit beside those that wait is refused.
        max_wait_s: a request that waited this long is refused; one that names a shorter `timeout` sooner.

    Raises ValueError for numbers out of range.
    """

    rows: int | None = None
    max_waiting: int = 256
    max_waiting_bytes: int = 512 * 1024**2
    max_wait_s: float = 10.0

    def __post_init__(self) -> None:
        if self.rows is not None and not 1 <= self.rows <= 1024:
            raise ValueError(f"rows must be 1 to 1024: {self}")
        if min(self.max_waiting, self.max_waiting_bytes) < 1 or not 0 < self.max_wait_s <= 3600:
            raise ValueError(f"lengths and times must be positive, an hour at most: {self}")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One request in the queue. Times are of the scheduler's clock, in seconds; `until` is its deadline."""

    item: T
    since: float
    until: float
    size: int


class Scheduler(Generic[T]):
    """A queue and the one thread that runs batches. `put` may be called from any thread."""

    def __init__(
        self,
        run: Callable[[Sequence[T], Sequence[float]], None],
        refuse: Callable[[T, ServingError], None],
        batching: Batching,
        *,
        rows: int,
        start: Callable[[], None] = lambda: None,
        gone: Callable[[T], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread. Raises what `start` raises.

        Args:
            run: answers a batch; also gets the seconds that each of it waited. What it raises is logged, and refuses
                all of the batch.
            refuse: tells one request that it is not answered.
            rows: most requests in one batch, where `batching` leaves it open.
            start: called first, by the thread that runs batches; the constructor waits for it. Whatever computes with
                several threads has to be made there: OpenMP keeps a team of threads for each thread that ever asked
                for one, and where teams hold more threads than there are cores, all of them wait asleep (a pass of 73
                ms took 105).
            gone: whether who asked has stopped waiting; such a request is not computed.
        """
        self._run, self._refuse, self._gone, self._clock = run, refuse, gone, clock
        self._batching = batching
        self._rows = batching.rows or rows
        self._robots: FairQueue[Waiting[T]] = FairQueue()
        self._bulk: FairQueue[Waiting[T]] = FairQueue()
        self._bytes = 0
        self._lately: deque[float] = deque(maxlen=_REMEMBERED)
        self._row_s = 0.0
        self._closed = False
        self._changed = threading.Condition()
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, args=(start, started), name="batches", daemon=True)
        self._thread.start()
        started.result()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._robots) + len(self._bulk)

    def put(
        self,
        item: T,
        *,
        key: str = "",
        timeout_s: float | None = None,
        waited_s: float = 0.0,
        size: int = 0,
        bulk: bool = False,
    ) -> None:
        """Queue a request of `size` bytes; returns at once. Keys (cells) take turns; bulk work waits for robots. The
        seconds that it has waited elsewhere are part of its waiting, and of the `timeout_s` that it has for it.

        Raises TooBusy where the queue is full, or so long that this one's turn would come too late.
        """
        now = self._clock()
        longest = self._batching.max_wait_s
        since = now - waited_s
        until = since + (min(timeout_s, longest) if timeout_s else longest)
        pushed_out = None
        with self._changed:
            if self._closed:
                raise TooBusy("the server is stopping")
            line = self._bulk if bulk else self._robots
            ahead = line.ahead(key) + (len(self._robots) if bulk else 0)
            if ahead and (ahead + 1) * self._row_s > until - now:
                # Told now, a robot takes its next frame; from the end of the queue it would hear it too late.
                raise TooBusy(f"{ahead} requests before it take {ahead * self._row_s:.1f} s")
            if self.waiting and self._bytes + size > self._batching.max_waiting_bytes:
                # Nobody is pushed out for a large frame: it could take many small ones and still not fit.
                raise TooBusy(f"frames of {self._bytes} bytes wait already")
            if self.waiting >= self._batching.max_waiting:
                pushed_out = self._who_leaves(key, bulk=bulk)
            self._bytes += size
            line.push(key, Waiting(item, since, until, size))
            self._changed.notify()
        if pushed_out is not None:
            self._tell(pushed_out.item, TooBusy("the queue is full, and others have fewer requests in it"))

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _who_leaves(self, key: str, *, bulk: bool) -> Waiting[T]:
        """Who makes room for a request: bulk work for robots, else the newest of who has more. Raises TooBusy."""
        line = self._bulk if bulk or self._bulk else self._robots
        one = line.drop(longer_than=line.waiting(key) + 1 if bulk or line is self._robots else 0)
        if one is None:
            raise TooBusy(f"{self.waiting} requests wait already")
        self._bytes -= one.size
        return one

    def _work(self, start: Callable[[], None], started: Future[None]) -> None:
        try:
            start()
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        while True:
            with self._changed:
                while not self.waiting and not self._closed:
                    self._changed.wait()
                if not self.waiting:
                    return
                batch, late = self._take()
            for one in late:
                self._tell(one.item, TooBusy("the request would have been answered past its deadline"))
            batch = [one for one in batch if not self._has_gone(one)]
            if batch:
                self._answer(batch)

    def _take(self) -> tuple[list[Waiting[T]], list[Waiting[T]]]:
        """The next batch, and those for whom it comes too late. Robots and bulk work are never in one batch: a robot
        would wait for all of it.
        """
        line = self._robots or self._bulk
        now = self._clock()
        batch: list[Waiting[T]] = []
        late: list[Waiting[T]] = []
        while line and len(batch) < self._rows:
            one = line.pop()
            self._bytes -= one.size
            # An answer that comes after the deadline helps nobody and costs the next in line his. No more than half of
            # what was granted is held against a request, or one slow batch could refuse all that come after it.
            needed = min(self._row_s * min(self._rows, len(batch) + len(line) + 1), (one.until - one.since) / 2)
            (late if one.until - now < needed else batch).append(one)
        return batch, late

    def _answer(self, batch: Sequence[Waiting[T]]) -> None:
        started = self._clock()
        try:
            self._run([one.item for one in batch], [started - one.since for one in batch])
        except Exception as error:
            log.exception("a batch failed")
            for one in batch:
                self._tell(one.item, InternalError(error))
        # The median of the last few: one batch that met a hiccup of the machine says nothing about the next.
        self._lately.append((self._clock() - started) / len(batch))
        self._row_s = median(self._lately)

    def _has_gone(self, one: Waiting[T]) -> bool:
        # To ask is a message between two processes, not worth it for one that has hardly waited.
        if self._clock() - one.since < _PATIENCE_S:
            return False
        try:
            gone = self._gone(one.item)
        except Exception:
            log.exception("whether a robot still waits could not be asked")
            return False
        if gone:
            self._tell(one.item, DeadlinePassed("the robot has stopped waiting for this answer"))
        return gone

    def _tell(self, item: T, error: ServingError) -> None:
        try:
            self._refuse(item, error)
        except Exception:
            log.exception("a refusal could not be sent")
