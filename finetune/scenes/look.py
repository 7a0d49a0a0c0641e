"""What a cell looks like: the declared ranges that a scene is drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field

# Hues are degrees on the colour circle [0, 360).
HueRange = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """The ranges one family of scenes is drawn from. Every pair is (low, high); weights need not sum to one."""

    environments: dict[str, float] = field(
        default_factory=lambda: {
            "rack": 0.14,
            "pallet": 0.08,
            "row": 0.12,
            "wall": 0.05,
            "pile": 0.28,
            "tote": 0.17,
            "conveyor": 0.22,
        }
    )
    classes: dict[str, float] = field(
        default_factory=lambda: {
            "box": 0.3,
            "padded_mailer": 0.16,
            "poly_bag": 0.16,
            "cylinder": 0.14,
            "sack": 0.12,
            "item": 0.12,
        }
    )
    box_materials: dict[str, float] = field(
        default_factory=lambda: {"kraft": 0.62, "white": 0.12, "printed": 0.12, "plywood": 0.08, "dark": 0.06}
    )
    hues: tuple[HueRange, ...] = ((0.0, 165.0), (195.0, 255.0), (315.0, 360.0))
    backgrounds: tuple[str, ...] = ("concrete", "steel", "belt", "planks", "clutter", "wall", "dark")
    prints: tuple[str, ...] = ("text", "arrows", "stripes", "dots", "logo")
    shrink_wrap: float = 0.25
    labels: float = 0.6
    # How often a box has what cuts its faces without ending it (cuts.py). Zero draws what generator 4 drew.
    cuts: float = 0.0
    brightness: tuple[float, float] = (0.6, 1.7)
    colour_cast: float = 0.12
    blur: float = 0.25
    noise: tuple[float, float] = (0.0, 12.0)
    distortion: float = 0.15
    distractors: tuple[int, int] = (0, 6)
    # How often a scene stands in a hall (a floor and walls in perspective), how often things that are no packages come
    # up behind, among and before the packages and how many, and how many scenes have no package at all. Zero draws
    # what generator 5 drew.
    rooms: float = 0.0
    negatives: float = 0.0
    negative_count: tuple[int, int] = (1, 6)
    empty: float = 0.0
    # What a package must show to be told of, as a share of the picture.
    min_area_share: float = 0.0012
    wide: tuple[float, float] = (38.0, 75.0)
    # How steeply a camera above a heap looks down (radians, pi/2 is straight down) and how many packages the heap has;
    # None leaves both to the environment.
    steep: tuple[float, float] | None = None
    heap: tuple[int, int] | None = None


# What the base is trained on. Purple and teal prints, the chequered plate and the hexagon print are left out
# on purpose, so
# that cells made of them are new to the base.
BROAD = Look(
    environments={
        "rack": 0.1,
        "pallet": 0.06,
        "row": 0.08,
        "wall": 0.04,
        "pile": 0.18,
        "tote": 0.11,
        "conveyor": 0.14,
        "loads": 0.1,
        "depalletise": 0.08,
        "shelves": 0.05,
        "cartons": 0.06,
    },
    cuts=0.4,
    rooms=0.6,
    negatives=0.5,
    empty=0.08,
    min_area_share=0.0005,
)

DEMO_CELL = Look(
    environments={"pile": 0.5, "tote": 0.25, "conveyor": 0.25},
    classes={"box": 0.45, "padded_mailer": 0.25, "poly_bag": 0.2, "cylinder": 0.1},
    box_materials={"printed": 0.7, "white": 0.15, "kraft": 0.15},
    hues=((165.0, 195.0), (255.0, 315.0)),
    backgrounds=("plate",),
    prints=("hexagons", "stripes"),
    brightness=(0.45, 0.9),
    colour_cast=0.05,
    noise=(4.0, 14.0),
    distractors=(1, 5),
)

# The two worked examples, after the published systems of the same names. Robin: an arm above a conveyor that sees
# cluttered heaps of every package type straight from above.
ROBIN = Look(
    environments={"conveyor": 0.8, "pile": 0.2},
    hues=((165.0, 195.0), (255.0, 315.0)),
    backgrounds=("plate", "belt"),
    prints=("hexagons", "text", "logo"),
    brightness=(0.7, 1.3),
    colour_cast=0.04,
    noise=(2.0, 8.0),
    distractors=(0, 3),
    wide=(45.0, 60.0),
    steep=(1.48, 1.57),
    heap=(9, 24),
)

# Cardinal: an arm that picks boxes, some of them heavy and big, from a heap and places them into deep containers.
CARDINAL = Look(
    environments={"tote": 0.6, "pile": 0.4},
    classes={"box": 0.72, "padded_mailer": 0.08, "poly_bag": 0.12, "sack": 0.08},
    box_materials={"kraft": 0.5, "printed": 0.3, "dark": 0.1, "white": 0.1},
    hues=((165.0, 195.0), (255.0, 315.0)),
    backgrounds=("plate", "dark"),
    prints=("hexagons", "arrows", "text"),
    brightness=(0.4, 0.85),
    colour_cast=0.1,
    blur=0.4,
    noise=(5.0, 16.0),
    distractors=(1, 4),
    steep=(0.75, 1.25),
    heap=(4, 12),
)

# Cells that no base is ever trained on: what is measured on them is what a new team would meet.
HELD_OUT: dict[str, Look] = {"demo": DEMO_CELL, "robin": ROBIN, "cardinal": CARDINAL}
