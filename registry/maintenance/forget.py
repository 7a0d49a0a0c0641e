"""Removes the bytes of one blob on purpose, and remembers that: what still names it is no damage then."""

from __future__ import annotations

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.types import Digest
from registry.xet import XetStore


def forget_bytes(catalog: Catalog, blobs: BlobStore, xet: XetStore, sha256: Digest, at: float) -> bool:
    """Remove a blob from the store, whoever names it, and note it as forgotten at `at` (epoch seconds).

    Returns whether bytes of it stay in packs of chunks that it shares with other files. Raises BlobStoreError,
    CatalogError. Again is safe.
    """

    def note(tx: Cursor) -> tuple[list[str], bool]:
        tx.execute("INSERT OR IGNORE INTO forgotten_blobs VALUES (?, ?)", [sha256, at])
        files = tx.execute("SELECT hash, xorbs FROM xet_files WHERE sha256 = ?", [sha256]).fetchall()
        names, packs = [row[0] for row in files], {key for row in files for key in row[1]}
        tx.execute("DELETE FROM xet_landmarks WHERE list_contains(?::VARCHAR[], file)", [names])
        tx.execute("DELETE FROM xet_registrations WHERE list_contains(?::VARCHAR[], file)", [names])
        tx.execute("DELETE FROM xet_files WHERE sha256 = ?", [sha256])
        used = {row[0] for row in tx.execute("SELECT DISTINCT unnest(xorbs) FROM xet_files").fetchall()}
        alone = sorted(packs - used)
        gone = tx.execute(
            "DELETE FROM xet_xorbs WHERE list_contains(?::BIGINT[], key) RETURNING blob", [alone]
        ).fetchall()
        return [str(row[0]) for row in gone], bool(packs & used)

    packs, shared = catalog.run(note)
    blobs.delete(sha256)
    for pack in packs:
        xet.xorbs.delete(pack)
    return shared
