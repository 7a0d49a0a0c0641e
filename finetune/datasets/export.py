"""What all writers share: the draft of a folder that appears complete or not at all, and the list of what is lost."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from finetune.datasets.contours import Ring, Rings, single_ring
from finetune.datasets.findings import Findings
from finetune.datasets.types import Dataset, Sample
from finetune.errors import DatasetError

Progress = Callable[[int, int], None]
"""Told of work as (done, of how many)."""

# Line breaks and the like: no list of names and no XML file survives them.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')


class Draft:
    """A folder that is being written. Paths are relative, with slashes."""

    def __init__(self, root: Path, dataset: Dataset, progress: Progress | None) -> None:
        self._root = root
        self._samples = dataset.samples
        self._names = file_names(dataset, stems=True)
        self._findings = Findings()
        self._progress = progress

    def samples(self) -> Iterator[Sample]:
        """The samples, one after the other, each reported as done once the next is asked for."""
        for number, sample in enumerate(self._samples, 1):
            yield sample
            if self._progress is not None:
                self._progress(number, len(self._samples))

    def name(self, sample: Sample) -> str:
        """The image's file name: no two are equal, nor equal but for case or suffix."""
        return self._names[sample.name]

    def copy_image(self, sample: Sample, folder: str) -> str:
        """Copy the image, byte for byte, into `folder`; answers where it lies. Raises DatasetError."""
        relative = str(PurePosixPath(folder, self.name(sample)))
        try:
            shutil.copyfile(sample.image, self._made(relative))
        except OSError as error:
            raise DatasetError(f"cannot be copied: {error.strerror}", path=sample.image) from error
        return relative

    def write_text(self, relative: str, text: str | Iterable[str]) -> None:
        """Write a file in UTF-8 with plain line feeds, in one piece or in many; its folders are made."""
        with self._made(relative).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines([text] if isinstance(text, str) else text)

    def write_lines(self, relative: str, names: Sequence[str]) -> None:
        """A list of names, one per line. Raises DatasetError if one holds a line break."""
        for name in names:
            if len(name.splitlines()) != 1:
                raise DatasetError(f"the class name {name!r} cannot be written in a list of lines")
        self.write_text(relative, "".join(f"{name}\n" for name in names))

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Write a file; its folders are made, and one of that name is replaced."""
        self._made(relative).write_bytes(data)

    def lose(self, what: str, sample: Sample) -> None:
        """Note something of one instance that the format cannot hold: it is counted, once per call."""
        self._findings.warn(what, self.name(sample))

    def one_ring(self, sample: Sample, rings: Rings) -> Ring:
        """`rings` as the single ring that a format has room for; what needed joining is counted as a loss."""
        if rings.simple:
            return rings.parts[0]
        if len(rings.parts) > 1:
            self.lose("instance of several parts, joined by lines of no width that other tools may draw", sample)
        if rings.holes:
            self.lose("instance with holes, cut open by lines of no width that other tools may draw or fill", sample)
        return single_ring(rings)

    def losses(self) -> tuple[str, ...]:
        """What the format could not hold, one sentence for each kind of loss; empty: the copy is complete."""
        return self._findings.warnings()

    def _made(self, relative: str) -> Path:
        path = self._root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """An empty folder that becomes `folder` if all goes well, and vanishes otherwise.

    Raises DatasetError if `folder` exists and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError("exists already and is not an empty folder", path=folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        yield draft
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def file_names(dataset: Dataset, *, stems: bool) -> dict[str, str]:
    """Sample name to the name of its image's file: its own, or its path with dashes where two share one.

    With `stems` not even their stems are equal, so that `a.jpg` and `a.png` may each have their `a.txt`. Raises
    DatasetError for two samples of one name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for sample in sorted(dataset.samples, key=_by_length):
        plain = sample.name.replace("/", "-")
        name = plain = _UNSAFE.sub("_", plain) if stems else plain
        number = 2
        while (key := (PurePosixPath(name).stem if stems else name).lower()) in taken:  # some disks ignore case
            name, number = f"{number}-{plain}", number + 1
        taken.add(key)
        if sample.name in names:
            raise DatasetError(f"two samples are named {sample.name!r}", path=sample.image)
        names[sample.name] = name
    return names


def _by_length(sample: Sample) -> tuple[bool, str]:
    # Plain file names keep theirs; those made of paths give way.
    return "/" in sample.name, sample.name


def box_of(counts: bytes, height: int, width: int) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of a mask in pixels, the last two exclusive."""
    x, y, w, h = (int(value) for value in coco_mask.toBbox({"size": [height, width], "counts": counts}))
    return x, y, x + w, y + h


def window_of(counts: bytes, height: int, width: int) -> tuple[npt.NDArray[np.bool_], int, int]:
    """(bool [h, w], x, y): a mask inside its tight box, whose top left pixel is at x, y."""
    rle = {"size": [height, width], "counts": counts}
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    return np.ascontiguousarray(coco_mask.decode(rle)[y : y + h, x : x + w]).view(np.bool_), x, y
