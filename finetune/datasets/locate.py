"""The image that an annotation file names: found inside the dataset's folder or not at all."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import PurePosixPath

from finetune.datasets.tree import IMAGE_SUFFIXES, Tree, suffix_of


class ImageFinder:
    """Finds images by the names that annotation files give them. Only files that the tree lists are ever answered."""

    def __init__(self, tree: Tree) -> None:
        self._files = frozenset(tree.files)

    def find(self, name: object, folders: Iterable[str | PurePosixPath]) -> str:
        """The path in the tree of `name` in the first of `folders` that has it; a name that goes up, as LabelMe
        writes `../images/a.jpg`, is seen from the first folder alone.

        Raises ValueError with the sentence to show if it is no file name, leads out of the dataset, is not there or
        not a JPEG or PNG.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r} is not a file name")
        # Tools on Windows write backslashes.
        plain = name.replace("\\", "/")
        if plain.startswith("/") or plain[1:2] == ":":
            raise ValueError(f"{name!r} leads out of the dataset's folder")
        outside = True
        options = list(folders)
        for folder in options[:1] if ".." in plain.split("/") else options:
            path = posixpath.normpath(posixpath.join(str(folder), plain))
            if path == ".." or path.startswith("../"):
                continue
            outside = False
            if path in self._files:
                if suffix_of(path) not in IMAGE_SUFFIXES:
                    raise ValueError(f"{name!r} is not a JPEG or PNG file")
                return path
        if outside:
            raise ValueError(f"{name!r} leads out of the dataset's folder")
        raise ValueError(f"the image {name!r} is not in the folder")


def usual_folders(document: str, split: str | None) -> list[PurePosixPath]:
    """Where images lie, seen from an annotation file: beside it, in `images`, or in the split's folder."""
    here = PurePosixPath(document).parent
    words = PurePosixPath(document).stem.split("_")[-1]  # instances_val2017: val2017
    folders = [here, here / "images", PurePosixPath(), PurePosixPath("images"), PurePosixPath(split or "")]
    folders += [PurePosixPath("images", split or ""), PurePosixPath(split or "", "images"), here / (split or "")]
    return folders + [PurePosixPath(words), PurePosixPath("images", words), here / "images" / (split or "")]
