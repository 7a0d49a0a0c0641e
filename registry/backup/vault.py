"""Where backups lie: a folder or an object store, laid out so that each blob is there once for all backups.

blobs/sha256/ab/cd/...          blobs, by digest
xorbs/sha256/ab/cd/...          the chunks of Xet files
records/sha256/ab/cd/...        catalogs, lists of blobs and keys of the single backups
backups/<time>-<digest>.json    one manifest a backup, written last; `<digest>` begins the sha256 of its bytes
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import obstore
from obstore.store import from_url

from registry.blobs.blobs import BlobStore
from registry.blobs.places import store_errors
from registry.canonical import canonical_json, sha256_of
from registry.durable import write_file
from registry.errors import BackupError
from registry.types import Digest, check_digest

SCHEMA: Final = 1
_NAME: Final = re.compile(r"\d{8}T\d{6}(\.\d{6})?Z-[0-9a-f]{12}")
_MAX_MANIFEST: Final = 1 << 20
_FOLDER: Final = "backups"
STORES: Final = ("blobs", "xorbs")


@dataclass(frozen=True, slots=True)
class Record:
    """A file of one backup: its name there, the sha256 and the size in bytes of what it holds."""

    name: str
    sha256: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `files` are the catalog, its log, keys; `lists` name the blobs of each store.

    `count` blobs have `size` bytes. `damaged` names blobs that were lost or wrong in the hub already: they are not in
    the backup.
    """

    made_at: str
    files: tuple[Record, ...]
    lists: tuple[Record, ...]
    count: int
    size: int
    damaged: tuple[str, ...]
    store: str = ""
    """The id of the store that it is a backup of (`registry.catalog.identity`); "" in backups from before there were
    any."""

    def document(self) -> bytes:
        """As it is stored."""
        return canonical_json({"schema": SCHEMA} | json.loads(json.dumps(asdict(self))))

    @classmethod
    def parse(cls, document: bytes, name: str) -> Self:
        """Read what `document` wrote. Raises BackupError."""
        try:
            if not name.endswith(sha256_of(document)[:12]):
                raise BackupError(f"the manifest {name} is not what its name says")
            found = json.loads(document)
            if found.pop("schema") != SCHEMA:
                raise BackupError(f"the backup {name} was made by another version of this program")
            for key in ("files", "lists"):
                found[key] = tuple(Record(**one) for one in found[key])
                for one in found[key]:
                    check_digest(one.sha256)
            found["damaged"] = tuple(found["damaged"])
            return cls(**found)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackupError(f"the manifest {name} cannot be read: {error}") from error


class Vault:
    """A place for backups. Raises BlobStoreError wherever the place itself fails."""

    def __init__(self, location: str | Path, *, staging: Path | None = None) -> None:
        text = str(location)
        self.local = "://" not in text
        root = Path(text).expanduser().absolute() if self.local else text.rstrip("/")
        self.stores = {
            name: BlobStore.open(root / name if isinstance(root, Path) else f"{root}/{name}", staging=staging)
            for name in (*STORES, "records")
        }
        self._folder = root / _FOLDER if isinstance(root, Path) else None
        self._bucket = None if isinstance(root, Path) else from_url(root)

    @property
    def records(self) -> BlobStore:
        """Where the records of backups lie, each under its sha256."""
        return self.stores["records"]

    def names(self) -> list[str]:
        """The backups that are here, oldest first."""
        with store_errors("list the backups"):
            found = self._listed() if self._folder is None else [path.name for path in self._folder.glob("*.json")]
            return sorted(name.removesuffix(".json") for name in found if _NAME.fullmatch(name.removesuffix(".json")))

    def _listed(self) -> list[str]:
        assert self._bucket is not None  # noqa: S101  # one of the two is set
        pages = obstore.list(self._bucket, prefix=f"{_FOLDER}/")
        return [meta["path"].rpartition("/")[2] for page in pages for meta in page]

    def read(self, name: str) -> Manifest:
        """The manifest of a backup. Raises BackupError."""
        if not _NAME.fullmatch(name):
            raise BackupError(f"{name!r} is no name of a backup")
        with store_errors(f"read the backup {name}"):
            try:
                if self._folder is not None:
                    with (self._folder / f"{name}.json").open("rb") as file:
                        document = file.read(_MAX_MANIFEST + 1)
                else:
                    assert self._bucket is not None  # noqa: S101  # one of the two is set
                    document = bytes(obstore.get(self._bucket, f"{_FOLDER}/{name}.json").bytes())
            except FileNotFoundError:
                raise BackupError(f"there is no backup {name}") from None
        if len(document) > _MAX_MANIFEST:
            raise BackupError(f"the manifest {name} is too large")
        return Manifest.parse(document, name)

    def write(self, manifest: Manifest) -> str:
        """Store a manifest, durably: the backup exists from now on. Gives its name."""
        document = manifest.document()
        made_at = manifest.made_at.replace("-", "").replace(":", "").removesuffix("+0000")
        name = f"{made_at}Z-{sha256_of(document)[:12]}"
        with store_errors(f"write the backup {name}"):
            if self._folder is not None:
                write_file(self._folder / f"{name}.json", document)
            else:
                assert self._bucket is not None  # noqa: S101  # one of the two is set
                obstore.put(self._bucket, f"{_FOLDER}/{name}.json", document)
        return name
