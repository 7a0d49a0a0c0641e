"""fsck: finds and names any damage of a registry, in its catalog or in its blobs. Changes nothing.

`examine` works on an open registry, also while a hub serves it: rows are read in one transaction, so what is
committed meanwhile is left for the next time. `examine_folder` works on the folder of a hub that is stopped, even if
its catalog cannot be opened any more.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from registry.catalog.probe import probe
from registry.errors import CatalogError, CatalogLockedError
from registry.folder import BLOBS_FOLDER, CATALOG_FILE
from registry.maintenance import fsck_bytes
from registry.maintenance.fsck_report import Progress, Report, silent
from registry.maintenance.fsck_rows import check_indexes, check_rows
from registry.xet.store import XetStore, xorbs_location
from registry.xet.tables import XET


def examine(
    catalog: Catalog, blobs: BlobStore, xet: XetStore, *, quick: bool = False, progress: Progress = silent
) -> Report:
    """All of an open registry; `quick` looks whether things are there with the right size, else every byte is read.

    Let no collection run meanwhile (`Registry.sweeping`). Raises BlobStoreError if a store cannot even be listed.
    """
    report = Report(quick)
    if not quick and not _probed(catalog, report, progress):
        return report
    return _examine(catalog, blobs, xet, report, progress)


def examine_folder(
    root: Path, *, blobs_url: str | None = None, quick: bool = False, progress: Progress = silent
) -> Report:
    """All of a registry's folder that no process has open.

    Without a catalog that can be read there is nothing to compare the blobs with; their digests are checked all the
    same. Raises CatalogLockedError (a hub is running: ask it), CatalogTooNewError, BlobStoreError.
    """
    path = root / CATALOG_FILE
    if not path.is_file():
        report = Report(quick)
        report.add("catalog-missing", str(path), "there is no catalog here")
        return _blobs_alone(root, blobs_url, report, progress)
    progress("catalog", 0, 1)
    said = probe(path, whole=not quick)
    if said is not None and "lock on file" in said:
        raise CatalogLockedError(path, "by another process")
    if said is not None:
        report = Report(quick)
        report.add("catalog-unreadable", str(path), said)
        return _blobs_alone(root, blobs_url, report, progress)
    with Catalog.open(path, (REGISTRY, XET)) as catalog:
        place = blobs_url or root / BLOBS_FOLDER
        blobs = BlobStore.open(place, staging=root / "staging")
        xet = XetStore(catalog, BlobStore.open(xorbs_location(place), staging=root / "staging"))
        return _examine(catalog, blobs, xet, Report(quick), progress)


def _examine(catalog: Catalog, blobs: BlobStore, xet: XetStore, report: Report, progress: Progress) -> Report:
    with catalog.read() as tx:
        check_rows(tx, report, progress)
        try:
            check_indexes(tx, report, progress)
            fsck_bytes.take_inventory(tx, blobs, xet.xorbs, report, progress)
            fsck_bytes.check_presence(tx, report, progress)
            if not report.quick:
                fsck_bytes.check_trees(tx, report, progress)
                fsck_bytes.check_digests(tx, blobs, "blob", report, progress)
                fsck_bytes.check_digests(tx, xet.xorbs, "xorb", report, progress)
                fsck_bytes.check_xet_files(tx, xet, report, progress)
        except CatalogError as error:
            report.add("catalog-unreadable", str(catalog.path), str(error).partition("\n")[0])
    return report


def _probed(catalog: Catalog, report: Report, progress: Progress) -> bool:
    """Read every block of a copy of the catalog; the running process has most of them in memory."""
    progress("catalog", 0, 1)
    folder = Path(tempfile.mkdtemp(dir=catalog.path.parent, prefix=".fsck-"))
    try:
        said = probe(catalog.snapshot(folder / CATALOG_FILE), whole=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if said is not None:
        report.add("catalog-unreadable", str(catalog.path), said)
    return said is None


def _blobs_alone(root: Path, blobs_url: str | None, report: Report, progress: Progress) -> Report:
    place = blobs_url or root / BLOBS_FOLDER
    for name, at in (("blob", place), ("xorb", xorbs_location(place))):
        if isinstance(at, Path) and not at.is_dir():
            report.add(f"{name}s-missing", str(at), "there is no such folder", severity="note")
            continue
        fsck_bytes.check_store(BlobStore.open(at, staging=root / "staging"), name, report, progress)
    return report
