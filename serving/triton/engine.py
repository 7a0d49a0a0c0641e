"""What answers robots, without Triton: routing, variants loaded in the background, one forward pass per batch."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving.errors import AdapterError, RequestError, ServingError, UnknownVariant, VariantWarming
from serving.instances import Instances
from serving.preprocess import Image, check_pixels, decode_image
from serving.routing import RoutingTable, ServingFolder
from serving.segmenter import Order, Segmenter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """One robot's request. `image` is encoded JPEG or PNG bytes, or uint8 [H, W, 3]."""

    image: bytes | Image
    cell: str | None = None
    variant: str | None = None
    line: str | None = None
    min_score: float = 0.05


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: the instances and who made them (`<cell>@v3 on base/universal@v1`)."""

    instances: Instances
    served_by: str


@dataclass(frozen=True, slots=True)
class _Ready:
    image: Image
    order: Order


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

    def __init__(self, folder: Path, *, check_every_s: float = 0.2, hot: int = 256) -> None:
        """Loads the base and its variants. Raises RoutingError and BaseError."""
        self._folder = ServingFolder(folder, check_every_s=check_every_s)
        self._every = check_every_s
        self._hot = hot
        self._decoders = ThreadPoolExecutor(4, "decode")
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._loading: set[str] = set()
        self._refused: dict[str, AdapterError] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._state = self._next_state(self._folder.table(), None)
        self._watcher = threading.Thread(target=self._watch, name="routing", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop the background thread."""
        self._closed = True
        self._wanted.put(None)
        self._watcher.join()
        self._decoders.shutdown()

    def answer(self, queries: Sequence[Query]) -> list[Reply | ServingError]:
        """One entry per query, in order: a reply, or the error of that query alone."""
        state = self._state
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
            Reply(instances, self._served_by(state, row.order.variant))
            for instances, row in zip(answers, rows, strict=True)
        ]

    def _alone(self, state: _State, row: _Ready) -> Reply | ServingError:
        try:
            return self._run(state, [row])[0]
        except Exception as error:
            return _as_serving_error(error)

    def _prepare(self, state: _State, query: Query) -> _Ready | ServingError:
        try:
            variant = _variant_of(state.table, query)
            if variant is not None:
                self._require(state, variant)
            image = decode_image(query.image) if isinstance(query.image, bytes) else check_pixels(query.image)
        except Exception as error:
            return _as_serving_error(error)
        return _Ready(image, Order(variant, query.min_score))

    def _require(self, state: _State, variant: str) -> None:
        if state.segmenter.has_variant(variant):
            return
        refused = self._refused.get(variant)
        if refused is not None:
            raise refused
        self._folder.variant_folder(variant)
        with self._lock:
            if variant not in self._loading:
                self._loading.add(variant)
                self._wanted.put(variant)
        raise VariantWarming(f"variant '{variant}' is being loaded; ask again")

    @staticmethod
    def _served_by(state: _State, variant: str | None) -> str:
        base = f"base/{state.segmenter.base_name}"
        return base if variant is None else f"{variant} on {base}"

    # --- the background thread ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
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
            segmenter = Segmenter.load(self._folder.base_folder(table.base), base_name=table.base, hot=self._hot)
            segmenter.warm_up()
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
        except AdapterError as error:
            log.warning("%s", error)
            self._refused[variant] = error
        except UnknownVariant as error:
            log.warning("%s", error)
            self._refused[variant] = AdapterError("its folder is missing", variant=variant)
        finally:
            with self._lock:
                self._loading.discard(variant)


def _variant_of(table: RoutingTable, query: Query) -> str | None:
    if query.cell is None:
        return query.variant
    if query.variant is not None:
        raise RequestError("name a cell or a variant, not both")
    return table.resolve(query.cell, query.line)


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    log.error("a request failed unexpectedly", exc_info=error)
    return ServingError(f"internal error: {type(error).__name__}")
