"""Every error the finetune floor raises. The hub maps them to exit codes and HTTP answers in one place."""

from __future__ import annotations

from pathlib import Path


class FinetuneError(Exception):
    """Root of this floor's errors."""


class DatasetError(FinetuneError):
    """Raised when a dataset cannot be used as it is. Names the file, and the line or field where one is to blame."""

    def __init__(
        self, message: str, *, path: Path | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.reason = message
        self.path = path
        self.line = line
        self.field = field
        place = ""
        if path is not None:
            place = str(path)
            if line is not None:
                place += f":{line}"
            if field is not None:
                place += f" [{field}]"
            place += ": "
        super().__init__(place + message)


class DeckError(FinetuneError):
    """Raised when a dataset cannot be made into a deck (too few images, no class left after the class map, ...)."""


class TrainingError(FinetuneError):
    """Raised when training cannot go on, a diverged (non-finite) loss among the causes."""


class BaseModelError(FinetuneError):
    """Raised when a base model folder is not one we can fine-tune (missing file, unknown family, corrupt weights)."""


class SceneToolError(FinetuneError):
    """Raised when a tier of scenes needs a package or a graphics library that is not there, or a mesh cannot be
    used."""
