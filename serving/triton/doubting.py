"""Second looks at some of the answered frames, where Triton runs: the variant again, and the base beside it.

All of it is done by the watch's own thread with a copy of the base of its own; no answer waits for it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import torch

from serving.errors import ServingError
from serving.folder.digests import check_base
from serving.folder.routing import MAX_BASES, ServingFolder
from serving.inference.segmenter import Segmenter
from serving.observed.doubt import Again, doubt_of
from serving.observed.novelty_watch import Frame
from serving.observed.second_looks import PLAIN, VIEWS, Look

log = logging.getLogger(__name__)

EVERY: Final = 4
"""One in so many frames that the watch looks at: each takes three passes of the network instead of one."""
SCORE: Final = 0.1
MAX_VARIANTS: Final = 8
"""Adapters in memory, those used last stay."""
OWN: Final = (VIEWS[0], VIEWS[1])


class SiteDoubts:
    """Looks again with the base that answered: the one in place, or another that a variant is on. For one thread."""

    def __init__(self, folder: ServingFolder, base_in_place: Callable[[], str], *, every: int = EVERY) -> None:
        """One in `every` calls looks."""
        self._folder = folder
        self._base_in_place = base_in_place
        self._every = every
        self._calls = 0
        self._segmenters: OrderedDict[str, Segmenter | None] = OrderedDict()
        self._variants: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __call__(self, frame: Frame) -> Again | None:
        """What other looks say of a frame; None where it is none's turn, or what answered cannot be asked again."""
        self._calls += 1
        if self._calls % self._every:
            return None
        try:
            segmenter = self._ready(frame.variant)
            if segmenter is None:
                return None
            views = [(view, frame.variant) for view in OWN]
            if frame.variant is not None:
                views.append((PLAIN, None))
            found = segmenter.segment(
                [view.of(frame.pixels) for view, _ in views], [variant for _, variant in views], SCORE
            )
        except (ServingError, OSError) as error:
            log.info("a frame of %s was not looked at again: %s", frame.key.cell, error)
            return None
        looks = [
            Look(view.name, view.back(one), again=variant == frame.variant)
            for (view, variant), one in zip(views, found, strict=True)
        ]
        return doubt_of(frame.instances, looks)

    def _ready(self, variant: str | None) -> Segmenter | None:
        name, table = self._base_in_place(), self._folder.table()
        if variant is not None and variant in table.bases:
            name = table.base_of(variant)  # served beside the others
        if name not in self._segmenters:
            self._segmenters[name] = None  # one that cannot be loaded is tried once
            torch.set_num_threads(1)  # of this thread: answers have the others
            folder = self._folder.base_folder(name)
            check_base(folder, table.digests_of(f"base/{name}"))
            self._segmenters[name] = Segmenter.load(folder, base_name=name, device="cpu", slots=2)
            while len(self._segmenters) > MAX_BASES:
                gone, _ = self._segmenters.popitem(last=False)
                self._variants = OrderedDict.fromkeys(one for one in self._variants if one[0] != gone)
        self._segmenters.move_to_end(name)
        segmenter = self._segmenters[name]
        if segmenter is None or variant is None:
            return segmenter
        key = (name, variant)
        if key not in self._variants:
            while len(self._variants) >= MAX_VARIANTS:
                base, oldest = self._variants.popitem(last=False)[0]
                if (holder := self._segmenters.get(base)) is not None:
                    holder.remove_variant(oldest)
            digests = table.digests_of(f"variants/{variant}")
            segmenter.add_variant(variant, self._folder.variant_folder(variant), digests)
        self._variants[key] = None
        self._variants.move_to_end(key)
        return segmenter
