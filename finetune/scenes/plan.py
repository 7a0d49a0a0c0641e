"""What a set of scenes is made of: the tier that draws them, the look, and the numbers that make it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from finetune.scenes.generator import VERSION as FAST_VERSION
from finetune.scenes.generator import Scene, SceneGenerator
from finetune.scenes.look import BROAD, HELD_OUT, Look
from finetune.scenes.physical.look import PHYSICAL_LOOKS, PhysicalLook

Tier = Literal["fast", "physical", "path"]
TIERS: tuple[Tier, ...] = ("fast", "physical", "path")
FAST_LOOKS: dict[str, Look] = {"broad": BROAD, **HELD_OUT}
PATH_SAMPLES = 24  # a pixel


class Drawer(Protocol):
    """Anything that makes scenes by number."""

    def scene(self, index: int) -> Scene:
        """The scene of a number from 0: the same each time, in whatever order and process it is asked for."""


def looks_of(tier: Tier) -> dict[str, Look]:
    """The looks that a tier knows by name; the first is what bases train on."""
    return FAST_LOOKS if tier == "fast" else dict(PHYSICAL_LOOKS)


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """`images` scenes of `look` drawn by `tier`, `size` pixels a side, the last `valid_share` of them held out.

    `assets` is a folder of meshes for the physical tiers; `samples` are the traced paths a pixel. Raises ValueError for
    a look that the tier does not draw.
    """

    look: Look
    images: int
    seed: int
    tier: Tier = "fast"
    size: int = 384
    valid_share: float = 1 / 3
    assets: Path | None = None
    samples: int = PATH_SAMPLES

    def __post_init__(self) -> None:
        if (self.tier == "fast") == isinstance(self.look, PhysicalLook):
            raise ValueError(f"the {self.tier} tier does not draw this kind of look")

    def drawer(self) -> Drawer:
        """A generator of these scenes, for one process. Raises SceneToolError when a library is missing."""
        if not isinstance(self.look, PhysicalLook):
            return SceneGenerator(self.look, size=self.size, seed=self.seed)
        from finetune.scenes.physical.generator import PhysicalGenerator

        assets = None
        if self.assets is not None:
            from finetune.scenes.physical.assets import read_assets

            assets = read_assets(self.assets)
        return PhysicalGenerator(
            self.look,
            size=self.size,
            seed=self.seed,
            assets=assets,
            path_samples=self.samples if self.tier == "path" else None,
        )

    def recipe(self) -> dict[str, Any]:
        """All that the scenes depend on, as JSON: two plans with the same recipe make the same bytes on one machine."""
        made: dict[str, Any] = {
            "generator": self.version(),
            "tier": self.tier,
            "images": self.images,
            "seed": self.seed,
        }
        made |= {"size": self.size, "valid_share": round(self.valid_share, 6)}
        if self.tier != "fast":
            from finetune.scenes.physical.backend import mujoco

            made["mujoco"] = mujoco().__version__
        if self.tier == "path":
            from finetune.scenes.physical.backend import mitsuba

            module = mitsuba()
            made |= {"mitsuba": module.__version__, "variant": module.variant(), "samples": self.samples}
        if self.assets is not None:
            from finetune.scenes.physical.assets import digest_of

            made["assets"] = digest_of(self.assets)
        made["look"] = asdict(self.look)
        plain: dict[str, Any] = json.loads(json.dumps(made))
        return plain

    def version(self) -> str:
        """The version of the tier's generator."""
        if self.tier == "fast":
            return FAST_VERSION
        from finetune.scenes.physical.generator import VERSION

        return f"physical-{VERSION}"
