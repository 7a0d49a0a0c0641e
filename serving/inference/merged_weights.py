"""Weights with an adapter merged in: a lone robot then pays nothing for its variant, and a convolution of a mixed batch
need not make them anew.

A small pool of fixed size, which a server takes at its start, so that memory does not grow with the variants that come
by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set

import torch

from serving.inference.slot_layers import Adaptable, BlockLayout, flat_weight, shaped_weight

POOL_BYTES = 96 * 1024 * 1024
ASKED_BEFORE = 1
"""How many batches of its own a variant has had before it is merged: merging costs as much as several per cent of a
forward pass, which those that come by once do not earn back."""
HALVE_AFTER = 512


class MergedPool:
    """Merged weights of a few slots, of `layers` alone: an adapter that changes others is never merged. Not
    thread-safe: the batch in flight owns it."""

    def __init__(self, layers: Mapping[str, Adaptable], layout: BlockLayout, *, pool_bytes: int = POOL_BYTES) -> None:
        self._layers = layers
        self._layout = layout
        sizes = {name: layer.weight.numel() for name, layer in layers.items()}
        total = sum(sizes.values())
        places = 0
        if layers:
            weight = next(iter(layers.values())).weight
            places = min(pool_bytes // (total * weight.element_size()), 64) if weight.device.type == "cpu" else 0
            self._pool = weight.new_zeros(places, total)
        self._views: list[dict[str, torch.Tensor]] = []  # each [out, depth]
        for place in range(places):
            parts = zip(layers.items(), torch.split(self._pool[place], list(sizes.values())), strict=True)
            self._views.append({name: part.view_as(flat_weight(layer)) for (name, layer), part in parts})
        self._place_of: dict[int, int] = {}  # slot -> place, least recently used first
        self._asked: dict[int, int] = {}
        self._seen = 0

    def __len__(self) -> int:
        """How many slots are merged."""
        return len(self._place_of)

    def take(self) -> None:
        """Make the pool resident now: a server's memory must not grow as variants come by."""
        if self._views:
            self._pool.zero_()
            self._place_of.clear()

    def forget(self, slot: int) -> None:
        """The slot's adapter is another one now."""
        self._place_of.pop(slot, None)
        self._asked.pop(slot, None)

    def weights(
        self, slot: int, block: torch.Tensor, touched: Set[str], *, beside: Collection[int] = ()
    ) -> Mapping[str, torch.Tensor] | None:
        """Weights of the `touched` layers with the slot's adapter in them, or None while it has not earned them.

        `block` is the slot's, [1 + r, width]; `beside` are the slots of the same batch, whose weights must hold.
        """
        if not self._views or not self._layers.keys() >= touched:
            return None
        asked = self._asked[slot] = self._asked.get(slot, 0) + 1
        self._seen += 1
        if self._seen % HALVE_AFTER == 0:
            self._asked = {one: count // 2 for one, count in self._asked.items()}
        place = self._place_of.pop(slot, None)
        if place is None:
            if asked <= ASKED_BEFORE:
                return None
            place = self._room(asked, beside)
            if place is None:
                return None
            self._merge(self._views[place], block, touched)
        self._place_of[slot] = place
        return {name: shaped_weight(self._layers[name], self._views[place][name]) for name in touched}

    def _room(self, asked: int, beside: Collection[int]) -> int | None:
        taken = set(self._place_of.values())
        free = next((place for place in range(len(self._views)) if place not in taken), None)
        if free is not None:
            return free
        oldest = next((slot for slot in self._place_of if slot not in beside), None)
        # Variants that take turns must not push each other out for ever: the newcomer has to be asked for more.
        if oldest is None or self._asked.get(oldest, 0) >= asked:
            return None
        return self._place_of.pop(oldest)

    def _merge(self, views: Mapping[str, torch.Tensor], block: torch.Tensor, touched: Collection[str]) -> None:
        for name in touched:
            span = self._layout.spans[name]
            a, b = block[1:, span.a : span.b].float(), block[1:, span.b : span.end].float()
            views[name].copy_(torch.addmm(flat_weight(self._layers[name]).float(), b.t(), a))
