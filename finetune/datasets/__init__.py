"""Datasets in and out: reads what teams bring, writes the one internal format.

`read_dataset` takes a YOLO-seg or COCO folder (found out by content) and answers a `Dataset` of `Sample`s, or one
`DatasetError` that lists what to repair. `write_dataset` writes images, COCO annotations with RLE masks and a dataset
card. Nothing of a dataset is ever executed or unpickled, and nothing outside its folder is opened.

Public: `read_dataset`, `write_dataset`, `dataset_card`, `Dataset`, `Sample`, `SPLITS`.
"""

from finetune.datasets.read import read_dataset
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.datasets.write import dataset_card, write_dataset

__all__ = ["SPLITS", "Dataset", "Sample", "dataset_card", "read_dataset", "write_dataset"]
