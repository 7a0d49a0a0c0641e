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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from hub.bases import FILES as BASE_FILES
from hub.bases import NAMESPACE as BASE_NAMESPACE
from hub.bases import Bases
from hub.cells import Cells
from hub.store import Store
from hub.variants import FILES as VARIANT_FILES
from hub.variants import Variants, repo_of
from registry.stage_types import HELD_STAGES, Assignment
from registry.stages import Stages
from registry.types import FileEntry, RepoId
from serving.errors import RoutingError
from serving.routing import ROUTING, CellRoute, RoutingTable, write_routing

log = logging.getLogger("parcelhub.serving")


class ServingFolder:
    """`<data>/serving/`."""

    def __init__(
        self, folder: Path, store: Store, stages: Stages, cells: Cells, bases: Bases, variants: Variants
    ) -> None:
        self._folder = folder
        self._store = store
        self._stages = stages
        self._cells = cells
        self._bases = bases
        self._variants = variants
        self._lock = threading.Lock()
        self._whole: set[Path] = set()
        """Artifacts whose files this process has written or checked."""

    def read(self) -> dict[str, Any]:
        """The table as it is on disk."""
        table: dict[str, Any] = msgspec.json.decode((self._folder / ROUTING).read_bytes())
        return table

    def pinned_base(self, *, leaving_out: tuple[str, str] | None = None) -> str | None:
        """The base that promoted variants need (one Triton serves one base); None while there are none.

        `leaving_out` names the (cell, stage) that is about to get another holder.
        """
        promoted = [each for each in self._promoted() if (each.cell, each.stage) != leaving_out]
        return str(self._variants.document(promoted[0].cell, promoted[0].commit).base) if promoted else None

    def add_variant(self, cell: str, version: str, commit: str) -> None:
        """Put a variant's files there; nobody is served by them until the table says so."""
        with self._lock:
            self._materialise(repo_of(cell), commit, VARIANT_FILES, Path("variants", f"{cell}@{version}"))

    def sync(self) -> int:
        """Make the folder say what the registry says. Returns the version of the table that is in force."""
        with self._lock:
            old = self._old_table()
            base_name = self.pinned_base() or self._bases.newest_name()
            if base_name is None:  # nothing can be served yet
                return old.version if old else 0
            base = self._bases.get(base_name)
            repo, _, revision = base_name.partition("@")
            short = f"{repo.removeprefix(BASE_NAMESPACE + '/')}@{revision}"
            digests = self._materialise(
                RepoId.parse(repo), base.commit, BASE_FILES, Path("base", short), optional=("README.md",)
            )
            routes = {cell.name: CellRoute() for cell in self._cells.all()}
            for standing in self._promoted():
                name = f"{standing.cell}@{standing.variant.version}"
                digests |= self._materialise(
                    standing.variant.repo, standing.commit, VARIANT_FILES, Path("variants", name)
                )
                route = routes.get(standing.cell, CellRoute())
                routes[standing.cell] = _with(route, standing.stage, name)
            table = RoutingTable(
                version=(old.version if old else 0) + 1,
                base=short,
                cells=routes,
                digests=digests,
            )
            if old is not None and (old.base, old.cells, old.digests) == (table.base, table.cells, table.digests):
                return old.version
            write_routing(self._folder, table)
            log.info("routing table %d: base %s, %d cells", table.version, short, len(routes))
            return table.version

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
            draft.replace(target)
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
