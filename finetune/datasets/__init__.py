"""Datasets in and out: reads what teams bring, writes the one internal format, and every other one on demand.

`read_dataset` takes a folder in any format of docs/datasets.md (found out by content) and answers a `Dataset` of
`Sample`s, or one `DatasetError` that lists what to repair. `write_dataset` writes what the hub stores: images, COCO
annotations with RLE masks and a dataset card. `export_dataset` writes any format of `FORMATS` and says what that one
cannot hold. Nothing of a dataset is ever executed or unpickled, and nothing outside its folder is opened.

Public: `read_dataset`, `detect_format`, `write_dataset`, `dataset_card`, `export_dataset`, `FORMATS`, `Format`,
`Dataset`, `Sample`, `Attributes`, `SPLITS`.
"""

from finetune.datasets.attributes import Attributes
from finetune.datasets.formats import FORMATS, export_dataset
from finetune.datasets.kinds import Format
from finetune.datasets.read import detect_format, read_dataset
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.datasets.write import dataset_card, write_dataset

__all__ = [
    "FORMATS",
    "SPLITS",
    "Attributes",
    "Dataset",
    "Format",
    "Sample",
    "dataset_card",
    "detect_format",
    "export_dataset",
    "read_dataset",
    "write_dataset",
]
