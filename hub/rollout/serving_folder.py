"""The serving folder: what robots need, as plain files that Triton's backend reads without the hub.

`sync` makes the folder say what the registry says. Files come first and `routing.json` last, by an atomic rename:
whenever it is interrupted, robots go on with the whole old state, and the next `sync`, at the latest the one at
the hub's start, completes the new one.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from hub.datasets.store import Store
from hub.errors import UnknownBaseError
from hub.models.bases import FILES as BASE_FILES
from hub.models.bases import NAMESPACE as BASE_NAMESPACE
from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.models.variants import FILES as VARIANT_FILES
from hub.models.variants import Variants, repo_of
from hub.rollout.placement import Placement
from hub.rollout.plan import Plan
from hub.schemas import core as s
from registry.durable import sync_folder
from registry.errors import KeyRingError, StatementError
from registry.promotion.stages import Stages
from registry.provenance import Statements
from registry.stage_types import HELD_STAGES, Assignment
from registry.types import FileEntry, RepoId
from serving.errors import RoutingError
from serving.folder.routing import ROUTING, CellRoute, RoutingTable, write_routing
from serving.observed.novelty_reference import FILE as NOVELTY

SERVED_FILES = (*VARIANT_FILES, NOVELTY)
"""Of a variant; those of before novelty was watched have no reference for it."""
log = logging.getLogger("parcelhub.serving")


class ServingFolder:
    """`<data>/serving/`."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        stages: Stages,
        cells: Cells,
        bases: Bases,
        variants: Variants,
        statements: Statements,
    ) -> None:
        self._statements = statements
        self._refused: dict[str, str] = {}
        self._folder = folder
        self._store = store
        self._stages = stages
        self._cells = cells
        self._bases = bases
        self._variants = variants
        self._lock = threading.Lock()
        self.placement = Placement(folder, self.version)
        """What the robots' server says of it."""
        self.plans: Callable[[], Mapping[str, Plan]] = dict
        """Which lines of which cells are on an earlier stage, and the canaries' shares."""
        self._whole: set[Path] = set()
        """Artifacts whose files this process has written or checked."""

    def read(self) -> dict[str, Any]:
        """The table as it is on disk."""
        table: dict[str, Any] = msgspec.json.decode((self._folder / ROUTING).read_bytes())
        return table

    def version(self) -> int:
        """Of the table on disk; 0 while there is none."""
        table = self._old_table()
        return table.version if table is not None else 0

    @property
    def refused(self) -> dict[str, str]:
        """What robots would be served by if its statement were believed, and why it is not; as of the last `sync`."""
        return dict(self._refused)

    def pinned_bases(self, *, leaving_out: tuple[str, str] | None = None) -> tuple[str, ...]:
        """The bases that promoted variants need, the newest first; none while there is no such variant.

        `leaving_out` names the (cell, stage) that is about to get another holder.
        """
        promoted = [each for each in self._promoted() if (each.cell, each.stage) != leaving_out]
        names = {str(self._variants.document(each.cell, each.commit).base) for each in promoted}
        return tuple(sorted(names, key=self._age_of, reverse=True))

    def _age_of(self, base: str) -> tuple[str, str]:
        """Sorts bases by their time; one that is gone comes before all others."""
        try:
            return self._bases.get(base).created_at, base
        except UnknownBaseError:
            return "", base

    def add_variant(self, cell: str, version: str, commit: str) -> dict[str, str]:
        """Put a variant's files there; nobody is served by them until the table says so. Returns their digests by name.

        Raises StatementError unless a trusted key vouches for the variant.
        """
        self._statements.require(repo_of(cell), commit)
        with self._lock:
            made = self._materialise(
                repo_of(cell), commit, SERVED_FILES, Path("variants", f"{cell}@{version}"), optional=(NOVELTY,)
            )
        return {Path(path).name: digest for path, digest in made.items()}

    def look(self, one: s.Version) -> str:
        """What the robots' server finds wrong with what a variant says; empty text where nothing is found.

        Raises StatementError as `add_variant`.
        """
        digests = self.add_variant(one.cell, one.version, one.commit)
        return self.placement.look(one.name, one.base.removeprefix(f"{BASE_NAMESPACE}/"), digests)

    def sync(self) -> int:
        """Make the folder say what the registry says. Returns the version of the table that is in force.

        What no trusted key vouches for is left out: a cell's next stage, or the base, answers in a variant's place.
        Without a base that is vouched for, the table stays as it is. `refused` tells of both.
        """
        with self._lock:
            self._refused = {}
            old = self._old_table()
            base = self._servable_base()
            if base is None:  # nothing can be served yet
                return old.version if old else 0
            short, digests = self._base_files(base)
            beside: dict[str, str] = {}
            routes = {cell.name: CellRoute(classes=tuple(cell.classes)) for cell in self._cells.all()}
            for standing in self._promoted():
                name = f"{standing.cell}@{standing.variant.version}"
                if not self._vouched_for(name, standing.variant.repo, standing.commit):
                    continue
                own = str(self._variants.document(standing.cell, standing.commit).base)
                if own != base.name:
                    other = self._vouched_base(own)
                    if other is None:
                        self._refused[name] = f"nobody vouches for its base {own}"
                        continue
                    beside[name], more = self._base_files(other)
                    digests |= more
                digests |= self._materialise(
                    standing.variant.repo,
                    standing.commit,
                    SERVED_FILES,
                    Path("variants", name),
                    optional=(NOVELTY,),
                )
                route = routes.get(standing.cell, CellRoute())
                routes[standing.cell] = _with(route, standing.stage, name)
            for cell, plan in self.plans().items():
                if cell in routes:
                    routes[cell] = replace(routes[cell], lines=dict(plan.lines), beta_share=plan.share)
            table = RoutingTable(
                version=(old.version if old else 0) + 1,
                base=short,
                cells=routes,
                digests=digests,
                bases=beside,
            )
            if old is not None and replace(old, version=table.version) == table:
                return old.version
            write_routing(self._folder, table)
            log.info("routing table %d: base %s, %d cells", table.version, short, len(routes))
            return table.version

    def _servable_base(self) -> s.Base | None:
        """The newest base that promoted variants need, else the newest of all; cells without a variant get it.

        One that nobody vouches for is passed over.
        """
        for name in self.pinned_bases() or self._bases.names():
            base = self._vouched_base(name)
            if base is not None:
                return base
        return None

    def _vouched_base(self, name: str) -> s.Base | None:
        base = self._bases.get(name)
        return base if self._vouched_for(name, RepoId.parse(name.partition("@")[0]), base.commit) else None

    def _base_files(self, base: s.Base) -> tuple[str, dict[str, str]]:
        """Put a base's files there: its name as the table has it, and their digests by path."""
        repo, _, revision = base.name.partition("@")
        short = f"{repo.removeprefix(BASE_NAMESPACE + '/')}@{revision}"
        place = Path("base", short)
        return short, self._materialise(RepoId.parse(repo), base.commit, BASE_FILES, place, optional=("README.md",))

    def _vouched_for(self, name: str, repo: RepoId, commit: str) -> bool:
        try:
            self._statements.require(repo, commit)
        except (StatementError, KeyRingError) as error:
            log.error("%s is not served: %s", name, error)  # noqa: TRY400  # the sentence says all
            self._refused[name] = str(error)
            return False
        return True

    def _promoted(self) -> Sequence[Assignment]:
        return self._stages.assignments(stages=HELD_STAGES)

    def _old_table(self) -> RoutingTable | None:
        try:
            return RoutingTable.parse((self._folder / ROUTING).read_bytes())
        except FileNotFoundError:
            return None
        except RoutingError as error:
            log.warning("%s; it is written anew", error)
            return None

    def _materialise(
        self, repo: RepoId, commit: str, names: Iterable[str], inside: Path, *, optional: Iterable[str] = ()
    ) -> dict[str, str]:
        """Make `inside` hold files of a commit, whole or not at all. Returns their digests by path."""
        tree = {entry.path: entry for entry in self._store.repos.tree(repo, commit)}
        entries = [tree[name] for name in names if name in tree or name not in optional]
        target = self._folder / inside
        if target not in self._whole and not _holds(target, entries):
            draft = target.with_name(f".{target.name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            for entry in entries:
                self._store.blobs.export_to(entry.sha256, draft / entry.path)
            shutil.rmtree(target, ignore_errors=True)  # damaged, or left by an older hub
            sync_folder(draft)
            draft.replace(target)
            sync_folder(target.parent)
        self._whole.add(target)
        return {(inside / entry.path).as_posix(): entry.sha256 for entry in entries}


def _with(route: CellRoute, stage: str, variant: str) -> CellRoute:
    """The route with one more of its stages held."""
    held: dict[str, Any] = {stage: variant}
    return replace(route, **held)


def _holds(folder: Path, entries: Iterable[FileEntry]) -> bool:
    """Whether the folder has all these files with the right bytes."""
    for entry in entries:
        path = folder / entry.path
        if not path.is_file() or path.stat().st_size != entry.size:
            return False
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                return False
    return True


def of_cells(table: Mapping[str, Any], cells: Collection[str]) -> dict[str, Any]:
    """The table (as `ServingFolder.read` gives it) without what it says of other cells than these."""
    found = dict(table)
    found["cells"] = {name: route for name, route in table.get("cells", {}).items() if name in cells}
    found["digests"] = {
        path: digest
        for path, digest in table.get("digests", {}).items()
        if not path.startswith("variants/") or path.split("/")[1].partition("@")[0] in cells
    }
    return found
