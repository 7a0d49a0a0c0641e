"""What novelty needs where Triton runs: a copy of the base that embeds, and the references beside the variants.

All of it is used by the watch's own thread, never by what answers. Loaded when it is first needed, and again when the
routing table names another base.
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

from serving.errors import BaseError, ReferenceUnreadable, ServingError
from serving.folder.routing import ServingFolder
from serving.inference.embeddings import Embedder
from serving.instances import Instances
from serving.observed.novelty_reference import FILE, Reference, Seen, seen_of

log = logging.getLogger(__name__)

MAX_REFERENCES: Final = 32
"""References in memory, some 3 MB each; those used last stay."""


class SiteEmbeddings:
    """Embeds with the base that is in place. For one thread."""

    def __init__(self, folder: ServingFolder, base_in_place: Callable[[], str]) -> None:
        self._folder = folder
        self._base_in_place = base_in_place
        self._embedder: Embedder | None = None
        self._tried = ""
        self._references: OrderedDict[str, Reference | None] = OrderedDict()

    def embed(self, image: npt.NDArray[np.uint8], instances: Instances) -> Seen | None:
        """A frame as it is judged; None where the base has no embeddings to offer."""
        name = self._base_in_place()
        if name != self._tried:
            self._tried, self._embedder = name, None
            self._references.clear()
            torch.set_num_threads(1)  # of this thread: answers have the others
            try:
                self._embedder = Embedder.load(self._folder.base_folder(name), base_name=name)
            except BaseError as error:
                log.info("novelty is not watched: %s", error)
        if self._embedder is None:
            return None
        return seen_of(self._embedder.embed(image, instances), image, instances)

    def reference(self, variant: str | None) -> Reference | None:
        """The reference beside a variant; None where there is none for the base in place."""
        if variant is None:
            return None
        if variant not in self._references:
            self._references[variant] = self._read(variant)
            while len(self._references) > MAX_REFERENCES:
                self._references.popitem(last=False)
        self._references.move_to_end(variant)
        return self._references[variant]

    def _read(self, variant: str) -> Reference | None:
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
        fits = found.base == self._tried and (self._embedder is None or found.layers == self._embedder.layers)
        return found if fits else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
