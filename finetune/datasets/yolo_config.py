"""What a YOLO folder says of itself: the classes, and which images are for training and which for judging.

`data.yaml` as Ultralytics and Roboflow write it, `obj.names` and `obj.data` of Darknet (CVAT's "YOLO 1.1"), or
`classes.txt` alone (Label Studio). The splits in it are folders, lists in text files, patterns or lists of these, seen
from `path` or from the file; paths of other computers are matched by their ends.
"""

from __future__ import annotations

import posixpath
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path, PurePosixPath

import yaml

from finetune.datasets.findings import Findings
from finetune.datasets.limits import decimal
from finetune.datasets.locate import fold, plain_path
from finetune.datasets.splits import ListReader
from finetune.datasets.tree import IMAGE_SUFFIXES, Tree, read_text, split_named, split_of, split_word, suffix_of
from finetune.datasets.types import SPLITS
from finetune.errors import DatasetError

_YAML_SUFFIXES = (".yaml", ".yml")
_NAMES = re.compile(r"^\s*[\"']?names[\"']?\s*:", re.MULTILINE)
# In double quotes a backslash begins an escape, which no Windows path means.
_QUOTED_PATH = re.compile(r"^(\s*(?:-\s*)?(?:\w+\s*:\s*)?)\"([^\"\n]*\\[^\"\n]*)\"", re.MULTILINE)
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "class_names.txt", "predefined_classes.txt")


@dataclass(frozen=True, slots=True)
class YoloConfig:
    """The file that names the classes, and what it says.

    Attributes:
        file: its path in the tree.
        names: the classes in their order.
        splits: split to what it is given as: paths of folders, lists and patterns.
        root: the folder that those paths are seen from, as the file says it.
        key_points: rows are a box and the points of a skeleton (Ultralytics' pose).
    """

    file: str
    names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: str = ""
    key_points: bool = False


def find_config(tree: Tree, *, labelled: bool) -> str | None:
    """The file that names the classes, or None. `labelled` says whether there are label files: without any, only a
    data.yaml that names classes counts, and with them a list of classes does too.

    Raises DatasetError if there are several.
    """
    files = sorted(tree.with_suffix(*_YAML_SUFFIXES), key=_depth)
    naming = [name for name in files if _NAMES.search(_text(tree, name))]
    top = [name for name in files if "/" not in name and (labelled or name in naming)]
    for name in top:
        if PurePosixPath(name).stem.lower() == "data":
            return _agreed(tree, name, [other for other in naming if other in top])
    if naming:
        first = [name for name in naming if _depth(name)[0] == _depth(naming[0])[0]]
        named = [name for name in first if PurePosixPath(name).stem.lower() == "data"] or first
        if len(named) == 1:
            return _agreed(tree, named[0], first)
        if any(_said(tree, name) != _said(tree, named[0]) for name in named):
            text = f"several files name classes ({', '.join(named[:4])}): keep the right one, or bring the datasets"
            raise DatasetError(f"{text} one by one", path=Path(named[0]))
        return named[0]
    if len(top) == 1:
        return top[0]
    lists = [name for name in tree.files if PurePosixPath(name).name.lower() in CLASS_LISTS] if labelled else []
    return min(
        lists, key=lambda name: (CLASS_LISTS.index(PurePosixPath(name).name.lower()), _depth(name)), default=None
    )


def _agreed(tree: Tree, chosen: str, others: Iterable[str]) -> str:
    """`chosen`. Raises DatasetError if a file beside it names other classes, or the same ones in another order: which
    of them the labels were written by cannot be seen, and the wrong one swaps classes."""
    names = _names_alone(tree, chosen)
    for other in others:
        theirs = _names_alone(tree, other)
        if other != chosen and names and theirs and theirs != names:
            text = f"names other classes than {other} beside it: keep the file that the labels were written by"
            raise DatasetError(text, path=Path(chosen), field="names")
    return chosen


def _said(tree: Tree, name: str) -> object:
    """All that a YAML file says, its text where it cannot be read."""
    try:
        return _load(tree, name, Findings())
    except DatasetError:
        return _text(tree, name)


def _names_alone(tree: Tree, name: str) -> tuple[str, ...]:
    """The classes that a YAML file names, none where it cannot be read (told by who reads it)."""
    try:
        return _class_names(_load(tree, name, Findings()), Path(name))
    except DatasetError:
        return ()


def _depth(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _text(tree: Tree, name: str) -> str:
    try:
        return read_text(tree, name)
    except DatasetError:  # told by who reads it
        return ""


def read_config(tree: Tree, name: str, findings: Findings) -> YoloConfig:
    """What the file `name` says. Raises DatasetError if the class names are missing or malformed."""
    if suffix_of(name) not in _YAML_SUFFIXES:
        lines = [line.strip() for line in read_text(tree, name).splitlines()]
        names = _checked([line for line in lines if line], Path(name), None)
        return YoloConfig(name, names, dict(_darknet_splits(tree, name)), "")
    document = _load(tree, name, findings)
    splits: dict[str, tuple[str, ...]] = {}
    for key, value in document.items():
        split = split_named(str(key))
        listed = value if isinstance(value, list) else [value]
        paths = tuple(path.strip() for path in listed if isinstance(path, str) and path.strip())
        if split is not None and paths:
            splits[split] = (*splits.get(split, ()), *paths)
    root = document.get("path")
    root = root if isinstance(root, str) else ""
    return YoloConfig(name, _class_names(document, Path(name)), splits, root, bool(document.get("kpt_shape")))


def _darknet_splits(tree: Tree, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The splits of Darknet's `obj.data` (`train = data/train.txt`) beside a list of classes."""
    beside = PurePosixPath(name).parent / "obj.data"
    if beside.as_posix() in tree.files:
        for line in read_text(tree, beside.as_posix()).splitlines():
            key, _, value = line.partition("=")
            split = split_named(key)
            if split is not None and value.strip():
                yield split, (value.strip(),)


def _load(tree: Tree, name: str, findings: Findings) -> dict[object, object]:
    where = Path(name)
    text = read_text(tree, name)
    plain = _QUOTED_PATH.sub(lambda found: f"{found[1]}'{found[2].replace(chr(39), chr(39) * 2)}'", text)
    if plain != text:
        findings.warn("path with backslashes in double quotes: taken as it stands (YAML wants single quotes)", name)
    try:
        document = yaml.safe_load(plain)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DatasetError(f"is not YAML: {error.problem}", path=where, line=line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(f"cannot be read as YAML: {error}", path=where) from error
    return document if isinstance(document, dict) else {}


def _number(key: object) -> object:
    number = decimal(key) if isinstance(key, str) else None
    return key if number is None else number


def _class_names(document: Mapping[object, object], where: Path) -> tuple[str, ...]:
    names = document.get("names")
    if isinstance(names, dict):
        # JSON-minded writers put the numbers in quotes.
        names = {_number(key): value for key, value in names.items()}
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            missing = next(number for number in range(len(names) + 1) if number not in names)
            text = (
                f"the class ids must be 0, 1, 2, ... without gaps, and there is no {missing}: name it, also if unused"
            )
            raise DatasetError(text, path=where, field="names")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError("must name the classes, as in `names: [box, bag]`", path=where, field="names")
    cleaned = _checked(names, where, "names")
    count = document.get("nc")
    if count is not None and count != len(cleaned):
        raise DatasetError(f"says {reprlib.repr(count)} classes but names {len(cleaned)}", path=where, field="nc")
    return cleaned


def _checked(names: Iterable[object], where: Path, key: str | None) -> tuple[str, ...]:
    cleaned = []
    for name in names:
        if not isinstance(name, str) or not name.strip():
            # YAML reads a bare `no`, `on` or `7` as something else than text.
            raise DatasetError(f"class name {reprlib.repr(name)} is not text; put it in quotes", path=where, field=key)
        cleaned.append(name.strip())
    if not cleaned:
        raise DatasetError("must name the classes, one per line", path=where, field=key)
    if len(set(cleaned)) != len(cleaned):
        raise DatasetError("a class name occurs twice", path=where, field=key)
    return tuple(cleaned)


# --- splits -----------------------------------------------------------------------------------------------------------


class SplitReader:
    """Finds the images that a configuration puts into each split."""

    def __init__(self, tree: Tree, config: YoloConfig, findings: Findings) -> None:
        self._config = config
        self._findings = findings
        self._images = tree.with_suffix(*IMAGE_SUFFIXES)
        self._lists = ListReader(tree, self._images, findings)
        self._texts = {fold(name): name for name in tree.with_suffix(".txt")}
        self._folders = {""}
        for image in self._images:
            parts = fold(image).split("/")[:-1]
            self._folders |= {"/".join(parts[: k + 1]) for k in range(len(parts))}

    def read(self) -> dict[str, str]:
        """Image to split. What is not found is a warning, or a problem where images would lose their split by it."""
        found: dict[str, set[str]] = {}
        lost = []
        for split, paths in self._config.splits.items():
            for path in paths:
                images = self._images_of(path)
                if images is None:
                    lost.append((split, path))
                else:
                    found.setdefault(split, set()).update(images)
        splits = self._joined(found)
        for split, path in lost:
            text = f"says that {split} is {path[:100]!r}, which is not in the folder"
            undecided = next((i for i in self._images if i not in splits and split_of(i) is None), None)
            if path.endswith(".txt") and undecided is not None:
                text += f": bring that list along, or {undecided} and others lose their split"
                self._findings.problem(text, self._config.file, field=split)
            else:
                self._findings.warn(f"{PurePosixPath(self._config.file).name} {text}", self._config.file)
        return splits

    def _joined(self, found: dict[str, set[str]]) -> dict[str, str]:
        """One split for each image."""
        splits: dict[str, str] = {}
        for split, other in combinations([split for split in SPLITS if split in found], 2):
            if found[split] and found[split] == found[other]:
                text = f"{PurePosixPath(self._config.file).name} names the same images as "
                self._findings.warn(f"{text}{split} and {other}: taken as {split}", self._config.file)
                found[other] = set()
        for split in sorted(found, key=lambda split: len(found[split]), reverse=True):
            for other, images in found.items():
                both = found[split] & images
                if other == split or not both:
                    continue
                if both == images and self._is_inside(other, split):
                    found[split] = found[split] - both  # the folder of one lies in the folder of the other
                else:
                    text = f"puts {len(both):,} images into {split} and into {other}, {min(both)} among them"
                    self._findings.problem(text, self._config.file, field=other)
                    return splits
        for split, images in found.items():
            splits |= dict.fromkeys(images, split)
        return splits

    def _is_inside(self, inner: str, outer: str) -> bool:
        return not any(path.endswith(".txt") for split in (inner, outer) for path in self._config.splits[split])

    def _images_of(self, path: str) -> set[str] | None:
        """The images that a path of the configuration means; None if there is no such thing here."""
        for option in self._options(path):
            if option in self._texts:
                lines = list(self._lists.read(self._texts[option]))
                missing = [line for _, line, image in lines if image is None]
                if missing and len(missing) == len(lines):
                    text = f"names no image of the dataset (it begins with {missing[0][:80]!r})"
                    self._findings.problem(text, self._texts[option], line=1)
                elif missing:
                    text = "line of a list that names no image of the dataset"
                    self._findings.warn_times(text, len(missing), f"{self._texts[option]} {missing[0][:80]}")
                return {image for _, _, image in lines if image is not None}
            if option in self._folders:
                return {image for image in self._images if not option or fold(image).startswith(f"{option}/")}
            if any(sign in option for sign in "*?["):
                patterns = {option, option.replace("**/", "")}  # `**/` is any number of folders, none too
                matched = {image for image in self._images if any(fnmatchcase(fold(image), p) for p in patterns)}
                if matched:
                    return matched
        return None

    def _options(self, path: str) -> Iterator[str]:
        """Paths in the tree that `path` may mean, the likeliest first, without letter case."""
        here = posixpath.dirname(self._config.file)
        plain, root = fold(plain_path(path)), fold(plain_path(self._config.root))
        absolute = plain.startswith("/") or plain[1:2] == ":"
        for base in (posixpath.join(here, root), here, ""):
            option = posixpath.normpath(posixpath.join(base, plain))
            if not absolute and option != ".." and not option.startswith("../") and not option.startswith("/"):
                yield "" if option == "." else option
        inner = [part for part in plain.split("/") if part not in ("", ".", "..")]
        outer = [part for part in root.split("/") if part not in ("", ".", "..")]
        least = 1 if plain.endswith(".txt") else len(inner)  # a list lies beside its configuration, or where that says
        if absolute:  # the end of it, unless that is a name that any folder may have
            least = 1 if inner and (inner[-1].endswith(".txt") or split_word(inner[-1])) else 2
            outer = []
        parts = outer + inner
        for start in range(len(parts) - least + 1):
            yield posixpath.join(here, *parts[start:])
        if not inner:
            yield here
