"""What each repo's main branch shows: its commit, its time, and its card, kept so that a listing is one statement.

A card is read while its commit is made, outside the write lock, and stored in the same transaction as the commit. It
depends on the README and on the names of a few files; a commit that changes neither only moves the head.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog, from_db, to_db
from registry.catalog.cursor import Cursor
from registry.errors import BlobStoreError, DigestMismatchError, NotFoundError
from registry.repos import trees
from registry.repos.cards import MAX_README, README, Card, CardError, card_of, read_head, strings
from registry.types import Digest, FileEntry

_BATCH: Final = 500
CONFIG: Final = "config.json"
_NAMES: Final = ("adapter_config.json", CONFIG)
_FORM: Final = " 2"
"""Ends each `source`; cards that were read by other rules have another end, and are read again."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest commit of a main branch and what its files say of it; `source` is what the card was read from."""

    commit: Digest
    modified: datetime
    source: str
    card: Card


def source_of(files: Iterable[FileEntry]) -> str:
    """What a card depends on, as a word: equal words, equal cards."""
    read, names, weights = {README: "-", CONFIG: "-"}, set(), False
    for file in files:
        if file.path in read and file.size <= MAX_README:
            read[file.path] = file.sha256
        if file.path in _NAMES:
            names.add(file.path)
        weights = weights or file.path.endswith(".safetensors")
    there = "".join(str(int(name in names)) for name in _NAMES)
    return f"{read[README]} {read[CONFIG]} {there}{int(weights)}{_FORM}"


def read_card(blobs: BlobStore, files: Sequence[FileEntry]) -> Card:
    """The card of any state of a repo; one that cannot be read says nothing."""
    data: dict[str, Any] = {}
    with contextlib.suppress(CardError):
        data = read_head(_text(blobs, files, README))
    architectures: list[str] = []
    with contextlib.suppress(ValueError, RecursionError):
        config = json.loads(_text(blobs, files, CONFIG))
        architectures = strings(config.get("architectures")) if isinstance(config, dict) else []
    return card_of(data, (file.path for file in files), architectures)


def _text(blobs: BlobStore, files: Sequence[FileEntry], path: str) -> str:
    entry = next((file for file in files if file.path == path), None)
    if entry is None or entry.size > MAX_README:
        return ""
    try:
        return blobs.read(entry.sha256).decode("utf-8", "replace")
    except (NotFoundError, DigestMismatchError, BlobStoreError):  # damage is for fsck to name
        return ""


def move(tx: Cursor, key: int, commit: Digest, modified: datetime) -> None:
    """The head is another commit, whose card is the same."""
    tx.execute("UPDATE repo_heads SET commit = ?, modified = ? WHERE repo = ?", [commit, to_db(modified), key])


def put(tx: Cursor, key: int, head: Head) -> None:
    """The head is another commit, and its card may be another one."""
    drop(tx, key)
    put_all(tx, [(key, head)])


def put_all(tx: Cursor, heads: Sequence[tuple[int, Head]]) -> None:
    """As `put`, for many repos that have no head yet."""
    rows = [
        (
            key,
            head.commit,
            to_db(head.modified),
            head.source,
            head.card.pipeline_tag,
            head.card.library_name,
            json.dumps(head.card.tags),
            json.dumps(head.card.data),
        )
        for key, head in heads
    ]
    tx.insert("repo_heads (repo, commit, modified, source, pipeline_tag, library_name, tags, card)", rows)
    tags = [(key, tag) for key, head in heads for tag in sorted({tag.lower() for tag in head.card.tags})]
    tx.insert("repo_tags (repo, tag)", tags)


def drop(tx: Cursor, key: int) -> None:
    """The repo has no main branch any more."""
    for table in ("repo_heads", "repo_tags"):
        tx.execute(f"DELETE FROM {table} WHERE repo = ?", [key])  # noqa: S608  # one of two names


def card_of_row(tags: str, pipeline_tag: str | None, library_name: str | None, card: str) -> Card:
    """From the columns `tags, pipeline_tag, library_name, card`."""
    return Card(json.loads(card), tuple(json.loads(tags)), pipeline_tag, library_name)


def catch_up(catalog: Catalog, blobs: BlobStore) -> int:
    """Read the cards that were read by older rules, or never; gives their number. Raises CatalogError."""
    rows = catalog.query(
        "SELECT h.repo, h.commit, h.modified, c.tree FROM repo_heads h JOIN commits c ON c.id = h.commit "
        "WHERE NOT ends_with(h.source, ?) ORDER BY h.repo",
        [_FORM],
    )
    for at in range(0, len(rows), _BATCH):
        some = rows[at : at + _BATCH]
        files = trees.load_all(catalog, [row[3] for row in some])
        heads = []
        for key, commit, modified, tree in some:
            # A tree that is not whole is fsck's to name; the catalog opens all the same.
            there = files.get(tree, ())
            heads.append((key, Head(commit, from_db(modified), source_of(there), read_card(blobs, there))))
        with catalog.write() as tx:
            for key, _ in heads:
                drop(tx, key)
            put_all(tx, heads)
    return len(rows)
