"""`write_dataset`: the one format that the hub stores. Images as they are, COCO annotations, a dataset card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import yaml

from finetune.datasets.coco import coco_document
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.errors import DatasetError

_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def write_dataset(dataset: Dataset, folder: Path, *, card: str | None = None, licence: str = "unknown") -> None:
    """Write `dataset` to `folder`: `images/`, `annotations.json` (COCO, compressed RLE) and `README.md`.

    Image files are copied byte for byte and masks keep every pixel, so reading it again gives the same samples. The
    same dataset gives the same bytes. `folder` appears complete or not at all. A `card` with front matter is taken
    as it is, other text is the description on the generated card.

    Raises DatasetError if `folder` exists and is not empty, or an image cannot be copied.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError("exists already and is not an empty folder", path=folder)
    names = _file_names(dataset)
    document = coco_document(dataset, lambda sample: names[sample.name])
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    readme = card if card and card.startswith("---\n") else dataset_card(dataset, card or "", licence)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        (draft / "images").mkdir()
        for sample in dataset.samples:
            try:
                shutil.copyfile(sample.image, draft / "images" / names[sample.name])
            except OSError as error:
                raise DatasetError(f"cannot be copied: {error.strerror}", path=sample.image) from error
        (draft / "annotations.json").write_text(text + "\n", "utf-8")
        (draft / "README.md").write_text(readme, "utf-8")
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


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


def _file_names(dataset: Dataset) -> dict[str, str]:
    """Sample name to the file's name in `images/`: its own, or its path with dashes where two share one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for sample in sorted(dataset.samples, key=_by_length):
        name = stem = sample.name.replace("/", "-")
        number = 2
        while name.lower() in taken:  # lower: the folder may end up on a disk that ignores case
            name, number = f"{number}-{stem}", number + 1
        taken.add(name.lower())
        if sample.name in names:
            raise DatasetError(f"two samples are named {sample.name!r}", path=sample.image)
        names[sample.name] = name
    return names


def _by_length(sample: Sample) -> tuple[bool, str]:
    # Plain file names keep theirs; those made of paths give way.
    return "/" in sample.name, sample.name
