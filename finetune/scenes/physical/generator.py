"""From a seed and an index to a settled, drawn scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetune.scenes import effects
from finetune.scenes.camera import Camera
from finetune.scenes.generator import MAX_SIZE, Scene, compact
from finetune.scenes.materials import choose
from finetune.scenes.physical.film import shrink_wrap
from finetune.scenes.physical.look import WAREHOUSE, PhysicalLook
from finetune.scenes.physical.parcels import Packer
from finetune.scenes.physical.props import Shop
from finetune.scenes.physical.raster import Raster
from finetune.scenes.physical.settle import settle
from finetune.scenes.physical.shapes import Mesh
from finetune.scenes.physical.stages import set_stage
from finetune.scenes.physical.world import Piece, Shot
from finetune.scenes.textures import Image, texture_bank

if TYPE_CHECKING:
    from finetune.scenes.physical.assets import Assets

VERSION = "2"
CLEARANCE = 0.45  # metres
# Exponents of the camera's tone curve: the raster tier sums light without one, the tracer's picture has had its own.
RASTER_CURVE, TRACED_CURVE = (0.68, 0.85), (0.9, 1.1)
LIMIT = 250  # packages in a scene: ids are bytes


@dataclass(frozen=True, slots=True)
class View:
    """A drawn shot before lens and sensor: picture uint8 [S, S, 3], ids uint8 [S, S]."""

    image: Image
    ids: NDArray[np.uint8]


class PhysicalGenerator:
    """Scenes of one look. `scene(index)` depends on `seed`, `index`, the look, the assets and the generator's
    version (and on one machine's OpenGL) alone.

    `path_samples` None draws with MuJoCo's renderer; a number traces paths with so many samples a pixel. Keeps an
    off-screen context: one thread only; `close()` frees it. Raises SceneToolError when a library is missing, ValueError
    for a `size` that is too small or too large.
    """

    def __init__(
        self,
        look: PhysicalLook = WAREHOUSE,
        *,
        size: int = 384,
        seed: int = 0,
        min_area_share: float = 0.0008,
        assets: Assets | None = None,
        path_samples: int | None = None,
    ) -> None:
        if not 16 <= size <= MAX_SIZE:
            raise ValueError(f"scenes have 16 to {MAX_SIZE} pixels a side, not {size}")
        self.look, self.size, self.seed = look, size, seed
        self.min_area = max(4, int(min_area_share * size * size))
        self.assets, self.path_samples = assets, path_samples
        self._bank = texture_bank()
        self._raster = Raster(size)

    def close(self) -> None:
        """Free the off-screen context."""
        self._raster.close()

    def shot(self, index: int) -> Shot:
        """The settled world of scene `index`, before any picture."""
        return build_shot(np.random.default_rng((self.seed, index)), self.look, self.size, self.assets)

    def view(self, shot: Shot, seed: int = 0) -> View:
        """The shot drawn by this generator's tier; `seed` is that of the traced paths."""
        if self.path_samples is None:
            return View(*self._raster.draw(shot))
        from finetune.scenes.physical.trace import trace

        image = trace(shot, self.size, samples=self.path_samples, seed=seed)
        return View(image, self._raster.ids(shot))

    def scene(self, index: int) -> Scene:
        """The scene number `index` (any non-negative integer)."""
        shot = self.shot(index)
        view = self.view(shot, seed=index)
        # The camera draws from numbers of its own, so that both tiers show the same world with the same lens.
        rng = np.random.default_rng((self.seed, index, 1))
        curve = RASTER_CURVE if self.path_samples is None else TRACED_CURVE
        image, ids = _exposed(rng, view.image, self.look, curve), view.ids
        if rng.random() < self.look.distortion:
            image, ids = effects.lens(rng, image, ids)
        image = effects.sensor(rng, image, self.look, self._bank)
        ids, kept = compact(ids, dict(enumerate(shot.labels, 1)), self.min_area)
        return Scene(image, ids, kept, shot.environment)


def build_shot(rng: np.random.Generator, look: PhysicalLook, size: int, assets: Assets | None = None) -> Shot:
    """Draw a stage, let it settle, wrap it."""
    environment = choose(rng, look.environments)
    bank = texture_bank()
    pack = Packer(rng, look, bank, assets.packages if assets else ())
    shop = Shop(rng, look, bank, assets.props if assets else ())
    stage = set_stage(environment, pack, shop)
    settled = settle(stage)
    pieces = [Piece(prop.mesh, prop.surface, 0, prop.ghost) for prop in stage.props]
    labels: list[str] = []
    for k, mesh, inner in zip(settled.kept, settled.meshes, settled.inner, strict=True):
        if len(labels) == LIMIT:
            break
        parcel = stage.placed[k].parcel
        labels.append(parcel.label)
        if inner is not None and parcel.inside is not None:
            pieces.append(Piece(inner, parcel.inside[1], len(labels)))
        pieces.append(Piece(mesh, parcel.surface, len(labels)))
    where = dict(zip(settled.kept, settled.meshes, strict=True))
    for group in stage.wrapped:
        pieces += shrink_wrap(rng, [where[k] for k in group if k in where])
    camera = stand_back(stage.camera.resized(size), settled.meshes)
    return Shot(tuple(pieces), tuple(labels), camera, stage.lighting, environment, settled.speed)


def stand_back(camera: Camera, meshes: Sequence[Mesh]) -> Camera:
    """The camera, moved back along its axis until every package is `CLEARANCE` metres in front of it or out of
    sight."""
    forward = camera.rotation[2]
    back = 0.0
    for mesh in meshes:
        local = (mesh.vertices - camera.eye) @ camera.rotation.T
        wide = np.abs(local[:, :2]).max(axis=1)
        # Only what is near the axis can fill the picture or be cut by the near plane.
        close = local[:, 2][(local[:, 2] > -0.5) & (wide < 0.6 + 0.8 * np.abs(local[:, 2]))]
        if len(close):
            back = max(back, CLEARANCE - float(close.min()))
    return replace(camera, eye=camera.eye - back * forward)


def _exposed(rng: np.random.Generator, image: Image, look: PhysicalLook, curve: tuple[float, float]) -> Image:
    """The camera's own exposure: a tone curve, a gain that lifts a dark picture part of the way, a cast and a
    vignette."""
    light = (image.astype(np.float32) / 255) ** np.float32(rng.uniform(*curve))
    auto = np.clip((0.42 / (float(light.mean()) + 1e-3)) ** rng.uniform(0.1, 0.9), 0.6, 2.5)
    gain = auto * rng.uniform(*look.brightness) * (1 + rng.normal(0, look.colour_cast, 3) * rng.random())
    ramp = np.linspace(-1, 1, image.shape[0], dtype=np.float32)
    corner = 1 - rng.uniform(0, 0.22) * (ramp[:, None] ** 2 + ramp[None, :] ** 2)
    lit = light * corner[:, :, None] * gain.astype(np.float32)
    # A soft shoulder instead of clipping: what lamps overexpose turns pale, as on film and sensors.
    knee = 0.8
    over = np.maximum(lit - knee, 0)
    lit = np.minimum(lit, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    return (np.clip(lit, 0, 1) * 255).astype(np.uint8)
