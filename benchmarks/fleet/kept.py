"""Results of single steps in files, so that a long run may be ended and goes on where it was."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Kept:
    """A folder of results by name; without a folder nothing is kept. Says on stderr what was done."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def document(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - as JSON has it
        """A result as JSON: the one of before, or a new one."""
        path = None if self._folder is None else self._folder / f"{name}.json"
        if path is not None and path.is_file():
            return json.loads(path.read_text())
        made = json.loads(json.dumps(make()))
        if path is not None:
            part = path.with_suffix(".part")
            part.write_text(json.dumps(made))
            part.replace(path)
        sys.stderr.write(f"{name}\n")
        return made

    def arrays(self, name: str, make: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
        """A result as arrays."""
        path = None if self._folder is None else self._folder / f"{name}.npz"
        if path is not None and path.is_file():
            with np.load(path, allow_pickle=False) as found:
                return {key: found[key] for key in found}
        made = dict(make())
        if path is not None:
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]  # its other keyword is no name of ours
            part.replace(path)
        sys.stderr.write(f"{name}\n")
        return made
