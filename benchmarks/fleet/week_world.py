"""The world of the week: cells with cameras over days, what is planted where, and robots whose picks go by the masks.

All of it follows from the seed, and the truth of each frame is known by the digest of its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.cameras import CellCamera, Shot, new_look
from benchmarks.fleet.faults import FAULTS, Fault
from benchmarks.fleet.light import DAY_S, Day, seen
from benchmarks.fleet.picks_model import OUTCOMES, SUCCESS, cause_of, truth_of
from serving.instances import Instances
from serving.observed.camera_kinds import Kind

Image = NDArray[np.uint8]
BAG: Final = "poly_bag"
SHIFT: Final = 9 * 3600.0
"""When the shift begins; it lasts eight hours."""
DRIFT: Final = 0.05
"""What a drifting cell's light loses a day, from the shift on."""
NOVEL_SHARE: Final = 0.6
"""Of the frames of a cell with the new bag, so many have one."""
FAULT_KINDS: Final = ("out_of_focus", "dark")
PICKS: Final = 2
"""Per frame."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What is planted in a week, by the cells' names."""

    shift: int
    novel: frozenset[str]
    bad_deck: str
    faults: Mapping[str, str]
    drift: frozenset[str]

    @classmethod
    def of(cls, seed: int, cells: tuple[str, ...], days: int) -> Planted:
        """Three cells with the new bag, one with a bad deck, two with camera faults, two that drift; fewer where there
        are few cells."""
        rng = np.random.default_rng((seed, 71))
        order = [cells[k] for k in rng.permutation(len(cells))]
        novel = order[: max(1, round(len(order) * 3 / 8))]
        rest = order[len(novel) :] or order
        faults = dict(zip((rest[1:3] or rest[:1]), FAULT_KINDS, strict=False))
        return cls(min(2, days - 1), frozenset(novel), rest[0], faults, frozenset(rest[-2:]))


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as PNG, and its truth."""

    data: bytes
    image: Image
    truth: Instances


@dataclass
class CellWorld:
    """One cell of the fleet."""

    name: str
    camera: CellCamera
    day: Day
    rng: np.random.Generator
    planted: Planted
    truths: dict[str, Instances] = field(default_factory=dict)
    _next: int = 0

    @classmethod
    def of(cls, name: str, seed: int, planted: Planted, size: int) -> CellWorld:
        """Camera, light and packages are drawn from the seed; `size` is the side of a picture in pixels."""
        return cls(name, CellCamera(seed, size=size), Day.of(seed), np.random.default_rng((seed, 83)), planted)

    def frame(self, day: int, share: float) -> Frame:
        """A frame of a day (from 0 on), `share` (0 to 1) through the shift."""
        planted, rng = self.planted, self.rng
        after = day >= planted.shift
        bag = after and self.name in planted.novel and rng.random() < NOVEL_SHARE
        extra = ((BAG, new_look(self.camera.look, 0)), (BAG, new_look(self.camera.look, 0))) if bag else ()
        shot = self.camera.shot(self._next, packages=(3, 8), extra=extra)
        self._next += 1
        return self._seen(shot, day, share)

    def _seen(self, shot: Shot, day: int, share: float) -> Frame:
        planted, fault = self.planted, self.fault(day)
        image = shot.image if fault is None or fault.lens is None else fault.lens(shot.image)
        drift = 1 - DRIFT * (day - planted.shift + 1) if self.name in planted.drift and day >= planted.shift else 1.0
        at = day * DAY_S + SHIFT + share * 8 * 3600
        exposure = drift * (fault.exposure if fault else 1.0)
        image = seen(image, self.day, at, self.camera.sensor_noise, self.rng, exposure=max(exposure, 0.05))
        done, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert done  # noqa: S101  # memory alone
        data, truth = png.tobytes(), truth_of(shot.ids, shot.labels)
        self.truths[hashlib.sha256(data).hexdigest()] = truth
        return Frame(data, image, truth)

    def fault(self, day: int) -> Fault | None:
        """The camera's fault of a day: on the second half of the shift's day, until it is repaired the day after."""
        kind = self.planted.faults.get(self.name)
        if kind is None or day != self.planted.shift:
            return None
        return FAULTS[cast(Kind, kind)](0.7, np.random.default_rng(5), self.camera.size)

    def truth(self, data: bytes) -> Instances | None:
        """The truth of a frame by its bytes."""
        return self.truths.get(hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Picked:
    """A pick: which instance of the answer, None where the robot had nothing to pick, and how it went."""

    instance: int | None
    outcome: str

    @property
    def success(self) -> bool:
        """Whether the package came along."""
        return self.outcome == "success"


def picks_of(frame: Frame, served: Instances, rng: np.random.Generator) -> list[Picked]:
    """The robot's picks of a frame: its most certain instances first. A frame with packages and no answer is a pick
    that did not come about."""
    if not len(frame.truth):
        return []
    masks, real = served.decode_masks(), frame.truth.decode_masks()
    sure = [k for k in np.argsort(-served.scores) if served.scores[k] >= 0.5][:PICKS]
    if not sure:
        return [Picked(None, "miss")]
    found = []
    for number in (int(k) for k in sure):
        cause = cause_of(masks[number], served.labels[number], masks, real, frame.truth.labels, number)
        if rng.random() < SUCCESS[cause]:
            found.append(Picked(number, "success"))
            continue
        names = OUTCOMES[cause]
        found.append(Picked(number, str(rng.choice(list(names), p=list(names.values())))))
    return found
