"""The formats that a dataset can be written in, each registered by its own module, and `export_dataset`, which writes
them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from finetune.datasets.export import Draft, Progress, drafted
from finetune.datasets.kinds import Format, written_formats
from finetune.datasets.types import Dataset
from finetune.errors import DatasetError


class _Formats(Mapping[str, Format]):
    """What has registered by the time that somebody looks."""

    def __getitem__(self, name: str) -> Format:
        return written_formats()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(written_formats())

    def __len__(self) -> int:
        return len(written_formats())


FORMATS: Mapping[str, Format] = _Formats()
"""Name to format, in the order of the names."""


def export_dataset(dataset: Dataset, folder: Path, name: str, *, progress: Progress | None = None) -> tuple[str, ...]:
    """Write `dataset` to `folder` in the format `name`, one of `FORMATS`, and answer what the format could not hold.

    Images are copied byte for byte; the same dataset gives the same bytes; `folder` appears complete or not at all.
    Each answer is a sentence that counts the instances concerned. Polygons run along the edges of pixels, so the
    readers here get the same pixels back from every format, overlaps in masks of one instance per pixel and formats of
    boxes alone excepted.

    Raises DatasetError if `folder` exists and is not an empty folder, an image cannot be copied, there is no such
    format, or a name cannot be written in it.
    """
    if name not in FORMATS:
        raise DatasetError(f"there is no format {name!r}; there are {', '.join(FORMATS)}")
    wanted = FORMATS[name]
    with drafted(folder) as root:
        draft = Draft(root, dataset, progress)
        wanted.write(dataset, draft)
        if not wanted.sequences:
            for sample in dataset.samples:
                if sample.sequence is not None:
                    draft.lose("image of a known sequence, which the format has no room for", sample)
    return draft.losses()
