"""Verify a few of the pictures that look nearly the same, and the rest are proposed: nothing is labelled by itself.

The pictures of a group come from a camera that sees nearly the same scene. A region that verified pictures agree on is
proposed for the others at the same place, with a confidence: the share of the verified pictures that have it, times how
well its outline fits what the model found there. What the model found and no verified picture has is disputed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from hub.errors import TaskStateError, UnknownTaskError
from hub.loop.labelling.queue import Queue
from hub.loop.labelling.regions import LOW_SCORE, SAME_PLACE, Kept, new_id, overlaps
from hub.loop.labelling.rows import Row
from hub.schemas.labels import Propagated

LEAST_VERIFIED = 2
_SHARED = 0.5
"""A region that fewer of the verified pictures have is proposed for no other."""


def propagate(queue: Queue, cell: str, look_alike: str) -> Propagated:
    """Propose labels for the pictures of a group that wait. Raises UnknownTaskError, TaskStateError."""
    tasks = [row for row in queue.page(cell, limit=5_000) if row.look_alike == look_alike]
    if not tasks:
        raise UnknownTaskError(f"the cell has no pictures that look like {look_alike[:20]!r}")
    verified = [(row, queue.labels(row.id) or []) for row in tasks if row.state == "labelled"]
    if len(verified) < LEAST_VERIFIED:
        raise TaskStateError(f"verify {LEAST_VERIFIED} pictures of the group first; {len(verified)} are")
    confidence: dict[str, float] = {}
    for row in tasks:
        if row.state != "open":
            continue
        regions = from_verified(row, queue.proposal(row.id).regions, [labels for _, labels in verified])
        try:
            queue.propose(row.id, f"{len(verified)} verified pictures that look alike", regions)
        except TaskStateError:  # somebody took it meanwhile
            continue
        scores = [one.score for one in regions if one.score is not None]
        confidence[row.id] = round(sum(scores) / len(scores), 4) if scores else 1.0
    return Propagated(verified=len(verified), proposed=len(confidence), confidence=confidence)


def from_verified(row: Row, own: Sequence[Kept], verified: Sequence[Sequence[Kept]]) -> list[Kept]:
    """The regions of a picture by what others that look alike were verified to hold."""
    size = row.height, row.width
    own = [one for one in own if not one.offered]
    found: list[Kept] = []
    taken: set[int] = set()
    for example, labels, share in _agreed(verified, *size):
        fits = overlaps([example.counts], [one.counts for one in own], *size)
        k = int(fits.argmax()) if fits.size else -1
        label = labels.most_common(1)[0][0]
        one_class = labels[label] / labels.total()
        if k >= 0 and k not in taken and fits[0, k] >= SAME_PLACE:
            taken.add(k)
            score = round(share * one_class * float(fits[0, k]), 5)
            found.append(Kept(new_id(), label, own[k].counts, score, score < LOW_SCORE, one_class < 1))
        elif share >= _SHARED:
            # The model found nothing there: the place is right only if nothing has moved.
            score = round(share * one_class / 2, 5)
            found.append(Kept(new_id(), label, example.counts, score, True, True))
    found += [msgspec.structs.replace(one, id=new_id(), disputed=True) for k, one in enumerate(own) if k not in taken]
    return found


def _agreed(verified: Sequence[Sequence[Kept]], height: int, width: int) -> list[tuple[Kept, Counter[str], float]]:
    """Regions that are at one place in verified pictures: an example, their classes, and the share that have it."""
    groups: list[tuple[Kept, Counter[str]]] = []
    for labels in verified:
        fits = overlaps([one.counts for one in labels], [example.counts for example, _ in groups], height, width)
        used: set[int] = set()
        fresh: list[tuple[Kept, Counter[str]]] = []
        for j, one in enumerate(labels):
            free = [k for k in range(fits.shape[1]) if k not in used and fits[j, k] >= SAME_PLACE]
            if free:
                k = max(free, key=lambda k: float(fits[j, k]))
                used.add(k)
                groups[k][1][one.label] += 1
            else:
                fresh.append((one, Counter({one.label: 1})))
        groups += fresh
    return [(example, labels, labels.total() / len(verified)) for example, labels in groups]
