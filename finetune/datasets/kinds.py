"""What an annotation format is, and the registers of those that are read and of those that are written.

A format is one module of this package, or one that an operator named (docs/extending.md): it says what it is called, by
what its files are known, and how they are read, and registers itself with `register`; a way to write it registers with
`register_writer`. Nothing else has to know of it: `detect` and `FORMATS` go over the registers.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from finetune.datasets.findings import Findings
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.tree import Size, Tree
from finetune.datasets.types import Dataset, Sample
from finetune.datasets.xmlstream import root_of
from finetune.errors import DatasetError
from serving import extensions

if TYPE_CHECKING:
    from finetune.datasets.export import Draft

_T = TypeVar("_T")


class Source(Protocol):
    """A dataset in one format: its files are found and its class names read, its masks are not.

    `classes` may grow while `samples` runs, in formats that have no list of them. `split_lists` says whether lists of
    images in text files decide the splits; not where the format has named its own.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the dataset's own order; may be empty before `samples` has run."""

    @property
    def images(self) -> tuple[str, ...]:
        """The images that were found, as paths relative to the dataset's folder, with slashes."""

    @property
    def split_lists(self) -> bool:
        """Whether text files that list images may give splits; False where the format has named its own."""

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """Read the masks of the images in `sizes` ((height, width) in pixels), one sample at a time; others are left
        out. What is wrong with one image is added to `findings`."""


class JsonPeek(NamedTuple):
    """The beginning of a JSON file: the names of its members as far as they were needed, or its first element.

    Attributes:
        keys: the members' names; none where the document is a list.
        lists: those of them that are lists.
        first: the first element of a list, else the value of the first member.
        is_list: whether the document is a list.
    """

    keys: frozenset[str]
    lists: frozenset[str]
    first: object
    is_list: bool


class Look:
    """A tree as formats look at it: each file is opened once, whoever asks."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.faults: dict[str, DatasetError] = {}
        """Files that cannot be read, and why."""
        self._jsons: dict[str, JsonPeek | None] = {}
        self._roots: dict[str, str | None] = {}

    def json(self, name: str) -> JsonPeek | None:
        """The beginning of the JSON file `name`, None if it cannot be read. Raises DatasetError if such a file is named
        like a dataset's main file: then its fault is the thing to tell.
        """
        if name not in self._jsons:
            self._jsons[name] = self._careful(name, lambda: _peek(self.tree, name))
        return self._jsons[name]

    def root(self, name: str) -> str | None:
        """The root element of the XML file `name`; None and errors as of `json`."""
        if name not in self._roots:
            self._roots[name] = self._careful(name, lambda: root_of(self.tree.path(name), name))
        return self._roots[name]

    def _careful(self, name: str, read: Callable[[], _T]) -> _T | None:
        try:
            return read()
        except DatasetError as error:
            if is_main_name(name):
                raise
            self.faults[name] = error
            return None


def is_main_name(name: str) -> bool:
    """Whether a file is named like a dataset's main file."""
    return any(word in PurePosixPath(name).stem.lower() for word in ("annotation", "coco", "instances", "tasks"))


@dataclass(frozen=True, slots=True)
class AnnotationFormat:
    """A format that is read.

    Attributes:
        name: short, as in `Dataset.format`.
        title: as people call it.
        sought: what its files are known by, as a phrase, for who brought something else.
        files: the annotation files in a tree that show the format, none where it is another. Raises DatasetError.
        read: finds the images and classes of those files. Raises DatasetError, or notes problems.
        json_keys: members of a JSON file that show the format: once all are seen, nobody reads on.
        before: formats that this one's folders look like too, and which then do not count.
    """

    name: str
    title: str
    sought: str
    files: Callable[[Look], list[str]]
    read: Callable[[Tree, list[str], Findings], Source]
    json_keys: frozenset[str] = field(default_factory=frozenset)
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write a dataset.

    Attributes:
        name: as on the command line.
        title: as people call it.
        write: writes into a draft.
        whole: parts and holes stay what they are, for every tool that reads the format.
        overlaps: a pixel may belong to several instances.
        attributes, splits, sequences: whether there is room for them.
        outlines: there is room for more than boxes.
    """

    name: str
    title: str
    write: Callable[[Dataset, Draft], None]
    whole: bool
    overlaps: bool
    attributes: bool
    splits: bool = True
    sequences: bool = False
    outlines: bool = True


_register: dict[str, AnnotationFormat] = {}
_writers: dict[str, Format] = {}


def register(wanted: AnnotationFormat) -> AnnotationFormat:
    """Make a format known. Raises ValueError if another has its name."""
    if _register.setdefault(wanted.name, wanted) is not wanted:
        raise ValueError(f"there are two formats named {wanted.name!r}")
    return wanted


def register_writer(wanted: Format) -> Format:
    """Make a way to write known. Raises ValueError if another has its name."""
    if _writers.setdefault(wanted.name, wanted) is not wanted:
        raise ValueError(f"there are two formats to write named {wanted.name!r}")
    return wanted


def annotation_formats() -> tuple[AnnotationFormat, ...]:
    """All formats that are read, by name: every module of this package and every extension has had the chance to
    register. Raises ExtensionError."""
    _load()
    return tuple(sorted(_register.values(), key=lambda known: known.name))


def written_formats() -> Mapping[str, Format]:
    """All formats that are written, by name, as of `annotation_formats`. Raises ExtensionError."""
    _load()
    return dict(sorted(_writers.items()))


def _load() -> None:
    _package()
    extensions.load()


@cache
def _package() -> None:
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{__package__}.{module.name}")


def _peek(tree: Tree, name: str) -> JsonPeek:
    decisive = [known.json_keys for known in annotation_formats() if known.json_keys]
    keys: set[str] = set()
    lists: set[str] = set()
    first: object = None
    for item in stream_json(tree.path(name), name, told=lambda _: None):
        if not item.key:
            if item.number != LIST:
                return JsonPeek(frozenset(), frozenset(), item.value, is_list=item.number is not None)
            continue
        if not keys and item.number is None:
            first = item.value
        keys.add(item.key)
        if item.number is not None:
            lists.add(item.key)
        if any(wanted <= keys for wanted in decisive):
            break
    return JsonPeek(frozenset(keys), frozenset(lists), first, is_list=not keys)
