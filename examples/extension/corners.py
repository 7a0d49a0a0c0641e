"""An annotation format: `a.corners` beside `a.jpg`, a line `class x0 y0 x1 y1` in pixels for each package."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from finetune.datasets.export import Draft, box_of
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.kinds import AnnotationFormat, Format, register, register_writer
from finetune.datasets.locate import ImageFinder
from finetune.datasets.per_image import PerImageSource, find_images
from finetune.datasets.tree import IMAGE_SUFFIXES, Tree, read_text
from finetune.datasets.types import Dataset

SUFFIX = ".corners"


def read_corners(tree: Tree, names: list[str], findings: Findings) -> PerImageSource:
    """The files `names` as one dataset."""
    finder = ImageFinder(tree, findings)

    def image_of(name: str) -> str:
        at = PurePosixPath(name)
        beside = [one for one in tree.with_suffix(*IMAGE_SUFFIXES) if PurePosixPath(one).with_suffix(SUFFIX) == at]
        return finder.find(PurePosixPath(beside[0]).name if beside else at.with_suffix(".jpg").name, [at.parent])

    return PerImageSource(tree, find_images(tree, names, image_of, findings, kind="corners file", field=""), read_file)


def read_file(tree: Tree, name: str, found: InstanceList, findings: Findings) -> list[str]:
    """Add a file's packages to `found`; answers the classes that it names."""
    labels = []
    for number, line in enumerate(read_text(tree, name).splitlines(), 1):
        label, *sides = line.split()
        try:
            x0, y0, x1, y1 = (float(side) for side in sides)
            found.add_box(label, np.array([[x0, y0], [x1, y1]]), f"{name}:{number}")
        except ValueError as error:
            findings.problem(f"expecting `class x0 y0 x1 y1` ({error})", name, line=number)
            continue
        labels.append(label)
    return labels


def write_corners(dataset: Dataset, draft: Draft) -> None:
    """Images, each with its file. Outlines become boxes, and are counted as lost."""
    del dataset  # its samples come from the draft, one by one, so that progress can be told
    for sample in draft.samples():
        image = PurePosixPath(draft.copy_image(sample, "frames"))
        lines = []
        for label, counts, _ in sample.instances():
            draft.lose("instance with an outline, of which the box alone is written", sample)
            lines.append(" ".join(map(str, (label, *box_of(counts, sample.height, sample.width)))) + "\n")
        draft.write_text(str(image.with_suffix(SUFFIX)), "".join(lines))


register(
    AnnotationFormat(
        "corners", "corners", "a .corners file per image", lambda look: look.tree.with_suffix(SUFFIX), read_corners
    )
)
register_writer(
    Format(
        "corners", "corners", write_corners, whole=False, overlaps=True, attributes=False, splits=False, outlines=False
    )
)
