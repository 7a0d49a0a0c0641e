"""Trees: which files a commit holds, stored so that a hundred versions of many files stay small.

A tree's digest is the sha256 of its manifest: one line `<sha256> <size> <path>` per file (`<size>+` for a large
file in git's sense), sorted by the path's bytes. The manifest itself is never stored. The catalog keeps a tree as a
list of *pages*, each page the entries of about 128 neighbouring paths, named by the sha256 of its own lines. A page
ends after a path whose checksum says so, so that where pages end depends on the paths alone: a version that changes
one file shares every page but one with the version before, equal trees share all, and looking up a path reads one
page however large the tree.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from registry.canonical import sha256_of
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import CatalogError, InvalidPathError
from registry.types import Digest, FileEntry

_PAGE_MASK = 127
_FETCH = 64  # pages per statement: DuckDB still answers such a list from its index, a longer one by a scan


@dataclass(frozen=True, slots=True)
class Page:
    """Neighbouring entries of a tree, in order."""

    digest: Digest
    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole tree, cut into pages."""

    digest: Digest
    pages: tuple[Page, ...]

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """All files, sorted by path."""
        return tuple(entry for page in self.pages for entry in page.entries)


def build(entries: Iterable[FileEntry]) -> Tree:
    """Sort and cut. Raises InvalidPathError if a path is a file here and a folder there, or comes twice."""
    ordered = sorted(entries, key=lambda entry: entry.path.encode())
    _check_clashes(ordered)
    whole = hashlib.sha256()
    pages = []
    for group in _cut(ordered):
        lines = lines_of(group)
        whole.update(lines)
        pages.append(Page(sha256_of(lines), tuple(group)))
    return Tree(whole.hexdigest(), tuple(pages))


def lines_of(entries: Iterable[FileEntry]) -> bytes:
    """The lines of a manifest."""
    return b"".join(f"{e.sha256} {e.size}{'+' * e.lfs} {e.path}\n".encode() for e in entries)


def store(tx: Cursor, trees: Sequence[Tree]) -> None:
    """Write the pages and the trees that are not there yet."""
    unique = {tree.digest: tree for tree in trees}
    for known in _known(tx, "trees", list(unique)):
        del unique[known]
    pages = {page.digest: page for tree in unique.values() for page in tree.pages}
    for known in _known(tx, "tree_pages", list(pages)):
        del pages[known]
    rows = []
    for page in pages.values():
        large = [entry.lfs for entry in page.entries]
        rows.append(
            (
                page.digest,
                [entry.path for entry in page.entries],
                [entry.sha256 for entry in page.entries],
                [entry.size for entry in page.entries],
                large if any(large) else None,
            )
        )
    tx.insert("tree_pages (digest, paths, sha256s, sizes, lfs)", rows)
    tx.insert(
        "trees",
        [
            (
                tree.digest,
                len(tree.entries),
                sum(entry.size for entry in tree.entries),
                [page.digest for page in tree.pages],
                [page.entries[0].path for page in tree.pages],
            )
            for tree in unique.values()
        ],
    )


def _known(tx: Cursor, table: str, digests: Sequence[Digest]) -> Iterator[Digest]:
    for at in range(0, len(digests), _FETCH):
        some = digests[at : at + _FETCH]
        marks = ", ".join("?" * len(some))
        for row in tx.execute(f"SELECT digest FROM {table} WHERE digest IN ({marks})", some).fetchall():  # noqa: S608
            yield row[0]


def load(catalog: Catalog, digest: Digest) -> tuple[FileEntry, ...]:
    """All files of a stored tree, sorted by path. Raises CatalogError if it is not whole."""
    pages, _ = _directory(catalog, digest)
    found: dict[Digest, tuple[FileEntry, ...]] = {}
    for at in range(0, len(pages), _FETCH):
        found |= _fetch(catalog, pages[at : at + _FETCH])
    if missing := set(pages) - found.keys():
        raise CatalogError(f"tree {digest[:12]} lacks {len(missing)} of its {len(pages)} pages")
    return tuple(entry for page in pages for entry in found[page])


def load_all(catalog: Catalog, digests: Iterable[Digest]) -> dict[Digest, tuple[FileEntry, ...]]:
    """All files of many stored trees; one that is not whole is left out. Two statements for every 64 of them."""
    wanted = list(dict.fromkeys(digests))
    directories: dict[Digest, list[Digest]] = {}
    for at in range(0, len(wanted), _FETCH):
        some = wanted[at : at + _FETCH]
        marks = ", ".join("?" * len(some))
        directories |= dict(
            catalog.query(f"SELECT digest, pages FROM trees WHERE digest IN ({marks})", some)  # noqa: S608
        )
    pages = list(dict.fromkeys(page for each in directories.values() for page in each))
    found: dict[Digest, tuple[FileEntry, ...]] = {}
    for at in range(0, len(pages), _FETCH):
        found |= _fetch(catalog, pages[at : at + _FETCH])
    return {
        digest: tuple(entry for page in each for entry in found[page])
        for digest, each in directories.items()
        if all(page in found for page in each)
    }


def find(catalog: Catalog, digest: Digest, path: str) -> FileEntry | None:
    """The entry at `path` of a stored tree, or None. Raises CatalogError if the tree is not whole."""
    pages, first_paths = _directory(catalog, digest)
    at = bisect.bisect_right(first_paths, path.encode(), key=str.encode) - 1
    if at < 0:
        return None
    page = _fetch(catalog, [pages[at]]).get(pages[at])
    if page is None:
        raise CatalogError(f"tree {digest[:12]} lacks the page {pages[at][:12]}")
    return next((entry for entry in page if entry.path == path), None)


def _directory(catalog: Catalog, digest: Digest) -> tuple[list[Digest], list[str]]:
    rows = catalog.query("SELECT pages, first_paths FROM trees WHERE digest = ?", [digest])
    if not rows:
        raise CatalogError(f"there is no tree {digest[:12]}")
    pages, first_paths = rows[0]
    return pages, first_paths


def _fetch(catalog: Catalog, pages: Sequence[Digest]) -> dict[Digest, tuple[FileEntry, ...]]:
    # Only the number of placeholders varies.
    marks = ", ".join("?" * len(pages))
    sql = f"SELECT digest, paths, sha256s, sizes, lfs FROM tree_pages WHERE digest IN ({marks})"  # noqa: S608
    return {
        digest: tuple(
            FileEntry(*file) for file in zip(paths, digests, sizes, lfs or itertools.repeat(False), strict=False)
        )
        for digest, paths, digests, sizes, lfs in catalog.query(sql, pages)
    }


def _cut(ordered: Sequence[FileEntry]) -> Iterator[Sequence[FileEntry]]:
    start = 0
    for at, entry in enumerate(ordered, 1):
        if at == len(ordered) or zlib.crc32(entry.path.encode()) & _PAGE_MASK == 0:
            yield ordered[start:at]
            start = at


def _check_clashes(ordered: Sequence[FileEntry]) -> None:
    files = {entry.path for entry in ordered}
    if len(files) != len(ordered):
        double = next(b.path for a, b in itertools.pairwise(ordered) if a.path == b.path)
        raise InvalidPathError("path", double, "is given twice")
    folders = set()
    for path in files:
        folder = path
        while (cut := folder.rfind("/")) > 0:
            folder = folder[:cut]
            if folder in folders:
                break
            folders.add(folder)
    for clash in sorted(folders & files):
        raise InvalidPathError("path", clash, "is a file and a folder of the same tree")
