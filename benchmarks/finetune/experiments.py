"""What long comparisons share: rows that survive a kill, and the scenes they train and judge on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune.pipelines.base_service import JUDGES, OWN
from finetune.scenes import CELLS, Look, write_cell

Row = dict[str, Any]


class Rows:
    """Finished rows, a JSON object a line. A half line, of a run that was killed while it wrote, is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Row]:
        for line in self._text().splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found

    def add(self, row: Row) -> None:
        """Append a row."""
        text = self._text()
        with self.path.open("a", encoding="utf-8") as file:
            # Behind half a line the row would be lost with it.
            file.write(("\n" if text and not text.endswith("\n") else "") + json.dumps(row, sort_keys=True) + "\n")

    def _text(self) -> str:
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else ""


def held_out_cell(folder: Path, name: str, *, train: int, holdout: int, seed: int, size: int = 384) -> Path:
    """The dataset of a held-out cell, written where it is not there yet; each cell has its own seed next to `seed`."""
    look = CELLS[name]
    return _written(folder, look, train + holdout, seed + list(CELLS).index(name), size, holdout / (train + holdout))


def own_scenes(folder: Path, *, images: int, size: int = 384) -> Path:
    """Scenes of the trained looks that no base has seen: what a base is at home with."""
    look, seed = JUDGES[OWN]
    return _written(folder, look, images, seed, size, 1.0)


def _written(folder: Path, look: Look, images: int, seed: int, size: int, valid_share: float) -> Path:
    if not (folder / "README.md").is_file():  # written last
        write_cell(folder, look, images=images, seed=seed, size=size, valid_share=valid_share)
    return folder
