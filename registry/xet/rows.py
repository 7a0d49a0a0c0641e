"""Rows of the Xet tables: how they are read and written."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from registry.catalog.catalog import Catalog, to_db
from registry.catalog.cursor import Cursor
from registry.errors import BlobNotFoundError, UnknownXorbError, XetFileNotFoundError
from registry.types import Digest
from registry.xet.hashes import XetHash
from registry.xet.plan import Run, StoredXorb
from registry.xet.xorbs import ChunkTable

EVERYBODY = ""
"""The holder of the epoch that all share."""

_XORB = "key, hash, blob, packed, chunks"
# A list of this many is answered from the index, a longer one by one look at the whole table.
_FEW = 64


class Returned(Exception):  # noqa: N818  # not an error: a xorb that was about to leave was uploaded again
    """Raised when a xorb is not to be removed after all."""


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file: its Xet hash, the sha256 of its bytes, their number."""

    hash: XetHash
    sha256: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a xorb when it was announced."""

    stored: bool
    blob: Digest | None


# Xorbs


def announce(tx: Cursor, name: XetHash, blob: Digest, table: ChunkTable) -> Before:
    """Note that a xorb's bytes are about to be stored; one that is stored is touched instead."""
    row = tx.execute("SELECT state, blob FROM xet_xorbs WHERE hash = ?", [name]).fetchone()
    values = [blob, table.packed, table.raw, len(table), _now()]
    if row is None:
        tx.execute(
            "INSERT INTO xet_xorbs (hash, state, blob, packed, raw, chunks, touched_at) "
            "VALUES (?, 'arriving', ?, ?, ?, ?, ?)",
            [name, *values],
        )
        return Before(stored=False, blob=None)
    if row[0] == "stored":
        tx.execute("UPDATE xet_xorbs SET touched_at = ? WHERE hash = ?", [_now(), name])
        return Before(stored=True, blob=row[1])
    tx.execute(
        "UPDATE xet_xorbs SET state = 'arriving', blob = ?, packed = ?, raw = ?, chunks = ?, touched_at = ? "
        "WHERE hash = ?",
        [*values, name],
    )
    return Before(stored=False, blob=row[1])


def set_stored(tx: Cursor, name: XetHash) -> None:
    """The xorb's bytes are safe."""
    tx.execute("UPDATE xet_xorbs SET state = 'stored' WHERE hash = ?", [name])


def touch(tx: Cursor, names: Sequence[XetHash]) -> set[XetHash]:
    """Begin the grace period of these xorbs anew; gives those that are stored."""
    rows = tx.execute(
        f"SELECT hash FROM xet_xorbs WHERE state = 'stored' AND hash IN ({_marks(names)})",  # noqa: S608
        _one_or_list(names),
    ).fetchall()
    found = {row[0] for row in rows}
    if found:
        tx.execute(
            f"UPDATE xet_xorbs SET touched_at = ? WHERE hash IN ({_marks(found)})",  # noqa: S608
            [_now(), *_one_or_list(list(found))],
        )
    return found


def touch_or_refuse(tx: Cursor, names: Sequence[XetHash]) -> None:
    """As `touch`. Raises UnknownXorbError unless all are stored."""
    wanted = list(dict.fromkeys(names))
    found = touch(tx, wanted)
    if missing := tuple(name for name in wanted if name not in found):
        raise UnknownXorbError(missing)


def xorb_of_hash(catalog: Catalog, name: XetHash) -> StoredXorb:
    """Raises BlobNotFoundError."""
    found = xorbs_of_hashes(catalog, [name])
    if not found:
        raise BlobNotFoundError(name)
    return found[name]


def xorbs_of_hashes(catalog: Catalog, names: Sequence[XetHash]) -> dict[XetHash, StoredXorb]:
    """The stored ones."""
    rows = catalog.query(
        f"SELECT {_XORB} FROM xet_xorbs WHERE state = 'stored' AND hash IN ({_marks(names)})",  # noqa: S608
        _one_or_list(names),
    )
    return {row[1]: StoredXorb(*row) for row in rows}


def leaving(catalog: Catalog) -> list[XetHash]:
    """Xorbs that are to be removed."""
    return [row[0] for row in catalog.query("SELECT hash FROM xet_xorbs WHERE state = 'leaving'")]


def still_leaving(catalog: Catalog, name: XetHash) -> StoredXorb:
    """Raises Returned."""
    rows = catalog.query(f"SELECT {_XORB}, state FROM xet_xorbs WHERE hash = ?", [name])  # noqa: S608
    if not rows or rows[0][-1] != "leaving":
        raise Returned
    return StoredXorb(*rows[0][:-1])


def mark_leaving(tx: Cursor, before: datetime) -> bool:
    """Mark the xorbs that no file uses and nobody touched since; whether any of them had been stored."""
    tx.execute(
        "CREATE OR REPLACE TEMP TABLE xet_unused AS SELECT key, state FROM xet_xorbs "
        "WHERE state <> 'leaving' AND touched_at < ? AND key NOT IN (SELECT unnest(xorbs) FROM xet_files)",
        [before],
    )
    tx.execute("UPDATE xet_xorbs SET state = 'leaving' WHERE key IN (SELECT key FROM xet_unused)")
    row = tx.execute("SELECT count(*) FROM xet_unused WHERE state = 'stored'").fetchone()
    return bool(row and row[0])


def drop_xorb(tx: Cursor, xorb: StoredXorb) -> None:
    """Forget a xorb whose bytes are gone."""
    tx.execute("DELETE FROM xet_xorbs WHERE key = ?", [xorb.key])


# Files


def insert_file(tx: Cursor, file: XetFile, runs: Sequence[Run], landmarks: Sequence[XetHash]) -> None:
    """Add a file unless it is there; its grace period begins anew. `landmarks`: chunks that clients ask about."""
    tx.execute(
        "INSERT OR IGNORE INTO xet_landmarks SELECT unnest(?::VARCHAR[]), ?",
        [list(landmarks), file.hash],
    )
    tx.execute(
        "INSERT OR IGNORE INTO xet_files VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            file.hash,
            file.sha256,
            file.size,
            [run.xorb.key for run in runs],
            [run.start for run in runs],
            [run.end for run in runs],
            [run.length for run in runs],
        ],
    )
    tx.execute(
        "INSERT INTO xet_registrations VALUES (?, ?) ON CONFLICT DO UPDATE SET registered_at = excluded.registered_at",
        [file.hash, _now()],
    )


def file_of_hash(catalog: Catalog, name: XetHash) -> XetFile | None:
    """The registered file with this Xet hash; None if there is none. Its size is in bytes."""
    rows = catalog.query("SELECT hash, sha256, size FROM xet_files WHERE hash = ?", [name])
    return XetFile(*rows[0]) if rows else None


def files_of_hashes(catalog: Catalog, names: Sequence[XetHash]) -> dict[XetHash, XetFile]:
    """Those of these files that are here, by hash."""
    rows = catalog.query(
        "SELECT hash, sha256, size FROM xet_files WHERE hash IN (SELECT unnest(?::VARCHAR[]))", [list(names)]
    )
    return {row[0]: XetFile(*row) for row in rows}


def files_of_sha256s(catalog: Catalog, digests: Sequence[Digest]) -> list[XetFile]:
    """The files of these sha256s that are here, one of each."""
    if not digests:
        return []
    rows = catalog.query(
        f"SELECT hash, sha256, size FROM xet_files WHERE sha256 IN ({_marks(digests)}) ORDER BY hash",  # noqa: S608
        _one_or_list(digests),
    )
    return list({row[1]: XetFile(*row) for row in reversed(rows)}.values())


def files_of_landmark(catalog: Catalog, chunk: XetHash, limit: int) -> list[XetFile]:
    """Files that hold this chunk, if it is one that clients ask about."""
    rows = catalog.query(
        "SELECT f.hash, f.sha256, f.size FROM (SELECT file FROM xet_landmarks WHERE chunk = ?) l "
        "JOIN xet_files f ON f.hash = l.file ORDER BY f.size DESC, f.hash LIMIT ?",
        [chunk, limit],
    )
    return [XetFile(*row) for row in rows]


def registered_before(catalog: Catalog, names: Sequence[XetHash], moment: datetime) -> list[XetHash]:
    """Those of the files that nobody registered, or asked to keep, since then."""
    if not names:
        return []
    rows = catalog.query(
        f"SELECT file FROM (SELECT * FROM xet_registrations WHERE file IN ({_marks(names)})) "  # noqa: S608
        "WHERE registered_at < ?",
        [*_one_or_list(names), to_db(moment)],
    )
    return [row[0] for row in rows]


def touch_files(tx: Cursor, names: Sequence[XetHash]) -> None:
    """Begin the grace period of these files anew, as far as they are still there."""
    tx.execute(
        f"UPDATE xet_registrations SET registered_at = ? WHERE file IN ({_marks(names)})",  # noqa: S608
        [_now(), *_one_or_list(names)],
    )


def runs_of_file(catalog: Catalog, name: XetHash) -> tuple[XetFile, tuple[Run, ...]]:
    """Raises XetFileNotFoundError, and BlobNotFoundError if one of its xorbs is lost."""
    with catalog.read() as tx:
        row = tx.execute(
            "SELECT hash, sha256, size, xorbs, starts, ends, lengths FROM xet_files WHERE hash = ?", [name]
        ).fetchone()
        if row is None:
            raise XetFileNotFoundError(name)
        keys = sorted(set(row[3]))
        found = tx.execute(
            f"SELECT {_XORB} FROM xet_xorbs WHERE key IN ({_marks(keys)})",  # noqa: S608
            _one_or_list(keys),
        ).fetchall()
    xorbs = {one[0]: StoredXorb(*one) for one in found}
    if len(xorbs) < len(keys):
        raise BlobNotFoundError(name)
    runs = zip(row[3], row[4], row[5], row[6], strict=True)
    return XetFile(*row[:3]), tuple(Run(xorbs[key], start, end, length) for key, start, end, length in runs)


def drop_files(tx: Cursor, before: datetime) -> int:
    """Forget the files that were not registered since, and that no repo's history holds; gives their number."""
    tx.execute(
        "CREATE OR REPLACE TEMP TABLE xet_unwanted AS SELECT f.hash FROM xet_files f "
        "JOIN xet_registrations r ON r.file = f.hash WHERE r.registered_at < ? AND f.sha256 NOT IN "
        "(SELECT unnest(p.sha256s) FROM tree_pages p WHERE p.digest IN "
        "(SELECT unnest(t.pages) FROM trees t WHERE t.digest IN (SELECT tree FROM commits)))",
        [before],
    )
    tx.execute("DELETE FROM xet_files WHERE hash IN (SELECT hash FROM xet_unwanted)")
    for table in ("xet_registrations", "xet_landmarks"):
        tx.execute(f"DELETE FROM {table} WHERE file IN (SELECT hash FROM xet_unwanted)")  # noqa: S608
    row = tx.execute("SELECT count(*) FROM xet_unwanted").fetchone()
    return int(row[0]) if row else 0


def sha256_of_pieces(pieces: Iterable[bytes | memoryview]) -> Digest:
    """The sha256 of the pieces, one after the other."""
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


# Epochs


def ensure_identity(tx: Cursor) -> None:
    """Give a new store a name that no other store ever had."""
    if tx.execute("SELECT 1 FROM xet_identity").fetchone() is None:
        tx.execute("INSERT INTO xet_identity VALUES (?)", [secrets.token_hex(6)])


def epoch(catalog: Catalog, holder: str) -> str:
    """Names the store and counts the renewals for all and for the holder: `5f0c1a2b3c4d-0-2`."""
    with catalog.read() as tx:
        identity = tx.execute("SELECT id FROM xet_identity").fetchone()
        counts = dict(
            tx.execute("SELECT holder, number FROM xet_epochs WHERE holder IN (?, ?)", [EVERYBODY, holder]).fetchall()
        )
    return f"{identity[0] if identity else ''}-{counts.get(EVERYBODY, 0)}-{counts.get(holder, 0)}"


def renew_epoch(tx: Cursor, holder: str) -> None:
    """Give the holder the next epoch. Clients of theirs start anew."""
    tx.execute(
        "INSERT INTO xet_epochs VALUES (?, 1) ON CONFLICT DO UPDATE SET number = number + 1",
        [holder],
    )


def _marks(values: Sequence[object] | set[str]) -> str:
    return ", ".join("?" * len(values)) if 0 < len(values) <= _FEW else "SELECT unnest(?)"


def _one_or_list(values: Sequence[object]) -> list[object]:
    """The parameters that go with `_marks`."""
    return list(values) if 0 < len(values) <= _FEW else [list(values)]


def _now() -> datetime:
    return to_db(datetime.now(UTC))
