"""Splits that files beside the annotations declare: `ImageSets/Main/train.txt`, `autosplit_val.txt`, CVAT's
`Train.txt`, a table with the columns `image` and `split`, or `{"train": ["a.jpg"], "test": ["b.jpg"]}` in JSON.

A list is a text file that is named like a split and whose lines name images of the dataset, with or without folder and
suffix. What a list says goes before what folders are called. An image in the lists of two splits is a problem: it would
be learnt from and judged on.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from finetune.datasets.findings import Findings
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.limits import MAX_TEXT_BYTES
from finetune.datasets.locate import NameIndex, plain_path
from finetune.datasets.tree import Tree, read_text, split_in_name, split_named, split_word
from finetune.errors import DatasetError

_COLUMNS = (("image", "file_name", "filename", "file", "path", "image_path", "name"), ("split", "subset", "set"))
# In lists of one class, as in `box_train.txt`, a flag says whether the image shows it.
_FLAG = re.compile(r"\s+-?[01]$")


class ListReader:
    """Reads lists of images."""

    def __init__(self, tree: Tree, images: Iterable[str], findings: Findings) -> None:
        self._tree = tree
        self._images = frozenset(images)
        self._index = NameIndex(sorted(self._images))
        self._findings = findings

    def read(self, name: str) -> Iterator[tuple[int, str, str | None]]:
        """(line number, line, image) of each line of the list `name`; the image is None where it is none of ours.

        Raises DatasetError if the list cannot be read.
        """
        here = posixpath.dirname(name)
        for number, text in enumerate(read_text(self._tree, name).splitlines(), 1):
            line = _FLAG.sub("", text.strip()).strip("\"',")
            if line and not line.startswith("#"):
                yield number, line, self.image(line, here)

    def image(self, line: str, here: str) -> str | None:
        """The image that a line of the list in the folder `here` names; None for none, and (with a warning) for
        several."""
        # `images/a.jpg Annotations/a.xml`: the first of two that is an image.
        for word in (line, *line.split()[:1]):
            plain = plain_path(word)
            for path in (posixpath.normpath(plain), posixpath.normpath(posixpath.join(here, plain))):
                if path in self._images:
                    return path
            found = self._index.match(plain).files
            if len(found) == 1:
                return found[0]
            if found:
                self._findings.warn("line of a list that may name several images: not used", f"{line[:80]} in {here}")
                return None
        return None


def delimiter_of(text: str) -> str:
    """What parts the columns of a table: a comma, or what spreadsheets write in other countries and what `.tsv` has."""
    head = text.split("\n", 1)[0]
    return max(",;\t", key=head.count)


Said = tuple[str, str, str, str]
"""A file, the place in it, an image as it names it, and its split."""


def _tables(tree: Tree) -> Iterator[Said]:
    """What tables with a column for images and one for splits say."""
    for name in tree.with_suffix(".csv", ".tsv"):
        try:
            text = read_text(tree, name)
            rows = csv.reader(io.StringIO(text), delimiter=delimiter_of(text))
            header = [column.strip().lower() for column in next(rows, [])]
            columns = [next((header.index(c) for c in options if c in header), -1) for options in _COLUMNS]
            if min(columns) < 0:
                continue
            for number, row in enumerate(rows, 2):
                split = split_named(row[columns[1]]) if len(row) > max(columns) else None
                if split is not None:
                    yield name, f"line {number}", row[columns[0]], split
        except (DatasetError, csv.Error):  # no table; told by the format that it belongs to, if any
            continue


def _objects(tree: Tree) -> Iterator[Said]:
    """What JSON files say whose members are splits and hold lists of names."""
    for name in tree.with_suffix(".json"):
        if "split" not in posixpath.basename(name).lower():  # every picture of LabelMe has a JSON file
            continue
        said: list[Said] = []
        try:
            for item in stream_json(tree.path(name), name, max_bytes=MAX_TEXT_BYTES):
                split = split_named(item.key)
                text = item.value
                if split is None or item.number is None or (item.number != LIST and not isinstance(text, str)):
                    said = []
                    break
                if isinstance(text, str):
                    said.append((name, f"{item.key}[{item.number}]", text, split))
        except DatasetError:
            continue
        yield from said


def split_lists(tree: Tree, images: Iterable[str], findings: Findings) -> dict[str, str]:
    """Image to split, from all lists in the tree."""
    splits: dict[str, str] = {}
    reader = ListReader(tree, images, findings)
    for name, place, line, said in (*_tables(tree), *_objects(tree)):
        image = reader.image(line, posixpath.dirname(name))
        if image is None:
            findings.warn("line of a list that names no image of the dataset", f"{name} {place} {line[:80]}")
        elif splits.setdefault(image, said) != said:
            findings.problem(f"{line[:80]!r} is in {splits[image]} too", name, field=place)
    for name in tree.with_suffix(".txt"):
        path = PurePosixPath(name)
        sets = "ImageSets" in path.parts
        split = split_in_name(path.stem) if sets else split_word(path.stem)
        if split is None or "labels" in path.parts[:-1]:
            continue
        try:
            lines = list(reader.read(name))
        except DatasetError as error:
            if sets:
                findings.problem(error.reason, name)
            continue
        if not any(image for _, _, image in lines):
            if sets and lines:
                findings.warn("list of a split that names no image of the dataset", name)
            continue
        for number, line, image in lines:
            if image is None:
                findings.warn("line of a list that names no image of the dataset", f"{name}:{number} {line[:80]}")
            elif splits.setdefault(image, split) != split:
                findings.problem(f"{line[:80]!r} is in {splits[image]} too", name, line=number)
    return splits
