"""Names as people see them: the one place where a name in an annotation file meets a file in the dataset's folder.

Every format asks here. The very path wins; else names are compared more and more generously (another folder, letter
case, Unicode's forms and percent-encoding, the prefix that Label Studio puts before uploads, a missing or another
suffix), and the first comparison that finds anything decides. What it finds must be one file; several are an error that
lists them. Only files that the tree lists are ever answered, so no name leads out of the dataset.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from finetune.datasets.findings import Findings
from finetune.datasets.tree import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, Tree, suffix_of

# What Label Studio puts before the name of an uploaded file: 8 hexadecimal digits, 6 in its old versions.
_UPLOAD_PREFIX = re.compile(r"^(?=[a-f]*[0-9])(?:[0-9a-f]{8}|[0-9a-f]{6})[-_](?=.)")
# What it takes out of such a name.
_NOT_IN_UPLOADS = re.compile(r"[^-\w.]")
_SCHEMES = ("http", "https", "s3", "gs", "azure-blob", "file")
_SUFFIXES = IMAGE_SUFFIXES | OTHER_IMAGE_SUFFIXES | {".txt"}
_SHOWN = 4
_HINTS = 20
"""So many missing names get a look for near ones: no report lists more."""


class Match(NamedTuple):
    """The files that fit a name, and how they do; `how` is "" where the name is the very file's."""

    files: list[str]
    how: str


def fold(name: str) -> str:
    """`name` without what people do not see: letter case and Unicode's composed or decomposed forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _plain(name: str) -> str:
    return fold(unquote(name)) if "%" in name else fold(name)


def _uploaded(name: str) -> str:
    """`name` as it is without Label Studio's prefix and with what an upload does to other characters."""
    plain = _UPLOAD_PREFIX.sub("", _plain(name))
    return _NOT_IN_UPLOADS.sub("", plain.strip().replace(" ", "_"))


def stem_of(name: str) -> str:
    """`name` without the suffix of an image, if it has one; other dots belong to the name, as in `frame.0001`."""
    return name[: -len(suffix_of(name))] if suffix_of(name) in _SUFFIXES else name


_LEVELS: tuple[tuple[Callable[[str], str], str], ...] = (
    (lambda name: name, "image found by its name in another folder than the annotations say"),
    (_plain, "image whose name differs in letter case, in Unicode's form or in percent-encoding: taken as the same"),
    (_uploaded, "image whose name differs by the prefix that Label Studio adds to uploads: taken as the same"),
    (lambda name: stem_of(_plain(name)), "image that is named without its suffix, or with another: taken as the same"),
    (lambda name: stem_of(_uploaded(name)), "image named without its suffix or upload prefix: taken as the same"),
)  # fmt: skip


class NameIndex:
    """Files, found by names that mean them."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(files)
        self._levels: dict[int, dict[str, list[str]]] = {}

    def match(self, path: str, near: Sequence[str | PurePosixPath] = ()) -> Match:
        """The files that `path` (with slashes) may mean. `near` are folders to prefer, the likeliest first."""
        *folders, name = path.split("/")
        for level, (key, how) in enumerate(_LEVELS):
            found = self._level(level).get(key(name))
            if found and (prefix := _UPLOAD_PREFIX.match(name)):  # of two prefixes, another upload's is another image
                found = [file for file in found if _prefix_of(file) in ("", prefix[0])]
            if found:
                return Match(_nearest(found, folders, near), how)
        return Match([], "")

    def alike(self, path: str) -> list[str]:
        """Files whose names look like that of `path`, to hint at."""
        index = self._level(1)
        close = difflib.get_close_matches(_plain(path.split("/")[-1]), index, n=2, cutoff=0.75)
        return [index[name][0] for name in close]

    def _level(self, level: int) -> dict[str, list[str]]:
        if level not in self._levels:
            index: dict[str, list[str]] = {}
            for file in self._files:
                index.setdefault(_LEVELS[level][0](file.rsplit("/", 1)[-1]), []).append(file)
            self._levels[level] = index
        return self._levels[level]


def _prefix_of(file: str) -> str:
    prefix = _UPLOAD_PREFIX.match(file.rsplit("/", 1)[-1])
    return prefix[0] if prefix else ""


def _nearest(found: list[str], folders: list[str], near: Sequence[str | PurePosixPath]) -> list[str]:
    """Those of `found` whose folders agree most with the named ones, in the first folder of `near` that has one."""
    if len(found) == 1:
        return found
    wanted = [_plain(folder) for folder in folders if folder not in ("", ".", "..")][::-1]
    agreeing = [_agreement(wanted, file) for file in found]
    best = [file for file, count in zip(found, agreeing, strict=True) if count == max(agreeing)]
    for folder in near:
        inside = [file for file in best if PurePosixPath(file).parent == PurePosixPath(folder)]
        if inside:
            return inside
    here = f"{near[0]}/" if near and str(near[0]) not in ("", ".") else ""
    return [file for file in best if here and file.startswith(here)] or best


def _agreement(wanted: list[str], file: str) -> int:
    """How many folders agree, from the file upwards."""
    have = [fold(folder) for folder in file.split("/")[:-1]][::-1]
    count = 0
    for a, b in zip(wanted, have, strict=False):
        if a != b:
            break
        count += 1
    return count


class ImageFinder:
    """Finds images by the names that annotation files give them; what was found generously is counted as a warning."""

    def __init__(self, tree: Tree, findings: Findings) -> None:
        self._tree = tree
        self._files = frozenset(tree.files)
        self._findings = findings
        self._hints = _HINTS

    @cached_property
    def _index(self) -> NameIndex:
        return NameIndex(self._tree.with_suffix(*IMAGE_SUFFIXES))

    def find(self, name: object, folders: Iterable[str | PurePosixPath], *, remote: bool = False) -> str:
        """The path in the tree of the image `name`, seen from `folders`, the likeliest first. A name that goes up, as
        LabelMe writes `../images/a.jpg`, is seen from the first folder alone. Of a `remote` name the folders are a
        server's, and need not be here.

        Raises ValueError with the sentence to show if it is no file name, is not there, may be several files, or is
        neither JPEG nor PNG.
        """
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{name!r} is not a file name")
        if name.lstrip()[:5].lower() == "data:":
            raise ValueError(
                "the image lies inside the annotation file only (as a data: address); save it beside the file"
            )
        # Tools on Windows write backslashes.
        plain = plain_path(name)
        options = list(folders)
        outside = plain.startswith("/") or plain[1:2] == ":"
        if not outside:
            direct = options[:1] if ".." in plain.split("/") else options
            for path in (posixpath.normpath(posixpath.join(str(folder), plain)) for folder in direct):
                if path in self._files:
                    if suffix_of(path) not in IMAGE_SUFFIXES:
                        raise ValueError(f"{name!r} is not a JPEG or PNG file")
                    return path
        match = self._index.match(plain, options)
        if len(match.files) == 1:
            file = match.files[0]
            inside = f"/{file}".endswith(f"/{plain.lstrip('./')}")
            if match.how != _LEVELS[0][1] or not (inside or remote):
                self._findings.warn(match.how, f"{name[:120]} is {file}")
            return file
        raise ValueError(self._sentence(name, plain, options, match.files))

    def _sentence(self, name: str, plain: str, folders: Sequence[str | PurePosixPath], several: Sequence[str]) -> str:
        """Why an image was not found."""
        if several:
            more = f" or {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
            listed = " or ".join(several[:_SHOWN]) + more
            return f"the image {name[:120]!r} may be {listed}: name its folder, or give each image a name of its own"
        if plain.startswith("/") or plain[1:2] == ":" or _goes_out(plain, folders):
            return (
                f"the image {name[:120]!r} is not in the folder: its path leads out of the dataset's folder, to "
                "another computer or folder; bring the picture along, under its own name"
            )
        if not self._tree.with_suffix(*IMAGE_SUFFIXES):
            return (
                f"the image {name[:120]!r} is not in the folder, and no other is: export the labels with their images, "
                "or put the images beside them"
            )
        return f"the image {name[:120]!r} is not in the folder{self._hint(plain)}"

    def _hint(self, plain: str) -> str:
        self._hints -= 1
        alike = self._index.alike(plain) if self._hints >= 0 else []
        return f"; {' and '.join(alike)} {'is' if len(alike) == 1 else 'are'} there" if alike else ""


def _goes_out(plain: str, folders: Sequence[str | PurePosixPath]) -> bool:
    if ".." not in plain.split("/"):
        return False
    path = posixpath.normpath(posixpath.join(str(folders[0]) if folders else "", plain))
    return path == ".." or path.startswith("../")


def plain_path(name: str) -> str:
    """A reference as a path with slashes: a URL's own path (decoded), a Windows path turned."""
    plain = name.strip().replace("\\", "/")
    if "://" in plain:
        try:
            parts = urlsplit(plain)
        except ValueError:
            return plain
        if parts.scheme.lower() in _SCHEMES:
            return unquote(parts.path).lstrip("/")
    return plain


def usual_folders(document: str, split: str | None) -> list[PurePosixPath]:
    """Where images lie, seen from an annotation file: beside it, in `images` or `data`, or in the split's folder."""
    here = PurePosixPath(document).parent
    words = PurePosixPath(document).stem.split("_")[-1]  # instances_val2017: val2017
    folders = [here, here / "images", PurePosixPath(), PurePosixPath("images"), PurePosixPath(split or "")]
    folders += [PurePosixPath("images", split or ""), PurePosixPath(split or "", "images"), here / (split or "")]
    folders += [PurePosixPath(words), PurePosixPath("images", words), here / "images" / (split or "")]
    return [*folders, here / "data", here.parent / "images", here.parent / "data", here.parent]
