"""Where the parts of a registry lie in its folder."""

from __future__ import annotations

from typing import Final

CATALOG_FILE: Final = "catalog.duckdb"
BLOBS_FOLDER: Final = "blobs"
KEYS_FOLDER: Final = "keys"
