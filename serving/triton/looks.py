"""The looks of a server at what variants say before they answer robots (`serving.inference.first_look`).

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
from collections.abc import Iterator, Mapping
from itertools import islice

from serving.errors import AdapterError, StatusError, UnknownVariant, WrongBase
from serving.folder.routing import PINNED, ServingFolder
from serving.inference.adapter_files import WEIGHTS
from serving.inference.first_look import look
from serving.inference.segmenter import Segmenter
from serving.observed.server_status import LOOKS, MAX_LISTED, looked_key, read_status

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 64 * 1024
REQUEST_S = 60.0
"""A request of this age was left by a hub that died."""
AT_ONCE = 8
"""Looks that are taken up between two glances at the routing table."""


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
