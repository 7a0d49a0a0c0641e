"""Failed picks and why they failed: taken from the telemetry, judged by rules, corrected by persons.

`take_up` makes a row of each failed pick whose request is on record and judges it by what is at hand: the frame if it
was kept, other frames of the same scene, the alerts of the camera. `look_again` then looks at frames once more by the
variant that answered and by the base (`hub.loop.failure_pass`), and judges again. What a person says wins, and stays.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from hub.errors import HubError, UnknownFailureError
from hub.loop import failure_pass
from hub.loop.capture_index import CaptureIndex, Kept
from hub.loop.failure_pass import Wanted
from hub.loop.failure_rows import COLUMNS, Row, failure_of, pick_of
from hub.loop.paging import page_where
from hub.migrations.tables import timestamp
from hub.schemas.failures import Correction, Evidence, Failure
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError
from serving.errors import CaptureNotFound, ServingError
from serving.instances import Instances
from serving.observed.camera_kinds import ADVICE
from serving.observed.captures import CaptureStore
from serving.observed.failure_kinds import FailedPick, Verdict
from serving.observed.failures import CameraFault, Finding, Judgement, Pick, judge
from serving.observed.second_looks import Look, unmoved

log = logging.getLogger("parcelhub.failures")

MAX_ROWS: Final = 50_000
"""Of more failed picks than this the oldest go: a robot may report any number."""
AT_ONCE: Final = 2_000
"""More than one report may hold: so many come from the telemetry in one question."""
DAY_S: Final = 86_400.0
LATE_S: Final = 3_600.0
"""A request's record, and a frame, may come so much later than the outcome."""
SAME_SCENE_S, SAME_SCENE, MOST_BESIDE = 15.0, 0.8, 3
"""Other frames of the same scene: how near in time, how alike around the picked package, how many."""
LOOKED_AT: Final = 8
"""Frames that one run of the extra pass looks at."""
Picks = Callable[[float, int], Sequence[FailedPick]]


class Failures:
    """All failed picks. Thread-safe."""

    def __init__(self, catalog: Catalog, captures: CaptureStore, picks: Picks, serving: Path) -> None:
        """`picks` gives failed picks since a time; `serving` is the serving folder, with base and variants."""
        self._catalog = catalog
        self._captures = captures
        self._picks = picks
        self._serving = serving
        self._index = CaptureIndex(captures)
        self._lock = threading.Lock()

    # --- what happened ------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """What the hub does from time to time: take up what is new, and look again at what waits."""
        self.take_up()
        self.look_again()

    def catch_up(self) -> None:
        """`take_up` for a question: where the disk is full or a file cannot be read, what is known is told."""
        try:
            self.take_up()
        except (HubError, RegistryError, OSError) as error:
            log.warning("failed picks could not be taken up: %s", error)

    def take_up(self) -> int:
        """Take up failed picks that are new, and judge them. Returns how many were new."""
        with self._lock:
            # What a clock that was ahead has stamped hides nothing that came after it was put back.
            rows = self._catalog.query(
                "SELECT max(received_at) FROM loop_failures WHERE received_at <= ?", [time.time() + DAY_S]
            )
            since = max((rows[0][0] or 0.0) - LATE_S, 0.0)
            taken = 0
            self._index.refresh()
            while True:
                picks = self._picks(since, AT_ONCE)
                taken += self._add([pick for pick in picks if pick.cell is not None])
                if len(picks) < AT_ONCE or picks[-1].received_at <= since:
                    break
                since = picks[-1].received_at
            self._find_frames()
            self._bound()
            return taken

    def _add(self, picks: Sequence[FailedPick]) -> int:
        ids = [_id(pick.request_id) for pick in picks]
        known = {
            row[0]
            for row in self._catalog.query("SELECT id FROM loop_failures WHERE list_contains(?::VARCHAR[], id)", [ids])
        }
        made = []
        for id_, pick in zip(ids, picks, strict=True):
            if id_ not in known:
                known.add(id_)
                kept = self._index.of_request(pick.request_id, pick.cell)
                made.append((id_, pick, kept, *self._judged(pick, kept, ())))

        def add(tx: Cursor) -> int:
            there = {row[0] for row in tx.execute("SELECT name FROM hub_cells").fetchall()}
            count = 0
            for id_, pick, kept, found, looks in made:
                if pick.cell not in there:  # deleted meanwhile
                    continue
                x, y = pick.point or (None, None)
                tx.execute(
                    f"INSERT OR IGNORE INTO loop_failures VALUES ({', '.join('?' * len(COLUMNS))})",  # noqa: S608
                    [
                        id_, pick.request_id, pick.cell, pick.line, pick.robot, pick.variant, pick.base, pick.outcome,
                        pick.asked_at, pick.picked_at, pick.received_at, pick.said_label, pick.instance, x, y,
                        pick.gripper, kept.name if kept else None, found.verdict, _evidence(found), looks,
                        kept is not None and found.verdict != "camera_fault", time.time(), None,
                    ],
                )  # fmt: skip
                count += 1
            return count

        return self._catalog.run(add) if made else 0

    def _find_frames(self) -> None:
        """Frames that came later than the outcome, or were kept for another reason since."""
        rows = self._rows("capture IS NULL AND asked_at >= ?", [time.time() - 86_400.0], limit=AT_ONCE)
        for row in rows:
            kept = self._index.of_request(row.request_id, row.cell)
            if kept is not None:
                self._settle(row.id, *self._judged(pick_of(row), kept, ()), capture=kept.name, due=True)

    def _bound(self) -> None:
        def prune(tx: Cursor) -> None:
            tx.execute(
                "DELETE FROM loop_failures WHERE id IN (SELECT id FROM loop_failures ORDER BY received_at DESC, id"
                " OFFSET ?)",
                [MAX_ROWS],
            )
            tx.execute("DELETE FROM loop_corrections WHERE failure NOT IN (SELECT id FROM loop_failures)")

        if self._catalog.query("SELECT count(*) FROM loop_failures")[0][0] > MAX_ROWS:
            self._catalog.run(prune)

    # --- judging ------------------------------------------------------------------------------------------------------

    def look_again(self) -> int:
        """One run of the extra pass over frames that wait for it. Returns how many were looked at."""
        with self._lock:
            rows = self._rows("due", [], limit=64)
            if not rows:
                return 0
            first = rows[0]
            same = [row for row in rows if (row.base, row.variant) == (first.base, first.variant)][:LOOKED_AT]
        frames = {row.id: self._frame_path(row.capture) for row in same}
        with_frame = [row for row in same if frames[row.id] is not None]
        looks: list[list[Look]] = [[] for _ in with_frame]
        trouble = ""
        folder = self._folders(first)
        if folder is None:
            trouble = "The frame was not looked at again: its variant or base is not served any more"
        elif with_frame:
            wanted = Wanted(str(first.base), *folder, frames=[str(frames[row.id]) for row in with_frame])
            try:
                looks = failure_pass.run(wanted)
            except (OSError, ValueError) as error:
                log.warning("frames of failed picks could not be looked at again: %s", error)
                trouble = "The frame could not be looked at again"
        found = {row.id: seen for row, seen in zip(with_frame, looks, strict=True)}
        for row in same:
            kept = self._index.of_request(row.request_id, row.cell) if frames[row.id] is not None else None
            judgement, count = self._judged(pick_of(row), kept, found.get(row.id, ()))
            if trouble:
                judgement = Judgement(judgement.verdict, (*judgement.evidence, Finding(trouble)))
            self._settle(row.id, judgement, count, capture=kept.name if kept else None, due=False)
        return len(same)

    def _judged(self, pick: FailedPick, kept: Kept | None, looks: Sequence[Look]) -> tuple[Judgement, int]:
        """The judgement, and how many looks it had."""
        camera = self._camera_fault(pick, kept)
        if kept is None and camera is None:
            return Judgement("cannot_tell", (Finding("No frame was kept of this pick"),)), 0
        try:
            answer = Instances.empty(1, 1) if kept is None else self._answer(kept)
            others = [] if kept is None or camera is not None else self._same_scene(kept, answer, pick)
            all_looks = [*looks, *others]
            return judge(
                answer, Pick(pick.outcome, pick.instance, pick.point, pick.said_label), all_looks, camera=camera
            ), len(all_looks)
        except (CaptureNotFound, ServingError, KeyError, TypeError, ValueError) as error:
            return Judgement("cannot_tell", (Finding(f"The frame's answer cannot be read: {error}"),)), 0

    def _camera_fault(self, pick: FailedPick, kept: Kept | None) -> CameraFault | None:
        rows = self._catalog.query(
            "SELECT kind, camera FROM loop_alerts WHERE cell = ? AND line IS NOT DISTINCT FROM ? AND since <= ?"
            " AND (closed_at IS NULL OR closed_at >= ?) ORDER BY since DESC",
            [pick.cell, pick.line, pick.asked_at, pick.asked_at],
        )
        for kind, camera in rows:
            if kept is None or kept.camera == camera:
                return CameraFault(kind, ADVICE[kind].what)
        return None

    def _answer(self, kept: Kept) -> Instances:
        return instances_of(self._captures.read(kept.name))

    def _same_scene(self, kept: Kept, answer: Instances, pick: FailedPick) -> list[Look]:
        """Other kept frames on which the picked package lies where it lay."""
        near = self._index.beside(kept, SAME_SCENE_S, MOST_BESIDE)
        box = _around(answer, pick)
        if not near or box is None:
            return []
        looks = []
        own = failure_pass.read_frame(self._path(kept.name))
        for other in near if own is not None else ():
            frame = failure_pass.read_frame(self._path(other.name))
            if frame is not None and own is not None and unmoved(own, frame, box) >= SAME_SCENE:
                seconds = other.at - kept.at
                when = f"{abs(seconds):.1f} s {'later' if seconds > 0 else 'before'}"
                try:
                    looks.append(Look(f"a frame {when}", self._answer(other), again=False))
                except (CaptureNotFound, ServingError, KeyError, TypeError, ValueError):
                    continue
        return looks

    def _path(self, name: str) -> Path:
        return self._captures.path_of(name)

    def _frame_path(self, capture: str | None) -> Path | None:
        try:
            return None if capture is None else self._captures.path_of(capture)
        except CaptureNotFound:
            return None

    def _folders(self, row: Row) -> tuple[str, str | None, str | None] | None:
        """The base's folder, the variant, its folder; None where one is gone."""
        if row.base is None:
            return None
        base = self._serving / "base" / row.base
        variant = None if row.variant is None else self._serving / "variants" / row.variant
        if not base.is_dir() or (variant is not None and not variant.is_dir()):
            return None
        return str(base), row.variant, None if variant is None else str(variant)

    def _settle(self, id_: str, found: Judgement, looks: int, *, capture: str | None, due: bool) -> None:
        self._catalog.run(
            lambda tx: tx.execute(
                "UPDATE loop_failures SET verdict = ?, evidence = ?, looks = ?, due = ?, judged_at = ?, capture = ?"
                " WHERE id = ?",
                [found.verdict, _evidence(found), looks, due, time.time(), capture, id_],
            )
        )

    # --- what persons see and say -------------------------------------------------------------------------------------

    def page(
        self,
        *,
        places: Collection[str] | None,
        limit: int = 50,
        after: str = "",
        cell: str | None = None,
        verdict: Verdict | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Failure]:
        """Failed picks of these cells (None: all), the newest first; times are epoch seconds of the pick."""
        wanted = (
            ("list_contains(?::VARCHAR[], cell)", None if places is None else sorted(places)),
            ("cell = ?", cell),
            ("coalesce(corrected, verdict) = ?", verdict),
            ("picked_at >= ?", since),
            ("picked_at < ?", until),
        )
        found = page_where(self._catalog, "loop_failures", "picked_at", wanted, after)
        if found is None:
            return []
        where, values = found
        rows = self._rows(where, values, limit=limit)
        said = self._corrections([row.id for row in rows])
        return [failure_of(row, said.get(row.id, [])) for row in rows]

    def get(self, failure_id: str, places: Collection[str] | None) -> Failure:
        """One failed pick of these cells (None: all). Raises UnknownFailureError."""
        rows = self._rows("id = ?", [failure_id], limit=1)
        if not rows or (places is not None and rows[0].cell not in places):
            raise UnknownFailureError(f"there is no failed pick {failure_id[:40]!r}")
        return failure_of(rows[0], self._corrections([failure_id]).get(failure_id, []))

    def counts(self, places: Collection[str] | None, cell: str | None = None) -> dict[str, int]:
        """How many failed picks have each verdict."""
        rows = self._catalog.query(
            "SELECT coalesce(corrected, verdict), count(*) FROM loop_failures WHERE (? OR"
            " list_contains(?::VARCHAR[], cell)) AND (?::VARCHAR IS NULL OR cell = ?) GROUP BY 1",
            [places is None, sorted(places or ()), cell, cell],
        )
        return dict(rows)

    def correct(self, failure_id: str, verdict: Verdict, who: str, note: str = "") -> None:
        """A person says what it was. Earlier words are kept beside it. Raises UnknownFailureError."""

        def change(tx: Cursor) -> None:
            if tx.execute("SELECT 1 FROM loop_failures WHERE id = ?", [failure_id]).fetchone() is None:
                raise UnknownFailureError(f"there is no failed pick {failure_id[:40]!r}")
            tx.execute(
                "INSERT INTO loop_corrections VALUES (?, ?, ?, ?, ?)", [failure_id, verdict, who, time.time(), note]
            )
            tx.execute("UPDATE loop_failures SET corrected = ? WHERE id = ?", [verdict, failure_id])

        self._catalog.run(change)

    def forget_capture(self, tx: Cursor, name: str) -> None:
        """A frame that is forgotten leaves its verdict, and nothing that leads to it."""
        tx.execute("UPDATE loop_failures SET capture = NULL, due = false WHERE capture = ?", [name])

    def forget(self, tx: Cursor, cell: str) -> None:
        """The failed picks of a cell that is deleted go with it."""
        tx.execute(
            "DELETE FROM loop_corrections WHERE failure IN (SELECT id FROM loop_failures WHERE cell = ?)", [cell]
        )
        tx.execute("DELETE FROM loop_failures WHERE cell = ?", [cell])

    def _corrections(self, ids: Sequence[str]) -> dict[str, list[Correction]]:
        found: dict[str, list[Correction]] = {}
        for id_, verdict, by, at, note in self._catalog.query(
            "SELECT failure, verdict, said_by, said_at, note FROM loop_corrections"
            " WHERE list_contains(?::VARCHAR[], failure) ORDER BY said_at DESC",
            [list(ids)],
        ):
            found.setdefault(id_, []).append(Correction(verdict=verdict, by=by, at=timestamp(at), note=note))
        return found

    def _rows(self, where: str, values: Sequence[object], *, limit: int) -> list[Row]:
        rows = self._catalog.query(
            f"SELECT {', '.join(COLUMNS)} FROM loop_failures WHERE {where}"  # noqa: S608  # conditions of our own
            " ORDER BY picked_at DESC, id DESC LIMIT ?",
            [*values, limit],
        )
        return [Row(*row) for row in rows]


def instances_of(document: dict[str, Any]) -> Instances:
    """The answer that a capture holds. Raises KeyError, TypeError, ValueError and InstancesError for what is none."""
    found = document["instances"]
    return Instances(
        document["height"],
        document["width"],
        np.array([one["box"] for one in found], np.float32).reshape(-1, 4),
        np.array([one["score"] for one in found], np.float32),
        tuple(one["label"] for one in found),
        tuple(one["mask"].encode("ascii") for one in found),
    )


def _around(answer: Instances, pick: FailedPick) -> tuple[float, float, float, float] | None:
    """Where the pick was: its instance's box, or a square around its point."""
    if pick.instance is not None and pick.instance < len(answer):
        x0, y0, x1, y1 = (float(value) for value in answer.boxes[pick.instance])
        return x0, y0, x1, y1
    if pick.point is None:
        return None
    half, (x, y) = 0.1 * max(answer.height, answer.width), pick.point
    return x - half, y - half, x + half, y + half


def _evidence(found: Judgement) -> str:
    return msgspec.json.encode([Evidence(one.text, dict(one.numbers)) for one in found.evidence]).decode()


def _id(request_id: str) -> str:
    """A request id may be any text; addresses take this."""
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]
