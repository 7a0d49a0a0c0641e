"""What novelty needs where Triton runs: copies of the bases that embed, and the references beside the variants.

All of it is used by the watch's own thread, never by what answers. Each is loaded when it is first needed; a variant
that is served on another base than most is watched by that one.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from serving.errors import BaseError, ReferenceUnreadable, RoutingError, ServingError
from serving.folder.routing import MAX_BASES, ServingFolder
from serving.inference.embeddings import Embedder
from serving.instances import Instances
from serving.observed.novelty_reference import FILE, Reference, Seen, seen_of

log = logging.getLogger(__name__)

MAX_REFERENCES: Final = 32
"""References in memory, some 4 MB each; those used last stay."""


class SiteEmbeddings:
    """Embeds with the base that answered: the one in place, or another one that a variant is on. For one thread."""

    def __init__(self, folder: ServingFolder, base_in_place: Callable[[], str]) -> None:
        self._folder = folder
        self._base_in_place = base_in_place
        self._embedders: OrderedDict[str, Embedder | None] = OrderedDict()
        self._references: OrderedDict[str, Reference | None] = OrderedDict()

    def embed(self, image: npt.NDArray[np.uint8], instances: Instances, variant: str | None = None) -> Seen | None:
        """A frame as it is judged, by the base of the variant that answered it (None: the base in place itself); None
        where that base has no embeddings to offer."""
        embedder = self.embedder(self.base_of(variant))
        return None if embedder is None else seen_of(embedder.embed(image, instances), image, instances)

    def base_of(self, variant: str | None) -> str:
        """The base that a variant is on by the routing table, where that is another one than the one in place."""
        name = self._base_in_place()
        if variant is None:
            return name
        table = self._folder.table()
        return table.base_of(variant) if variant in table.bases else name

    def embedder(self, name: str) -> Embedder | None:
        """A copy of a base that embeds; None for one that cannot."""
        if name not in self._embedders:
            torch.set_num_threads(1)  # of this thread: answers have the others
            try:
                self._embedders[name] = Embedder.load(self._folder.base_folder(name), base_name=name)
            except (BaseError, RoutingError) as error:
                log.info("novelty is not watched on %s: %s", name, error)
                self._embedders[name] = None
            while len(self._embedders) > MAX_BASES:  # as many as a server has at once
                self._embedders.popitem(last=False)
        self._embedders.move_to_end(name)
        return self._embedders[name]

    def reference(self, variant: str | None) -> Reference | None:
        """The reference beside a variant; None where there is none for the base that it is on."""
        if variant is None:
            return None
        base = self.base_of(variant)
        key = f"{variant} on {base}"
        if key not in self._references:
            self._references[key] = self._read(variant, base)
            while len(self._references) > MAX_REFERENCES:
                self._references.popitem(last=False)
        self._references.move_to_end(key)
        return self._references[key]

    def _read(self, variant: str, base: str) -> Reference | None:
        try:
            folder = self._folder.variant_folder(variant)
            if not (folder / FILE).is_file():
                return None
            # What the table does not name, nobody vouches for.
            wanted = self._folder.table().digests_of(f"variants/{variant}").get(FILE)
            if wanted is None or _sha256(folder / FILE) != wanted:
                raise ReferenceUnreadable("its SHA-256 is not the routing table's")
            found = Reference.load(folder / FILE)
        except (ServingError, OSError) as error:
            log.warning("the reference of %s cannot be used: %s", variant, error)
            return None
        embedder = self.embedder(base)
        fits = found.base == base and (embedder is None or found.layers == embedder.layers)
        return found if fits else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
