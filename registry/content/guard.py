"""The door that every commit passes: what its files are is looked at before anything of them becomes visible."""

from __future__ import annotations

from collections.abc import Sequence

from registry.blobs.blobs import BlobStore
from registry.content.safetensors_header import HeaderError, read_header
from registry.content.sniff import find_danger
from registry.content.window import Window
from registry.errors import UnsafeFileError
from registry.types import FileEntry, RepoId

SAFETENSORS = ".safetensors"


class ContentDoor:
    """Judges the files that a commit adds. Use from any number of threads.

    In a repo of either type a file called `*.safetensors` must be one. A model repo takes nothing else that could run
    code when somebody loads it, whatever it is called; datasets hold what they hold, and are never loaded so.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def __call__(self, repo: RepoId, added: Sequence[FileEntry]) -> None:
        """Raises UnsafeFileError for the first file that may not come in, and BlobNotFoundError."""
        judged: set[tuple[str, bool]] = set()
        for entry in added:
            named = entry.path.lower().endswith(SAFETENSORS)
            # A dataset of 100,000 images costs nothing here, and one blob under many paths is judged once.
            if (not named and repo.type == "dataset") or (entry.sha256, named) in judged:
                continue
            judged.add((entry.sha256, named))
            self._judge(repo, entry, named=named)

    def _judge(self, repo: RepoId, entry: FileEntry, *, named: bool) -> None:
        if entry.size == 0 and not named:
            return
        window = Window(entry.size, lambda start, stop: b"".join(self._blobs.iter_range(entry.sha256, start, stop)))
        if repo.type == "model" and (danger := find_danger(window)):
            raise UnsafeFileError(entry.path, f"is {danger}")
        if named:
            try:
                read_header(window)
            except HeaderError as error:
                raise UnsafeFileError(entry.path, str(error)) from error
