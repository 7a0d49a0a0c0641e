"""Where tasks come from: captures of a cell, and pictures of a dataset that have no labels."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

import cv2
import numpy as np

from hub.datasets.image_index import ANNOTATIONS, ImageIndex, is_image
from hub.loop.labelling import rows
from hub.loop.labelling.queue import Queue
from hub.loop.labelling.rank import doubt_of, doubt_of_looks
from hub.loop.labelling.regions import Kept, proposed
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.repos.repos import Repos
from registry.types import RepoId
from serving.errors import CaptureNotFound, ImageError
from serving.image_header import MAX_BYTES, MAX_PIXELS, image_size
from serving.observed.captures import CaptureStore

MAX_WAITING: Final = 2_000
"""Pictures of a cell that wait at once: so many are more than anybody labels, and they take room."""
LOOKED_AT: Final = 5_000
"""So many of the newest captures are looked at for one cell."""
ALIKE: Final = 6
"""Pictures whose look differs in at most so many of 64 bits are nearly the same."""


@dataclass(frozen=True, slots=True)
class New:
    """A picture that becomes a task."""

    source: str
    data: bytes
    regions: list[Kept]
    proposed_by: str
    doubt: float
    gain: float | None = None
    novelty: float | None = None


class Filler:
    """Makes tasks. Thread-safe."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        repos: Repos,
        images: ImageIndex,
        captures: CaptureStore,
        queue: Queue,
        *,
        outcomes_of: Callable[[Sequence[str]], Mapping[str, str]] = lambda _: {},
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._repos = repos
        self._images = images
        self._captures = captures
        self._queue = queue
        self._outcomes_of = outcomes_of
        self._now = now

    def captures(self, cell: str, classes: Sequence[str], limit: int, gains: Mapping[str, float]) -> int:
        """Tasks of captures of a cell that are none yet, of those first that are said to gain most, then of the newest;
        how many were made."""
        known = self._known(cell)
        found: list[dict[str, Any]] = []
        first = sorted(gains, key=lambda name: (-gains[name], name))
        for name in chain(first, islice(self._captures.names(), LOOKED_AT)):
            if len(found) >= limit:
                break
            if f"capture {name}" in known:
                continue
            known.add(f"capture {name}")
            try:
                one = self._captures.read(name)
            except CaptureNotFound:  # it made room for a newer one
                continue
            if one.get("cell") == cell:
                found.append(one)
        outcomes = self._outcomes_of([one["request_id"] for one in found]) if found else {}
        self._take_gains(cell, gains)
        return self._add(cell, (self._of_capture(one, classes, outcomes, gains) for one in found))

    def dataset(self, cell: str, repo: RepoId, limit: int, *, empty_too: bool) -> int:
        """Tasks of a dataset's pictures that its annotations do not name (`empty_too`: and of those said to be empty).

        Raises as `ImageIndex.of`.
        """
        head = self._repos.resolve(repo, "main").id
        files = {entry.path: entry for entry in self._repos.tree(repo, head)}
        found = self._images.of(repo, head)
        named: dict[str, int] = {}
        if ANNOTATIONS in files:
            after = -1
            while page := self._images.page(found.number, after=after, limit=1000):
                named |= {image.file: image.instances for image in page}
                after = page[-1].pos
        known = self._known(cell)
        wanted = [
            entry
            for path, entry in sorted(files.items())
            if is_image(path)
            and entry.size <= MAX_BYTES
            and (path not in named or (empty_too and not named[path]))
            and f"dataset {repo} {path}" not in known
        ][:limit]
        return self._add(
            cell, (New(f"dataset {repo} {one.path}", self._blobs.read(one.sha256), [], "", 1.0) for one in wanted)
        )

    def _of_capture(
        self, one: Mapping[str, Any], classes: Sequence[str], outcomes: Mapping[str, str], gains: Mapping[str, float]
    ) -> New | None:
        try:
            data, _ = self._captures.image(one["id"])
            answers = [(str(i["label"]), float(i["score"]), str(i["mask"])) for i in one["instances"]]
            regions = proposed(answers, int(one["height"]), int(one["width"]), classes)
        except (CaptureNotFound, KeyError, TypeError, ValueError):
            return None
        doubt = doubt_of([r.score or 0.0 for r in regions if not r.offered], outcomes.get(one["request_id"]))
        doubt = max(doubt, doubt_of_looks(one.get("observed")))
        return New(
            f"capture {one['id']}", data, regions, str(one["served_by"]), doubt, gains.get(one["id"]), _novelty(one)
        )

    def _known(self, cell: str) -> set[str]:
        return {row[0] for row in self._catalog.query("SELECT source FROM label_tasks WHERE cell = ?", [cell])}

    def _take_gains(self, cell: str, gains: Mapping[str, float]) -> None:
        """What is known of pictures that wait already."""
        if not gains:
            return

        def work(tx: Cursor) -> None:
            for capture, gain in gains.items():
                tx.execute(
                    "UPDATE label_tasks SET gain = ? WHERE cell = ? AND source = ?", [gain, cell, f"capture {capture}"]
                )
            rows.rerank(tx, cell, self._queue.settings(cell).rule)

        self._catalog.run(work)

    def _add(self, cell: str, pictures: Iterable[New | None]) -> int:
        made = 0
        rule = self._queue.settings(cell).rule
        for one in pictures:
            if one is None:
                continue
            try:
                kind, height, width = image_size(one.data)
                if not 0 < height * width <= MAX_PIXELS:
                    continue
                look = look_of(one.data)
            except (ImageError, cv2.error):
                continue
            picture = self._blobs.put_bytes(one.data).sha256
            suffix = ".png" if kind == "png" else ".jpg"
            if not self._insert(cell, one, picture, suffix, width, height, look):
                break
            made += 1
        if made:
            self._catalog.run(lambda tx: rows.rerank(tx, cell, rule))
        return made

    def _insert(self, cell: str, one: New, picture: str, suffix: str, width: int, height: int, look: str) -> bool:
        now, task = self._now(), secrets.token_hex(16)

        def work(tx: Cursor) -> bool:
            waiting = tx.execute(
                "SELECT count(*) FROM label_tasks WHERE cell = ? AND state IN ('open', 'taken', 'second_look')", [cell]
            ).fetchone()
            gone = tx.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone() is None
            if gone or (waiting is not None and waiting[0] >= MAX_WAITING):
                return False
            if tx.execute("SELECT 1 FROM label_tasks WHERE cell = ? AND source = ?", [cell, one.source]).fetchone():
                return True  # somebody filled the queue at the same time
            group = _group(tx, cell, look, width, height)
            tx.execute(
                "INSERT INTO label_tasks"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 'open', 0, NULL, NULL, 0, NULL, ?, ?)",
                [
                    task,
                    cell,
                    one.source,
                    picture,
                    suffix,
                    width,
                    height,
                    look,
                    group,
                    one.gain,
                    one.doubt,
                    now,
                    one.novelty,
                ],
            )
            if one.proposed_by:
                rows.add_proposal(tx, task, one.proposed_by, one.regions, now)
            return True

        return self._catalog.run(work)


def _novelty(one: Mapping[str, Any]) -> float | None:
    """Of the strangest package of a capture, and of what was not answered; None where the watch has said nothing."""
    seen = one.get("observed")
    said = seen.get("strangeness") if isinstance(seen, dict) else None
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None


def look_of(data: bytes) -> str:
    """How a picture looks, as 64 bits in hexadecimal: whether each of 8 x 8 places is brighter than its neighbour.

    Raises ImageError for what cannot be decoded.
    """
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        raise ImageError("the picture cannot be decoded")
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    return np.packbits(bits).tobytes().hex()


def _group(tx: Cursor, cell: str, look: str, width: int, height: int) -> str:
    """The name of the pictures of a cell that look alike: that of the first of them."""
    mine = int(look, 16)
    best: tuple[int, str] | None = None
    for other, group in tx.execute(
        "SELECT look, look_alike FROM label_tasks WHERE cell = ? AND width = ? AND height = ?", [cell, width, height]
    ).fetchall():
        distance = (int(other, 16) ^ mine).bit_count()
        if distance <= ALIKE and (best is None or distance < best[0]):
            best = (distance, group)
    return best[1] if best else secrets.token_hex(8)
