"""What answers robots, without Triton: routing, variants loaded in the background, one forward pass per batch."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torchvision.io import encode_jpeg

from serving.access import RobotAccess
from serving.digests import check_base
from serving.engines import EAGER, EngineChoice
from serving.errors import AdapterError, InternalError, RequestError, ServingError, UnknownVariant, VariantWarming
from serving.instances import Instances
from serving.preprocess import Image, check_pixels, decode_image
from serving.routing import Resolved, RoutingTable, ServingFolder
from serving.segmenter import Order, Segmenter

log = logging.getLogger(__name__)

MAX_HELD, MAX_HELD_BYTES = 64, 128 * 1024 * 1024
"""Requests that wait for variants to be read, and the bytes of their frames. More are told to ask again; one alone may
be larger."""


@dataclass(frozen=True, slots=True)
class Query:
    """One robot's request. `image` is encoded JPEG or PNG bytes, or uint8 [H, W, 3].

    `token` is the robot's; it counts only where the engine checks tokens.
    """

    image: bytes | Image
    cell: str | None = None
    variant: str | None = None
    line: str | None = None
    min_score: float = 0.05
    robot: str | None = None
    token: str | None = None

    @property
    def size(self) -> int:
        """Bytes of the image as it came."""
        return len(self.image) if isinstance(self.image, bytes) else self.image.nbytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: the instances and who made them (`<cell>@v3 on base/universal@v1`).

    `stage` is the stage whose variant it was, `pinned` where the request named the variant, None for the base.
    """

    instances: Instances
    served_by: str
    variant: str | None = None
    base: str = ""
    stage: str | None = None
    table_version: int = 0


@dataclass(frozen=True, slots=True)
class _Ready:
    image: Image
    order: Order
    stage: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    later: Callable[[], None]
    size: int


@dataclass(slots=True)
class Counts:
    """What the engine did with variants, cumulative: asked for one in memory, for one that was not, files read."""

    hits: dict[str, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    loads: dict[str, int] = field(default_factory=dict)

    def add(self, counts: dict[str, int], variant: str) -> None:
        counts[variant] = counts.get(variant, 0) + 1


@dataclass(frozen=True, slots=True)
class _State:
    """Table and model belong together: an adapter fits one base only. Swapped as one."""

    table: RoutingTable
    source: RoutingTable
    segmenter: Segmenter


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
    ) -> None:
        """Loads the base and its variants, to run on what `choice` says. Raises RoutingError and BaseError.

        With `check_tokens`, a query needs a robot's token that robots.json allows for its cell.
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
        self._loading: dict[str, list[_Held]] = {}  # who waits for a variant to be read
        self._refused: dict[str, AdapterError] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._state = self._next_state(self._folder.table(), None)
        self._warm_decoders()
        self._watcher = threading.Thread(target=self._watch, name="routing", daemon=True)
        self._watcher.start()

    def _warm_decoders(self) -> None:
        """Decode a picture on every thread: the first robot must not pay for the codec's start either."""
        blank = encode_jpeg(torch.zeros(3, 64, 64, dtype=torch.uint8)).numpy().tobytes()
        list(self._decoders.map(decode_image, [blank] * 8))
        decode_image(blank)  # and on this thread, which decodes for a robot that is alone

    def close(self) -> None:
        """Stop the background thread, and tell those who wait for a variant that it will not come."""
        with self._lock:
            self._closed = True
        self._wanted.put(None)
        self._watcher.join()
        for variant in tuple(self._loading):
            self._tell_waiting(variant)
        self._decoders.shutdown()

    @property
    def held(self) -> int:
        """How many requests wait for their variant to be read."""
        with self._lock:
            return sum(map(len, self._loading.values()))

    @property
    def swaps(self) -> int:
        """Adapters that were copied into a slot since the base was loaded, and before that on earlier bases."""
        return self._swaps_before + self._state.segmenter.swaps

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

    def expect(self, query: Query, later: Callable[[], None]) -> bool:
        """Whether a query that comes can be computed now. Where its variant is not in memory it is fetched, and `later`
        is called, on the thread that did, when that is over, whatever came of it: ask again then.

        What needs no forward pass to be said is said here, so that a query does not wait for its turn to hear it.
        Raises Unauthorized, RequestError, UnknownCell, UnknownVariant and AdapterError, and VariantWarming where too
        many wait for variants already.
        """
        state = self._state
        variant = self._admit(state, query).variant
        return variant is None or self._in_memory(state, variant, _Held(later, query.size))

    def answer(self, queries: Sequence[Query]) -> list[Reply | ServingError]:
        """One entry per query, in order: a reply, or the error of that query alone."""
        state = self._state
        if len(queries) == 1:
            # A robot alone must not wait for another thread to wake up.
            prepared = [self._prepare(state, queries[0])]
        else:
            prepared = list(self._decoders.map(lambda query: self._prepare(state, query), queries))
        ready = [item for item in prepared if isinstance(item, _Ready)]
        try:
            answers: Iterator[Reply | ServingError] = iter(self._run(state, ready))
        except Exception as error:
            if len(ready) == 1:
                failure = _as_serving_error(error)
                return [failure if isinstance(item, _Ready) else item for item in prepared]
            # One row must not take its neighbours down: on this rare path each row runs alone.
            answers = (self._alone(state, row) for row in ready)
        return [next(answers) if isinstance(item, _Ready) else item for item in prepared]

    def _run(self, state: _State, rows: Sequence[_Ready]) -> list[Reply | ServingError]:
        try:
            answers = state.segmenter.answer([row.image for row in rows], [row.order for row in rows])
        except UnknownVariant as error:
            # It was pushed out of memory between the check and the batch; the next try brings it back.
            raise VariantWarming(str(error)) from error
        return [
            Reply(
                instances,
                self._served_by(state, row.order.variant),
                row.order.variant,
                state.segmenter.base_name,
                row.stage,
                state.table.version,
            )
            for instances, row in zip(answers, rows, strict=True)
        ]

    def _alone(self, state: _State, row: _Ready) -> Reply | ServingError:
        try:
            return self._run(state, [row])[0]
        except Exception as error:
            return _as_serving_error(error)

    def _prepare(self, state: _State, query: Query) -> _Ready | ServingError:
        try:
            resolved = self._admit(state, query)
            if resolved.variant is not None:
                self._in_memory(state, resolved.variant, None)
                self._count(self.counts.hits, resolved.variant)
            image = decode_image(query.image) if isinstance(query.image, bytes) else check_pixels(query.image)
        except Exception as error:
            return _as_serving_error(error)
        return _Ready(image, Order(resolved.variant, query.min_score, resolved.classes), resolved.stage)

    def caller(self, query: Query) -> str | None:
        """The robot whose token the query shows; None where tokens are not checked, or it is not known."""
        return None if self._access is None else self._access.robot_of(query.token)

    def _admit(self, state: _State, query: Query) -> Resolved:
        if self._access is not None:
            self._access.check(query.token, query.cell or _cell_of(query.variant))
        return _resolve(state.table, query)

    def _in_memory(self, state: _State, variant: str, held: _Held | None) -> bool:
        """Whether it is; otherwise it is fetched, and whoever is held told after that. Raises VariantWarming where that
        is nobody or there are too many."""
        if state.segmenter.has_variant(variant):
            return True
        refused = self._refused.get(variant)
        if refused is not None:
            raise refused
        self._folder.variant_folder(variant)
        self._count(self.counts.misses, variant)
        with self._lock:
            if held is not None and not self._has_room(held):
                raise VariantWarming("too many requests wait for variants to be read; ask again")
            if variant not in self._loading:
                self._loading[variant] = []
                self._wanted.put(variant)
            if held is not None:
                self._loading[variant].append(held)
                return False
        raise VariantWarming(f"variant '{variant}' is being read; ask again")

    def _has_room(self, one: _Held) -> bool:
        sizes = [other.size for waiting in self._loading.values() for other in waiting]
        small = not sizes or sum(sizes) + one.size <= MAX_HELD_BYTES
        return len(sizes) < MAX_HELD and small and not self._closed

    def _count(self, counts: dict[str, int], variant: str) -> None:
        with self._lock:
            self.counts.add(counts, variant)

    @staticmethod
    def _served_by(state: _State, variant: str | None) -> str:
        base = f"base/{state.segmenter.base_name}"
        return base if variant is None else f"{variant} on {base}"

    # --- the background thread ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        _compute_alone()
        tried = self._state.source
        while not self._closed:
            try:
                try:
                    variant = self._wanted.get(timeout=self._every)
                except queue.Empty:
                    variant = None
                if variant is not None:
                    self._load(self._state, variant)
                table = self._folder.table()
                if table is not tried:
                    # Tried once, whatever comes of it: a base that does not load must not be read five times a second.
                    tried = table
                    self._state = self._next_state(table, self._state)
                    log.info("routing version %d is in place", table.version)
            except ServingError as error:
                log.warning("what the serving folder says now is not in place: %s", error)
            except Exception:
                # Without this thread no promotion would ever reach a robot again.
                log.exception("the routing thread goes on after an unexpected error")

    def _next_state(self, table: RoutingTable, before: _State | None) -> _State:
        if before is not None and before.segmenter.base_name == table.base:
            segmenter = before.segmenter
        else:
            folder = self._folder.base_folder(table.base)
            check_base(folder, table.digests_of(f"base/{table.base}"))
            segmenter = Segmenter.load(folder, base_name=table.base, hot=self._hot, engine=self._choice)
            segmenter.warm_up()
            self._swaps_before += before.segmenter.swaps if before is not None else 0
        self._refused = {}
        state = _State(table, table, segmenter)
        # With more variants than fit into memory, the first ones are ready and the rest come when they are asked for.
        for variant in table.variants()[: self._hot]:
            self._load(state, variant)
        broken = frozenset(self._refused)
        kept = table.keeping(before.table if before is not None else None, broken) if broken else table
        return _State(kept, table, segmenter)

    def _load(self, state: _State, variant: str) -> None:
        try:
            if not state.segmenter.has_variant(variant):
                folder = self._folder.variant_folder(variant)
                digests = state.source.digests_of(f"variants/{variant}")
                state.segmenter.add_variant(variant, folder, digests)
                self._count(self.counts.loads, variant)
        except AdapterError as error:
            log.warning("%s", error)
            self._refused[variant] = error
        except UnknownVariant as error:
            log.warning("%s", error)
            self._refused[variant] = AdapterError("its folder is missing", variant=variant)
        finally:
            self._tell_waiting(variant)

    def _tell_waiting(self, variant: str) -> None:
        with self._lock:
            waiting = self._loading.pop(variant, [])
        for one in waiting:
            one.later()


def _compute_alone() -> None:
    """A second team of threads would make the first one, which answers robots, wait asleep (see scheduler.py)."""
    torch.set_num_threads(1)


def _resolve(table: RoutingTable, query: Query) -> Resolved:
    if query.cell is None:
        return Resolved(query.variant, None if query.variant is None else "pinned")
    if query.variant is not None:
        raise RequestError("name a cell or a variant, not both")
    return table.route(query.cell, query.line, query.robot)


def _cell_of(variant: str | None) -> str | None:
    return None if variant is None else variant.partition("@")[0]


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return InternalError(error)
