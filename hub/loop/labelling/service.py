"""Labelling as REST, pages and other rooms use it: every call says who asks, and another team's task does not exist."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

import msgspec

from hub.accounts.access import Access
from hub.accounts.possession import UploadLedger
from hub.accounts.privacy import CellPrivacy
from hub.accounts.quotas import Quotas
from hub.accounts.tokens import Identity, Scope
from hub.datasets.image_index import ImageIndex
from hub.errors import HubError, InputError, LabelError, UnknownCellError, UnknownTaskError
from hub.loop.labelling import propagate, regions, rows
from hub.loop.labelling.export import Exporter
from hub.loop.labelling.fill import Filler
from hub.loop.labelling.handoff import HandOffs, holder_of
from hub.loop.labelling.queue import Queue
from hub.loop.labelling.rank import doubt_of
from hub.loop.labelling.rows import Row
from hub.schemas import labels as s
from hub.schemas.handoff import HandOff, HandOffIn, Returned, Sent
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError
from registry.registry import Registry
from registry.types import RepoId
from serving.observed.captures import CaptureStore

log = logging.getLogger("parcelhub.labelling")

BATCH: Final = 25
"""When so many pictures are labelled, they become a commit by themselves."""
_FILLED = 50


class Labelling:
    """All of labelling over one catalog. Thread-safe."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        queue: Queue,
        handoffs: HandOffs,
        filler: Filler,
        exporter: Exporter,
        access: Access,
        privacy: CellPrivacy,
        classes_of: Callable[[str], Sequence[str]],
        gains_of: Callable[[str], Mapping[str, float]],
    ) -> None:
        """`classes_of` gives the classes that a cell says it has, or else those of the newest base."""
        self._catalog = catalog
        self._blobs = blobs
        self.queue = queue
        self.handoffs = handoffs
        self._filler = filler
        self._exporter = exporter
        self._access = access
        self._privacy = privacy
        self._classes_of = classes_of
        self._gains_of = gains_of

    @classmethod
    def over(
        cls,
        registry: Registry,
        images: ImageIndex,
        captures: CaptureStore,
        ledger: UploadLedger,
        quotas: Quotas,
        access: Access,
        privacy: CellPrivacy,
        *,
        classes_of: Callable[[str], Sequence[str]],
        gains_of: Callable[[str], Mapping[str, float]] = lambda _: {},
        outcomes_of: Callable[[Sequence[str]], Mapping[str, str]],
        now: Callable[[], float] = time.time,
    ) -> Self:
        """Wire it over one registry; it follows the deletions of datasets from now on."""
        catalog, blobs, repos = registry.catalog, registry.blobs, registry.repos
        queue = Queue(catalog, now=now, is_user=_is_user)
        filler = Filler(catalog, blobs, repos, images, captures, queue, outcomes_of=outcomes_of, now=now)
        exporter = Exporter(catalog, blobs, repos, queue, ledger, quotas, now=now)
        made = cls(
            catalog, blobs, queue, HandOffs(catalog, now=now), filler, exporter, access, privacy, classes_of, gains_of
        )
        repos.on_delete.append(made.forget_dataset)
        return made

    # --- reading ------------------------------------------------------------------------------------------------------

    def cells(self, who: Identity) -> list[s.LabelCell]:
        """The cells that `who` works in, by name."""
        places = self._privacy.workplaces(who)
        names = [row[0] for row in self._catalog.query("SELECT name FROM hub_cells ORDER BY name")]
        return [self._cell(name) for name in names if places is None or name in places]

    def cell(self, cell: str, who: Identity) -> s.LabelCell:
        """Raises UnknownCellError."""
        self._require(cell, who)
        return self._cell(cell)

    def page(
        self, cell: str, who: Identity, *, state: s.TaskState | None = None, limit: int = 100, after: str = ""
    ) -> list[s.Task]:
        """Tasks of a cell, what is asked first before. Raises UnknownCellError."""
        self._require(cell, who)
        return [self.queue.view(row) for row in self.queue.page(cell, state=state, limit=limit, after=after)]

    def work(self, task_id: str, who: Identity) -> s.TaskWork:
        """A task with its regions: what was accepted, or else what is proposed. Raises UnknownTaskError."""
        return self._work(self._own(task_id, who))

    def picture(self, task_id: str, who: Identity) -> tuple[bytes, str, str, int]:
        """(bytes, media type, sha256, size) of the picture as it came. Raises UnknownTaskError."""
        row = self._own(task_id, who)
        data = self._blobs.read(row.picture)
        return data, "image/png" if row.suffix == ".png" else "image/jpeg", row.picture, len(data)

    def batches(self, cell: str, who: Identity, *, limit: int = 50, after: str = "") -> list[s.Batch]:
        """Newest first. Raises UnknownCellError."""
        self._require(cell, who)
        return self._exporter.page(cell, limit=limit, after=after)

    def stats(self, cell: str, who: Identity) -> s.LabelStats:
        """What labelling cost so far. Raises UnknownCellError."""
        self._require(cell, who)
        found = self._catalog.query(
            "SELECT a.person, count(DISTINCT a.task), sum(a.seconds), sum(a.clicks), sum(a.keys), sum(a.kept),"
            " sum(a.changed), sum(a.deleted), count(*) FILTER (a.changed = 0 AND a.deleted = 0)"
            " FROM label_actions a JOIN label_tasks t ON t.id = a.task"
            " WHERE t.cell = ? AND a.what = 'label' GROUP BY a.person ORDER BY a.person",
            [cell],
        )
        total = [sum(row[k] for row in found) for k in range(1, 9)]
        return s.LabelStats(
            cell=cell, pictures=total[0], accepted_as_proposed=total[7], seconds=round(float(total[1]), 1),
            clicks=int(total[2]), keys=int(total[3]), regions_kept=int(total[4]), regions_changed=int(total[5]),
            regions_deleted=int(total[6]), people={row[0]: row[1] for row in found},
        )  # fmt: skip

    # --- changing -----------------------------------------------------------------------------------------------------

    def fill(self, cell: str, asked: s.FillIn, who: Identity) -> int:
        """Make tasks of captures, or of a dataset's pictures without labels; how many.

        Raises UnknownCellError, RepoNotFoundError, InputError for a private dataset of another team than the cell's.
        """
        self._changes(cell, who)
        if asked.dataset is None:
            return self._filler.captures(cell, self.classes(cell), asked.limit, {**self._gains_of(cell), **asked.gains})
        info = self._access.find(RepoId.parse(asked.dataset, "dataset"), who, "download").info
        team = self._team(cell)
        if (info.private or info.gated != "no") and info.id.namespace.lower() != team:
            raise InputError(
                f"{info.id} is not public, and others work in the cell {cell!r}: label it in a cell of"
                f" the team {info.id.namespace!r}"
            )
        return self._filler.dataset(cell, info.id, asked.limit, empty_too=asked.empty_too)

    def next(self, cell: str, who: Identity) -> s.TaskWork | None:
        """The next picture for this person, from new captures if nothing waits; None if there is none at all."""
        self._changes(cell, who)
        row = self.queue.next(cell, who.owner)
        if row is None and self._filler.captures(cell, self.classes(cell), _FILLED, self._gains_of(cell)):
            row = self.queue.next(cell, who.owner)
        return None if row is None else self._work(row)

    def move(self, task_id: str, asked: s.Move, who: Identity) -> s.TaskWork:
        """Skip, remove, release, renew, take or reopen. Raises UnknownTaskError, TaskStateError."""
        row = self._own(task_id, who)
        who.require(Scope.CONTRIBUTE)
        return self._work(self.queue.move(row.id, asked.what, asked.version, who.owner))

    def accept(self, task_id: str, asked: s.Accept, who: Identity) -> s.Task:
        """Keep the labels of a picture. When enough wait, they become a commit.

        Raises UnknownTaskError, TaskStateError, LabelError.
        """
        row = self._own(task_id, who)
        who.require(Scope.CONTRIBUTE)
        return self.queue.view(self._accept(row, asked, who, who.owner, None))

    def _accept(self, row: Row, asked: s.Accept, who: Identity, person: str, holder: str | None) -> Row:
        shown = self._shown(row)
        kept = regions.read(
            asked.regions, {one.id: one for one in shown.regions}, row.height, row.width, self.classes(row.cell)
        )
        done = self.queue.accept(row.id, asked, kept, rows.counted(shown, asked, kept), person, holder=holder)
        if self._exporter.waiting(row.cell) >= BATCH:
            try:
                self.export(row.cell, who)
            except (HubError, RegistryError) as error:  # the labels are kept; they go with the next batch
                log.warning("labels of %s were not committed: %s", row.cell, error)
        return done

    # --- pictures at other tools --------------------------------------------------------------------------------------

    def handed(self, cell: str, place: str | None, who: Identity) -> list[HandOff]:
        """Pictures of a cell at other tools. Raises UnknownCellError."""
        self._require(cell, who)
        return self.handoffs.page(cell, place)

    def hand_off(self, cell: str, asked: HandOffIn, who: Identity) -> list[HandOff]:
        """Hold pictures for a place; those that are to be sent. Raises UnknownCellError."""
        self._changes(cell, who)
        return self.handoffs.take(cell, asked, who.owner)

    def sent(self, task_id: str, asked: Sent, who: Identity) -> HandOff:
        """A picture got to its place. Raises UnknownTaskError, TaskStateError."""
        self._handed(task_id, who)
        return self.handoffs.sent(task_id, asked.place, asked.remote)

    def give_back(self, task_id: str, place: str, who: Identity) -> HandOff:
        """Let a picture wait here again. Raises UnknownTaskError, TaskStateError."""
        self._handed(task_id, who)
        return self.handoffs.give_back(task_id, place)

    def take_back(self, task_id: str, asked: Returned, who: Identity) -> HandOff:
        """What a tool says of a picture; labels are taken as if they had been made here, by the person who made them.

        Raises UnknownTaskError, TaskStateError, LabelError.
        """
        known = self._handed(task_id, who)
        if asked.what not in ("labelled", "skipped", "removed"):
            return self.handoffs.note(task_id, asked)
        if (known.state, known.mark) == (asked.what, asked.mark):
            return known
        action, taken = self.handoffs.action_of(task_id, asked)
        row = self.queue.row(task_id)
        if (asked.what == "labelled" and taken) or row.state == asked.what != "labelled":
            # It was taken, and the one who sent it did not hear of that; or it was opened again here since.
            again = row.state == "taken" and row.holder == holder_of(asked.place)
            return self.handoffs.note(task_id, msgspec.structs.replace(asked, what="out") if again else asked)
        held = self.handoffs.hold_for_answer(task_id, asked.place)
        if held is None:
            return self.handoffs.get(task_id)
        person, holder = f"{known.tool}:{asked.person}", holder_of(asked.place)
        if asked.what == "labelled":
            answer = s.Accept(action=action, version=held.version, regions=asked.regions, seconds=asked.seconds)
            self._accept(held, answer, who, person, holder)
        else:
            what = "skip" if asked.what == "skipped" else "remove"
            self.queue.move(task_id, what, held.version, person, holder=holder)
        return self.handoffs.note(task_id, asked)

    def _handed(self, task_id: str, who: Identity) -> HandOff:
        found = self.handoffs.get(task_id)
        if not self._privacy.works_in(who, found.cell):
            raise UnknownTaskError(f"there is no labelling task {task_id[:40]!r}")
        who.require(Scope.CONTRIBUTE)
        return found

    def propose(self, task_id: str, asked: s.ProposalIn, who: Identity) -> s.TaskWork:
        """What a model says of a picture that waits. Raises UnknownTaskError, TaskStateError, LabelError."""
        row = self._own(task_id, who)
        who.require(Scope.CONTRIBUTE)
        if not len(asked.labels) == len(asked.scores) == len(asked.masks):
            raise LabelError("labels, scores and masks must be of one length")
        for mask in asked.masks:
            if tuple(mask.size) != (row.height, row.width):
                raise LabelError(f"a mask is not of a {row.width}x{row.height} picture")
            regions.counts_of(mask.counts, row.height, row.width)
        answers = [
            (label, score, mask.counts)
            for label, score, mask in zip(asked.labels, asked.scores, asked.masks, strict=True)
        ]
        found = regions.proposed(answers, row.height, row.width, self.classes(row.cell))
        self.queue.propose(
            row.id, asked.proposed_by, found, doubt_of([one.score or 0.0 for one in found if not one.offered])
        )
        return self._work(self.queue.row(row.id))

    def propagate(self, cell: str, look_alike: str, who: Identity) -> s.Propagated:
        """Propose for pictures that look alike what was verified. Raises UnknownTaskError, TaskStateError."""
        self._changes(cell, who)
        return propagate.propagate(self.queue, cell, look_alike)

    def settle(self, cell: str, asked: s.LabelSettings, who: Identity) -> s.LabelCell:
        """Choose how a cell's pictures are labelled. Raises UnknownCellError, InputError, ForbiddenError."""
        self._changes(cell, who)
        if asked.dataset:
            self._exporter.check_place(asked.dataset, self._team(cell), who)
        self.queue.settle(cell, dataset=asked.dataset, second_look=asked.second_look, rule=asked.rule)
        return self._cell(cell)

    def export(self, cell: str, who: Identity) -> s.Batch | None:
        """Make a commit of what is labelled; None where nothing waits. Raises as `Exporter.commit`, InputError."""
        self._changes(cell, who)
        place = self._place(cell)
        if not place:
            raise InputError(f"the cell {cell!r} has no team; say which dataset takes its labels")
        return self._exporter.commit(cell, self._exporter.check_place(place, self._team(cell), who), who)

    def undo(self, cell: str, batch_id: str, who: Identity) -> s.Batch:
        """Take a batch out of its dataset again. Raises UnknownCellError, TaskStateError, ForbiddenError."""
        self._changes(cell, who)
        return self._exporter.undo(batch_id, cell, who)

    def forget_capture(self, capture_id: str) -> None:
        """A frame that should not have been kept is not labelled either, unless its labels are in a dataset."""
        self._catalog.run(lambda tx: self.forget_capture_in(tx, capture_id))

    def forget_capture_in(self, tx: Cursor, capture_id: str) -> None:
        """`forget_capture`, with what else a transaction does."""
        self.queue.forget_sources(tx, f"capture {capture_id}", exactly=True)

    def forget_dataset(self, tx: Cursor, repo: RepoId, _key: int) -> None:
        """Pictures of a dataset that is deleted wait no longer."""
        if repo.type == "dataset":
            self.queue.forget_sources(tx, f"dataset {repo} ", exactly=False)

    def classes(self, cell: str) -> list[str]:
        """The classes that a region of the cell may have; none where nobody can tell, and any may be given."""
        return list(self._classes_of(cell))

    # How

    def _require(self, cell: str, who: Identity) -> None:
        known = self._catalog.query("SELECT 1 FROM hub_cells WHERE name = ?", [cell])
        if not known or not self._privacy.works_in(who, cell):
            raise UnknownCellError(f"there is no cell {cell[:100]!r} of yours")

    def _changes(self, cell: str, who: Identity) -> None:
        self._require(cell, who)
        who.require(Scope.CONTRIBUTE)

    def _own(self, task_id: str, who: Identity) -> Row:
        row = self.queue.row(task_id)
        if not self._privacy.works_in(who, row.cell):
            raise UnknownTaskError(f"there is no labelling task {task_id[:40]!r}")
        return row

    def _team(self, cell: str) -> str:
        found = self._catalog.query("SELECT team FROM hub_cells WHERE name = ?", [cell])
        return str(found[0][0] or "") if found else ""

    def _place(self, cell: str) -> str:
        team = self._team(cell)
        return self.queue.settings(cell).dataset or (f"{team}/{cell}-labels" if team else "")

    def _cell(self, cell: str) -> s.LabelCell:
        chosen = self.queue.settings(cell)
        return s.LabelCell(
            cell=cell, dataset=self._place(cell), second_look=chosen.second_look, rule=chosen.rule,
            counts=self.queue.counts(cell), waiting=self._exporter.waiting(cell), classes=self.classes(cell),
            elsewhere=self.handoffs.out(cell),
        )  # fmt: skip

    def _shown(self, row: Row) -> rows.Proposal:
        """What the person sees: the labels of whoever looked first, or else the newest proposal."""
        proposal = self.queue.proposal(row.id)
        first = self.queue.labels(row.id)
        if first is None:
            return proposal
        agreed = {(one.id, one.label) for one in proposal.regions}
        seen = [msgspec.structs.replace(one, disputed=(one.id, one.label) not in agreed) for one in first]
        return rows.Proposal(proposal.seq, proposal.proposed_by, seen)

    def _work(self, row: Row) -> s.TaskWork:
        return s.TaskWork(
            task=self.queue.view(row),
            regions=[regions.view(one, row.height, row.width) for one in self._shown(row).regions],
            classes=self.classes(row.cell),
            counts=self.queue.counts(row.cell),
        )


def _is_user(tx: Cursor, name: str) -> bool:
    return tx.execute("SELECT 1 FROM hub_users WHERE lower(name) = lower(?)", [name]).fetchone() is not None
