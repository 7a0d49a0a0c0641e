"""Backup of a registry while it is in use, and restoring one into an empty folder.

A backup is the catalog as it was at one moment, and every blob that was stored then. Writers wait while the catalog is
copied, for nothing else; no collection removes anything meanwhile. Blobs are immutable, so a later backup copies only
those that the earlier ones lack, and each byte that is copied is checked against its digest on the way.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from registry.backup.vault import STORES, Manifest, Record, Vault
from registry.blobs.blobs import CHUNK, BlobStore
from registry.blobs.places import Stored, store_errors
from registry.catalog import identity
from registry.catalog.catalog import wal_of
from registry.durable import sync_folder, write_file
from registry.errors import BackupError, BlobNotFoundError, DigestMismatchError
from registry.folder import BLOBS_FOLDER, CATALOG_FILE, KEYS_FOLDER
from registry.maintenance.fsck import examine, examine_folder
from registry.maintenance.fsck_report import Progress, Report, silent
from registry.registry import Registry
from registry.types import Digest, check_digest
from registry.xet.store import xorbs_location

_BATCH: Final = 256
_PARALLEL: Final = 8
_MARK: Final = identity.RESTORING
_DRAFT: Final = ".backup-"
_LOG: Final = wal_of(Path(CATALOG_FILE)).name


@dataclass(frozen=True, slots=True)
class BackupDone:
    """What a backup did. Sizes are bytes; `waited_seconds` is how long writers had to wait."""

    name: str
    blobs: int
    bytes: int
    copied_blobs: int
    copied_bytes: int
    catalog_bytes: int
    damaged: tuple[str, ...]
    waited_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RestoreDone:
    """What a restore did, and what a quick examination said afterwards. Sizes are bytes."""

    name: str
    blobs: int
    bytes: int
    seconds: float
    report: Report


def make_backup(
    registry: Registry, root: Path, target: str | Path, *, reread: bool = False, progress: Progress = silent
) -> BackupDone:
    """Back up an open registry, whose folder is `root`, to a folder or URL.

    `reread`: also read every blob of this backup back from `target`, not only those that are copied now. What is
    damaged in the registry is left out, and named in the result. Raises BlobStoreError, CatalogError, BackupError.
    """
    started = time.perf_counter()
    vault = Vault(target, staging=root / "staging")
    with registry.sweeping:
        for left in root.glob(f"{_DRAFT}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
    with registry.sweeping, tempfile.TemporaryDirectory(dir=root, prefix=_DRAFT) as folder:
        made_at = datetime.now(UTC)
        waiting = time.perf_counter()
        catalog = registry.catalog.snapshot(Path(folder) / CATALOG_FILE)
        waited = time.perf_counter() - waiting
        files = [_keep(vault, path, path.name) for path in (catalog, wal_of(catalog)) if path.exists()]
        keys = root / KEYS_FOLDER
        files += [_keep(vault, path, str(path.relative_to(root))) for path in sorted(keys.rglob("*")) if path.is_file()]
        job = _Copy(progress)
        # Listed after the catalog was copied: so all that it names is among them.
        lists = []
        for name, source in zip(STORES, (registry.blobs, registry.xet.xorbs), strict=True):
            listing = Path(folder) / name
            job.copy(name, source, vault.stores[name], listing, reread=reread)
            lists.append(_keep(vault, listing, name))
        rows = examine(registry.catalog, registry.blobs, registry.xet, quick=True, progress=progress)
        missing = [
            finding.name
            for finding in rows.findings
            if finding.kind in ("blob-missing", "blob-size", "xorb-missing", "xorb-size")
        ]
        damaged = tuple(sorted({*job.damaged, *missing}))
        name = vault.write(
            Manifest(
                made_at.isoformat(timespec="microseconds"),
                tuple(files),
                tuple(lists),
                job.blobs,
                job.bytes,
                damaged,
                identity.of_catalog(registry.catalog) or "",
            )
        )
    identity.note_backup(root, str(target), name, made_at.isoformat(timespec="seconds"))
    size = sum(file.size for file in files if file.name in (CATALOG_FILE, _LOG))
    seconds = time.perf_counter() - started
    return BackupDone(name, job.blobs, job.bytes, job.copied_blobs, job.copied_bytes, size, damaged, waited, seconds)


def restore(
    source: str | Path,
    root: Path,
    *,
    name: str | None = None,
    blobs_url: str | None = None,
    progress: Progress = silent,
) -> RestoreDone:
    """Restore a backup (default: the newest) into the folder `root`, which is empty or holds a restore cut short.

    Every byte is checked against its digest; the catalog comes last, so that an unfinished restore is no registry.
    Raises BackupError, DigestMismatchError (the backup itself is damaged), BlobStoreError.
    """
    started = time.perf_counter()
    if root.exists() and any(root.iterdir()) and not (root / _MARK).exists():
        raise BackupError(f"{root} is not empty; a restore needs a folder of its own")
    vault = Vault(source)
    names = vault.names()
    if not names:
        raise BackupError(f"there is no backup at {source}")
    name = name or names[-1]
    manifest = vault.read(name)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    (root / _MARK).touch()
    place = blobs_url or root / BLOBS_FOLDER
    targets = [BlobStore.open(at, staging=root / "staging") for at in (place, xorbs_location(place))]
    found = identity.of_store(targets[0])
    if found and manifest.store and found != manifest.store:
        raise BackupError(f"the blobs at {place} are those of store {found}, the backup {name} is of {manifest.store}")
    done = 0
    for listing, target in zip(manifest.lists, targets, strict=True):
        if listing.name not in vault.stores:
            raise BackupError(f"the backup {name} has an unknown store {listing.name!r}")
        kept = vault.stores[listing.name]
        for some in _batches(_read_list(vault, listing)):
            have = target.sizes([one.sha256 for one in some])
            wanted = [one for one in some if have[one.sha256] != one.size]
            with ThreadPoolExecutor(_PARALLEL) as pool:
                list(pool.map(lambda one, kept=kept, target=target: _put(kept, target, one), wanted))
            done += len(some)
            progress("blobs", done, manifest.count)
    for file in sorted(manifest.files, key=lambda one: one.name == CATALOG_FILE):
        _restore_file(vault, root, file)
    if manifest.store:
        identity.set_on_store(targets[0], manifest.store)
    sync_folder(root)
    (root / _MARK).unlink()
    report = examine_folder(root, blobs_url=blobs_url, quick=True, progress=progress)
    return RestoreDone(name, manifest.count, manifest.size, time.perf_counter() - started, report)


class _Copy:
    """Copies stores to a vault, and counts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.blobs = self.bytes = self.copied_blobs = self.copied_bytes = 0
        self.damaged: list[Digest] = []

    def copy(self, name: str, source: BlobStore, target: BlobStore, listing: Path, *, reread: bool) -> None:
        """Copy what the target lacks; writes `<sha256> <size>` of each blob that is there afterwards to `listing`."""
        with listing.open("w", encoding="ascii") as out, ThreadPoolExecutor(_PARALLEL) as pool:
            for some in _batches(_merged(source.all(), target.all())):
                fresh = [one for one, kept in some if not kept]
                good = dict(zip(fresh, pool.map(lambda one: _try(source, target, one), fresh), strict=True))
                if reread:
                    kept = [one for one, kept in some if kept]
                    # One that went bad in the backup is copied anew.
                    good |= dict(zip(kept, pool.map(lambda one: _renewed(source, target, one), kept), strict=True))
                for one, kept in some:
                    if not good.get(one, True):
                        self.damaged.append(one.sha256)
                        continue
                    out.write(f"{one.sha256} {one.size}\n")
                    self.blobs += 1
                    self.bytes += one.size
                    if not kept:
                        self.copied_blobs += 1
                        self.copied_bytes += one.size
                self._progress(f"{name} copied", self.blobs, 0)


def _merged(source: Iterator[Stored], target: Iterator[Stored]) -> Iterator[tuple[Stored, bool]]:
    """The source's blobs, and whether the target has them, too. Both come by digest, and neither is held in memory."""
    other = next(target, None)
    for one in source:
        while other is not None and other.sha256 < one.sha256:
            other = next(target, None)
        yield one, other is not None and (other.sha256, other.size) == (one.sha256, one.size)


def _try(source: BlobStore, target: BlobStore, one: Stored) -> bool:
    """Whether the copy came out right; one that is gone or wrong is a damage of the source."""
    try:
        _put(source, target, one)
    except (DigestMismatchError, BlobNotFoundError):
        return False
    return True


def _renewed(source: BlobStore, target: BlobStore, one: Stored) -> bool:
    try:
        for _ in target.checked(one.sha256):
            pass
    except (DigestMismatchError, BlobNotFoundError):
        target.delete(one.sha256)
        return _try(source, target, one)
    return True


def _put(source: BlobStore, target: BlobStore, one: Stored) -> None:
    target.put_stream(source.iter_range(one.sha256), expected=one.sha256)


def _keep(vault: Vault, path: Path, name: str) -> Record:
    with path.open("rb") as file:
        info = vault.records.put_stream(iter(lambda: file.read(CHUNK), b""))
    return Record(name, info.sha256, info.size)


def _read_list(vault: Vault, listing: Record) -> Iterator[Stored]:
    rest = b""
    for chunk in vault.records.checked(listing.sha256):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            sha256, _, size = line.decode("ascii").partition(" ")
            yield Stored(check_digest(sha256), int(size), 0.0)


def _batches(rows: Iterator[tuple[Stored, bool]] | Iterator[Stored]) -> Iterator[list]:  # type: ignore[type-arg]
    while some := list(itertools.islice(rows, _BATCH)):
        yield some


def _restore_file(vault: Vault, root: Path, file: Record) -> None:
    target = (root / file.name).resolve()
    if file.name not in (CATALOG_FILE, _LOG) and not target.is_relative_to((root / KEYS_FOLDER).resolve()):
        raise BackupError(f"the backup has a file {file.name!r}, which no backup has")
    with store_errors(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(target, vault.records.checked(file.sha256), mode=0o600)
