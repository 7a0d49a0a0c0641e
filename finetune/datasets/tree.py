"""The files of a dataset's folder: listed once, links checked, images measured and decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import ExifTags
from PIL import Image as PillowImage

from finetune.datasets.findings import Findings
from finetune.datasets.limits import MAX_TEXT_BYTES
from finetune.errors import DatasetError
from serving.errors import ImageError
from serving.preprocess import MAX_BYTES, MAX_PIXELS, decode_image, image_size

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
# Pictures that we know to be pictures but cannot serve: said clearly, rather than silently left out.
OTHER_IMAGE_SUFFIXES = frozenset({".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2"})
_SPLIT_NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_HEADER_BYTES = 64 * 1024

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The regular files under `root`, as sorted POSIX paths relative to it. Nothing else is ever opened."""

    root: Path
    files: tuple[str, ...]

    def path(self, relative: str) -> Path:
        return self.root / relative

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files whose names end in one of `suffixes` (lower case, with the dot)."""
        return [name for name in self.files if suffix_of(name) in suffixes]


def suffix_of(relative: str) -> str:
    return PurePosixPath(relative).suffix.lower()


def split_of(relative: str) -> str | None:
    """The split that a path's folders name ("val" and "validation" are "valid"), or None."""
    for part in reversed(PurePosixPath(relative).parts[:-1]):
        if part.lower() in _SPLIT_NAMES:
            return _SPLIT_NAMES[part.lower()]
    return None


def split_named(word: str) -> str | None:
    """The split that a word names, or None."""
    return _SPLIT_NAMES.get(word.strip().lower())


def split_in_name(stem: str) -> str | None:
    """The split that a file's name holds as a word, as in `instances_val2017`, or None."""
    words = "".join(c if c.isalpha() else " " for c in stem.lower()).split()
    return next((_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES), None)


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


def _walk(folder: Path, root: Path, findings: Findings) -> Iterator[str]:
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
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
            yield from _walk(Path(entry.path), root, findings)
        elif entry.is_file():
            yield relative


def read_text(tree: Tree, relative: str) -> str:
    """A text file of moderate size, UTF-8 with or without a byte order mark. Raises DatasetError."""
    path = tree.path(relative)
    try:
        weight = path.stat().st_size
        if weight > MAX_TEXT_BYTES:
            raise DatasetError(f"has {weight:,} bytes; the limit is {MAX_TEXT_BYTES:,}", path=Path(relative))
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read as text: {error}", path=Path(relative)) from error


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
