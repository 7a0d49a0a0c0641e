"""Which digests and commit ids the catalog's tables mention, in whatever column, and the records that they name.

Tables of other floors count without being known here. A record that is mentioned and stored as a blob (a decision, a
deck, a policy) is read, and what it mentions counts in its turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from registry.blobs.blobs import BlobStore
from registry.catalog.cursor import Cursor
from registry.errors import NotFoundError

_RECORD_BYTES: Final = 1 << 20
"""Records are small; a large file that a table mentions mentions nothing itself."""
_DIGEST: Final = 64
_EXACT: Final = frozenset(
    {"repo_blobs", "tree_pages", "trees", "commits", "refs", "blob_git_ids", "hub_possessions"}
    | {"repo_heads", "repo_tags", "unreached", "forgotten_blobs", "loop_forgotten"}
    # Made from a tree's files, and made again when they are asked for.
    | {"hub_images", "hub_image_sets", "hub_checked_files", "git_commits", "hub_notices"}
)
"""What these mention is looked at exactly, or says only what somebody once sent, or what was worked out from it."""


def mentions(tx: Cursor, blobs: BlobStore, *, pinned: Iterable[str] = (), least: int = _DIGEST) -> set[str]:
    """Every word of `least` to 64 hexadecimal digits that is mentioned, `pinned` among them.

    Raises BlobStoreError, CatalogError.
    """
    found = {*_in_tables(tx, least), *pinned}
    # Most of them name commits, which are no blobs: an object store need not be asked about those.
    commits = "SELECT x.id FROM (SELECT unnest(?::VARCHAR[]) AS id) x SEMI JOIN commits c ON c.id = x.id"
    no_blobs = {row[0] for row in tx.execute(commits, [[*found]]).fetchall()}
    # Records are read until they mention nothing new.
    seen, fresh = set(found), {word for word in found if len(word) == _DIGEST} - no_blobs
    word_form = re.compile(rb"[0-9a-f]{%d,64}" % least)
    while fresh:
        more = {word for record in fresh for word in _in_record(blobs, record, word_form)} - seen
        seen |= more
        fresh = {word for word in more if len(word) == _DIGEST}
    return seen


def _in_tables(tx: Cursor, least: int) -> Iterator[str]:
    columns = tx.execute(
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal AND data_type IN ('VARCHAR', 'VARCHAR[]', 'JSON') AND NOT starts_with(table_name, 'xet_') "
        "AND NOT starts_with(table_name, 'gc_') AND database_name = current_database() ORDER BY ALL"
    ).fetchall()
    for schema, table, column, kind in columns:
        if table in _EXACT:
            continue
        text = f'"{column}"' if kind != "VARCHAR[]" else f"array_to_string(\"{column}\", ' ')"
        for (word,) in tx.execute(
            f"SELECT DISTINCT unnest(regexp_extract_all({text}, '[0-9a-f]{{{least},64}}')) "  # noqa: S608
            f'FROM "{schema}"."{table}"'
        ).fetchall():
            yield word


def _in_record(blobs: BlobStore, record: str, word_form: re.Pattern[bytes]) -> Iterator[str]:
    try:
        if blobs.size(record) <= _RECORD_BYTES:
            for word in word_form.findall(b"".join(blobs.iter_range(record))):
                yield word.decode()
    except NotFoundError:  # most digests are no blobs
        return
