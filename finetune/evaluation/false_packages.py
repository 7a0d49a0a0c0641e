"""How many packages a base sees where there are none: in scenes without any, and in photographs of other things."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.models.model import load_base
from finetune.scenes import BROAD, SceneGenerator
from serving.inference.segmenter import Segmenter

SEED = 990_001  # far from any that training draws from
SURE = 0.5  # the score from which an answer counts
# Pictures without a package that come with Python packages: where they lie, by the module they come with.
PACKAGED: tuple[tuple[str, str], ...] = (
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/gravel.png"),
    ("skimage", "data/rocket.jpg"),
)


@dataclass(frozen=True, slots=True)
class FalsePackages:
    """`answers` of a score of `SURE` and more on `images` pictures without a package; `by_place` counts them by where
    the picture is from, (pictures, answers)."""

    images: int
    answers: int
    pictures_with_any: int
    by_place: dict[str, tuple[int, int]]

    @property
    def a_picture(self) -> float:
        """Answers a picture."""
        return self.answers / max(1, self.images)


def packaged_pictures() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The sample pictures, uint8 [H, W, 3] RGB, of the Python packages that are installed here, with their names."""
    for module, name in PACKAGED:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            continue
        file = Path(spec.origin).parent / name
        if not file.is_file():
            continue
        picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        if picture is not None:
            yield f"{module}: {file.name}", np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def pictures_without(images: int, size: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """`images` pictures without a package: what comes with Python packages first, then generated ones of `size`."""
    count = 0
    for name, picture in packaged_pictures():
        if count == images:
            return
        count += 1
        yield name, picture
    generator = SceneGenerator(replace(BROAD, empty=1.0), size=size, seed=SEED)
    for index in range(images - count):
        scene = generator.scene(index)
        yield f"scene: {scene.environment}", scene.image


def measure_false_packages(
    folder: Path, *, images: int = 100, size: int = 384, progress: Callable[[int], None] = lambda _done: None
) -> FalsePackages:
    """Ask a base for packages of any class in pictures without any.

    Raises BaseModelError for a folder that is no base.
    """
    load_base(folder)
    segmenter = Segmenter.load(folder)
    seen, found = Counter[str](), Counter[str]()
    some = 0
    for number, (name, picture) in enumerate(pictures_without(images, size)):
        said = segmenter.segment([picture], min_score=SURE)[0]
        sure = int(np.count_nonzero(said.scores >= SURE))
        seen[name] += 1
        found[name] += sure
        some += sure > 0
        progress(number + 1)
    by_place = {name: (seen[name], found[name]) for name in sorted(seen)}
    return FalsePackages(sum(seen.values()), sum(found.values()), some, by_place)
