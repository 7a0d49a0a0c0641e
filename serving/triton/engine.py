"""What answers robots, without Triton: routing, variants loaded in the background, one forward pass per batch."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.io import encode_jpeg

from serving.errors import (
    AdapterError,
    AdapterUnreadable,
    NotFinite,
    RequestError,
    ServingError,
    UnknownVariant,
    VariantWarming,
)
from serving.folder.access import RobotAccess
from serving.folder.routing import Resolved, RoutingTable, ServingFolder
from serving.inference.preprocess import check_pixels, decode_image
from serving.inference.runners import EAGER, EngineChoice
from serving.inference.segmenter import SegmentOptions
from serving.observed.server_status import ServerStatus
from serving.triton.looks import Looks
from serving.triton.models import load_bases
from serving.triton.queries import Counts, Held, Query, Ready, Reply, as_serving_error
from serving.triton.refusals import FIRST_S, LONGEST_S, Refusals, stamp_of
from serving.triton.reporting import Reporter
from serving.triton.state import State
from serving.triton.waiting import Waiting

__all__ = ["Engine", "Query", "Reply"]

log = logging.getLogger(__name__)

LOOKED_AT_FIRST = 4
"""So many new variants of a table are looked at before it is in place; with more, each is while it answers already."""


class Engine:
    """Answers batches of queries from a serving folder.

    A background thread watches routing.json. It reads new variants, and a new base when the table names one, and only
    then puts the new state in place: robots never wait for a file. A running batch finishes on the state it began with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        check_every_s: float = 0.2,
        hot: int = 256,
        check_tokens: bool = False,
        choice: EngineChoice = EAGER,
        retry_s: float = FIRST_S,
    ) -> None:
        """Loads the base and its variants, to run on what `choice` says. Raises RoutingError and BaseError.

        With `check_tokens`, a query needs a robot's token that robots.json allows for its cell. `retry_s` is how long
        what failed waits before it is tried again, the first time; twice as long after each further one.
        """
        self.counts = Counts()
        self._swaps_before = 0
        self._access = RobotAccess(folder, check_every_s=check_every_s) if check_tokens else None
        self._folder = ServingFolder(folder, check_every_s=check_every_s)
        self._every = check_every_s
        self._hot = hot
        self._choice = choice
        self._decoders = ThreadPoolExecutor(4, "decode")
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._waiting = Waiting()
        self._refusals = Refusals(first_s=retry_s)
        self._looks = Looks(self._folder)
        self._unlooked: list[str] = []
        self._retry_s = retry_s
        self._lock = threading.Lock()
        self._closed = False
        self._server = uuid.uuid4().hex[:16]
        self._problem, self._tried_version = "", 0
        self._reporter = Reporter(folder, self.status)
        self._state = self._next_state(self._folder.table(), None)
        self._tried_version = self._state.source.version
        self._warm_decoders()
        self._reporter.start()
        self._watcher = threading.Thread(target=self._watch, name="routing", daemon=True)
        self._watcher.start()

    def _warm_decoders(self) -> None:
        """Decode a picture on every thread: the first robot must not pay for the codec's start either."""
        blank = encode_jpeg(torch.zeros(3, 64, 64, dtype=torch.uint8)).numpy().tobytes()
        list(self._decoders.map(decode_image, [blank] * 8))
        decode_image(blank)  # and on this thread, which decodes for a robot that is alone

    def close(self) -> None:
        """Stop the background thread, and tell those who wait for a variant that it will not come."""
        self._waiting.close()
        self._closed = True
        self._wanted.put(None)
        self._watcher.join()
        self._reporter.close()
        self._waiting.tell_all()
        self._decoders.shutdown()

    @property
    def held(self) -> int:
        """How many requests wait for their variant to be read."""
        return len(self._waiting)

    @property
    def swaps(self) -> int:
        """Adapters that were copied into a slot since the base was loaded, and before that on earlier bases."""
        return self._swaps_before + sum(each.swaps for each in self._state.segmenters)

    @property
    def runs_on(self) -> str:
        """What runs the forward pass and in which precision: `eager bfloat16`."""
        return self._state.segmenter.engine

    @property
    def base_name(self) -> str:
        """The base that answers: `universal@v3`."""
        return self._state.segmenter.base_name

    @property
    def table_version(self) -> int:
        """Of the routing table in place."""
        return self._state.table.version

    @property
    def faults(self) -> dict[str, AdapterError]:
        """The routed variants that do not answer now, and why."""
        names = self._refusals.names().intersection(self._state.source.variants())
        return {name: error for name in names if (error := self._refusals.get(name)) is not None}

    def known(self, query: Query) -> Query:
        """As `State.known`."""
        return self._state.known(query, heard=self._access is None or self.caller(query) is not None)

    def status(self) -> ServerStatus:
        """What is in place and what is not; the time is the writer's to say."""
        state = self._state
        refused = self._refusals.told(frozenset(state.source.variants()))
        entries = self._folder.faults
        problem = self._problem or (str(next(iter(entries.values()))) if entries else "")
        return ServerStatus(
            self._server,
            0.0,
            table_version=state.source.version,
            base=state.segmenter.base_name,
            tried_version=self._tried_version,
            problem=problem,
            refused=refused,
            refused_count=len(refused),
            looked=self._looks.all(),
        )

    def expect(self, query: Query, later: Callable[[], None]) -> bool:
        """Whether a query that comes can be computed now. Where its variant is not in memory it is fetched, and `later`
        is called, on the thread that did, when that is over, whatever came of it: ask again then.

        What needs no forward pass to be said is said here, so that a query does not wait for its turn to hear it.
        Raises Unauthorized, RequestError, UnknownCell, UnknownVariant and AdapterError, and VariantWarming where too
        many wait for variants already.
        """
        state = self._state
        variant = self._admit(state, query).variant
        return variant is None or self._in_memory(state, variant, Held(later, query.size))

    def answer(self, queries: Sequence[Query]) -> list[Reply | ServingError]:
        """One entry per query, in order: a reply, or the error of that query alone."""
        state = self._state
        if len(queries) == 1:
            # A robot alone must not wait for another thread to wake up.
            prepared = [self._prepare(state, queries[0])]
        else:
            prepared = list(self._decoders.map(lambda query: self._prepare(state, query), queries))
        ready = [item for item in prepared if isinstance(item, Ready)]
        try:
            answers: Iterator[Reply | ServingError] = iter(self._run(state, ready))
        except Exception as error:
            if len(ready) == 1:
                failure = as_serving_error(error)
                return [failure if isinstance(item, Ready) else item for item in prepared]
            # One row must not take its neighbours down: on this rare path each row runs alone.
            answers = (self._alone(state, row) for row in ready)
        return [next(answers) if isinstance(item, Ready) else item for item in prepared]

    def _run(self, state: State, rows: Sequence[Ready]) -> list[Reply | ServingError]:
        try:
            answers = state.answer([row.image for row in rows], [row.order for row in rows])
        except UnknownVariant as error:
            # It was pushed out of memory between the check and the batch; the next try brings it back.
            raise VariantWarming(str(error)) from error
        replies: list[Reply | ServingError] = []
        for said, row in zip(answers, rows, strict=True):
            if isinstance(said, NotFinite):
                replies.append(self._not_finite(state, row, said))
                continue
            variant = row.order.variant
            served_by = state.served_by(variant)
            base, version = state.of(variant).base_name, state.table.version
            replies.append(Reply(said, served_by, variant, base, row.stage, version, row.instead_of, row.image))
        return replies

    def _not_finite(self, state: State, row: Ready, error: NotFinite) -> Reply | ServingError:
        """The base's answer in place of one that is no numbers, where the robot named a cell; else the error. The
        variant has to wait until it is asked again."""
        variant = row.order.variant
        if variant is None:
            return error
        log.warning("%s", error)
        self._refusals.add(variant, error, self._stamp(variant))
        if row.stage == "pinned":
            return error
        order = replace(row.order, variant=None, classes=row.classes)
        return self._alone(state, replace(row, order=order, stage=None, instead_of=row.instead_of or variant))

    def _alone(self, state: State, row: Ready) -> Reply | ServingError:
        try:
            return self._run(state, [row])[0]
        except Exception as error:
            return as_serving_error(error)

    def _prepare(self, state: State, query: Query) -> Ready | ServingError:
        try:
            resolved = self._admit(state, query)
            if resolved.variant is not None:
                self._in_memory(state, resolved.variant, None)
                self._count(self.counts.hits, resolved.variant)
            image = decode_image(query.image) if isinstance(query.image, bytes) else check_pixels(query.image)
        except Exception as error:
            return as_serving_error(error)
        order = SegmentOptions(resolved.variant, query.min_score, resolved.classes)
        route = state.source.cells.get(query.cell or "")
        classes = route.classes if route is not None else ()
        return Ready(image, order, resolved.stage, classes, resolved.instead_of)

    def caller(self, query: Query) -> str | None:
        """The robot whose token the query shows; None where tokens are not checked, or it is not known."""
        return None if self._access is None else self._access.robot_of(query.token)

    def _admit(self, state: State, query: Query) -> Resolved:
        if self._access is not None:
            self._access.check(query.token, query.of_cell)
        if query.cell is None:
            return Resolved(query.variant, None if query.variant is None else "pinned")
        if query.variant is not None:
            raise RequestError("name a cell or a variant, not both")
        return state.route(query.cell, query.line, query.robot, self._refusals)

    def _in_memory(self, state: State, variant: str, held: Held | None) -> bool:
        """Whether it is; else it is fetched, and whoever is held told after. VariantWarming for nobody or too many."""
        refused = self._refusals.get(variant)
        if refused is not None:
            raise refused
        if state.of(variant).has_variant(variant):
            return True
        self._folder.variant_folder(variant)
        self._count(self.counts.misses, variant)
        if self._waiting.join(variant, held):
            self._wanted.put(variant)
        if held is not None:
            return False
        raise VariantWarming(f"variant '{variant}' is being read; ask again")

    def _count(self, counts: dict[str, int], variant: str) -> None:
        with self._lock:
            self.counts.add(counts, variant)

    # --- the background thread ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        _compute_alone()
        tried, failures, again = self._state.source, 0, 0.0
        while not self._closed:
            try:
                try:
                    variant = self._wanted.get(timeout=self._every)
                except queue.Empty:
                    variant = None
                if variant is not None:
                    self._load(self._state, variant)
                table = self._folder.table()
                # What failed is tried again after a while: a base must not be read five times a second.
                if table is not tried or (failures and time.monotonic() >= again):
                    failures = failures if table is tried else 0
                    tried = table
                    self._tried_version = table.version
                    again = time.monotonic() + min(self._retry_s * 2.0 ** min(failures, 16), LONGEST_S)
                    failures += 1
                    self._state = self._next_state(table, self._state)
                    self._problem, failures = "", 0
                    log.info("routing version %d is in place", table.version)
                    self._reporter.changed()
                self._tend()
            except ServingError as error:
                self._problem = str(error)
                self._reporter.changed()
                log.warning("what the serving folder says now is not in place: %s", error)
            except Exception as error:
                # Without this thread no promotion would ever reach a robot again.
                self._problem = f"an unexpected {type(error).__name__}; the server's log says more"
                self._reporter.changed()
                log.exception("the routing thread goes on after an unexpected error")

    def _next_state(self, table: RoutingTable, before: State | None) -> State:
        models = load_bases(self._folder, table, before, hot=self._hot, choice=self._choice)
        gone = [each for each in before.segmenters if each not in models.values()] if before is not None else []
        self._swaps_before += sum(each.swaps for each in gone)
        standby = None if before is None else before.table.told_on(table.base, models)
        self._refusals.start_anew()
        state = State(table, table, models.pop(table.base), standby, beside=models)
        # With more variants than fit into memory, the first ones are ready and the rest come when they are asked for.
        wanted = table.variants()[: self._hot]
        fresh = [variant for variant in wanted if not state.of(variant).has_variant(variant)]
        for variant in wanted:
            self._load(state, variant)
        self._unlooked = [variant for variant in wanted if self._refusals.get(variant) is None]
        # A server that starts answers first and looks then: what it is to serve was served before.
        if before is not None and len(fresh) <= LOOKED_AT_FIRST:
            for variant in fresh:
                self._look(state, variant)
        return state.settled(self._refusals.names())

    def _load(self, state: State, variant: str) -> None:
        try:
            if not state.of(variant).has_variant(variant):
                folder = self._folder.variant_folder(variant)
                state.of(variant).add_variant(variant, folder, state.digests_of(variant))
                self._count(self.counts.loads, variant)
            self._looks.check(variant, state.digests_of(variant))
        except Exception as error:
            # Whatever it is: it concerns this variant, and nobody else's.
            self._refuse(state, variant, error)
        finally:
            self._waiting.tell(variant)

    def _refuse(self, state: State, variant: str, error: Exception) -> None:
        if isinstance(error, UnknownVariant):
            refusal: AdapterError = AdapterUnreadable("its folder is missing", variant=variant)
        elif isinstance(error, AdapterError):
            refusal = error
        else:
            log.error("variant '%s' could not be loaded", variant, exc_info=error)
            refusal = AdapterUnreadable(f"an unexpected {type(error).__name__}: {error}", variant=variant)
        log.warning("%s", refusal)
        self._refusals.add(variant, refusal, self._stamp(variant))
        state.of(variant).remove_variant(variant)
        self._reporter.changed()

    def _tend(self) -> None:
        """What else this thread does between two glances at the table."""
        state = self._state
        routed = frozenset(state.source.variants()) if self._refusals.names() else frozenset()
        for variant in self._refusals.due(self._stamp):
            self._refusals.clear(variant)
            if variant in routed:
                self._load(state, variant)
        if self._unlooked:
            self._look(state, self._unlooked.pop())
        for each in state.segmenters:
            if self._looks.answer_asked(each):
                self._reporter.changed()
        settled = state.settled(self._refusals.names())
        if settled is not state:
            self._state = settled
            self._reporter.changed()

    def _look(self, state: State, variant: str) -> None:
        """Look at a variant that nobody has looked at, and refuse it for what is found."""
        try:
            if self._refusals.get(variant) is None and self._looks.look(
                state.of(variant), variant, state.digests_of(variant)
            ):
                self._reporter.changed()
        except UnknownVariant:  # others pushed it out of memory
            return
        except Exception as error:
            self._refuse(state, variant, error)

    def _stamp(self, variant: str) -> tuple[tuple[int, int, int], ...]:
        return stamp_of(self._folder.path / "variants" / variant)


def _compute_alone() -> None:
    """A second team of threads would make the first one, which answers robots, wait asleep (see scheduler.py)."""
    torch.set_num_threads(1)
