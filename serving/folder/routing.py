"""The serving folder: which variant answers which cell, as files. The hub writes it, Triton's backend reads it.

    base/<repo name>@<revision>/    variants/<cell>@<version>/    routing.json

routing.json is replaced by an atomic rename after everything it names is in place, so a reader sees a whole table or
the one before it. No torch here: the hub's process imports this module too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from registry.durable import sync_file, sync_folder, write_file
from serving.errors import RoutingError, UnknownCell, UnknownVariant

log = logging.getLogger(__name__)

WEIGHTS = "adapter_model.safetensors"
"""Of a variant; their digest tells two variants apart."""
ROUTING = "routing.json"
STAGES = ("station", "beta", "fleet")
MAX_BYTES = 64 * 1024 * 1024
MAX_CELLS = 100_000
MAX_CLASSES = 200
MAX_BASES = 3
"""Of one server: each lies in memory."""
MAX_LINES = 10_000
MAX_DIGESTS = 1_000_000
MAX_TEXT = 200
"""Characters of a line's or a label's name."""

PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}@[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A variant's name `<cell>@<version>`, or a base's `<repo name>@<revision>`."""
_CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Who answers a request: the variant and the stage it holds, both None where the base answers. `classes` are the
    labels that the base may answer then, all of them where it is empty. `instead_of` is the variant that should answer
    and cannot; None where it can."""

    variant: str | None
    stage: str | None
    classes: tuple[str, ...] = ()
    instead_of: str | None = None


@dataclass(frozen=True, slots=True)
class CellRoute:
    """The variants of one cell by stage, `<cell>@<version>` or None.

    `lines` says which production lines are not yet on `fleet`: line name -> "station" or "beta". Of the others the
    share `beta_share` (0 to 1) gets `beta` as well: the canary. `classes` are what there is in the cell, by the base's
    labels: all that the base answers it while it has no variant; empty where that was not said.
    """

    station: str | None = None
    beta: str | None = None
    fleet: str | None = None
    lines: Mapping[str, str] = field(default_factory=dict)
    beta_share: float = 0.0
    classes: tuple[str, ...] = ()

    def stage_of(self, cell: str, line: str | None, robot: str | None = None) -> str:
        """The stage that a robot on a line is on. The same line, or the same robot without one, is always on the same.

        Growing the share moves more of them to `beta` and none of them back.
        """
        named = self.lines.get(line) if line is not None else None
        if named is not None:
            return named
        who = line if line is not None else robot
        if who is not None and self.beta_share > 0 and place_of(cell, who) < self.beta_share:
            return "beta"
        return "fleet"

    def resolve(self, cell: str, line: str | None, robot: str | None = None) -> Resolved:
        """The variant of the stage, or of the next more settled one that there is; at last the base."""
        for stage in STAGES[STAGES.index(self.stage_of(cell, line, robot)) :]:
            variant: str | None = getattr(self, stage)
            if variant is not None:
                return Resolved(variant, stage)
        return Resolved(None, None, self.classes)

    def variants(self) -> tuple[str, ...]:
        """Every variant that some line of this cell may get, `fleet` first."""
        return tuple(v for v in (self.fleet, self.beta, self.station) if v is not None)


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """One version of routing.json. `digests` maps paths in the serving folder to SHA-256; `bases` names the
    base of each variant that is not on `base`: those are served beside it."""

    version: int
    base: str
    cells: Mapping[str, CellRoute] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    bases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, *, faults: dict[str, RoutingError] | None = None) -> Self:
        """Read and check routing.json. Raises RoutingError naming the key at fault.

        With `faults`, what is wrong with one cell or one digest is noted there by its name, and the rest is read: one
        bad entry must not keep all others' robots from what is theirs. A cell at fault is not in the table.
        """
        if len(data) > MAX_BYTES:
            raise RoutingError(f"{ROUTING} has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RoutingError(f"{ROUTING} is not valid JSON: {error}") from error
        if not isinstance(value, dict):
            raise RoutingError(f"{ROUTING} must be a JSON object")
        version, base = value.get("version"), value.get("base")
        cells, digests = value.get("cells", {}), value.get("digests", {})
        if type(version) is not int or version < 0:
            raise RoutingError(f"version must be a whole number, got {version!r}")
        if not isinstance(base, str) or not PINNED.fullmatch(base):
            raise RoutingError(f"base must be '<repo name>@<revision>', got {base!r}")
        if not isinstance(cells, dict) or len(cells) > MAX_CELLS:
            raise RoutingError(f"cells must be an object of at most {MAX_CELLS:,} cells")
        if not isinstance(digests, dict) or len(digests) > MAX_DIGESTS:
            raise RoutingError(f"digests must be an object of at most {MAX_DIGESTS:,} files")
        routes, sound = {}, {}
        for name, cell in cells.items():
            try:
                routes[name] = _route(name, cell)
            except RoutingError as error:
                if faults is None:
                    raise
                faults[name] = error
        for path, digest in digests.items():
            if isinstance(digest, str) and _SHA256.fullmatch(digest):
                sound[path] = digest
                continue
            unsound = RoutingError(f"digests: '{path}' has no SHA-256")
            if faults is None:
                raise unsound
            faults[path] = unsound
        return cls(version, base, routes, sound, _bases(value.get("bases", {}), base))

    def to_json(self) -> bytes:
        """routing.json of this table; `parse` gives the same table back."""
        cells: dict[str, dict[str, object]] = {}
        for name, route in self.cells.items():
            cells[name] = {stage: getattr(route, stage) for stage in STAGES}
            if route.lines:
                cells[name]["lines"] = dict(route.lines)
            if route.beta_share:
                cells[name]["beta_share"] = route.beta_share
            if route.classes:
                cells[name]["classes"] = list(route.classes)
        value = {"version": self.version, "base": self.base, "cells": cells, "digests": dict(self.digests)}
        if self.bases:
            value["bases"] = dict(self.bases)
        return json.dumps(value, indent=1, sort_keys=True).encode()

    def route(self, cell: str, line: str | None = None, robot: str | None = None) -> Resolved:
        """Who answers a robot of `cell` on `line`. Raises UnknownCell."""
        route = self.cells.get(cell)
        if route is None:
            raise UnknownCell(cell)
        return route.resolve(cell, line, robot)

    def resolve(self, cell: str, line: str | None = None, robot: str | None = None) -> str | None:
        """The variant of `route`, or None for the base. Raises UnknownCell."""
        return self.route(cell, line, robot).variant

    def variants(self) -> tuple[str, ...]:
        """Every routed variant once, those of the whole fleet first."""
        ordered = [route.fleet for route in self.cells.values()]
        ordered += [v for route in self.cells.values() for v in route.variants()]
        return tuple(dict.fromkeys(v for v in ordered if v is not None))

    def base_of(self, variant: str) -> str:
        """The base that a variant is on."""
        return self.bases.get(variant, self.base)

    def all_bases(self) -> tuple[str, ...]:
        """Every base that answers by this table, the one of cells without a variant first."""
        return tuple(dict.fromkeys([self.base, *(self.base_of(one) for one in self.variants())]))

    def told_on(self, base: str, loaded: Collection[str]) -> Self:
        """The same routes, told beside another base; without the variants whose base is not among `loaded`."""
        cells = {}
        for name, route in self.cells.items():
            held: dict[str, Any] = {stage: getattr(route, stage) for stage in STAGES}
            gone: dict[str, Any] = {
                stage: None for stage, one in held.items() if one is not None and self.base_of(one) not in loaded
            }
            cells[name] = replace(route, **gone) if gone else route
        bases = {one: self.base_of(one) for one in self.variants() if self.base_of(one) != base}
        return replace(self, base=base, cells=cells, bases=bases)

    def digests_of(self, folder: str) -> dict[str, str]:
        """File name -> SHA-256 of the files named under `folder` (such as `variants/<cell>@v3`)."""
        prefix = f"{folder}/"
        return {path[len(prefix) :]: sha for path, sha in self.digests.items() if path.startswith(prefix)}

    def keeping(self, previous: RoutingTable | None, broken: frozenset[str]) -> RoutingTable:
        """The same table, but where it names a broken variant the previous table's choice stays (or the base, if none).

        A damaged file must cost one cell its promotion, never its answers. `previous` is told beside the same base
        (`told_on`): a variant whose base is not loaded could not answer. The digests of what stays come along.
        """
        cells, digests, bases = {}, dict(self.digests), dict(self.bases)
        for name, route in self.cells.items():
            if broken.isdisjoint(route.variants()):
                cells[name] = route
                continue
            before = previous.cells.get(name) if previous is not None else None
            kept: list[str | None] = []
            for stage in STAGES:
                variant, old = getattr(route, stage), getattr(before, stage, None)
                kept.append(variant if variant not in broken else old if old not in broken else None)
            station, beta, fleet = kept
            cells[name] = replace(route, station=station, beta=beta, fleet=fleet)
            if previous is not None:
                for stayed in {one for one in kept if one is not None} - set(route.variants()):
                    files = previous.digests_of(f"variants/{stayed}")
                    digests |= {f"variants/{stayed}/{file}": sha256 for file, sha256 in files.items()}
                    bases |= {stayed: previous.bases[stayed]} if stayed in previous.bases else {}
        return replace(self, cells=cells, digests=digests, bases=bases)


def place_of(cell: str, who: str) -> float:
    """Where a line or robot stands in [0, 1), by a hash: the same for ever and on every server."""
    digest = hashlib.sha256(f"{cell}\n{who}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _bases(value: object, base: str) -> dict[str, str]:
    """The bases that variants are on beside `base`. Raises RoutingError."""
    if not isinstance(value, dict) or len(value) > MAX_CELLS:
        raise RoutingError(f"bases must be an object of at most {MAX_CELLS:,} variants")
    for name, one in value.items():
        if not PINNED.fullmatch(name) or not isinstance(one, str) or not PINNED.fullmatch(one):
            raise RoutingError(f"bases: '{name}' must be '<cell>@<version>' with '<repo name>@<revision>'")
    if len({base, *value.values()}) > MAX_BASES:
        raise RoutingError(f"bases: at most {MAX_BASES} bases are served at once")
    return dict(value)


def _route(name: str, cell: object) -> CellRoute:
    if not _CELL.fullmatch(name) or not isinstance(cell, dict):
        raise RoutingError(f"cells: '{name}' is not a cell name with an object of stages")
    unknown = set(cell) - {*STAGES, "lines", "beta_share", "classes"}
    if unknown:
        raise RoutingError(f"cells: '{name}' has unknown keys {sorted(unknown)}")
    for stage in STAGES:
        variant = cell.get(stage)
        if variant is not None and not (isinstance(variant, str) and PINNED.fullmatch(variant)):
            raise RoutingError(f"cells: '{name}': {stage} must be '<cell>@<version>' or null, got {variant!r}")
    lines = cell.get("lines", {})
    if not isinstance(lines, dict) or not all(isinstance(s, str) and s in STAGES for s in lines.values()):
        raise RoutingError(f"cells: '{name}': lines must map line names to stages")
    if len(lines) > MAX_LINES or any(len(line) > MAX_TEXT for line in lines):
        raise RoutingError(f"cells: '{name}': at most {MAX_LINES:,} lines, each of at most {MAX_TEXT} characters")
    share = cell.get("beta_share", 0.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise RoutingError(f"cells: '{name}': beta_share must be a number from 0 to 1")
    classes = cell.get("classes", [])
    texts = isinstance(classes, list) and all(isinstance(one, str) and len(one) <= MAX_TEXT for one in classes)
    if not texts or len(classes) > MAX_CLASSES:
        raise RoutingError(f"cells: '{name}': classes must be a list of at most {MAX_CLASSES} labels")
    stages = (cell.get("station"), cell.get("beta"), cell.get("fleet"))
    return CellRoute(*stages, lines, float(share), tuple(classes))


class ServingFolder:
    """Reads a serving folder. `table` looks at the file's state at most every `check_every_s` seconds; thread-safe."""

    def __init__(self, path: Path, *, check_every_s: float = 0.2) -> None:
        self.path = path
        self._every = check_every_s
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._table: RoutingTable | None = None
        self._next_check = 0.0
        self.faults: Mapping[str, RoutingError] = {}
        """What is wrong with entries of the table in place, by cell or path; these are left out of it."""

    def table(self) -> RoutingTable:
        """The current table. Raises RoutingError only while there has never been a valid one.

        A broken routing.json is logged and the table before it stays: robots keep getting answers.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._next_check:
                self._next_check = now + self._every
                self._reload()
            if self._table is None:
                raise RoutingError(f"no valid {ROUTING} in the serving folder")
            return self._table

    def _reload(self) -> None:
        file = self.path / ROUTING
        try:
            status = file.stat()
            # The inode is in it because two tables can be written within one tick of the file system's clock.
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state == self._state:
                return
            faults: dict[str, RoutingError] = {}
            with file.open("rb") as opened:
                table = RoutingTable.parse(opened.read(MAX_BYTES + 1), faults=faults)
        except OSError as error:
            if self._table is None:
                raise RoutingError(f"{ROUTING} cannot be read: {error.strerror}") from error
            log.warning("%s cannot be read (%s); version %d stays", ROUTING, error.strerror, self._table.version)
            return
        except RoutingError as error:
            self._state = state
            if self._table is None:
                raise
            log.warning("%s; version %d stays", error, self._table.version)
            return
        if faults:
            table = self._mended(table, faults)
        self._state, self._table, self.faults = state, table, faults

    def _mended(self, table: RoutingTable, faults: Mapping[str, RoutingError]) -> RoutingTable:
        """The table, where a cell at fault keeps the route that it had before, or gets the base where it had none."""
        before = self._table.cells if self._table is not None else {}
        cells = {name: before.get(name, CellRoute()) for name in faults if _CELL.fullmatch(name)}
        first = next(iter(faults.values()))
        log.warning("%s: %d entries are at fault, the rest is read; the first: %s", ROUTING, len(faults), first)
        return replace(table, cells={**table.cells, **cells})

    def base_folder(self, base: str) -> Path:
        """Folder of a base, `<repo name>@<revision>`."""
        return self.path / "base" / base

    def variant_folder(self, variant: str) -> Path:
        """Folder of a variant. Raises UnknownVariant for names that are none, and for those that are not there."""
        folder = self.path / "variants" / variant
        if not PINNED.fullmatch(variant) or not folder.is_dir():
            raise UnknownVariant(variant)
        return folder


def write_routing(folder: Path, table: RoutingTable) -> None:
    """Replace routing.json atomically and durably; call it after everything the table names is in place."""
    # What could not be read back would leave the backend on its old table without anyone noticing.
    RoutingTable.parse(table.to_json())
    write_file(folder / ROUTING, table.to_json())


def materialise(folder: Path, name: str, files: Mapping[str, Path]) -> Path:
    """Copy `files` (name -> source) to `folder/name` as a whole: the target appears complete or not at all.

    `name` is such as `variants/<cell>@v3`. What is there already is left alone, since revisions never change.
    """
    target = folder / name
    if target.is_dir():
        return target
    part = target.parent / f".{target.name}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file, source in files.items():
        with source.open("rb") as reader, (part / file).open("wb") as writer:
            shutil.copyfileobj(reader, writer, 1024 * 1024)
        sync_file(part / file)
    sync_folder(part)
    part.rename(target)
    sync_folder(target.parent)
    return target
