"""The cells' cameras: a fixed view of a belt, a heap or a tote, and packages that are others in every frame.

The generator draws a new camera and a new environment for each scene. A cell has one of each for years, so here they
are drawn once from the cell's seed, and the packages alone are drawn anew. Frames are rendered once into a pool; a
stream picks from it and adds what differs from frame to frame (light, sensor noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes import BROAD, HELD_OUT, Look
from finetune.scenes.camera import Camera, paint_order
from finetune.scenes.canvas import Canvas
from finetune.scenes.environment import Maker, drop_pile
from finetune.scenes.generator import compact
from finetune.scenes.layouts import LAYOUTS, backdrop_name
from finetune.scenes.materials import choose, pick
from finetune.scenes.packages import Thing, paint_all
from finetune.scenes.textures import texture_bank

Image = NDArray[np.uint8]
LOOKS: tuple[tuple[str, Look], ...] = (("broad", BROAD), *HELD_OUT.items())
ABOVE = 0.1
"""How high above the floor (metres) a package lies that is put onto the others."""
NEW = "new"
"""The novelty that is planted: packages of hues, prints and classes that the cell has never had."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One rendered view: uint8 [S, S, 3] RGB before light and sensor, its id map, and the classes of its instances."""

    image: Image
    ids: Image
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """What one cell's camera can see: busy views, views of an empty belt, and views with packages that are new."""

    name: str
    busy: tuple[Shot, ...]
    idle: tuple[Shot, ...]
    novel: tuple[Shot, ...]
    sensor_noise: float
    """Standard deviation of the sensor's noise, grey levels."""
    blur: float
    """Of its lens, pixels (standard deviation)."""


class CellCamera:
    """One cell: a fixed world and camera; `shot` draws packages into it. Everything follows from `seed`."""

    def __init__(self, seed: int, *, size: int = 256, known: Look | None = None) -> None:
        """`known` is what its packages look like, the seed's own look unless said."""
        rng = np.random.default_rng((seed, 7))
        name, look = LOOKS[seed % len(LOOKS)] if known is None else ("known", known)
        weights = {key: value for key, value in look.environments.items() if key in ("pile", "tote", "conveyor")}
        self.look, self.size, self.seed = look, size, seed
        self._bank = texture_bank()
        make = Maker(rng, replace(look, heap=(6, 12)), self._bank, size)
        environment = choose(rng, weights)
        self.name = f"{name}-{environment}-{seed}"
        backdrop = pick(rng, self._bank.backdrop[backdrop_name(make, environment)])
        side = int(rng.integers(backdrop.shape[0] // 3, backdrop.shape[0] + 1))
        x, y = rng.integers(0, backdrop.shape[0] - side + 1, 2)
        self._backdrop = cv2.resize(backdrop[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        self._light = np.array([rng.normal(0, 0.6), rng.normal(-0.5, 0.5), rng.uniform(0.4, 1.0)])
        self._ambient = float(rng.uniform(0.35, 0.75))
        world = LAYOUTS[environment](make)
        self._fixed: list[Thing] = [thing for thing in world.things if thing.label is None]
        self._camera: Camera = world.camera
        self._walled = environment == "tote"
        bounds = [thing.bounds() for thing in world.things if thing.label is not None]
        low = np.min([one[0][:2] for one in bounds], axis=0)
        high = np.max([one[1][:2] for one in bounds], axis=0)
        middle, half = (low + high) / 2, (high - low) / 2
        # Packages hang over the edge of where they fall; what held the first heap holds the others.
        shrink = 0.95 if self._walled else 0.75
        self._low, self._high = middle - shrink * half, middle + shrink * half
        self._field = _light_field(rng, size)
        self.sensor_noise = float(rng.uniform(1.0, 5.0))
        self.blur = float(rng.uniform(0.3, 0.7))

    def shot(
        self,
        index: int,
        *,
        packages: tuple[int, int] = (1, 9),
        look: Look | None = None,
        extra: Sequence[tuple[str, Look]] = (),
    ) -> Shot:
        """The view number `index`, with at least `packages[0]` and less than `packages[1]` of them; and for each of
        `extra` one more of that look, whose class is called by the name beside it."""
        rng = np.random.default_rng((self.seed, 11, index))
        make = Maker(rng, look or self.look, self._bank, self.size)
        count = int(rng.integers(*packages))
        things = list(self._fixed)
        if count:
            things += drop_pile(make, self._low, self._high, count, 0.0, walled=self._walled)
        for name, other in extra:
            strange = Maker(rng, other, self._bank, self.size)
            things += [
                replace(thing, label=name) if is_dataclass(thing) else thing
                for thing in drop_pile(strange, self._low, self._high, 1, ABOVE, walled=self._walled)
            ]
        canvas = Canvas(self._backdrop.copy(), self._light, self._ambient)
        bounds = [thing.bounds() for thing in things]
        labels: dict[int, str] = {}
        if things:
            lows, highs = np.stack([one[0] for one in bounds]), np.stack([one[1] for one in bounds])
            labels = paint_all(things, paint_order(lows, highs, self._camera.eye), canvas, self._camera)
        ids, kept = compact(canvas.ids, labels, max(4, int(0.0012 * self.size**2)))
        return Shot(cv2.multiply(canvas.image, self._field, dtype=cv2.CV_8U), ids, kept)

    def pool(self, *, busy: int = 48, idle: int = 4, novel: int = 24) -> Pool:
        """Views rendered once, to pick from."""
        return Pool(
            self.name,
            tuple(self.shot(k) for k in range(busy)),
            tuple(self.shot(10_000 + k, packages=(0, 1)) for k in range(idle)),
            tuple(self.shot(20_000 + k, packages=(3, 10), look=new_look(self.look, k)) for k in range(novel)),
            self.sensor_noise,
            self.blur,
        )


def _light_field(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """How the cell's lamps light its view: fixed, float32 [S, S, 3]."""
    coarse = 1 + rng.normal(0, 0.16, (3, 3, 1)) + rng.normal(0, 0.02, (3, 3, 3))
    gain = float(rng.uniform(0.7, 1.15))
    field = (coarse * gain).clip(0.3, 1.6).astype(np.float32)
    return cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR)


_CHANGES: tuple[dict[str, object], ...] = (
    {"classes": {"poly_bag": 1.0}, "hues": ((0.0, 360.0),)},
    {"classes": {"box": 1.0}, "box_materials": {"dark": 1.0}},
    {"classes": {"sack": 0.6, "cylinder": 0.4}, "hues": ((20.0, 60.0),)},
    {"classes": {"box": 1.0}, "box_materials": {"printed": 1.0}, "hues": ((270.0, 330.0),)},
    {"classes": {"box": 1.0}, "box_materials": {"white": 1.0}},
)
NEW_LOOKS = ("bags", "dark boxes", "sacks and rolls", "purple print", "white boxes")
"""What `new_look` makes of a look, by number."""


def new_look(look: Look, kind: int) -> Look:
    """Packages that the cell never had: bags, dark boxes, bright sacks, printed and white boxes, by turns."""
    return replace(look, **_CHANGES[kind % len(_CHANGES)])  # type: ignore[arg-type]  # each key is a field of Look
