"""Offers of dataset revisions to the base, and their way: offered, checked, tested, accepted or refused, or withdrawn.

Every change names the state that it follows (compare and swap), and leaves who, when and why. An offer is of the
images that the revision had: later ones are not offered, and one that is forgotten since is not learnt from.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from finetune.growth_plan import Contribution as Material
from hub.accounts.access import Access
from hub.accounts.tokens import Identity, Kind
from hub.datasets.image_index import ImageIndex
from hub.errors import ContributionStateError, ForbiddenError, UnknownContributionError
from hub.migrations.tables import timestamp
from hub.schemas.growth import Contribution, ContributionState, Moment
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import NotFoundError
from registry.registry import Registry
from registry.types import RepoId, RepoInfo

OPEN: Final[tuple[ContributionState, ...]] = ("offered", "checked", "tested", "accepted")
"""States of an offer that stands; one of a dataset at a time."""
RULE: Final = "the growth rule"
PLAINLY: Final = (
    "Its pictures train a base that everybody gets. Until the next base is trained, withdrawing takes them out;"
    " a base that has learnt keeps what it learnt."
)
_COLUMNS = (
    "c.id, c.dataset, c.commit, c.state, c.reason, c.checks, c.result, c.images, c.offered_by, c.offered_at,"
    " c.changed_by, c.changed_at, c.note, c.job, j.progress"
)
_FROM = "contributions c LEFT JOIN hub_jobs j ON j.id = c.job AND j.state IN ('queued', 'running')"
_PAGE: Final = 10_000


class Contributions:
    """The table of offers. Thread-safe."""

    def __init__(
        self, registry: Registry, access: Access, images: ImageIndex, *, now: Callable[[], float] = time.time
    ) -> None:
        self._registry = registry
        self._catalog: Catalog = registry.catalog
        self._access, self._images, self._now = access, images, now
        self.withdrawn: list[Callable[[Cursor, str, str | None], None]] = []
        """Told of an offer that ends (its id, the job of its test), inside the transaction."""
        registry.repos.on_delete.append(self._forget_repo)

    # --- what people do -----------------------------------------------------------------------------------------------

    def offer(self, repo: RepoId, who: Identity, *, revision: str = "main", note: str = "") -> Contribution:
        """Offer a revision. The very same one that stands is the answer; another one of the dataset takes its place.

        Its owner's word, or the operator's. Raises RepoNotFoundError, RevisionNotFoundError, ForbiddenError.
        """
        info = self._access.find(repo, who, "write").info
        if who.kind not in (Kind.PERSON, Kind.TEAM, Kind.OPERATOR):
            raise ForbiddenError("offers are for people to make")
        return self._offer(info, self._registry.repos.resolve(info.id, revision).id, who.owner, note)

    def catch_up(self) -> None:
        """Take up offers that were made before offers had states: of what their datasets hold now."""
        rows = self._catalog.query(
            "SELECT r.namespace, r.name, d.offered_by, d.note FROM hub_datasets d JOIN repos r ON r.key = d.repo"
            " WHERE d.offered_by IS NOT NULL AND d.repo NOT IN (SELECT repo FROM contributions)"
        )
        for namespace, name, by, note in rows:
            info = self._registry.repos.get(RepoId("dataset", namespace, name))
            try:
                commit = self._registry.repos.resolve(info.id, "main").id
            except NotFoundError:  # nothing was pushed yet
                continue
            self._offer(info, commit, by, note)

    def _offer(self, info: RepoInfo, commit: str, by: str, note: str) -> Contribution:
        digests = sorted(set(self._digests(info.id, commit).values()))
        made = secrets.token_hex(6)

        def put(db: Cursor) -> str:
            now = self._now()
            row = db.execute(
                "SELECT a.id, c.commit, c.state FROM contribution_active a JOIN contributions c ON c.id = a.id"
                " WHERE a.repo = ?",
                [info.key],
            ).fetchone()
            if row is not None and row[1] == commit:
                return str(row[0])
            if row is not None:
                self._end(db, row[0], "withdrawn", OPEN, by, "another revision was offered in its place")
            db.execute("INSERT INTO contribution_active VALUES (?, ?)", [info.key, made])
            db.execute(
                "INSERT INTO contributions VALUES (?, ?, ?, ?, 'offered', ?, '[]', '{}', ?, ?, ?, ?, ?, ?, NULL, 0)",
                [made, info.key, str(info.id), commit, PLAINLY, len(digests), by, now, by, now, note],
            )
            if digests:
                db.execute("INSERT INTO contribution_images SELECT ?, unnest(?::VARCHAR[])", [made, digests])
            db.execute("INSERT OR REPLACE INTO hub_datasets VALUES (?, ?, ?, ?)", [info.key, by, now, note])
            self._log(db, made, "offered", by, note or PLAINLY)
            return made

        return self.get(self._catalog.run(put))

    def withdraw(self, repo: RepoId, who: Identity, note: str = "") -> Contribution | None:
        """Take the offer of a dataset back; None where none stands. Raises RepoNotFoundError, ForbiddenError."""
        info = self._access.find(repo, who, "write").info
        if who.kind not in (Kind.PERSON, Kind.TEAM, Kind.OPERATOR):
            raise ForbiddenError("offers are for people to take back")

        def put(db: Cursor) -> str | None:
            db.execute("INSERT OR REPLACE INTO hub_datasets VALUES (?, NULL, NULL, '')", [info.key])
            row = db.execute("SELECT id FROM contribution_active WHERE repo = ?", [info.key]).fetchone()
            if row is None:
                return None
            self._end(db, row[0], "withdrawn", OPEN, who.owner, note or "its team took it back")
            return str(row[0])

        found = self._catalog.run(put)
        return None if found is None else self.get(found)

    def decide(self, id_: str, accept: bool, who: str, note: str, expected: ContributionState | None) -> Contribution:
        """An operator's word. Raises UnknownContributionError, ContributionStateError."""
        to: ContributionState = "accepted" if accept else "refused"
        wanted: Sequence[ContributionState] = (expected,) if expected else ("checked", "tested", "accepted")
        came = tuple(one for one in wanted if one not in (to, "withdrawn"))
        if accept:  # what never passed the checks does not go in by anybody's word
            came = tuple(one for one in came if one in ("checked", "tested"))

        def put(db: Cursor) -> None:
            row = db.execute("SELECT state FROM contributions WHERE id = ?", [id_]).fetchone()
            if row is None:
                raise UnknownContributionError(f"there is no contribution {id_[:40]!r}")
            if not self.move(db, id_, to, came, who, note or f"{who} decided"):
                raise ContributionStateError(f"the contribution {id_} is {row[0]}; it cannot be {to} from there")
            if not accept:
                self._close(db, id_)

        self._catalog.run(put)
        return self.get(id_)

    # --- states -------------------------------------------------------------------------------------------------------

    def move(
        self,
        db: Cursor,
        id_: str,
        to: ContributionState,
        came_from: tuple[ContributionState, ...],
        who: str,
        reason: str,
        **more: Any,  # noqa: ANN401  # columns of the table
    ) -> bool:
        """Change the state if it is one of `came_from`, with other columns' values; False where it is another one."""
        columns = "".join(f", {name} = ?" for name in more)
        moved = db.execute(
            f"UPDATE contributions SET state = ?, reason = ?, changed_by = ?, changed_at = ?, busy_until = 0{columns}"  # noqa: S608
            " WHERE id = ? AND list_contains(?::VARCHAR[], state) RETURNING id",
            [to, reason[:2000], who, self._now(), *more.values(), id_, sorted(came_from)],
        ).fetchall()
        if moved:
            self._log(db, id_, to, who, reason)
        return bool(moved)

    def refuse(self, id_: str, came_from: tuple[ContributionState, ...], who: str, reason: str, **more: Any) -> bool:  # noqa: ANN401
        """Refuse one, and let its dataset be offered anew."""

        def put(db: Cursor) -> bool:
            moved = self.move(db, id_, "refused", came_from, who, reason, **more)
            if moved:
                self._close(db, id_)
            return moved

        return self._catalog.run(put)

    def claim(self, id_: str, seconds: float) -> bool:
        """Take one for a while, to work on it; False where somebody else has it."""
        now = self._now()
        rows = self._catalog.run(
            lambda db: db.execute(
                "UPDATE contributions SET busy_until = ? WHERE id = ? AND busy_until <= ? RETURNING id",
                [now + seconds, id_, now],
            ).fetchall()
        )
        return bool(rows)

    def release_all(self) -> None:
        """Whoever worked on one was a thread of a process that is gone."""
        with self._catalog.write() as db:
            db.execute("UPDATE contributions SET busy_until = 0 WHERE busy_until > 0")

    # --- what is known ------------------------------------------------------------------------------------------------

    def get(self, id_: str) -> Contribution:
        """Raises UnknownContributionError."""
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM {_FROM} WHERE c.id = ?", [id_])  # noqa: S608
        if not rows:
            raise UnknownContributionError(f"there is no contribution {id_[:40]!r}")
        return self._contribution(rows[0])

    def of(self, repo: RepoId, who: Identity) -> list[Contribution]:
        """The offers of a dataset, newest first. Raises RepoNotFoundError."""
        info = self._access.find(repo, who, "read").info
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM {_FROM} WHERE c.repo = ? ORDER BY c.offered_at DESC, c.id LIMIT 20",  # noqa: S608
            [info.key],
        )
        return [self._contribution(row) for row in rows]

    def listed(self, states: Sequence[ContributionState] = OPEN) -> list[Contribution]:
        """Those in these states, oldest first."""
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM {_FROM} WHERE list_contains(?::VARCHAR[], c.state)"  # noqa: S608
            " ORDER BY c.offered_at, c.id",
            [list(states)],
        )
        return [self._contribution(row) for row in rows]

    def material(self, one: Contribution) -> Material:
        """The images of an offer that are still there. Where its revision was rewritten since (a picture was
        forgotten), the head of `main` stands for it, with those images alone that were offered."""
        repo = RepoId.parse(one.dataset, "dataset")
        rows = self._catalog.query("SELECT sha256 FROM contribution_images WHERE id = ?", [one.id])
        offered = {row[0] for row in rows}
        for revision in (one.commit, "main"):
            try:
                commit = self._registry.repos.resolve(repo, revision).id
                found = self._digests(repo, commit)
            except NotFoundError:
                continue
            sizes = self._registry.blobs.sizes(sorted(set(found.values())))
            whole = all(size is not None for size in sizes.values())
            if not whole and revision != "main":
                continue  # its bytes are gone; the revision after that is whole
            files = tuple(path for path, digest in found.items() if digest in offered and sizes[digest] is not None)
            return Material(id=one.id, dataset=one.dataset, commit=commit, group=one.dataset.lower(), files=files)
        return Material(id=one.id, dataset=one.dataset, commit=one.commit, group=one.dataset.lower(), files=())

    def _digests(self, repo: RepoId, commit: str) -> dict[str, str]:
        """Images of a revision: path to SHA-256."""
        number, after = self._images.of(repo, commit).number, -1
        found: dict[str, str] = {}
        while page := self._images.page(number, after=after, limit=_PAGE):
            found |= {one.file: one.sha256 for one in page}
            after = page[-1].pos
        return found

    def _contribution(self, row: tuple[Any, ...]) -> Contribution:
        id_, dataset, commit, state, reason, checks, result, images, by, at, changed, when, note, _, progress = row
        told = json.loads(result)
        moments = self._catalog.query(
            "SELECT happened_at, state, who, reason FROM contribution_log WHERE id = ? ORDER BY number", [id_]
        )
        busy = "" if progress is None else str(json.loads(progress).get("message", ""))
        return Contribution(
            id=id_, dataset=dataset, commit=commit, state=state, reason=reason, images=images, offered_by=by,
            offered_at=timestamp(at), changed_by=changed, changed_at=timestamp(when), note=note,
            checks=json.loads(checks), verdict=told.get("verdict", ""), difference=told.get("difference"),
            low=told.get("low"), high=told.get("high"), progress=busy if state == "checked" else "",
            moments=[Moment(at=timestamp(m), state=s, who=w, reason=r) for m, s, w, r in moments],
        )  # fmt: skip

    def _end(self, db: Cursor, id_: str, to: ContributionState, came: tuple[ContributionState, ...], who: str,
             reason: str) -> None:  # fmt: skip
        row = db.execute("SELECT job FROM contributions WHERE id = ?", [id_]).fetchone()
        self.move(db, id_, to, came, who, reason)
        self._close(db, id_)
        for told in self.withdrawn:
            told(db, id_, row[0] if row else None)

    def _close(self, db: Cursor, id_: str) -> None:
        db.execute("DELETE FROM contribution_active WHERE id = ?", [id_])

    def _log(self, db: Cursor, id_: str, state: str, who: str, reason: str) -> None:
        db.execute(
            "INSERT INTO contribution_log (id, happened_at, state, who, reason) VALUES (?, ?, ?, ?, ?)",
            [id_, self._now(), state, who, reason[:2000]],
        )

    def _forget_repo(self, db: Cursor, repo: RepoId, key: int) -> None:
        """The offer of a dataset that is deleted is withdrawn; its name goes, so that another one does not inherit."""
        if repo.type != "dataset":
            return
        row = db.execute("SELECT id FROM contribution_active WHERE repo = ?", [key]).fetchone()
        if row is not None:
            self._end(db, row[0], "withdrawn", OPEN, RULE, "its dataset was deleted")
        db.execute("DELETE FROM contribution_images WHERE id IN (SELECT id FROM contributions WHERE repo = ?)", [key])
