"""Looks of the physical tiers: a `Look` with light rigs, stations and film, and the physical held-out cells."""

from __future__ import annotations

from dataclasses import dataclass, field

from finetune.scenes.look import Look


@dataclass(frozen=True, slots=True)
class PhysicalLook(Look):
    """What one family of physical scenes is drawn from.

    `rigs` weighs the light rigs (lighting.py), `bags` the films of poly bags (white, black, clear, coloured),
    `straight`
    is how often a camera above a heap looks straight down, and `room` how much stands around the station (0 to 1).
    """

    environments: dict[str, float] = field(
        default_factory=lambda: {
            "conveyor": 0.24,
            "tote": 0.2,
            "cart": 0.12,
            "container": 0.12,
            "pallet": 0.16,
            "rack": 0.16,
        }
    )
    classes: dict[str, float] = field(
        default_factory=lambda: {
            "box": 0.42,
            "padded_mailer": 0.16,
            "poly_bag": 0.16,
            "cylinder": 0.1,
            "sack": 0.07,
            "item": 0.09,
        }
    )
    rigs: dict[str, float] = field(
        default_factory=lambda: {"hall": 0.4, "dim": 0.14, "harsh": 0.16, "coloured": 0.14, "window": 0.16}
    )
    bags: dict[str, float] = field(
        default_factory=lambda: {"white": 0.34, "black": 0.22, "clear": 0.14, "coloured": 0.3}
    )
    straight: float = 0.4
    room: float = 0.7
    brightness: tuple[float, float] = (0.75, 1.3)
    colour_cast: float = 0.06
    noise: tuple[float, float] = (0.0, 9.0)
    distortion: float = 0.12
    wide: tuple[float, float] = (36.0, 68.0)


# What a base may be trained on.
WAREHOUSE = PhysicalLook(cuts=0.4)

# Two cells that no base is trained on, rendered by the physical tiers only. Gantry: a camera straight above a deep tote
# with black bags above all, one hard lamp at the side.
GANTRY = PhysicalLook(
    environments={"deep_tote": 1.0},
    classes={"poly_bag": 0.55, "box": 0.2, "padded_mailer": 0.15, "sack": 0.1},
    hues=((165.0, 195.0), (255.0, 315.0)),
    backgrounds=("plate",),
    prints=("hexagons", "text"),
    box_materials={"dark": 0.4, "kraft": 0.3, "printed": 0.3},
    rigs={"side_lamp": 1.0},
    bags={"black": 0.8, "clear": 0.1, "coloured": 0.1},
    straight=1.0,
    brightness=(0.6, 1.05),
    noise=(4.0, 12.0),
    distractors=(1, 4),
    wide=(40.0, 52.0),
    heap=(8, 20),
)

# Dock: mixed pallets under shrink wrap, seen obliquely through an open door.
DOCK = PhysicalLook(
    environments={"dock": 1.0},
    classes={"box": 0.8, "sack": 0.12, "cylinder": 0.08},
    hues=((165.0, 195.0), (255.0, 315.0)),
    backgrounds=("plate",),
    prints=("hexagons", "arrows", "text"),
    box_materials={"printed": 0.4, "kraft": 0.4, "white": 0.2},
    rigs={"door": 1.0},
    shrink_wrap=1.0,
    straight=0.0,
    brightness=(0.7, 1.25),
    noise=(2.0, 9.0),
    distractors=(2, 7),
    wide=(44.0, 60.0),
)

PHYSICAL_HELD_OUT: dict[str, PhysicalLook] = {"gantry": GANTRY, "dock": DOCK}
PHYSICAL_LOOKS: dict[str, PhysicalLook] = {"warehouse": WAREHOUSE, **PHYSICAL_HELD_OUT}
