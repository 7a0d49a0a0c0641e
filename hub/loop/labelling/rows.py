"""Rows of the labelling tables, and the steps that changes of a task are made of, each inside its transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from hub.errors import TaskStateError, UnknownTaskError
from hub.loop.labelling.rank import RANKERS, Candidate
from hub.loop.labelling.regions import Kept, dumps, loads
from hub.schemas.labels import Accept, Rule, TaskState
from registry.catalog.cursor import Cursor

COLUMNS = (
    "id, cell, source, picture, suffix, width, height, look_alike, rank, state, looks, holder, lease_until, version,"
    " batch, created_at"
)

TOOL: Final = "tool:"
"""What the holder's name of pictures at another tool begins with; no person can be called so."""
TOOL_SECONDS: Final = 30 * 86_400.0
"""How long such a picture is held after the last sign of life."""


@dataclass(frozen=True, slots=True)
class Row:
    """A task as it is stored; `picture` is the sha256 of the file, `suffix` `.jpg` or `.png`."""

    id: str
    cell: str
    source: str
    picture: str
    suffix: str
    width: int
    height: int
    look_alike: str
    rank: float
    state: TaskState
    looks: int
    holder: str | None
    lease_until: float | None
    version: int
    batch: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for a picture; `seq` 0 is the first that there was."""

    seq: int
    proposed_by: str
    regions: list[Kept]


@dataclass(frozen=True, slots=True)
class Settled:
    """How a cell's pictures are labelled: `dataset` is "" for the cell's own."""

    dataset: str = ""
    second_look: bool = False
    rule: Rule = "gain"


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of the proposal number `started_from`: regions kept as they were, changed or new, and left out."""

    started_from: int
    kept: int
    changed: int
    deleted: int


def counted(proposal: Proposal, asked: Accept, regions: Sequence[Kept]) -> Counted:
    """By region: kept are those whose outline and class are as proposed."""
    before = {one.id: one for one in proposal.regions}
    kept = sum(
        sent.keep is not None and before[sent.keep].label == left.label
        for sent, left in zip(asked.regions, regions, strict=True)
        if sent.keep in before or sent.keep is None
    )
    named = {sent.keep for sent in asked.regions if sent.keep}
    return Counted(
        proposal.seq, kept, len(regions) - kept, sum(not one.offered and one.id not in named for one in before.values())
    )


def rerank(tx: Cursor, cell: str, rule: str) -> None:
    """Rank the pictures of a cell that wait, by a rule."""
    rows = tx.execute(
        "SELECT id, doubt, look_alike, gain, look, coalesce(novelty, 0), rank FROM label_tasks WHERE cell = ?"
        " AND state IN ('open', 'taken', 'second_look')",
        [cell],
    ).fetchall()
    ranks = RANKERS[rule]([Candidate(*row[:6]) for row in rows])
    for row, rank in zip(rows, ranks, strict=True):
        if rank != row[6]:
            tx.execute("UPDATE label_tasks SET rank = ? WHERE id = ?", [rank, row[0]])


def add_proposal(tx: Cursor, task_id: str, proposed_by: str, regions: Sequence[Kept], now: float) -> None:
    """The next proposal of a task; those before it stay."""
    row = tx.execute("SELECT coalesce(max(seq), -1) + 1 FROM label_proposals WHERE task = ?", [task_id]).fetchone()
    assert row is not None  # noqa: S101  # an aggregate has a row
    tx.execute(
        "INSERT INTO label_proposals VALUES (?, ?, ?, ?, ?)", [task_id, row[0], proposed_by, now, dumps(regions)]
    )


def propose_labels(tx: Cursor, task_id: str, now: float) -> None:
    """What was accepted before is what the next person begins with, and counts no more."""
    row = tx.execute(
        "SELECT regions, person FROM label_actions WHERE task = ? AND what = 'label' AND NOT void"
        " ORDER BY made_at DESC LIMIT 1",
        [task_id],
    ).fetchone()
    if row is not None:
        add_proposal(tx, task_id, f"{row[1]}, before it was reopened", loads(row[0]), now)
        tx.execute("UPDATE label_actions SET void = true WHERE task = ?", [task_id])


def reopen_all(tx: Cursor, batch: str, person: str, now: float) -> int:
    """The pictures of a batch that was taken back wait again; how many."""
    rows = tx.execute("SELECT id FROM label_tasks WHERE batch = ?", [batch]).fetchall()
    for (task,) in rows:
        propose_labels(tx, task, now)
        tx.execute("UPDATE label_tasks SET looks = 0, batch = NULL WHERE id = ?", [task])
        put(tx, task, "open")
        note(tx, task, person, "undo", now)
    return len(rows)


def locked(tx: Cursor, task_id: str) -> Row:
    """The task's row, for a change in this transaction. Raises UnknownTaskError."""
    row = tx.execute(f"SELECT {COLUMNS} FROM label_tasks WHERE id = ?", [task_id]).fetchone()  # noqa: S608
    if row is None:
        raise UnknownTaskError(f"there is no labelling task {task_id[:40]!r}")
    return Row(*row)


def put(tx: Cursor, task_id: str, state: TaskState) -> None:
    """Give the task another state. Nobody holds it after that, and its version is the next one."""
    tx.execute(
        "UPDATE label_tasks SET state = ?, holder = NULL, lease_until = NULL, version = version + 1 WHERE id = ?",
        [state, task_id],
    )


def note(tx: Cursor, task_id: str, person: str, what: str, now: float) -> None:
    """Keep what a person did to a task, `now` in epoch seconds, with no labels and no time spent."""
    tx.execute(
        "INSERT INTO label_actions SELECT replace(uuid()::VARCHAR, '-', ''), ?, ?, ?, ?, 0, 0, 0, -1, false, 0, 0, 0,"
        " '[]'",
        [task_id, person, what, now],
    )


def give_back_expired(tx: Cursor, cell: str, now: float, lease: float | None = None) -> None:
    """Free the pictures whose hold is over. `lease` bounds a person's hold, where the caller knows it."""
    # A clock that was put back must not make a hold longer than it is meant to be.
    bounds = [(TOOL_SECONDS, True), *([(lease, False)] if lease is not None else [])]
    for seconds, tool in bounds:
        tx.execute(
            "UPDATE label_tasks SET lease_until = ? WHERE cell = ? AND state = 'taken' AND lease_until > ?"
            " AND starts_with(holder, ?) = ?",
            [now + seconds, cell, now + seconds, TOOL, tool],
        )
    tx.execute(
        "UPDATE label_tasks SET state = CASE WHEN looks > 0 THEN 'second_look' ELSE 'open' END, holder = NULL,"
        " lease_until = NULL, version = version + 1 WHERE cell = ? AND state = 'taken' AND lease_until < ?",
        [cell, now],
    )


def require_holder(row: Row, person: str) -> None:
    """Pass if this person holds the picture. Raises TaskStateError."""
    if row.state != "taken":
        raise TaskStateError(f"the picture is {word(row)}: take it first")
    if row.holder != person:
        raise TaskStateError("somebody else labels this picture")


IsUser: TypeAlias = Callable[[Cursor, str], bool]


def human_of(tx: Cursor, person: str, is_user: IsUser) -> str:
    """Who stands behind the name of an action: two names of one are one human, for a second look.

    The tokens of a team are the team, and those that belong to no user are the operator: nobody knows who uses them.
    Who labelled at another tool under an address `ann@acme.org` is who is called `ann` here.
    """
    kind, colon, rest = person.partition(":")
    if colon and kind == "team":
        return f"team:{rest.partition(':')[0].lower()}"
    if colon and kind in ("label-studio", "cvat", "fiftyone"):
        return rest.partition("@")[0].strip().lower()
    return person.lower() if is_user(tx, person) else "operator:"


def first_for(tx: Cursor, cell: str, person: str, is_user: IsUser) -> str | None:
    """The first picture that waits for this person: one for a second look goes to nobody who has accepted it."""
    waiting = tx.execute(
        "SELECT t.id, list(a.person) FROM label_tasks t LEFT JOIN label_actions a ON t.state = 'second_look'"
        " AND a.task = t.id AND a.what = 'label' AND NOT a.void WHERE t.cell = ? AND t.state IN ('open', 'second_look')"
        " GROUP BY t.id, t.rank ORDER BY t.rank DESC, t.id",
        [cell],
    ).fetchall()
    me = human_of(tx, person, is_user)
    for task, people in waiting:
        if all(human_of(tx, one, is_user) != me for one in people or () if one is not None):
            return str(task)
    return None


def require_another(tx: Cursor, task_id: str, person: str, is_user: IsUser) -> None:
    """Raises TaskStateError where the human behind `person` has accepted the picture, by whatever token."""
    found = tx.execute(
        "SELECT person FROM label_actions WHERE task = ? AND what = 'label' AND NOT void", [task_id]
    ).fetchall()
    if human_of(tx, person, is_user) in {human_of(tx, str(row[0]), is_user) for row in found}:
        raise TaskStateError("a second look is for another person than the first")


def word(row: Row) -> str:
    """A task's state in words that follow "the picture is"."""
    return {"taken": "held by somebody", "second_look": "waiting for a second look"}.get(row.state, row.state)
