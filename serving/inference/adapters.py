"""Many LoRA variants beside one base: adapter slots that a mixed batch picks from, row by row.

A slot holds one adapter on every layer that may carry one, slot 0 the base itself (zeros), so a batch for 32 cells
costs what a batch for one cell costs. An image belongs wholly to one variant, hence a slot per row is all the routing
there is. What a layer computes is in `slot_layers`.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from serving.errors import AdapterError, NoFreeSlot, UnknownVariant
from serving.families.types import InstanceModel
from serving.inference.adapter_files import MAX_GROWTH, Adapter, LayerShape
from serving.inference.merged_weights import POOL_BYTES, MergedPool
from serving.inference.slot_layers import (
    Adaptable,
    BlockLayout,
    Columns,
    Packed,
    RowBlocks,
    Run,
    can_carry,
    shape_of,
    slot_layer,
)


@dataclass(frozen=True, slots=True, eq=False)
class HotAdapter:
    """An adapter in memory: its weights as a slot takes them, and in `adapter` all else that is said of it."""

    adapter: Adapter
    packed: Packed


@dataclass(frozen=True, slots=True)
class Content:
    """What a slot holds: the rank of its adapter, the layers that this changes and the columns they lie in."""

    rank: int = 0
    touched: frozenset[str] = frozenset()
    columns: Columns = (0, 0)


@dataclass(frozen=True, slots=True)
class PinnedRows:
    """The variants of a batch, pinned to their slots: `index` has a slot for each row, 0 for the base."""

    bank: AdapterBank
    index: tuple[int, ...]

    def side_by_side(self) -> tuple[PinnedRows, tuple[int, ...] | None]:
        """The same rows with those of one variant next to each other, and the order that puts them so; None where
        nothing is to be moved."""
        if len(set(self.index)) in (1, len(self.index)):
            return self, None
        order = tuple(sorted(range(len(self.index)), key=self.index.__getitem__))
        return PinnedRows(self.bank, tuple(self.index[row] for row in order)), order

    def use(self, start: int, stop: int) -> None:
        """Let the next forward pass be of rows [start, stop)."""
        self.bank.use(self.index[start:stop])

    def blocks(self, start: int, stop: int) -> torch.Tensor | None:
        """Blocks of rows [start, stop), [stop - start, 1 + r, width], for an engine that takes them as an input; None
        where all of them are the base's."""
        return self.bank.blocks(self.index[start:stop], spread=True)


class AdapterBank:
    """The adapters of one model: a host cache of checked adapters, and the slots that batches run on.

    Two levels keep over-subscription smooth. `hot` adapters stay in memory, checked; the `slots - 1` most recent ones
    are in slots. Bringing a hot adapter into a slot is a copy of its few megabytes, not a read from disk.

    Thread-safe: adapters may be added while batches run. A slot that a batch pinned is never overwritten. Raises
    ValueError for fewer than two slots, rank 0 or no hot adapter.
    """

    def __init__(
        self, model: InstanceModel, *, slots: int, max_rank: int, hot: int = 256, merged_bytes: int = POOL_BYTES
    ) -> None:
        if slots < 2 or max_rank < 1 or hot < 1:
            raise ValueError("an adapter bank needs at least two slots, rank 1 and one hot adapter")
        self.slots = slots
        self.max_rank = max_rank
        self.hot = hot
        self.swaps = 0
        """How often an adapter was copied into a slot."""
        self._lock = threading.RLock()
        self._adapters: OrderedDict[str, HotAdapter] = OrderedDict()  # least recently used first
        self._slot_of: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._content = [Content()] * slots
        self._free = list(range(slots - 1, 0, -1))
        self._pins = [0] * slots
        targets = re.compile(model.adapter_targets or r"(?!)")
        self._tuned = re.compile(model.tuned_targets or r".*")
        found = [(name, m) for name, m in model.named_modules() if can_carry(m) and targets.fullmatch(name)]
        # What fine-tunes change lies side by side, so that a batch gathers few columns.
        found.sort(key=lambda layer: self._tuned.fullmatch(layer[0]) is None)
        self._layers: dict[str, Adaptable] = dict(found)
        self._shapes = {name: replace(shape_of(one), limit=growth_limit(one)) for name, one in self._layers.items()}
        self._rows = RowBlocks(convolutions=frozenset(k for k, m in found if isinstance(m, nn.Conv2d)))
        self.layout = BlockLayout.of(self._layers)
        some = next(model.parameters())
        self._slots = some.new_zeros(slots, 1 + max_rank, self.layout.width)
        if self._layers:
            self._slots[:, 0] = self.layout.base_row(self._layers)
        tuned = {name: layer for name, layer in self._layers.items() if self._tuned.fullmatch(name)}
        self._merged = MergedPool(tuned, self.layout, pool_bytes=merged_bytes)
        for name, layer in self._layers.items():
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, slot_layer(name, layer, self.layout.spans[name], self._rows))
        model.run_stage = self._rows.run_by_run

    @property
    def layers(self) -> dict[str, LayerShape]:
        """Shape of every layer that can carry an adapter, by the base model's own names; and how much it may change."""
        return dict(self._shapes)

    @property
    def tuned(self) -> dict[str, LayerShape]:
        """Shape of those of them that a fine-tune adapts unless it is told otherwise."""
        return {name: shape for name, shape in self.layers.items() if self._tuned.fullmatch(name)}

    @property
    def names(self) -> tuple[str, ...]:
        """Adapters in the host cache, least recently used first."""
        with self._lock:
            return tuple(self._adapters)

    def get(self, name: str) -> Adapter | None:
        """The adapter `name` without its weights, if it is hot; counts as a use."""
        with self._lock:
            hot = self._adapters.get(name)
            if hot is None:
                return None
            self._adapters.move_to_end(name)
            return hot.adapter

    def install(self, adapter: Adapter) -> None:
        """Take a checked adapter into the host cache, replacing one of the same name; the least used one leaves.

        Raises AdapterError where its numbers do not fit the type that the model computes in.
        """
        packed = self.layout.pack(adapter, self._slots.dtype)  # before the lock: batches must not wait for it
        if not torch.isfinite(packed.block).all():
            kind = str(self._slots.dtype).removeprefix("torch.")
            raise AdapterError(f"holds values that are not finite in the base's {kind}", variant=adapter.name)
        hot = HotAdapter(replace(adapter, weights={}), packed)
        with self._lock:
            self.remove(adapter.name)
            self._adapters[adapter.name] = hot
            while len(self._adapters) > self.hot:
                self._adapters.popitem(last=False)

    def remove(self, name: str) -> None:
        """Forget an adapter. A batch that is running on its slot finishes on it."""
        with self._lock:
            self._adapters.pop(name, None)
            slot = self._slot_of.pop(name, None)
            if slot is not None and not self._pins[slot]:
                self._free.append(slot)

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[PinnedRows]:
        """Pin the variants of a batch: row i goes through adapter `names[i]`, or the base for None.

        One batch at a time (the segmenter holds its own lock). Raises UnknownVariant for a name that is not hot and
        NoFreeSlot when the batch has more variants than slots.
        """
        slot_of = self._pin({name for name in names if name is not None})
        try:
            yield PinnedRows(self, tuple(slot_of[name] if name is not None else 0 for name in names))
        finally:
            self._rows.put()
            self._unpin(slot_of.values())

    def take_memory(self) -> None:
        """Take all memory that batches may come to need, before the first of them runs."""
        self._merged.take()

    def use(self, index: Sequence[int]) -> None:
        """Let the layers compute rows of these slots from now on."""
        used = set(index) - {0}
        if not used:
            self._rows.put()
            return
        touched = frozenset[str]().union(*(self._content[slot].touched for slot in used))
        if len(set(index)) == 1:
            merged = self._ready(index[0], used)
            if merged is not None:
                self._rows.put(None, touched, merged)
                return
        columns = self.layout.hull(self._content[slot].columns for slot in used)
        runs: tuple[Run, ...] = ()
        if len(set(index)) > 1:
            ready = {slot: self._ready(slot, used) for slot in sorted(used)}
            runs = tuple(
                Run(len(tuple(rows)), self._content[slot].touched, ready.get(slot))
                for slot, rows in itertools.groupby(index)
            )
        self._rows.put(self.blocks(index, columns=columns), touched, first=columns[0], runs=runs)

    def _ready(self, slot: int, beside: Set[int]) -> Mapping[str, torch.Tensor] | None:
        """Merged weights of a slot that has earned them, in a batch of those `beside`."""
        content = self._content[slot]
        return self._merged.weights(slot, self._slots[slot, : 1 + content.rank], content.touched, beside=beside)

    def blocks(
        self, index: Sequence[int], *, spread: bool = False, columns: Columns | None = None
    ) -> torch.Tensor | None:
        """What the slots in `index` hold, [B, 1 + r, width] with the largest rank among them; [1, 1 + r, width] where
        they are all the same and `spread` is off; None where they are all the base. `columns` are those wanted, all by
        default."""
        rank = max((self._content[slot].rank for slot in index), default=0)
        if not rank:
            return None
        slots = self._slots[:, : 1 + rank, slice(*columns) if columns else slice(None)]
        if len(set(index)) == 1 and (not spread or len(index) == 1):
            return slots[index[0] : index[0] + 1]
        return slots.index_select(0, torch.tensor(index, dtype=torch.int64, device=slots.device))

    @contextmanager
    def tracing(self, blocks: torch.Tensor | None) -> Iterator[None]:
        """Let every layer compute on these blocks [B, 1 + r, width] inside; what an export is traced with."""
        self._rows.traced = True
        self._rows.put(blocks, frozenset(self._layers) if blocks is not None else frozenset())
        try:
            yield
        finally:
            self._rows.traced = False
            self._rows.put()

    @contextmanager
    def on_blocks(self, blocks: torch.Tensor | None) -> Iterator[None]:
        """Let every layer compute on these blocks inside, which the caller may fill anew between forward passes."""
        self._rows.put(blocks, frozenset(self._layers) if blocks is not None else frozenset())
        try:
            yield
        finally:
            self._rows.put()

    def _pin(self, names: set[str]) -> dict[str, int]:
        if len(names) >= self.slots:
            raise NoFreeSlot(f"a batch asks for {len(names)} variants; there are {self.slots - 1} adapter slots")
        with self._lock:
            missing = sorted(name for name in names if name not in self._adapters)
            if missing:
                raise UnknownVariant(missing[0])
            pinned: dict[str, int] = {}
            # Those in slots first: bringing in a new one must not push out one that this very batch needs.
            for name in sorted(names, key=lambda name: name not in self._slot_of):
                slot = self._slot_of.get(name)
                pinned[name] = self._fill(name) if slot is None else slot
                self._pins[pinned[name]] += 1
                self._slot_of.move_to_end(name)
                self._adapters.move_to_end(name)
            return pinned

    def _fill(self, name: str) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            oldest = next((n for n, s in self._slot_of.items() if not self._pins[s]), None)
            if oldest is None:
                raise NoFreeSlot("every adapter slot is in use by a running batch")
            slot = self._slot_of.pop(oldest)
        packed = self._adapters[name].packed
        with torch.inference_mode():
            self.layout.write(packed, self._slots[slot])
        self._merged.forget(slot)
        self.swaps += 1
        self._content[slot] = Content(len(packed.block), packed.touched, self.layout.hull(packed.runs))
        self._slot_of[name] = slot
        return slot

    def _unpin(self, slots: Iterable[int]) -> None:
        with self._lock:
            held = set(self._slot_of.values())
            for slot in slots:
                self._pins[slot] -= 1
                if not self._pins[slot] and slot not in held:
                    self._free.append(slot)


def growth_limit(layer: Adaptable) -> float:
    """The largest Frobenius norm of an adapter's change of a layer's weights that is served."""
    return MAX_GROWTH * (float(layer.weight.detach().double().norm()) + 1.0)
