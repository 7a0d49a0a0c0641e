"""The extra pass over frames of failed picks, in a process of its own: `python -m hub.loop.failure_pass FOLDER`.

It reads `wanted.json` in the folder and writes `done.json` beside it. The hub stays small and answers meanwhile;
strangers' pictures are decoded here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from hub.errors import UNREADABLE
from hub.stack.processes import die_with_parent, give_way, spawn, stop
from serving.instances import Instances
from serving.observed.second_looks import PLAIN, VIEWS, Image, Look, View

MAX_SECONDS: Final = 600.0
WANTED, DONE = "wanted.json", "done.json"
SCORE: Final = 0.1
BASE_VIEWS: Final[tuple[View, ...]] = (PLAIN, VIEWS[0])


class Wanted(msgspec.Struct, frozen=True):
    """Which frames, by which base and variant (None: the base itself). Paths of this machine."""

    base: str
    base_folder: str
    variant: str | None
    variant_folder: str | None
    frames: list[str]


class Seen(msgspec.Struct, frozen=True):
    """One look, as it travels between the two processes."""

    name: str
    again: bool
    height: int
    width: int
    boxes: list[list[float]]
    scores: list[float]
    labels: list[str]
    masks: list[str]

    @classmethod
    def of(cls, look: Look) -> Seen:
        """A look in plain lists that JSON can carry."""
        found = look.instances
        masks = [mask.decode("ascii") for mask in found.masks]
        return cls(
            look.name,
            look.again,
            found.height,
            found.width,
            found.boxes.tolist(),
            found.scores.tolist(),
            list(found.labels),
            masks,
        )

    def look(self) -> Look:
        """The look again; boxes and scores are float32."""
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        masks = tuple(mask.encode("ascii") for mask in self.masks)
        found = Instances(self.height, self.width, boxes, np.array(self.scores, np.float32), tuple(self.labels), masks)
        return Look(self.name, found, self.again)


class Done(msgspec.Struct, frozen=True):
    """The looks at each frame, in the order asked; none where a frame cannot be read."""

    looks: list[list[Seen]]


def run(wanted: Wanted) -> list[list[Look]]:
    """Look again at frames, in a process of its own. Raises OSError, and ValueError with its words where it fails."""
    with tempfile.TemporaryDirectory(prefix="parcelhub-looks-") as name:
        folder = Path(name)
        (folder / WANTED).write_bytes(msgspec.json.encode(wanted))
        with (folder / "log").open("wb") as said:
            process = spawn([sys.executable, "-m", "hub.loop.failure_pass", str(folder)], stdout=said)
            try:
                code = process.wait(MAX_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise ValueError("the extra pass took too long") from error
            finally:
                stop(process, grace_seconds=1.0)
        if code:
            words = (folder / "log").read_text(errors="replace").strip()
            raise ValueError(words[-500:] or f"the extra pass ended with {code}")
        try:
            done = msgspec.json.decode((folder / DONE).read_bytes(), type=Done)
            return [[seen.look() for seen in looks] for looks in done.looks]
        except (OSError, *UNREADABLE) as error:
            raise ValueError(f"the answer of the extra pass cannot be read: {error}") from error


def look_at(wanted: Wanted, frames: Sequence[Image | None]) -> list[list[Look]]:
    """What `run` does, in this process. None stands for a frame that cannot be read."""
    from serving.inference.segmenter import Segmenter

    segmenter = Segmenter.load(Path(wanted.base_folder), base_name=wanted.base, device="cpu", slots=2)
    if wanted.variant is not None and wanted.variant_folder is not None:
        segmenter.add_variant(wanted.variant, Path(wanted.variant_folder))
    found: list[list[Look]] = []
    for frame in frames:
        looks: list[Look] = []
        if frame is not None:
            views = [(view, wanted.variant, view.name) for view in VIEWS]
            if wanted.variant is not None:
                views += [(view, None, f"the base, {view.name}") for view in BASE_VIEWS]
            answers = segmenter.segment(
                [view.of(frame) for view, _, _ in views], [variant for _, variant, _ in views], SCORE
            )
            looks = [
                Look(name, view.back(answer), variant == wanted.variant)
                for (view, variant, name), answer in zip(views, answers, strict=True)
            ]
        found.append(looks)
    return found


def read_frame(path: Path) -> Image | None:
    """A frame as uint8 [H, W, 3] RGB; None for what is no picture of a size that is served."""
    from serving.errors import ServingError
    from serving.inference.preprocess import decode_image

    try:
        return decode_image(path.read_bytes())
    except (OSError, ServingError):
        return None


def main(folder: Path) -> int:
    """The child."""
    die_with_parent()
    give_way()
    wanted = msgspec.json.decode((folder / WANTED).read_bytes(), type=Wanted)
    looks = look_at(wanted, [read_frame(Path(path)) for path in wanted.frames])
    (folder / DONE).write_bytes(msgspec.json.encode(Done([[Seen.of(look) for look in each] for each in looks])))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
