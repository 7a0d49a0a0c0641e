"""The images of datasets as rows of the catalog, so that a page of a million is a query and not a file to read.

A revision's images are indexed once, by the digest of its tree: when it is committed, or when somebody first asks.
What is read is the form that the hub stores (`annotations.json`, COCO). Of it, only the fields below become objects:
masks are skipped by the decoder, and the file is mapped, not read.
"""

from __future__ import annotations

import mmap
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec

from hub.errors import UNREADABLE
from hub.schemas.resources import DatasetImage
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.repos.repos import Repos
from registry.types import FileEntry, RepoId

ANNOTATIONS = "annotations.json"
MAX_ANNOTATIONS = 2 * 1024**3
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_CHUNK = 20_000
_MAX_SIDE = 1_000_000

_Side = Annotated[int, msgspec.Meta(gt=0, le=_MAX_SIDE)]


class _Image(msgspec.Struct, frozen=True, gc=False):
    id: int
    file_name: str
    width: _Side | None = None
    height: _Side | None = None
    split: str | None = None


class _Annotation(msgspec.Struct, frozen=True, gc=False):
    image_id: int
    category_id: int | None = None


class _Category(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


_KEPT = 2048
_decode = msgspec.json.Decoder(_Coco).decode


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a dataset; `width` and `height` in pixels where they are known."""

    file: str
    sha256: str
    bytes: int
    width: int | None = None
    height: int | None = None
    split: str | None = None
    instances: int = 0


@dataclass(frozen=True, slots=True)
class ImageSet:
    """An indexed revision: its number in the catalog, what it holds, and why less is known than should be."""

    number: int
    images: int
    instances: int
    classes: dict[str, int]
    note: str


class ImageIndex:
    """The index. Use from any number of threads."""

    def __init__(self, catalog: Catalog, repos: Repos, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._repos = repos
        self._blobs = blobs
        self._building = threading.Lock()
        # What a commit holds never changes, and one page asks for it several times.
        self._kept: dict[tuple[int, str], ImageSet] = {}

    def of(self, repo: RepoId, revision: str) -> ImageSet:
        """The images of a revision, indexed now if they were not yet. Raises as `Repos.resolve`."""
        key = self._repos.get(repo).key  # of the repository that bears the name now
        if kept := self._kept.get((key, revision)):
            return kept
        commit = self._repos.resolve(repo, revision)
        found = self._of(repo, key, commit.id, commit.tree)
        if commit.id == revision:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key, revision] = found
        return found

    def _of(self, repo: RepoId, key: int, revision: str, tree: str) -> ImageSet:
        if found := self._find(key, tree):
            return found
        with self._building:  # two readers of a new revision index it once
            if found := self._find(key, tree):
                return found
            rows, classes, note = self._read({entry.path: entry for entry in self._repos.tree(repo, revision)})
            return self.add(key, tree, rows, classes, note)

    def page(self, number: int, *, after: int = -1, limit: int = 100, split: str | None = None) -> list[DatasetImage]:
        """At most `limit` images of a set in their order, those behind position `after`."""
        wanted, params = "", [number, after]
        if split is not None:
            wanted, params = "AND split = ?", [number, after, split]  # type: ignore[list-item]
        rows = self._catalog.query(
            "SELECT pos, file, width, height, split, instances, sha256, bytes FROM hub_images "  # noqa: S608
            f"WHERE set_number = ? AND pos > ? {wanted} ORDER BY pos LIMIT ?",
            [*params, limit],
        )
        return [
            DatasetImage(
                pos=row[0], file=row[1], width=row[2], height=row[3], split=row[4], instances=row[5],
                sha256=row[6], bytes=row[7],
            )
            for row in rows
        ]  # fmt: skip

    def add(
        self, repo: int, tree: str, rows: Sequence[ImageRow], classes: Mapping[str, int], note: str = ""
    ) -> ImageSet:
        """Keep the images of a repository's tree."""
        instances = sum(row.instances for row in rows)
        with self._catalog.write() as db:
            made = db.execute(
                "INSERT INTO hub_image_sets (repo, tree, images, instances, classes, note) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING number",
                [repo, tree, len(rows), instances, msgspec.json.encode(classes).decode(), note],
            ).fetchone()
            assert made is not None  # noqa: S101  # RETURNING gives the row it inserted
            number = int(made[0])
            for at in range(0, len(rows), _CHUNK):
                part = rows[at : at + _CHUNK]
                db.execute(
                    "INSERT INTO hub_images SELECT ?, unnest(?::INTEGER[]), unnest(?::VARCHAR[]),"
                    " unnest(?::INTEGER[]), unnest(?::INTEGER[]), unnest(?::VARCHAR[]), unnest(?::INTEGER[]),"
                    " unnest(?::VARCHAR[]), unnest(?::BIGINT[])",
                    [
                        number,
                        list(range(at, at + len(part))),
                        [row.file for row in part],
                        [row.width for row in part],
                        [row.height for row in part],
                        [row.split for row in part],
                        [row.instances for row in part],
                        [row.sha256 for row in part],
                        [row.bytes for row in part],
                    ],
                )
        return ImageSet(number, len(rows), instances, dict(classes), note)

    def forget(self, repo: int) -> None:
        """Drop what is known of a repository that is deleted."""
        self._kept.clear()
        with self._catalog.write() as db:
            db.execute(
                "DELETE FROM hub_images WHERE set_number IN (SELECT number FROM hub_image_sets WHERE repo = ?)", [repo]
            )
            db.execute("DELETE FROM hub_image_sets WHERE repo = ?", [repo])

    def _find(self, repo: int, tree: str) -> ImageSet | None:
        rows = self._catalog.query(
            "SELECT tree, number, images, instances, classes, note FROM hub_image_sets WHERE repo = ?", [repo]
        )
        row = next((row for row in rows if row[0] == tree), None)
        return None if row is None else ImageSet(row[1], row[2], row[3], msgspec.json.decode(row[4]), row[5])

    def _read(self, files: Mapping[str, FileEntry]) -> tuple[list[ImageRow], dict[str, int], str]:
        """The images of a tree, instances per class, and what is wrong with its annotations, if anything is."""
        entry = files.get(ANNOTATIONS)
        if entry is None:
            return _bare(files), {}, f"there is no {ANNOTATIONS}; only files are listed"
        if entry.size > MAX_ANNOTATIONS:
            return _bare(files), {}, f"{ANNOTATIONS} has more than {MAX_ANNOTATIONS:,} bytes; only files are listed"
        try:
            with self._mapped(entry) as text:
                document = _decode(text)
        except UNREADABLE as error:
            return _bare(files), {}, f"{ANNOTATIONS}: {error}"[:500]
        return _described(document, files)

    @contextmanager
    def _mapped(self, entry: FileEntry) -> Iterator[mmap.mmap]:
        path = self._blobs.local_path(entry.sha256)
        if path is not None:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield text
            return
        with tempfile.TemporaryFile() as copy:
            for chunk in self._blobs.iter_range(entry.sha256):
                copy.write(chunk)
            copy.flush()
            with mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ) as text:
                yield text


def _described(document: _Coco, files: Mapping[str, FileEntry]) -> tuple[list[ImageRow], dict[str, int], str]:
    counts = Counter(one.image_id for one in document.annotations)
    names = {category.id: category.name for category in document.categories}
    used = Counter(one.category_id for one in document.annotations)
    rows, missing = [], 0
    for image in document.images:
        entry = files.get(image.file_name) or files.get(f"images/{image.file_name}")
        if entry is None:
            missing += 1
            continue
        rows.append(
            ImageRow(
                entry.path, entry.sha256, entry.size, image.width, image.height, image.split, counts.get(image.id, 0)
            )
        )
    classes = {name: used.get(number, 0) for number, name in names.items()}
    return rows, classes, f"{missing} images of {ANNOTATIONS} are not in the repository" if missing else ""


def _bare(files: Mapping[str, FileEntry]) -> list[ImageRow]:
    return [
        ImageRow(path, entry.sha256, entry.size)
        for path, entry in sorted(files.items())
        if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES
    ]


def is_image(path: str) -> bool:
    """Whether a path of a repository is called like a picture."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES
