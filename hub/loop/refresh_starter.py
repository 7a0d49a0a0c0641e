"""From a cause to a queued job: a refresh's row, its dataset, its fine-tune, each once whatever is killed when."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from hub.datasets.store import Store
from hub.errors import HubError, RefreshStateError
from hub.jobs.queue import Jobs
from hub.loop import refresh_runs as runs
from hub.loop.refresh_dataset import Built, DatasetBuilder
from hub.loop.refresh_material import Materials, Picture, Source
from hub.loop.refresh_runs import ACTIVE, Inputs
from hub.models.bases import Bases
from hub.models.variants import Variants
from hub.schemas import core as s
from hub.schemas.refresh import RefreshPolicyIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import DiskFullError, LineageCycleError, RegistryError
from registry.lineage.lineage import Edge
from registry.registry import Registry
from registry.repos.repos import DeleteFile
from registry.types import Artifact, RepoId, RepoInfo

log = logging.getLogger("parcelhub.refresh")

RULE: Final = "the refresh rule"
"""Who started what no person asked for."""
BUILD_SECONDS: Final = 600.0
"""A dataset that is not built by then is built anew: whoever built it is gone."""
MAX_TRIES: Final = 5
REQUEST: Final = "refresh:"


class Starter:
    """Begins refreshes and brings them to their jobs. Thread-safe."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        bases: Bases,
        variants: Variants,
        jobs: Jobs,
        materials: Materials,
        *,
        check_new: Callable[[str, dict[str, int]], None],
        now: Callable[[], float],
    ) -> None:
        """`check_new` raises QuotaError where a team may not store these blobs as well."""
        self._registry = registry
        self._catalog: Catalog = registry.catalog
        self._bases, self._variants, self._jobs, self._materials = bases, variants, jobs, materials
        self._builder = DatasetBuilder(store)
        self._check_new, self._now = check_new, now
        with self._catalog.write() as db:  # whoever built one was a thread of a process that is gone
            db.execute("UPDATE refresh_runs SET builder_until = 0 WHERE state = 'building'")

    def start(
        self,
        cell: s.Cell,
        policy: RefreshPolicyIn,
        new: Sequence[Picture],
        sources: Sequence[Source],
        reason: str,
        who: str,
        *,
        by_rule: bool,
    ) -> bool:
        """Begin one, unless its cause had its own; then build it."""
        current = self._materials.current(cell.name)
        base = self._bases.get(current.base) if current else self._bases.newest()
        digests = sorted(one.sha256 for one in new)
        run = secrets.token_hex(6)
        told = [cell.name, current.commit if current else "", *digests, "" if by_rule else run]
        cause = hashlib.sha256("\0".join(told).encode()).hexdigest()
        team = cell.team or sources[0].dataset.partition("/")[0]
        name, _, commit = current.dataset.partition("@") if current else ("", "", "")
        inputs = Inputs(
            sources=tuple(sources),
            base=base.name,
            base_commit=base.commit,
            start=s.EarlierVariant(
                version=current.name, commit=current.commit, deck=current.deck, dataset=name, dataset_commit=commit
            )
            if current
            else None,
            dataset=f"{team}/{cell.name}-refresh",
            team=team,
            minutes=policy.max_minutes,
            tolerance=policy.tolerance,
        )

        def write(db: Cursor) -> bool:
            if not db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell.name]).fetchone():
                return False
            now = self._now()
            made = runs.add(
                db, run, cell.name, cause, by_rule=by_rule, reason=reason, asked_by=who, asked_at=now,
                inputs=inputs, new_images=len(digests),
            )  # fmt: skip
            if made:
                db.execute(
                    "INSERT OR REPLACE INTO refresh_images SELECT ?, unnest(?::VARCHAR[]), ?",
                    [cell.name, digests, run],
                )
                db.execute("DELETE FROM refresh_status WHERE cell = ?", [cell.name])
                title = f"A refresh on {len(digests)} new images began"
                runs.log(db, cell.name, now, "start", title, reason, run=run, who=who)
            return made

        if not self._catalog.run(write):
            return False
        self.build(cell.name, run)
        return True

    def build(self, cell: str, run: str) -> None:
        """Build a run's dataset and queue its job; whoever comes second leaves it to the first."""
        now = self._now()

        def claim(db: Cursor) -> int | None:
            row = db.execute(
                "UPDATE refresh_runs SET builder_until = ?, tries = tries + 1 WHERE id = ? AND state = 'building'"
                " AND builder_until <= ? RETURNING tries",
                [now + BUILD_SECONDS, run, now],
            ).fetchone()
            return None if row is None else int(row[0])

        tries = self._catalog.run(claim)
        if tries is None:
            return
        try:
            with self._catalog.read() as db:
                inputs = runs.inputs_of(db, run)
            commit = self._commit(cell, run, inputs)
            self._queue(cell, run, inputs, commit)
        except DiskFullError:
            raise  # it waits for room
        except (HubError, RegistryError) as error:
            self._fail(cell, run, str(error))
        except Exception:
            if tries >= MAX_TRIES:
                self._fail(cell, run, "its dataset could not be built; the hub's log says why")
            raise

    def _commit(self, cell: str, run: str, inputs: Inputs) -> str:
        """The commit of the run's dataset: the one that a process made that died, or a new one."""
        repo = RepoId.parse(inputs.dataset, "dataset")
        message = f"The dataset of the refresh {run}"
        material = replace(self._materials.collect(cell, inputs.sources), start=self._pinned(cell, inputs))
        usable, private = self._usable(inputs.team, [*inputs.sources, *(one.source for one in material.made)])
        built = self._builder.build(cell, run, material, usable=usable, tolerance=inputs.tolerance)
        info = self._repo(repo, private=any(one.dataset in private for one in built.sources))
        head = next((ref.commit for ref in self._registry.repos.refs(repo) if ref.name == "main"), None)
        before = self._registry.repos.tree(repo, head) if head else ()
        if head and self._registry.repos.resolve(repo, head).message == message:
            return head
        if before and not any(entry.path == "refresh.json" for entry in before):
            raise RefreshStateError(f"the dataset {inputs.dataset} is somebody's own; rename it")
        self._check_new(inputs.team, {entry.sha256: entry.size for entry in built.files})
        wanted = {entry.path: entry for entry in built.files}
        there = {entry.path: entry.sha256 for entry in before}
        operations: list[Any] = [DeleteFile(path) for path in there if path not in wanted]
        operations += [one for path, one in wanted.items() if there.get(path) != one.sha256]
        made = self._registry.repos.commit(info.id, operations, message=message, author=RULE, expected_parent=head)
        self._lineage(inputs, made.id, built)
        return made.id

    def _pinned(self, cell: str, inputs: Inputs) -> s.Version | None:
        """The variant that the run goes on from, as it was when it began."""
        if inputs.start is None:
            return None
        return self._variants.get(cell, inputs.start.version.partition("@")[2])

    def _usable(self, team: str, sources: Sequence[Source]) -> tuple[frozenset[str], frozenset[str]]:
        """Of the sources' datasets those whose images may lie in a dataset of the team, and those that are private:
        the team's own, and what everybody may have."""
        usable, private = set(), set()
        for name in {one.dataset for one in sources}:
            try:
                info = self._registry.repos.get(RepoId.parse(name, "dataset"))
            except RegistryError:
                continue
            closed = info.private or info.gated != "no"
            if info.id.namespace.lower() == team.lower() or not closed:
                usable.add(name)
            if closed:
                private.add(name)
        return frozenset(usable), frozenset(private)

    def _repo(self, repo: RepoId, *, private: bool) -> RepoInfo:
        info = self._registry.repos.create(repo, private=private, exist_ok=True)
        if private and not info.private:
            return self._registry.directory.configure(info.id, private=True)
        return info

    def _lineage(self, inputs: Inputs, commit: str, built: Built) -> None:
        made = Artifact("dataset", inputs.dataset, commit)
        parents = [Artifact("dataset", one.dataset, one.commit) for one in built.sources]
        try:
            self._registry.lineage.record(Edge(made, parent, "source") for parent in parents if parent != made)
        except LineageCycleError as error:
            log.warning("no lineage of %s: %s", inputs.dataset, error)

    def _queue(self, cell: str, run: str, inputs: Inputs, commit: str) -> None:
        spec = s.RefreshTrainingSpec(
            cell=cell,
            dataset=inputs.dataset,
            dataset_commit=commit,
            base=inputs.base,
            base_commit=inputs.base_commit,
            images=None,
            max_seconds=inputs.minutes * 60,
            seed=0,
            refresh=s.RefreshSpec(run=run, start=inputs.start, sources=sorted({one.dataset for one in inputs.sources})),
        )

        def take(db: Cursor) -> None:
            if not runs.move(db, run, "training", ("building",), self._now(), dataset_commit=commit):
                raise RefreshStateError(f"the refresh {run} was stopped meanwhile")

        try:
            job = self._jobs.create(spec, RULE, team=inputs.team, request=REQUEST + run, before=take)
        except RefreshStateError as error:
            log.info("%s", error)
            return
        log.info("refresh %s of %s trains as job %s", run, cell, job.id)

    def _fail(self, cell: str, run: str, reason: str) -> None:
        def write(db: Cursor) -> None:
            now = self._now()
            if runs.move(db, run, "failed", ACTIVE, now, reason=reason):
                runs.log(db, cell, now, "failed", "The refresh failed", reason, run=run)

        self._catalog.run(write)
