"""`write_dataset`: the one format that the hub stores. Images as they are, COCO annotations, a dataset card."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import yaml

from finetune.datasets.coco_write import coco_text
from finetune.datasets.export import drafted, file_names
from finetune.datasets.types import SPLITS, Dataset
from finetune.errors import DatasetError

_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def write_dataset(dataset: Dataset, folder: Path, *, card: str | None = None, licence: str = "unknown") -> None:
    """Write `dataset` to `folder`: `images/`, `annotations.json` (COCO, compressed RLE) and `README.md`.

    Image files are copied byte for byte and masks keep every pixel, so reading it again gives the same samples. The
    same dataset gives the same bytes. `folder` appears complete or not at all. A `card` with front matter is taken
    as it is, other text is the description on the generated card.

    Raises DatasetError if `folder` exists and is not empty, or an image cannot be copied.
    """
    names = file_names(dataset, stems=False)
    readme = card if card and card.startswith("---\n") else dataset_card(dataset, card or "", licence)
    with drafted(folder) as draft:
        (draft / "images").mkdir()
        for sample in dataset.samples:
            try:
                shutil.copyfile(sample.image, draft / "images" / names[sample.name])
            except OSError as error:
                raise DatasetError(f"cannot be copied: {error.strerror}", path=sample.image) from error
        with (draft / "annotations.json").open("w", encoding="utf-8") as file:
            file.writelines(coco_text(dataset, names))
        (draft / "README.md").write_text(readme, "utf-8")


def dataset_card(dataset: Dataset, description: str = "", licence: str = "unknown") -> str:
    """A dataset card in Markdown: YAML front matter, `description`, and instances per class and split."""
    images = len(dataset.samples)
    front = {
        "license": licence,
        "task_categories": ["image-segmentation"],
        "tags": ["instance-segmentation", "packages", "parcelhub"],
        "size_categories": [next((text for limit, text in _CATEGORIES if images < limit), "n>100K")],
    }
    splits = [split for split in SPLITS if any(sample.split == split for sample in dataset.samples)]
    lines = ["---", yaml.safe_dump(front, sort_keys=False).rstrip(), "---", "", f"# {dataset.name}", ""]
    if description.strip():
        lines += [description.strip(), ""]
    lines.append(f"{images} images with {sum(dataset.counts().values())} instances.")
    parts = [f"{sum(s.split == split for s in dataset.samples)} `{split}`" for split in splits]
    lines += [f"Images per split: {', '.join(parts)}.", ""] if parts else [""]
    header = ["class", "instances", "images", *splits]
    lines += [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    lines += [_row([_cell(name), *_counts_of(dataset, name, splits)]) for name in dataset.classes]
    lines += ["", f"Licence: {licence}. Masks are COCO compressed RLE in `annotations.json`.", ""]
    return "\n".join(lines)


def _counts_of(dataset: Dataset, name: str, splits: list[str]) -> list[str]:
    """Instances of class `name`, images with it, and its instances per split."""
    per_split: Counter[str | None] = Counter()
    images = 0
    for sample in dataset.samples:
        count = sample.labels.count(name)
        per_split[sample.split] += count
        images += count > 0
    return [str(per_split.total()), str(images), *(str(per_split[split]) for split in splits)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
