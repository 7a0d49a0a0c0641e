"""Which catalog and which blobs belong together: an id that both carry.

A catalog without its blobs is useless, and blobs without their catalog are garbage to a collection: a hub that made
itself a new, empty catalog over somebody's blobs would remove them after their grace. So both have the same id, given
when they are first opened (folders from before there were ids get theirs then), and what does not fit is not opened.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.durable import write_file
from registry.errors import StoreMismatchError
from registry.folder import CATALOG_FILE, KEYS_FOLDER

log = logging.getLogger(__name__)

BACKUPS_FILE: Final = "backups.json"
"""The newest backups that were made of a folder, so that it can say what to restore."""
RESTORING: Final = "restoring"
_BACKUPS: Final = 5
_SAMPLE: Final = 32
_ID: Final = re.compile(r"[0-9a-f]{32}")


def of_catalog(catalog: Catalog) -> str | None:
    """The id that a catalog carries. Raises CatalogError."""
    rows = catalog.query("SELECT id FROM store_identity LIMIT 1")
    return str(rows[0][0]) if rows else None


def of_store(blobs: BlobStore) -> str | None:
    """The id that a blob store carries. Raises BlobStoreError, and StoreMismatchError for a mark that is none."""
    text = blobs.mark()
    if text is None:
        return None
    try:
        found = json.loads(text)["store"]
    except (ValueError, TypeError, KeyError):
        found = None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise StoreMismatchError(
            "the mark store.json beside the blobs cannot be read; remove it if you are sure that they are this hub's"
        )
    return found


def set_on_store(blobs: BlobStore, identity: str) -> None:
    """Make the store carry an id. Raises BlobStoreError."""
    blobs.set_mark(json.dumps({"store": identity}) + "\n")


def check_catalog_there(root: Path, blobs: BlobStore, place: str | Path) -> None:
    """Raise StoreMismatchError if there is no catalog, and blobs or keys tell that there was one. Changes nothing."""
    catalog = root / CATALOG_FILE
    if catalog.is_file() and catalog.stat().st_size:
        return
    mark = of_store(blobs)
    holds_blobs = mark is not None or next(blobs.all(), None) is not None
    if not holds_blobs and not any((root / KEYS_FOLDER).glob("*")):
        return
    if (root / RESTORING).exists():
        raise StoreMismatchError(f"a restore into {root} was cut short; start it again with the same command")
    state = "is empty" if catalog.exists() else "is gone"
    held = f"blobs of store {mark or 'without an id'} at {place}" if holds_blobs else f"the signing keys in {root}"
    raise StoreMismatchError(
        f"the catalog {catalog} {state}, and there are {held}: a new catalog would make garbage of them. "
        f"{_what_to_restore(root, mark)}"
    )


def tie(catalog: Catalog, blobs: BlobStore, root: Path, place: str | Path) -> str:
    """Make sure that catalog and blobs carry the same id, and give it; those that have none get one.

    Raises StoreMismatchError, BlobStoreError, CatalogError. Writes nothing where both have their ids.
    """
    ours, theirs = of_catalog(catalog), of_store(blobs)
    if ours is not None and ours == theirs:
        return ours
    if ours is not None and theirs is not None:
        raise StoreMismatchError(
            f"the catalog in {root} is of store {ours}, the blobs at {place} are those of store {theirs}: "
            f"is PARCELHUB_BLOBS right? {_what_to_restore(root, theirs)}"
        )
    if ours is not None:
        _check_known_blobs(catalog, blobs, ours, place)
        set_on_store(blobs, ours)
        return ours
    # The mark comes first: a catalog that has an id finds it beside its blobs, whenever we are killed.
    identity = theirs or secrets.token_hex(16)
    if theirs is None:
        set_on_store(blobs, identity)
    with catalog.write() as tx:
        tx.execute("INSERT INTO store_identity VALUES (?)", [identity])
    return identity


def check(catalog: Catalog, blobs: BlobStore) -> None:
    """Raise StoreMismatchError unless both carry the same id now: a disk may have gone since they were opened."""
    ours, theirs = of_catalog(catalog), of_store(blobs)
    if ours is None or ours != theirs:
        raise StoreMismatchError(
            f"the catalog is of store {ours or 'without an id'}, the blobs are those of {theirs or 'none with an id'}: "
            "nothing is removed. Is the disk with the blobs mounted?"
        )


def note_backup(root: Path, target: str, name: str, made_at: str) -> None:
    """Remember a backup of this folder. Raises OSError."""
    kept = [one for one in backups_of(root) if one["name"] != name][-(_BACKUPS - 1) :]
    data = json.dumps([*kept, {"name": name, "at": made_at, "place": target}], indent=1)
    write_file(root / BACKUPS_FILE, data.encode(), mode=0o600)


def backups_of(root: Path) -> Sequence[dict[str, str]]:
    """`name`, `at` and `place` of the backups that the folder remembers, oldest first; none if it cannot be read."""
    try:
        found = json.loads((root / BACKUPS_FILE).read_bytes())
        return [{key: str(one[key]) for key in ("name", "at", "place")} for one in found]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _check_known_blobs(catalog: Catalog, blobs: BlobStore, identity: str, place: str | Path) -> None:
    """A store without a mark is taken for ours only if it holds what the catalog knows."""
    rows = catalog.query("SELECT sha256 FROM repo_blobs ORDER BY sha256 LIMIT ?", [_SAMPLE])
    if rows and not any(blobs.exists(row[0]) for row in rows):
        raise StoreMismatchError(
            f"none of the blobs of store {identity} that were looked for are at {place}: is the disk mounted, and "
            "PARCELHUB_BLOBS right? If they are lost, restore a backup"
        )
    if rows:
        log.warning("the blobs at %s had no mark; they are those of store %s, and get it", place, identity)


def _what_to_restore(root: Path, identity: str | None) -> str:
    known = list(backups_of(root))
    if known:
        newest = known[-1]
        listed = "; ".join(f"{one['name']} ({one['at']}) at {one['place']}" for one in reversed(known))
        return (
            f"Backups of it: {listed}. `parcelhub restore --from {newest['place']} --name {newest['name']} "
            "--data NEW-FOLDER` brings the newest back; keep this folder until then"
        )
    named = f" A backup of store {identity} fits:" if identity else ""
    return (
        f"{named} `parcelhub restore --from PLACE --list` shows which backups are of which store. Restore one into an "
        "empty folder, and keep this one until then"
    ).strip()
