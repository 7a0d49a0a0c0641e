"""A look at what a variant says before it answers robots: on packaged pictures, beside what the base says of them.

It finds weights that have diverged, and nothing else: how good a variant is, its evaluation on its own holdout says. A
variant that is made for other things than there are in these pictures may be as unsure as it likes. One that says
nothing of any of them at any score, where the base sees much, would answer robots with empty bins.

The hub asks for a look before it promotes a variant, by a file in its serving folder: `looks/<cell>@<version>`, the
digests of the variant's files as JSON. The answer is in status.json.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice

import numpy as np

from serving.errors import AdapterError, NotFinite, StatusError, UnknownVariant, WrongBase
from serving.folder.routing import PINNED, ServingFolder
from serving.inference.adapter_files import WEIGHTS
from serving.inference.preprocess import Image
from serving.inference.segmenter import Segmenter, SegmentOptions
from serving.instances import Instances
from serving.observed.server_status import LOOKS, MAX_LISTED, looked_key, read_status

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * 1024
REQUEST_S = 60.0
"""A request of this age was left by a hub that died."""
AT_ONCE = 8
"""Looks that are taken up between two glances at the routing table."""
PICTURES = 2
MUCH = 3
"""So many instances of the base are much."""
LEAST_SCORE = 1e-4
"""A score below which even a network that was made for other things hardly ever goes with all that it says."""


@cache
def pictures() -> tuple[Image, ...]:
    """Bins of boxes, drawn: uint8 [240, 320, 3]. The same on every machine."""
    return tuple(_bin(seed) for seed in range(PICTURES))


def _bin(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    height, width = 240, 320
    down, across = np.mgrid[0:height, 0:width]
    image = np.repeat((90.0 + 40.0 * across / width + 20.0 * down / height)[..., None], 3, 2)
    for row in range(3):
        for column in range(4):
            y, x = 12 + 76 * row + int(rng.integers(0, 8)), 12 + 78 * column + int(rng.integers(0, 8))
            h, w = int(rng.integers(44, 62)), int(rng.integers(44, 62))
            colour = rng.integers(60, 230, 3).astype(np.float64)
            image[y + 3 : y + h + 5, x + 3 : x + w + 5] *= 0.6  # its shadow
            image[y : y + h, x : x + w] = colour
            image[y + h // 2 - 2 : y + h // 2 + 2, x : x + w] = colour * 0.8  # its tape
    return (image + rng.normal(0.0, 3.0, image.shape)).clip(0, 255).astype(np.uint8)


def look(segmenter: Segmenter, variant: str) -> str:
    """What is wrong with what a variant that is in memory says; empty where nothing is. Raises UnknownVariant."""
    quiet = True
    for image in pictures():
        (own,) = segmenter.answer([image], [SegmentOptions(variant, 0.0)])
        if isinstance(own, NotFinite):
            return "what it says of the packaged pictures is not finite numbers"
        quiet = quiet and _best(own) < LEAST_SCORE
    if quiet and _sees_much(segmenter, pictures()):
        return "it says nothing of the packaged pictures, of which the base says much"
    return ""


def _sees_much(segmenter: Segmenter, images: Sequence[Image]) -> bool:
    for image in images:
        (said,) = segmenter.answer([image], [SegmentOptions(None, LEAST_SCORE)])
        if isinstance(said, NotFinite) or len(said) < MUCH:
            return False
    return True


def _best(said: Instances) -> float:
    return float(said.scores.max()) if len(said) else 0.0


class Looks:
    """What looks have found, by variant and the digest of its weights; kept in status.json over restarts."""

    def __init__(self, folder: ServingFolder) -> None:
        self._serving = folder
        self._folder = folder.path
        self._lock = threading.Lock()
        self._found: OrderedDict[str, str] = OrderedDict()
        try:
            before = read_status(folder.path)
        except (StatusError, OSError) as error:
            log.warning("what was found before is not known: %s", error)
            return
        if before is not None:
            self._found.update(before.looked)

    def get(self, variant: str, sha256: str) -> str | None:
        """What was found wrong; empty text: nothing; None: nobody looked."""
        return self._found.get(looked_key(variant, sha256))

    def keep(self, variant: str, sha256: str, found: str) -> None:
        """Remember what was found."""
        with self._lock:
            key = looked_key(variant, sha256)
            self._found[key] = found
            self._found.move_to_end(key)
            while len(self._found) > MAX_LISTED:
                self._found.popitem(last=False)

    def all(self) -> dict[str, str]:
        """For a status."""
        with self._lock:
            return dict(self._found)

    def check(self, variant: str, digests: Mapping[str, str]) -> None:
        """Raise AdapterError for what an earlier look found."""
        if found := self.get(variant, digests.get(WEIGHTS, "")):
            raise AdapterError(found, variant=variant)

    def look(self, segmenter: Segmenter, variant: str, digests: Mapping[str, str]) -> bool:
        """Look at a variant that is in memory and that nobody has looked at; whether there was one to look at.

        Raises AdapterError for what is found, UnknownVariant.
        """
        digest = digests.get(WEIGHTS)
        if digest is None or self.get(variant, digest) is not None:
            return False
        self.keep(variant, digest, look(segmenter, variant))
        self.check(variant, digests)
        return True

    def answer_asked(self, segmenter: Segmenter) -> bool:
        """Look at what the hub is about to promote; nothing of that stays in memory. Whether there was something."""
        count = 0
        for variant, digests in islice(self._asked(), AT_ONCE):
            found = self._look_first(segmenter, variant, digests)
            if found is not None:
                self.keep(variant, digests[WEIGHTS], found)
                count += 1
        return count > 0

    def _look_first(self, segmenter: Segmenter, variant: str, digests: Mapping[str, str]) -> str | None:
        here = segmenter.has_variant(variant)
        try:
            if not here:
                segmenter.add_variant(variant, self._serving.variant_folder(variant), digests)
            return look(segmenter, variant)
        except (WrongBase, UnknownVariant):
            return None  # not of the base that is loaded, or not there yet: there is nothing to look at
        except AdapterError as error:
            return None if error.passing else error.reason
        except Exception:
            log.exception("variant '%s' could not be looked at", variant)
            return None
        finally:
            if not here:
                segmenter.remove_variant(variant)

    def _asked(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Variants that the hub asks about and that nobody has looked at, with the digests of their files."""
        try:
            with os.scandir(self._folder / LOOKS) as entries:
                oldest = time.time() - REQUEST_S
                names = sorted(e.name for e in entries if PINNED.fullmatch(e.name) and e.stat().st_mtime > oldest)
        except OSError:
            return
        for name in names:
            try:
                with (self._folder / LOOKS / name).open("rb") as file:
                    digests = json.loads(file.read(MAX_REQUEST_BYTES))
            except (OSError, ValueError, RecursionError):  # taken back meanwhile, or no request of the hub's
                continue
            if not isinstance(digests, dict) or not all(isinstance(one, str) for one in digests.values()):
                continue
            if WEIGHTS in digests and self.get(name, digests[WEIGHTS]) is None:
                yield name, digests
