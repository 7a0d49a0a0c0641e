"""Formats of one annotation file per image, each of which names its image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_of
from finetune.datasets.types import Sample
from finetune.errors import DatasetError

ReadFile = Callable[[Tree, str, InstanceList, Findings], Iterable[str]]
"""Reads a file of the tree into its image's list and answers the labels of what it added. Raises DatasetError."""


@dataclass(slots=True)
class PerImageSource:
    """Annotation files whose images are found. `known` starts with the classes that are listed somewhere, and grows by
    what the files name; `splits` are those that the files name, by the image, for images whose folders name none.
    """

    tree: Tree
    documents: Mapping[str, str]
    """Image to its annotation file."""
    read: ReadFile
    known: dict[str, None] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    split_lists: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: those that are listed, then those that files name, in the order of their reading."""
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that have an annotation file, as paths in the tree."""
        return tuple(self.documents)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """The samples whose image has a size; a file that cannot be read is a problem among the findings."""
        for image, name in self.documents.items():
            if image not in sizes:
                continue
            found = InstanceList(*sizes[image], findings)
            try:
                self.known |= dict.fromkeys(self.read(self.tree, name, found, findings))
            except DatasetError as error:
                findings.problem(error.reason, name, line=error.line)
                continue
            split = split_of(image) or self.splits.get(image)
            if (sample := found.sample(self.tree.path(image), image, split, None)) is not None:
                yield sample


def find_images(
    tree: Tree, names: Iterable[str], image_of: Callable[[str], str], findings: Findings, *, kind: str, field: str
) -> dict[str, str]:
    """Image to its annotation file, of the files `names`, each a `kind` ("LabelMe file").

    `image_of` gives a file's image. It raises DatasetError if the file cannot be read, ValueError if its image is not
    there, which its `field` is to blame for.
    """
    documents: dict[str, str] = {}
    for name in names:
        try:
            image = image_of(name)
        except ValueError as error:
            findings.problem(str(error), name, field=field)
            continue
        except DatasetError as error:
            findings.problem(error.reason, name, line=error.line)
            continue
        if image in documents:
            text = f"{image} has a second {kind}, after {documents[image]}: an image has one file, remove one of them"
            findings.problem(text, name, field=field)
        documents.setdefault(image, name)
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in documents:
            findings.warn(f"image without a {kind} that was left out", image)
    return documents
