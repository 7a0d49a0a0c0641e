"""Files of the serving folder against the digests that the routing table has for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from serving.errors import BaseError


def check_base(folder: Path, digests: Mapping[str, str]) -> None:
    """Hash the files of a base's folder that `digests` (file name -> SHA-256) names, right before they are loaded.

    A base is hundreds of megabytes that its library reads by path; so it is checked, then loaded. Variants are checked
    in the very bytes that are parsed (`serving.inference.adapter_files`). Raises BaseError.
    """
    for name, expected in digests.items():
        try:
            with (folder / name).open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BaseError(f"the base folder '{folder.name}': {name} cannot be read: {error.strerror}") from error
        if actual != expected:
            raise BaseError(f"the base folder '{folder.name}': the SHA-256 of {name} differs from the routing table's")
