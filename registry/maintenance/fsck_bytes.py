"""Whether the bytes are there that the catalog speaks of, and whether they are what their names say."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from registry.blobs.blobs import BlobStore
from registry.catalog.cursor import Cursor
from registry.errors import RegistryError
from registry.maintenance.fsck_report import Progress, Report
from registry.repos import trees
from registry.types import Digest, FileEntry
from registry.xet import XetStore

_SLICE = 20_000
_TABLE_BYTES = 40  # of a chunk, in the table at the end of its xorb

_NEEDED = (
    "SELECT DISTINCT unnest(p.sha256s) AS sha256, unnest(p.sizes) AS size FROM "
    "(SELECT DISTINCT unnest(t.pages) AS page FROM (SELECT DISTINCT tree FROM commits) c "
    "JOIN trees t ON t.digest = c.tree) n JOIN tree_pages p ON p.digest = n.page"
)
# One commit of each repo that needs the blob is enough to know where to look.
_USERS = (
    "SELECT x.sha256, r.type || ' ' || r.namespace || '/' || r.name, c.id, x.path FROM "
    "(SELECT p.digest, unnest(p.sha256s) AS sha256, unnest(p.paths) AS path FROM tree_pages p "
    "WHERE list_has_any(p.sha256s, ?::VARCHAR[])) x "
    "JOIN trees t ON list_contains(t.pages, x.digest) JOIN commits c ON c.tree = t.digest "
    "JOIN repos r ON r.key = c.repo WHERE list_contains(?::VARCHAR[], x.sha256) ORDER BY c.depth LIMIT 10000"
)


def take_inventory(tx: Cursor, blobs: BlobStore, xorbs: BlobStore, report: Report, progress: Progress) -> None:
    """List both stores into the temporary table `fsck_stored`, for the checks that follow in this transaction."""
    tx.execute("CREATE OR REPLACE TEMP TABLE fsck_stored (store VARCHAR, sha256 VARCHAR, size BIGINT)")
    for name, store in (("blob", blobs), ("xorb", xorbs)):
        listed = store.all()
        done = 0
        while some := list(itertools.islice(listed, _SLICE)):
            tx.execute(
                "INSERT INTO fsck_stored SELECT ?, unnest(?::VARCHAR[]), unnest(?::BIGINT[])",
                [name, [one.sha256 for one in some], [one.size for one in some]],
            )
            done += len(some)
            progress(f"{name}s listed", done, 0)
        report.saw(f"{name}s stored", done)


def check_presence(tx: Cursor, report: Report, progress: Progress) -> None:
    """Blobs that commits need, and xorbs that files need: whether they are stored, with the right size."""
    progress("needed blobs", 0, 0)
    missing = tx.execute(
        f"SELECT n.sha256, n.size, any_value(s.size) FROM ({_NEEDED}) n "  # noqa: S608  # constants
        "LEFT JOIN fsck_stored s ON s.store = 'blob' AND s.sha256 = n.sha256 "
        "ANTI JOIN xet_files f ON f.sha256 = n.sha256 AND f.size = n.size "
        "GROUP BY n.sha256, n.size HAVING any_value(s.size) IS NULL OR any_value(s.size) <> n.size"
    ).fetchall()
    users = users_of(tx, [row[0] for row in missing])
    forgotten = {row[0] for row in tx.execute("SELECT sha256 FROM forgotten_blobs").fetchall()}
    for sha256, size, found in missing:
        where = users.get(sha256, "of a commit")
        if found is None and sha256 in forgotten:
            report.add("blob-forgotten", sha256, f"removed on request; {where}", severity="note")
        elif found is None:
            report.add("blob-missing", sha256, f"{size} bytes, {where}")
        else:
            report.add("blob-size", sha256, f"has {found} bytes, not {size}; {where}")
    for name, blob, size, found in tx.execute(
        "SELECT o.hash, o.blob, o.packed + ? * o.chunks, s.size FROM xet_xorbs o "
        "LEFT JOIN fsck_stored s ON s.store = 'xorb' AND s.sha256 = o.blob "
        "WHERE o.state = 'stored' AND (s.size IS NULL OR s.size <> o.packed + ? * o.chunks)",
        [_TABLE_BYTES, _TABLE_BYTES],
    ).fetchall():
        if found is None:
            report.add("xorb-missing", name, f"its blob {blob} of {size} bytes is not stored")
        else:
            report.add("xorb-size", name, f"its blob {blob} has {found} bytes, not {size}")
    for decision, cell in tx.execute(
        "SELECT d.id, d.cell FROM decisions d LEFT JOIN fsck_stored s ON s.store = 'blob' AND s.sha256 = d.id "
        "WHERE s.sha256 IS NULL"
    ).fetchall():
        report.add("decision-blob", decision, f"the record of a decision about {cell} is not stored as a blob")
    _check_lineage(tx, report)


def _check_lineage(tx: Cursor, report: Report) -> None:
    """Every node is a commit or a blob; one of a repo that is gone was deleted on purpose."""
    lost = tx.execute(
        "SELECT a.kind, a.name, a.revision, EXISTS (SELECT 1 FROM repos r "
        "WHERE r.namespace || '/' || r.name = regexp_replace(a.name, '@.*', '')) FROM artifacts a "
        "LEFT JOIN commits c ON c.id = a.revision "
        "LEFT JOIN fsck_stored s ON s.store = 'blob' AND s.sha256 = a.revision "
        "LEFT JOIN xet_files f ON f.sha256 = a.revision "
        "WHERE c.id IS NULL AND s.sha256 IS NULL AND f.hash IS NULL"
    ).fetchall()
    for kind, name, revision, there in lost:
        of_repo = "/" in name
        damage = there or not of_repo
        detail = f"{revision} is neither a commit nor a blob" if damage else f"its repo is gone, with {revision}"
        report.add("lineage-lost", f"{kind} {name}", detail, severity="damage" if damage else "note")


def check_trees(tx: Cursor, report: Report, progress: Progress) -> None:
    """Every page and every tree against its digest."""
    total = report.checked.get("tree_pages", 0)
    tx.execute("SELECT digest, paths, sha256s, sizes, lfs FROM tree_pages")
    for at, row in enumerate(_rows(tx)):
        if at % 1000 == 0:
            progress("tree pages", at, total)
        lines = manifest(row[1:])
        if hashlib.sha256(lines).hexdigest() != row[0]:
            report.add("tree-page-digest", row[0], "holds other lines than its digest says")
    progress("tree pages", total, total)
    # A tree of one page has the page's digest; only large ones have more.
    large = tx.execute("SELECT digest, pages FROM trees WHERE len(pages) > 1 OR pages[1] <> digest").fetchall()
    for digest, pages in large:
        whole = hashlib.sha256()
        for page in pages:
            tx.execute("SELECT paths, sha256s, sizes, lfs FROM tree_pages WHERE digest = ?", [page])
            for row in _rows(tx):
                whole.update(manifest(row))
        if whole.hexdigest() != digest:
            report.add("tree-digest", digest, "its pages hold other lines than its digest says")


def manifest(columns: Sequence[Any]) -> bytes:
    """The lines of a page, from its columns paths, sha256s, sizes, lfs. Broken columns give no lines."""
    try:
        return trees.lines_of(
            FileEntry(*file)
            for file in zip(columns[0], columns[1], columns[2], columns[3] or itertools.repeat(False), strict=False)
        )
    except RegistryError:
        return b""


def check_digests(tx: Cursor, store: BlobStore, name: str, report: Report, progress: Progress) -> None:
    """Read every blob that the inventory names; one that went meanwhile was garbage."""
    rows = tx.execute("SELECT sha256, size FROM fsck_stored WHERE store = ? ORDER BY sha256", [name]).fetchall()
    wrong = dict(_wrong(store, rows, lambda done, total: progress(f"{name} bytes", done, total)))
    users = users_of(tx, list(wrong)) if name == "blob" else xorbs_of(tx, list(wrong))
    for sha256, said in wrong.items():
        report.add(f"{name}-digest", sha256, f"{said}; {users.get(sha256, 'nothing needs it')}")


def check_store(store: BlobStore, name: str, report: Report, progress: Progress) -> None:
    """Every blob of a store of which nothing else is known; a quick report counts them only."""
    rows = [(one.sha256, one.size) for one in store.all()]
    report.saw(f"{name}s stored", len(rows))
    if not report.quick:
        for sha256, said in _wrong(store, rows, lambda done, total: progress(f"{name} bytes", done, total)):
            report.add(f"{name}-digest", sha256, said)


def _wrong(
    store: BlobStore, rows: Sequence[tuple[Digest, int]], progress: Callable[[int, int], None]
) -> Iterator[tuple[Digest, str]]:
    total, done = sum(size for _, size in rows), 0
    for sha256, _ in rows:
        hasher = hashlib.sha256()
        try:
            for chunk in store.iter_range(sha256):
                hasher.update(chunk)
                done += len(chunk)
                progress(done, total)
        except RegistryError as error:
            if store.exists(sha256):
                yield sha256, f"cannot be read: {error}"
            continue
        if hasher.hexdigest() != sha256:
            yield sha256, f"its bytes hash to {hasher.hexdigest()}"
    progress(total, total)


def check_xet_files(tx: Cursor, xet: XetStore, report: Report, progress: Progress) -> None:
    """Every file put together from its chunks: against its Xet hash and against its sha256."""
    names = [row[0] for row in tx.execute("SELECT hash FROM xet_files ORDER BY hash").fetchall()]
    for at, name in enumerate(names):
        progress("xet files", at, len(names))
        try:
            file, runs = xet.file_and_runs(name)
            said = xet.recompute(runs)
        except (RegistryError, LookupError, ValueError) as error:  # rows that contradict each other
            report.add("xet-file", name, f"cannot be put together: {error}")
            continue
        if said.hash != name:
            report.add("xet-file", name, f"its chunks hash to {said.hash}")
        if said.sha256 != file.sha256:
            report.add("xet-file", name, f"its bytes have the sha256 {said.sha256}, not {file.sha256}")
    progress("xet files", len(names), len(names))


def users_of(tx: Cursor, digests: Sequence[Digest]) -> dict[Digest, str]:
    """Who needs these blobs, in words: `dataset acme/dock@3f9a2c61: images/7.png`."""
    found: dict[Digest, str] = {}
    for at in range(0, len(digests), 500):
        some = list(digests[at : at + 500])
        for sha256, repo, commit, path in tx.execute(_USERS, [some, some]).fetchall():
            found.setdefault(sha256, f"needed by {repo}@{commit[:12]}: {path}")
    return found


def xorbs_of(tx: Cursor, digests: Sequence[Digest]) -> dict[Digest, str]:
    """Which xorbs these blobs are, in words, and a file that they are part of."""
    found = {}
    for blob, name, key in tx.execute(
        "SELECT blob, hash, key FROM xet_xorbs WHERE list_contains(?::VARCHAR[], blob)", [list(digests)]
    ).fetchall():
        row = tx.execute("SELECT sha256 FROM xet_files WHERE list_contains(xorbs, ?) LIMIT 1", [key]).fetchone()
        found[blob] = f"xorb {name}" + (f", part of the file {row[0]}" if row else "")
    return found


def _rows(tx: Cursor) -> Iterator[tuple[Any, ...]]:
    while (row := tx.fetchone()) is not None:
        yield row
