"""Pictures of a queue that are labelled in another tool: who has them, and what came back.

A picture that is handed off is held by the place it is at, as a person holds one: nobody here gets it meanwhile. The
hold lasts for thirty days after the last sign of life. What a tool answers is taken once, by the mark of the answer.
Who calls the tool is the command `parcelhub label push` and `pull`, or the page (`hub.web.handing`); no token of a tool
is kept here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from hub.errors import TaskStateError, UnknownTaskError
from hub.loop.labelling import rows
from hub.loop.labelling.rows import TOOL, TOOL_SECONDS, Row
from hub.migrations.tables import timestamp
from hub.schemas.handoff import HandOff, HandOffIn, HandOffState, Returned
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

CLAIM_SECONDS: Final = 120.0
OVER: Final = ("labelled", "skipped", "removed", "conflict", "late")
_COLUMNS = "task, cell, tool, place, remote, state, mark, note, person, changed_at"


def holder_of(place: str) -> str:
    """Who holds the pictures of a place: no person can be called so."""
    return f"{TOOL}{place}"


class HandOffs:
    """The table of hand-offs. Thread-safe. Who may see which cell is asked elsewhere."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def page(self, cell: str, place: str | None = None) -> list[HandOff]:
        """Those of a cell, by the time of their last change."""
        found = self._catalog.query(
            f"SELECT {_COLUMNS} FROM label_handoffs WHERE cell = ? AND (?::VARCHAR IS NULL OR place = ?)"  # noqa: S608
            " ORDER BY changed_at, task",
            [cell, place, place],
        )
        return [_view(row) for row in found]

    def get(self, task_id: str) -> HandOff:
        """Raises UnknownTaskError."""
        found = self._catalog.query(f"SELECT {_COLUMNS} FROM label_handoffs WHERE task = ?", [task_id])  # noqa: S608
        if not found:
            raise UnknownTaskError(f"the labelling task {task_id[:40]!r} is at no other tool")
        return _view(found[0])

    def out(self, cell: str) -> int:
        """How many pictures of a cell are at other tools."""
        found = self._catalog.query(
            "SELECT count(*) FROM label_handoffs h JOIN label_tasks t ON t.id = h.task"
            " WHERE h.cell = ? AND t.state = 'taken' AND t.holder = 'tool:' || h.place",
            [cell],
        )
        return int(found[0][0])

    def take(self, cell: str, asked: HandOffIn, person: str) -> list[HandOff]:
        """Hold pictures that wait for a place; those that are to be sent, the first of the queue first.

        Pictures that got to the place before are held again and not sent again. Those that another place has are left
        alone, and so are those that another program sends at the moment.
        """
        now, holder = self._now(), holder_of(asked.place)

        def work(tx: Cursor) -> list[str]:
            rows.give_back_expired(tx, cell, now)
            self._hold_again(tx, cell, asked.place, holder, now)
            wanted = None if asked.captures is None else [f"capture {one}" for one in asked.captures]
            free = tx.execute(
                "SELECT t.id FROM label_tasks t LEFT JOIN label_handoffs h ON h.task = t.id WHERE t.cell = ? AND"
                " t.state = 'open' AND t.looks = 0 AND (h.task IS NULL OR list_contains(?::VARCHAR[], h.state))"
                " AND (?::VARCHAR[] IS NULL OR list_contains(?::VARCHAR[], t.source))"
                " ORDER BY t.rank DESC, t.id LIMIT ?",
                [cell, list(OVER), wanted, wanted, asked.limit],
            ).fetchall()
            for (task,) in free:
                _hold(tx, task, holder, now)
                tx.execute(
                    "INSERT OR REPLACE INTO label_handoffs VALUES (?, ?, ?, ?, NULL, 'sending', '', '', ?, ?, 0, ?)",
                    [task, cell, asked.tool, asked.place, person, asked.claimer, now],
                )
            mine = tx.execute(
                "SELECT h.task FROM label_handoffs h JOIN label_tasks t ON t.id = h.task WHERE h.cell = ?"
                " AND h.place = ? AND h.state = 'sending' AND (h.claimer = ? OR h.claimed_until < ?)"
                " ORDER BY t.rank DESC, t.id",
                [cell, asked.place, asked.claimer, now],
            ).fetchall()
            for (task,) in mine:
                tx.execute(
                    "UPDATE label_handoffs SET claimer = ?, claimed_until = ? WHERE task = ?",
                    [asked.claimer, now + CLAIM_SECONDS, task],
                )
            return [str(row[0]) for row in mine]

        return [self.get(task) for task in self._catalog.run(work)]

    def sent(self, task_id: str, place: str, remote: str) -> HandOff:
        """It got there. Raises UnknownTaskError, TaskStateError where another place has it."""
        now = self._now()

        def work(tx: Cursor) -> None:
            found = _at(tx, task_id, place)
            if found.remote is not None and found.remote != remote:
                raise TaskStateError(f"the picture got there before, as {found.remote[:60]}")
            tx.execute(
                "UPDATE label_handoffs SET remote = ?, changed_at = ?,"
                " state = CASE WHEN state = 'sending' THEN 'out' ELSE state END WHERE task = ?",
                [remote, now, task_id],
            )
            _renew(tx, task_id, place, now)

        self._catalog.run(work)
        return self.get(task_id)

    def hold_for_answer(self, task_id: str, place: str) -> Row | None:
        """The task, held by its place so that an answer can be given; None where that is not possible any more.

        Pictures whose hold was over and that nobody took are held again; labels that are in no dataset yet are put
        back. Raises UnknownTaskError, TaskStateError.
        """
        now, holder = self._now(), holder_of(place)

        def work(tx: Cursor) -> bool:
            found = _at(tx, task_id, place)
            row = rows.locked(tx, task_id)
            if row.state == "taken" and (row.lease_until or 0.0) < now:
                rows.give_back_expired(tx, row.cell, now)
                row = rows.locked(tx, task_id)
            if row.state == "taken" and row.holder == holder:
                _hold(tx, task_id, holder, now, fresh=False)
                return True
            came_back = found.state in ("labelled", "skipped", "removed")
            again = row.state in ("labelled", "second_look", "skipped", "removed") and came_back
            if again and row.batch is None and row.looks <= 1:
                rows.propose_labels(tx, task_id, now)
                tx.execute("UPDATE label_tasks SET looks = 0 WHERE id = ?", [task_id])
            elif row.state != "open" or row.looks:
                state: HandOffState = "late" if came_back else "conflict"
                word = "labelled" if row.state == "taken" else rows.word(row)
                note = f"here it is {word}{', and in a dataset' if row.batch else ''}"
                tx.execute(
                    "UPDATE label_handoffs SET state = ?, note = ?, changed_at = ? WHERE task = ?",
                    [state, note, now, task_id],
                )
                return False
            _hold(tx, task_id, holder, now)
            return True

        if not self._catalog.run(work):
            return None
        found = self._catalog.query(f"SELECT {rows.COLUMNS} FROM label_tasks WHERE id = ?", [task_id])  # noqa: S608
        return Row(*found[0])

    def note(self, task_id: str, asked: Returned, note: str = "") -> HandOff:
        """Keep what the place says; a picture that is still there stays held. Raises UnknownTaskError, TaskStateError.

        `forgotten` ends the hand-off of a picture that the hub deleted.
        """
        now = self._now()

        def work(tx: Cursor) -> None:
            found = _at(tx, task_id, asked.place)
            if asked.what == "forgotten":
                if found.state != "forgotten":
                    raise TaskStateError("the picture is not one that is to be forgotten there")
                tx.execute("DELETE FROM label_handoffs WHERE task = ?", [task_id])
                return
            tx.execute(
                "UPDATE label_handoffs SET state = ?, mark = ?, note = ?, changed_at = ? WHERE task = ?",
                [asked.what, asked.mark, note, now, task_id],
            )
            _renew(tx, task_id, asked.place, now)

        before = self.get(task_id)
        self._catalog.run(work)
        return before if asked.what == "forgotten" else self.get(task_id)

    def give_back(self, task_id: str, place: str) -> HandOff:
        """The picture waits here again; it is to be deleted there first. Raises UnknownTaskError, TaskStateError."""
        before = self.get(task_id)

        def work(tx: Cursor) -> None:
            _at(tx, task_id, place)
            row = rows.locked(tx, task_id)
            if row.state == "taken" and row.holder == holder_of(place):
                rows.put(tx, task_id, "second_look" if row.looks else "open")
            tx.execute("DELETE FROM label_handoffs WHERE task = ?", [task_id])

        self._catalog.run(work)
        return before

    def action_of(self, task_id: str, asked: Returned) -> tuple[str, bool]:
        """The id of an answer, the same each time it is sent, and whether it was taken before."""
        remote = self.get(task_id).remote or ""
        said = "\0".join((task_id, asked.place, remote, asked.mark))
        action = hashlib.sha256(said.encode()).hexdigest()[:32]
        return action, bool(self._catalog.query("SELECT 1 FROM label_actions WHERE id = ?", [action]))

    def _hold_again(self, tx: Cursor, cell: str, place: str, holder: str, now: float) -> None:
        """Pictures that are at the place and are free here: their hold was over, or they were opened again."""
        found = tx.execute(
            "SELECT t.id FROM label_tasks t JOIN label_handoffs h ON h.task = t.id WHERE t.cell = ? AND h.place = ?"
            " AND t.state = 'open' AND t.looks = 0 AND h.remote IS NOT NULL",
            [cell, place],
        ).fetchall()
        for (task,) in found:
            _hold(tx, task, holder, now)
            # The mark stays: the answer that was seen before is not taken again, a changed one is.
            tx.execute("UPDATE label_handoffs SET state = 'out', note = '', changed_at = ? WHERE task = ?", [now, task])


def forget(tx: Cursor, tasks: Sequence[str]) -> None:
    """Pictures that are kept no longer: those at another tool are to be deleted there, by the next pull."""
    for task in tasks:
        tx.execute("DELETE FROM label_handoffs WHERE task = ? AND remote IS NULL AND state != 'sending'", [task])
        tx.execute("UPDATE label_handoffs SET state = 'forgotten', note = '' WHERE task = ?", [task])


def _hold(tx: Cursor, task_id: str, holder: str, now: float, *, fresh: bool = True) -> None:
    more = ", version = version + 1" if fresh else ""
    tx.execute(
        f"UPDATE label_tasks SET state = 'taken', holder = ?, lease_until = ?{more} WHERE id = ?",  # noqa: S608
        [holder, now + TOOL_SECONDS, task_id],
    )


def _renew(tx: Cursor, task_id: str, place: str, now: float) -> None:
    tx.execute(
        "UPDATE label_tasks SET lease_until = ? WHERE id = ? AND state = 'taken' AND holder = ?",
        [now + TOOL_SECONDS, task_id, holder_of(place)],
    )


def _at(tx: Cursor, task_id: str, place: str) -> HandOff:
    found = tx.execute(f"SELECT {_COLUMNS} FROM label_handoffs WHERE task = ?", [task_id]).fetchone()  # noqa: S608
    if found is None:
        raise UnknownTaskError(f"the labelling task {task_id[:40]!r} is at no other tool")
    if found[3] != place:
        raise TaskStateError(f"the picture is at another place: {found[3][:100]}")
    return _view(found)


def _view(row: tuple[Any, ...]) -> HandOff:
    task, cell, tool, place, remote, state, mark, note, person, at = row
    return HandOff(
        task=task, cell=cell, tool=tool, place=place, remote=remote, state=state, mark=mark, note=note, person=person,
        at=timestamp(at),
    )  # fmt: skip
