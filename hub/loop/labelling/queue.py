"""The queue of a cell: which picture waits, who holds it, and what each person made of it.

    open -> taken -> labelled                      (a second look switched on: -> second_look -> taken -> labelled)
    open, taken -> skipped | removed -> open       (by `reopen`)

A person holds a picture by a lease that ends by itself. Every change carries the version that its maker saw, and is
made in one transaction: two people never get the same picture, and no answer falls upon another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from hub.errors import TaskStateError, UnknownTaskError
from hub.loop.labelling import handoff, rows
from hub.loop.labelling.regions import Kept, dumps, loads
from hub.loop.labelling.rows import Counted, Proposal, Row, Settled
from hub.migrations.tables import timestamp
from hub.schemas.labels import Accept, Rule, Task, TaskState
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

LEASE_SECONDS: Final = 600.0


class Queue:
    """The tasks of all cells. Thread-safe. Who may see which cell is asked elsewhere."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        lease_seconds: float = LEASE_SECONDS,
        now: Callable[[], float] = time.time,
        is_user: rows.IsUser = lambda _tx, _name: True,
    ) -> None:
        """`is_user` tells users from names of tokens that belong to none."""
        self._catalog = catalog
        self._lease = lease_seconds
        self._is_user = is_user
        self._now = now

    # --- reading ------------------------------------------------------------------------------------------------------

    def row(self, task_id: str) -> Row:
        """Raises UnknownTaskError."""
        found = self._catalog.query(f"SELECT {rows.COLUMNS} FROM label_tasks WHERE id = ?", [task_id])  # noqa: S608
        if not found:
            raise UnknownTaskError(f"there is no labelling task {task_id[:40]!r}")
        return Row(*found[0])

    def page(self, cell: str, *, state: TaskState | None = None, limit: int = 100, after: str = "") -> list[Row]:
        """Tasks of a cell, what is asked first before; with `after` set to the last one's id, the next page."""
        where, values = ["cell = ?"], [cell]  # type: list[str], list[object]
        if state is not None:
            where.append("state = ?")
            values.append(state)
        if after:
            last = self._catalog.query("SELECT rank FROM label_tasks WHERE id = ? AND cell = ?", [after, cell])
            if not last:
                return []
            where.append("(rank < ? OR (rank = ? AND id > ?))")
            values += [last[0][0], last[0][0], after]
        found = self._catalog.query(
            f"SELECT {rows.COLUMNS} FROM label_tasks WHERE {' AND '.join(where)} ORDER BY rank DESC, id LIMIT ?",  # noqa: S608
            [*values, limit],
        )
        return [Row(*row) for row in found]

    def counts(self, cell: str) -> dict[str, int]:
        """Tasks by state."""
        found = self._catalog.query("SELECT state, count(*) FROM label_tasks WHERE cell = ? GROUP BY state", [cell])
        return dict(found)

    def settings(self, cell: str) -> Settled:
        """As they were chosen, or the defaults."""
        found = self._catalog.query("SELECT dataset, second_look, rule FROM label_cells WHERE cell = ?", [cell])
        return Settled(*found[0]) if found else Settled()

    def proposal(self, task_id: str, seq: int | None = None) -> Proposal:
        """The newest proposal for a picture, or the one of this number; an empty one where there is none."""
        found = self._catalog.query(
            "SELECT seq, proposed_by, regions FROM label_proposals WHERE task = ? AND (?::INTEGER IS NULL OR seq = ?)"
            " ORDER BY seq DESC LIMIT 1",
            [task_id, seq, seq],
        )
        return Proposal(found[0][0], found[0][1], loads(found[0][2])) if found else Proposal(-1, "", [])

    def labels(self, task_id: str) -> list[Kept] | None:
        """What the last person who accepted the picture left; None where nobody has."""
        found = self._catalog.query(
            "SELECT regions FROM label_actions WHERE task = ? AND what = 'label' AND NOT void"
            " ORDER BY made_at DESC LIMIT 1",
            [task_id],
        )
        return loads(found[0][0]) if found else None

    def people(self, task_id: str) -> list[str]:
        """Who has accepted the picture, the first one first."""
        found = self._catalog.query(
            "SELECT person FROM label_actions WHERE task = ? AND what = 'label' AND NOT void ORDER BY made_at",
            [task_id],
        )
        return [row[0] for row in found]

    def view(self, row: Row) -> Task:
        """As the API shows it."""
        batch = self._catalog.query("SELECT dataset FROM label_batches WHERE id = ?", [row.batch]) if row.batch else []
        return Task(
            id=row.id, cell=row.cell, source=row.source, width=row.width, height=row.height, state=row.state,
            version=row.version, rank=row.rank, look_alike=row.look_alike,
            proposed_by=self.proposal(row.id).proposed_by, looks=row.looks, held_by=row.holder,
            lease_until=None if row.lease_until is None else timestamp(row.lease_until),
            labelled_by=self.people(row.id), dataset=batch[0][0] if batch else None,
            created_at=timestamp(row.created_at),
        )  # fmt: skip

    # --- changing -----------------------------------------------------------------------------------------------------

    def settle(
        self, cell: str, *, dataset: str | None = None, second_look: bool | None = None, rule: Rule | None = None
    ) -> Settled:
        """Change how a cell's pictures are labelled; None leaves a value as it is."""

        def work(tx: Cursor) -> Settled:
            row = tx.execute("SELECT dataset, second_look, rule FROM label_cells WHERE cell = ?", [cell]).fetchone()
            old = Settled(*row) if row else Settled()
            new = Settled(
                old.dataset if dataset is None else dataset,
                old.second_look if second_look is None else second_look,
                old.rule if rule is None else rule,
            )
            tx.execute(
                "INSERT OR REPLACE INTO label_cells VALUES (?, ?, ?, ?)", [cell, new.dataset, new.second_look, new.rule]
            )
            if new.rule != old.rule:
                rows.rerank(tx, cell, new.rule)
            return new

        return self._catalog.run(work)

    def next(self, cell: str, person: str) -> Row | None:
        """The picture that this person is to label: the one they hold, else the first that waits; None if none does.

        A picture that waits for a second look goes to nobody who has accepted it before.
        """
        now = self._now()

        def work(tx: Cursor) -> str | None:
            rows.give_back_expired(tx, cell, now, self._lease)
            held = tx.execute(
                "SELECT id FROM label_tasks WHERE cell = ? AND state = 'taken' AND holder = ? ORDER BY rank DESC, id",
                [cell, person],
            ).fetchone()
            if held is not None:
                tx.execute("UPDATE label_tasks SET lease_until = ? WHERE id = ?", [now + self._lease, held[0]])
                return str(held[0])
            free = rows.first_for(tx, cell, person, self._is_user)
            if free is not None:
                self._take(tx, free, person, now)
            return free

        found = self._catalog.run(work)
        return None if found is None else self.row(found)

    def move(self, task_id: str, what: str, version: int, person: str, *, holder: str | None = None) -> Row:
        """`take`, `renew`, `release`, `skip`, `remove` or `reopen` a task. Raises UnknownTaskError, TaskStateError."""
        now = self._now()

        def work(tx: Cursor) -> None:
            row = rows.locked(tx, task_id)
            if row.version != version:
                raise TaskStateError("the task has changed since you saw it; load it again")
            if row.state == "taken" and not now <= (row.lease_until or 0.0) <= now + self._lease:
                rows.give_back_expired(tx, row.cell, now, self._lease)
                row = rows.locked(tx, task_id)
            if what == "take":
                if row.state == "second_look":
                    rows.require_another(tx, task_id, person, self._is_user)
                elif row.state != "open":
                    raise TaskStateError(f"the picture is {rows.word(row)}")
                self._take(tx, task_id, person, now)
            elif what == "renew":
                rows.require_holder(row, person)
                tx.execute("UPDATE label_tasks SET lease_until = ? WHERE id = ?", [now + self._lease, task_id])
            elif what == "release":
                rows.require_holder(row, person)
                rows.put(tx, task_id, "second_look" if row.looks else "open")
            elif what in ("skip", "remove"):
                if row.state == "taken":
                    rows.require_holder(row, holder or person)
                elif row.state not in ("open", "second_look", "skipped"):
                    raise TaskStateError(f"the picture is {rows.word(row)}")
                rows.put(tx, task_id, "skipped" if what == "skip" else "removed")
                rows.note(tx, task_id, person, what, now)
            elif what == "reopen":
                if row.state not in ("labelled", "second_look", "skipped", "removed"):
                    raise TaskStateError(f"the picture is {rows.word(row)}")
                if row.batch is not None:
                    raise TaskStateError("its labels are in a dataset; take that batch back first")
                rows.propose_labels(tx, task_id, now)
                tx.execute("UPDATE label_tasks SET looks = 0 WHERE id = ?", [task_id])
                rows.put(tx, task_id, "open")
                rows.note(tx, task_id, person, what, now)
            else:
                raise TaskStateError(f"a task cannot be {what!r}")

        self._catalog.run(work)
        return self.row(task_id)

    def accept(
        self,
        task_id: str,
        asked: Accept,
        regions: Sequence[Kept],
        counted: Counted,
        person: str,
        *,
        holder: str | None = None,
    ) -> Row:
        """Keep what a person made of a picture. The same answer sent again changes nothing.

        The person holds it, or `holder` does: the place where they labelled it.

        Raises UnknownTaskError, TaskStateError where the lease is over, or the task is another's or has changed.
        """
        now = self._now()

        def work(tx: Cursor) -> None:
            row = rows.locked(tx, task_id)
            known = tx.execute("SELECT task, person FROM label_actions WHERE id = ?", [asked.action]).fetchone()
            if known == (task_id, person):
                return
            if known is not None:
                raise TaskStateError("this answer was given for another picture")
            rows.require_holder(row, holder or person)
            if row.lease_until is None or row.lease_until < now:
                raise TaskStateError("the time to label this picture is over; take it again")
            if row.version != asked.version:
                raise TaskStateError("the task has changed since you saw it; load it again")
            if row.looks:
                rows.require_another(tx, task_id, person, self._is_user)
            asked_twice = tx.execute("SELECT second_look FROM label_cells WHERE cell = ?", [row.cell]).fetchone()
            more = bool(asked_twice and asked_twice[0]) and row.looks == 0
            tx.execute(
                "INSERT INTO label_actions VALUES (?, ?, ?, 'label', ?, ?, ?, ?, ?, false, ?, ?, ?, ?)",
                [
                    asked.action, task_id, person, now, asked.seconds, asked.clicks, asked.keys, counted.started_from,
                    counted.kept, counted.changed, counted.deleted, dumps(regions),
                ],
            )  # fmt: skip
            tx.execute("UPDATE label_tasks SET looks = looks + 1 WHERE id = ?", [task_id])
            rows.put(tx, task_id, "second_look" if more else "labelled")

        self._catalog.run(work)
        return self.row(task_id)

    def propose(self, task_id: str, proposed_by: str, regions: Sequence[Kept], doubt: float | None = None) -> None:
        """Another proposal, for a picture that waits. Raises UnknownTaskError, TaskStateError."""
        now = self._now()

        def work(tx: Cursor) -> None:
            row = rows.locked(tx, task_id)
            if row.state != "open" or row.looks:
                raise TaskStateError(f"the picture is {rows.word(row)}: proposals are for those that wait")
            rows.add_proposal(tx, task_id, proposed_by, regions, now)
            if doubt is not None:
                tx.execute("UPDATE label_tasks SET doubt = ? WHERE id = ?", [doubt, task_id])
                rule = tx.execute("SELECT rule FROM label_cells WHERE cell = ?", [row.cell]).fetchone()
                rows.rerank(tx, row.cell, rule[0] if rule else Settled().rule)

        self._catalog.run(work)

    def forget_cell(self, tx: Cursor, cell: str) -> None:
        """The tasks of a cell that is deleted go with it. Pictures that nothing needs any more, housekeeping takes."""
        for table in ("label_proposals", "label_actions"):
            tx.execute(f"DELETE FROM {table} WHERE task IN (SELECT id FROM label_tasks WHERE cell = ?)", [cell])  # noqa: S608
        for table in ("label_tasks", "label_cells", "label_batches", "label_handoffs"):
            tx.execute(f"DELETE FROM {table} WHERE cell = ?", [cell])  # noqa: S608  # one of three names

    def forget_sources(self, tx: Cursor, begins: str, *, exactly: bool) -> list[str]:
        """Tasks whose picture is not to be kept, and whose labels are in no dataset yet, go. Gives their ids."""
        test = "source = ?" if exactly else "starts_with(source, ?)"
        found = tx.execute(f"SELECT id FROM label_tasks WHERE batch IS NULL AND {test}", [begins]).fetchall()  # noqa: S608
        for (task,) in found:
            for table, column in (("label_proposals", "task"), ("label_actions", "task"), ("label_tasks", "id")):
                tx.execute(f"DELETE FROM {table} WHERE {column} = ?", [task])  # noqa: S608  # one of three names
        handoff.forget(tx, [str(row[0]) for row in found])
        return [str(row[0]) for row in found]

    def _take(self, tx: Cursor, task_id: str, person: str, now: float) -> None:
        tx.execute(
            "UPDATE label_tasks SET state = 'taken', holder = ?, lease_until = ?, version = version + 1 WHERE id = ?",
            [person, now + self._lease, task_id],
        )
