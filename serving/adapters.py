"""Many LoRA variants beside one base: stacked adapter slots that a mixed batch picks from, row by row.

A slot holds one adapter on every linear layer. Slot 0 is the base itself (zeros). For a batch with per-row slots s,

    y = W x + b + B[s] (A[s] x)

is the base's own product and two small batched ones, whatever the mix, so a batch for 32 cells costs what a batch for
one cell costs. An image belongs wholly to one variant, hence a slot per row is all the routing there is.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from serving.adapter_files import Adapter
from serving.errors import NoFreeSlot, UnknownVariant
from serving.families.types import InstanceModel


@dataclass(slots=True)
class RowSlots:
    """Which slot each row of the batch in flight uses; shared by all layers, set before each forward pass.

    `index` is int64 [B] on the model's device; `used` are the distinct slots other than 0; `rank` is the largest rank
    among them, so that a batch of rank-4 adapters does not multiply by the padding up to the maximum.
    """

    index: torch.Tensor
    used: frozenset[int] = field(default_factory=frozenset)
    single: int | None = None
    rank: int = 0


class SlotLinear(nn.Module):
    """An `nn.Linear` with S adapter slots. Input [B, ..., in], output [B, ..., out]; the batch axis comes first."""

    def __init__(self, base: nn.Linear, slots: int, max_rank: int, rows: RowSlots) -> None:
        super().__init__()
        self.base = base
        self.rows = rows
        self.filled: set[int] = set()
        # [S, r, .] on both sides: the first `rank` rows of a slot are then one contiguous block.
        self.a = nn.Buffer(base.weight.new_zeros(slots, max_rank, base.in_features), persistent=False)
        self.b = nn.Buffer(base.weight.new_zeros(slots, max_rank, base.out_features), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        rows = self.rows
        if rows.used.isdisjoint(self.filled):
            return y
        rank = rows.rank
        if rows.single is not None:
            # One variant for the whole batch: two plain products, no per-row gather.
            low = x.reshape(-1, x.shape[-1]) @ self.a[rows.single, :rank].T
            y.view(-1, y.shape[-1]).addmm_(low, self.b[rows.single, :rank])
            return y
        index = rows.index
        if len(index) != x.shape[0]:
            # A network that attends in windows makes several rows of each image, one image's windows side by side.
            index = index.repeat_interleave(x.shape[0] // len(index))
        a = self.a[:, :rank].index_select(0, index)
        b = self.b[:, :rank].index_select(0, index)
        low = torch.bmm(x.reshape(x.shape[0], -1, x.shape[-1]), a.transpose(1, 2))
        y.view(y.shape[0], -1, y.shape[-1]).baddbmm_(low, b)
        return y

    def write(self, slot: int, weights: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        """Put A [r, in] and B [r, out] into `slot`, zero-padded to the maximal rank; None clears it."""
        self.filled.discard(slot)
        self.a[slot].zero_()
        self.b[slot].zero_()
        if weights is not None:
            a, b = weights
            self.a[slot, : a.shape[0]].copy_(a)
            self.b[slot, : b.shape[0]].copy_(b)
            self.filled.add(slot)


class AdapterBank:
    """The adapters of one model: a host cache of checked adapters, and the slots that batches run on.

    Two levels keep over-subscription smooth. `hot` adapters stay in memory, checked; the `slots - 1` most recent ones
    are in slots. Bringing a hot adapter into a slot is a copy of its few megabytes, not a read from disk.

    Thread-safe: adapters may be added while batches run. A slot that a batch pinned is never overwritten.
    """

    def __init__(self, model: InstanceModel, *, slots: int, max_rank: int, hot: int = 256) -> None:
        if slots < 2 or max_rank < 1 or hot < 1:
            raise ValueError("an adapter bank needs at least two slots, rank 1 and one hot adapter")
        self.slots = slots
        self.max_rank = max_rank
        self.hot = hot
        self.swaps = 0
        """How often an adapter was copied into a slot."""
        self._lock = threading.RLock()
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()  # least recently used first
        self._slot_of: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._rank_of = [0] * slots
        self._free = list(range(slots - 1, 0, -1))
        self._pins = [0] * slots
        self._rows = RowSlots(torch.zeros(0, dtype=torch.int64))
        targets = re.compile(model.adapter_targets or r"(?!)")
        linears = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and targets.fullmatch(name)
        ]
        self._layers = {name: SlotLinear(linear, slots, max_rank, self._rows) for name, linear in linears}
        for name, layer in self._layers.items():
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, layer)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) features of every layer that can carry an adapter, by the base model's own names."""
        return {name: (layer.base.in_features, layer.base.out_features) for name, layer in self._layers.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Adapters in the host cache, least recently used first."""
        with self._lock:
            return tuple(self._adapters)

    def get(self, name: str) -> Adapter | None:
        """The adapter `name`, if it is hot; counts as a use."""
        with self._lock:
            adapter = self._adapters.get(name)
            if adapter is not None:
                self._adapters.move_to_end(name)
            return adapter

    def install(self, adapter: Adapter) -> None:
        """Take a checked adapter into the host cache, replacing one of the same name; the least used one leaves."""
        with self._lock:
            if self._adapters.get(adapter.name) is not adapter:
                self.remove(adapter.name)
            self._adapters[adapter.name] = adapter
            self._adapters.move_to_end(adapter.name)
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
    def rows(self, names: Sequence[str | None], device: torch.device) -> Iterator[None]:
        """Run the forward pass inside: row i of the batch goes through adapter `names[i]`, or the base for None.

        One batch at a time (the segmenter holds its own lock). Raises UnknownVariant for a name that is not hot and
        NoFreeSlot when the batch has more variants than slots.
        """
        slot_of = self._pin({name for name in names if name is not None})
        try:
            index = [slot_of[name] if name is not None else 0 for name in names]
            used = frozenset(slot_of.values())
            self._rows.index = torch.tensor(index, dtype=torch.int64, device=device)
            self._rows.used = used
            self._rows.single = index[0] if len(set(index)) == 1 and index[0] else None
            self._rows.rank = max((self._rank_of[slot] for slot in used), default=0)
            yield
        finally:
            self._rows.used = frozenset()
            self._unpin(slot_of.values())

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
        adapter = self._adapters[name]
        with torch.inference_mode():
            for linear, layer in self._layers.items():
                layer.write(slot, adapter.weights.get(linear))
        self.swaps += 1
        self._rank_of[slot] = adapter.rank
        self._slot_of[name] = slot
        return slot

    def _unpin(self, slots: Iterable[int]) -> None:
        with self._lock:
            held = set(self._slot_of.values())
            for slot in slots:
                self._pins[slot] -= 1
                if not self._pins[slot] and slot not in held:
                    self._free.append(slot)
