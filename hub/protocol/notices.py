"""What people should know of a repo's uploads: files that were left out, and commits that were refused.

Clients that upload in the background throw the hub's answer away; the repo's page shows it all the same.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from registry.catalog.catalog import Catalog
from registry.content.sniff import find_danger
from registry.content.window import Window
from registry.types import RepoInfo

NoticeKind = Literal["left out", "refused"]
MAX_NOTICES: Final = 50
_MAX_REASON: Final = 500
# What training leaves beside a model, to go on with it later: pickles that nobody needs to use the model.
_STATE: Final = re.compile(
    r"training_args\.bin|(optimizer|scheduler|scaler|sampler)(_\d+)?\.(pt|pth|bin)|rng_state(_\d+)?\.pth"
    r"|random_states_\d+\.pkl|custom_checkpoint_\d+\.pkl|dl_state_dict(_\d+)?\.bin"
    r"|.*_(optim|model)_states\.pt|optimizer\.pt\.index|__\d+_\d+\.distcp",
    re.IGNORECASE,
)
_LITTER: Final = re.compile(r".*\.py[co]|\.DS_Store|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_ZIP: Final = b"PK\x03\x04"


def unwanted(path: str, size: int, sample: str) -> str | None:
    """Why a model repo does without this file, by its name and its first bytes (base64); None if it does not.

    Only what is known to be no part of a model: weights in a pickle are refused with an error instead, for a model
    without its weights would be a surprise.
    """
    name = path.rpartition("/")[2]
    if _LITTER.fullmatch(name):
        return "belongs to one machine, not to a model"
    if size == 0 or not _STATE.fullmatch(name):
        return None
    try:
        head = base64.b64decode(sample, validate=True)
    except binascii.Error:
        return None
    # PyTorch's own files are archives with a pickle in them, which the first bytes do not show.
    if head.startswith(_ZIP) or name.lower().endswith(".distcp") or find_danger(Window.of(head)):
        return "is a pickle that training leaves to go on later; it can run code, and the model works without it"
    return None


@dataclass(frozen=True, slots=True)
class Notice:
    """A file that did not come in, why, who sent it, and when (epoch seconds)."""

    kind: NoticeKind
    path: str
    reason: str
    who: str
    happened_at: float


class Notices:
    """The notices of all repos; of each repo the newest `MAX_NOTICES`."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def add(self, info: RepoInfo, kind: NoticeKind, files: Sequence[tuple[str, str]], who: str) -> None:
        """Note these files (path, reason)."""
        if not files:
            return
        now = self._now()
        rows = [(info.key, kind, path, reason[:_MAX_REASON], who, now) for path, reason in files[:MAX_NOTICES]]
        with self._catalog.write() as tx:
            for row in rows:
                tx.execute("INSERT OR REPLACE INTO hub_notices VALUES (?, ?, ?, ?, ?, ?)", row)
            tx.execute(
                "DELETE FROM hub_notices WHERE repo = ? AND (kind, path) NOT IN (SELECT (kind, path) FROM hub_notices "
                "WHERE repo = ? ORDER BY happened_at DESC, path LIMIT ?)",
                [info.key, info.key, MAX_NOTICES],
            )

    def of(self, info: RepoInfo) -> list[Notice]:
        """Newest first."""
        rows = self._catalog.query(
            "SELECT kind, path, reason, who, happened_at FROM hub_notices WHERE repo = ? "
            "ORDER BY happened_at DESC, path",
            [info.key],
        )
        return [Notice(*row) for row in rows]
