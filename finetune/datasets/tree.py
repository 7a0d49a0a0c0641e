"""The files of a dataset's folder: listed once, links checked, images measured and decoded."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from PIL import ExifTags
from PIL import Image as PillowImage

from finetune.datasets.findings import Findings
from finetune.datasets.limits import MAX_TEXT_BYTES
from finetune.errors import DatasetError
from serving.errors import ImageError
from serving.image_header import MAX_BYTES, MAX_PIXELS, image_size

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
# Pictures that we know to be pictures but cannot serve: said clearly, rather than silently left out.
OTHER_IMAGE_SUFFIXES = frozenset({".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2"})
_SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_SPLIT_NAMES |= {"training": "train", "trainset": "train", "valset": "valid", "testing": "test", "testset": "test"}
# Words that may stand beside a split's in the name of a folder or list, as in `train_images` and `obj_train_data`. Any
# other word says something else: `test_station` is a place.
_BESIDE_SPLITS = frozenset(("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "frames", "labels"))
_BESIDE_SPLITS |= {"label", "annotations", "masks", "json", "coco", "yolo", "data", "dataset", "set", "split", "splits"}
_BESIDE_SPLITS |= {"obj", "autosplit", "list", "lists", "file", "files"}
_NO_SPLIT = frozenset({"", "none", "null", "nan", "all", "default", "unassigned", "undefined"})
_HEADER_BYTES = 64 * 1024

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The regular files under `root`, as sorted POSIX paths relative to it. Nothing else is ever opened."""

    root: Path
    files: tuple[str, ...]
    _by_suffix: dict[str, list[str]] = field(default_factory=dict, compare=False, repr=False)

    def path(self, relative: str) -> Path:
        """The file's place on disk. It does not look whether the file is one of the tree's."""
        return self.root / relative

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files whose names end in one of `suffixes` (lower case, with the dot)."""
        if not self._by_suffix:
            for name in self.files:
                self._by_suffix.setdefault(suffix_of(name), []).append(name)
        if len(suffixes) == 1:
            return list(self._by_suffix.get(suffixes[0], ()))
        return sorted(name for suffix in suffixes for name in self._by_suffix.get(suffix, ()))


def suffix_of(relative: str) -> str:
    """The suffix in lower case with its dot; "" if there is none."""
    return posixpath.splitext(relative)[1].lower()


def split_of(relative: str) -> str | None:
    """The split that a path's folders name ("val" and "validation" are "valid", "train2017" is "train"), or None."""
    for part in reversed(PurePosixPath(relative).parts[:-1]):
        if (split := split_word(part)) is not None:
            return split
    return None


@cache
def split_word(name: str) -> str | None:
    """The split that the name of a folder or list says and nothing else, as `train`, `val2017` and `test_images` do."""
    words = _words(name)
    splits = {_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES}
    plain = all(word in _SPLIT_NAMES or word in _BESIDE_SPLITS for word in words)
    return splits.pop() if plain and len(splits) == 1 else None


def split_named(word: str) -> str | None:
    """The split that a word names, or None."""
    return _SPLIT_NAMES.get(word.strip().lower())


def split_in_name(stem: str) -> str | None:
    """The one split that a file's name holds as a word, as in `instances_val2017`, or None."""
    splits = {_SPLIT_NAMES[word] for word in _words(stem) if word in _SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else None


def split_said(value: object) -> str | None:
    """The split that a field declares; None where it declares none. Raises ValueError with the sentence to show for a
    value that is something else: whoever wrote it meant to keep images apart.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_SPLIT):
        return None
    split = split_named(value) if isinstance(value, str) else None
    if split is None:
        raise ValueError(f"must be one of {', '.join(dict.fromkeys(_SPLIT_NAMES.values()))}, not {value!r:.40}")
    return split


def _words(text: str) -> list[str]:
    return "".join(c if c.isalpha() else " " for c in text.lower()).split()


def scan(folder: Path, findings: Findings) -> Tree:
    """List the files under `folder`; hidden ones are left out, links that lead outside are problems.

    Raises DatasetError if `folder` is not a readable folder.
    """
    if not folder.is_dir():
        raise DatasetError("is not a folder" if folder.exists() else "does not exist", path=folder)
    root = folder.resolve()
    try:
        files = sorted(_walk(root, root, findings))
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=folder) from error
    return Tree(root, tuple(files))


def _walk(top: Path, root: Path, findings: Findings) -> Iterator[str]:
    folders = [top]
    while folders:  # folders of folders may be deeper than Python's stack
        with os.scandir(folders.pop()) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        yield from _inside(listed, root, folders, findings)


def _inside(listed: list[os.DirEntry[str]], root: Path, folders: list[Path], findings: Findings) -> Iterator[str]:
    """The files among a folder's entries; its folders go to `folders`."""
    for entry in listed:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        relative = Path(entry.path).relative_to(root).as_posix()
        if entry.is_symlink():
            if not Path(entry.path).resolve().is_relative_to(root):
                findings.problem("is a link to outside the dataset's folder; copy the file instead", relative)
                continue
            if entry.is_dir():
                findings.problem("is a link to a folder, which is not followed; copy the files", relative)
                continue
        if entry.is_dir():
            folders.append(Path(entry.path))
        elif entry.is_file():
            yield relative


def read_text(tree: Tree, relative: str) -> str:
    """A text file of moderate size, UTF-8 or UTF-16, with or without a byte order mark. Raises DatasetError."""
    path = tree.path(relative)
    try:
        weight = path.stat().st_size
        if weight > MAX_TEXT_BYTES:
            raise DatasetError(f"has {weight:,} bytes; the limit is {MAX_TEXT_BYTES:,}", path=Path(relative))
        data = path.read_bytes()
        return data.decode(unicode_form(data[:4]))
    except OSError as error:
        raise DatasetError(f"cannot be read as text: {error.strerror}", path=Path(relative)) from error
    except UnicodeDecodeError as error:
        text = f"cannot be read as text: it is not UTF-8 ({error.reason}); open it in an editor and save it as UTF-8"
        raise DatasetError(text, path=Path(relative)) from error


def unicode_form(head: bytes) -> str:
    """The codec of a text that begins with `head`, at least two bytes: UTF-16 by its mark or its zeros, or UTF-8."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) >= 2 and head[0] and not head[1]:
        return "utf-16-le"
    return "utf-16-be" if len(head) >= 2 and not head[0] and head[1] else "utf-8-sig"


def measure(
    tree: Tree,
    images: Sequence[str],
    findings: Findings,
    *,
    decode: bool,
    leave_out: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Size]:
    """Sizes of `images`; those that cannot be used are problems and missing in the answer. `progress` hears how many.

    With `decode` every image is decoded once, which alone finds the truncated ones; without, headers are read.
    `leave_out`: images that cannot be read are warnings, unless they are more than half of all.
    """

    def look(relative: str) -> tuple[Size, int] | ImageError:
        try:
            return _inspect(tree.path(relative), decode=decode)
        except ImageError as error:
            return error
        except OSError as error:
            return ImageError(f"cannot be read: {error.strerror}")

    sizes: dict[str, Size] = {}
    damaged: list[tuple[str, str]] = []
    # Decoding is outside Python's lock, so threads are enough.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for number, (relative, found) in enumerate(zip(images, pool.map(look, images), strict=True), 1):
            progress(number)
            if isinstance(found, ImageError):
                damaged.append((str(found), relative))
                continue
            sizes[relative], orientation = found
            if orientation not in (0, 1):
                findings.warn(
                    "image carries an EXIF rotation, which is ignored (as on the robot): if the labels were drawn "
                    "on the rotated picture, they lie in the wrong place",
                    relative,
                )
    for text, relative in damaged:
        if leave_out and 2 * len(damaged) <= len(images):
            findings.warn("damaged image, left out with its labels", f"{relative}: {text}")
        else:
            findings.problem(text, relative)
    return sizes


def _inspect(path: Path, *, decode: bool) -> tuple[Size, int]:
    """((height, width), EXIF orientation or 0) of an image file. Raises ImageError, OSError."""
    weight = path.stat().st_size
    if weight == 0:
        raise ImageError("the file is empty")
    if weight > MAX_BYTES:
        raise ImageError(f"the file has {weight:,} bytes; the limit is {MAX_BYTES:,}")
    with path.open("rb") as file:
        data = file.read(_HEADER_BYTES)
        try:
            _, height, width = image_size(data)
        except ImageError:
            # Cameras put large previews before the frame header.
            data += file.read()
            _, height, width = image_size(data)
        if height < 1 or width < 1 or height * width > MAX_PIXELS:
            raise ImageError(f"the image is {width}x{height} pixels; the limit is {MAX_PIXELS:,} pixels")
        if decode:
            from serving.inference.preprocess import decode_image  # here: it brings torch along

            decode_image(data + file.read())
        return (height, width), _orientation(data, path)


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 0 where it has none; 1 is upright."""
    with path.open("rb") as file:
        return _orientation(file.read(_HEADER_BYTES), path)


def _orientation(head: bytes, path: Path) -> int:
    if b"Exif" not in head and b"eXIf" not in head:
        return 0
    try:
        with PillowImage.open(path) as image:
            value = image.getexif().get(ExifTags.Base.Orientation, 0)
    except (OSError, SyntaxError, ValueError):  # a damaged tag says nothing about the pixels
        return 0
    return value if isinstance(value, int) else 0
