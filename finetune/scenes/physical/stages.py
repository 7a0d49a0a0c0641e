"""Stages: where packages are dropped, pushed and stacked, what stands around them, and from where they are seen.

Each `_stage_*` function returns a `Stage` before the physics. The station's surface is at z = 0; the hall's floor
may be lower. Lengths in metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from finetune.scenes.camera import Array, Camera, look_at, rotation_matrix
from finetune.scenes.materials import grey
from finetune.scenes.physical.clutter import cables, clutter, floor_marks
from finetune.scenes.physical.lighting import draw_lighting
from finetune.scenes.physical.parcels import Packer
from finetune.scenes.physical.props import Shop, block, built
from finetune.scenes.physical.world import STILL, Parcel, Placed, Prop, Stage

GAP = 0.004


def drop(
    pack: Packer, low: Array, high: Array, count: int, z: float, *, scale: float, tilt: float = 0.35, push: float = 0.0
) -> list[Placed]:
    """Packages above a rectangle (corners [2]), each just over what was put there before, none inside another.

    `scale` is about their larger half-extent; `push` the sideways speed that some get.
    """
    rng = pack.rng
    cells = 40
    span = high - low
    heights = np.full((cells, cells), z)
    widest = 0.32 * float(span.min())
    placed: list[Placed] = []
    for _ in range(count):
        parcel = pack.draw(scale, widest=widest)
        turn = _pose(rng, parcel, tilt)
        reach = np.abs(turn) @ parcel.half + GAP
        if np.any(2 * reach[:2] > span):
            continue  # it would start inside a wall
        room = np.maximum(span / 2 - reach[:2], 0.0)
        centre = (low + high) / 2 + rng.uniform(-1, 1, 2) * room
        first = np.clip(((centre - reach[:2] - low) / span * cells).astype(int), 0, cells - 1)
        last = np.clip(((centre + reach[:2] - low) / span * cells).astype(int), 0, cells - 1)
        patch = heights[first[0] : last[0] + 1, first[1] : last[1] + 1]
        base = float(patch.max()) + GAP
        patch[:] = base + 2 * reach[2]
        way = rng.normal(0, 1, 3) * (1, 1, 0) * push if rng.random() < 0.5 else np.zeros(3)
        placed.append(Placed(parcel, np.array([*centre, base + reach[2]]), turn, way))
    return placed


def _pose(rng: np.random.Generator, parcel: Parcel, tilt: float) -> Array:
    """Mostly on its largest face, sometimes anyhow."""
    yaw = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.15:
        return rotation_matrix(yaw, rng.uniform(0, np.pi), rng.uniform(0, np.pi))
    turn = rotation_matrix(yaw, rng.normal(0, tilt), rng.normal(0, tilt))
    if parcel.label == "cylinder" and parcel.half[2] > parcel.half[0] and rng.random() < 0.8:
        return turn @ rotation_matrix(0, np.pi / 2)  # long ones lie
    return turn


def stacked(pack: Packer, low: Array, high: Array, *, missing: float = 0.2, loose: float = 0.012) -> list[Placed]:
    """Layers of cartons between two corners [3]; some columns are lower. Often of one kind."""
    rng = pack.rng
    width, depth, height = high - low
    single = rng.random() < 0.65
    columns = int(np.clip(rng.integers(1, max(2, int(width / 0.2)) + 1), 1, 5))
    rows = int(np.clip(rng.integers(1, max(2, int(depth / 0.3)) + 1), 1, 3))
    layers = int(np.clip(rng.integers(1, max(2, int(height / 0.18)) + 1), 1, 5))
    cell = np.array([width / columns, depth / rows, height / layers])
    style = pack.style() if single else None
    sample = pack.box(cell / 2 - GAP, style) if single and rng.random() < 0.6 else None
    placed: list[Placed] = []
    for row in range(rows):
        for column in range(columns):
            count = layers - int(rng.integers(0, layers)) if rng.random() < missing else layers
            top = low[2]
            for layer in range(count):
                half = cell / 2 - GAP * rng.uniform(1.0, 3.0, 3)
                if sample is None:
                    half = half * rng.uniform((0.82, 0.82, 0.85), 1.0)
                    parcel = pack.box(np.maximum(half, 0.02), style)
                else:
                    parcel = sample
                at = low[:2] + cell[:2] * (np.array([column, row]) + 0.5) + rng.uniform(-1, 1, 2) * loose * 0.3
                centre = np.array([*at, top + parcel.half[2] + 0.001])
                top = centre[2] + parcel.half[2]
                turn = rotation_matrix(rng.normal(0, 0.012) + (np.pi if rng.random() < 0.3 else 0.0))
                placed.append(Placed(parcel, centre, turn))
                if layer == count - 1 and rng.random() < 0.06 and pack.look.classes.get("sack"):
                    soft = pack.make("sack", float(min(cell[0], cell[1])) * 0.45)
                    placed.append(Placed(soft, np.array([*at, top + soft.half[2] + 0.01]), STILL))
    return placed


def _above(shop: Shop, spread: float, *, top: float, steep: tuple[float, float]) -> Camera:
    """A camera over the origin; straight down as often as the look says, else between two elevations (radians)."""
    rng, look = shop.rng, shop.look
    fov = float(rng.uniform(*look.wide))
    down = rng.random() < look.straight
    lift = rng.uniform(1.5, np.pi / 2) if down else rng.uniform(*(look.steep or steep))
    away = spread / np.tan(np.radians(fov) / 2) * rng.uniform(0.75, 1.25)
    yaw = rng.uniform(0, 2 * np.pi) if down else rng.normal(0, 0.9)
    focus = np.array([*(rng.normal(0, 0.12, 2) * spread), top * 0.4])
    way = np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    return look_at(
        focus + max(away, 0.5) * way,
        focus,
        fov_degrees=fov,
        size=384,
        roll=rng.uniform(0, 2 * np.pi) if down else rng.normal(0, 0.03),
    )


def _hall(shop: Shop, z: float, *, near: float) -> list[Prop]:
    """Floor, walls, marks, cables and distractors around a station."""
    rng, look = shop.rng, shop.look
    props = [shop.floor(z), *shop.walls(z, away=near + 2.0)]
    if rng.random() < look.room:
        props += floor_marks(shop, z)
    props += cables(shop, np.array([-1.6, -1.6, z + 0.01]), np.array([1.6, 1.6, z + 0.03]), int(rng.integers(0, 3)))
    props += clutter(shop, int(rng.integers(*look.distractors)), near=near, far=near + 2.2, z=z)
    return props


def _heap(shop: Shop, low: int, high: int) -> int:
    return int(shop.rng.integers(*(shop.look.heap or (low, high))))


def _stage(
    shop: Shop,
    placed: list[Placed],
    props: list[Prop],
    camera: Camera,
    focus: Array,
    reach: float,
    wrapped: Sequence[list[int]] = (),
) -> Stage:
    _, lighting = draw_lighting(shop.rng, shop.look, focus)
    low, high = np.array([-reach, -reach, -0.15]), np.array([reach, reach, 4.0])
    return Stage(placed, props, camera, lighting, (low, high), list(wrapped))


def _stage_conveyor(pack: Packer, shop: Shop) -> Stage:
    """A belt or roller track with packages dropped and pushed onto it."""
    rng = shop.rng
    width = float(rng.uniform(0.28, 0.55))
    props = shop.belt(width, 3.0, 0.0) + _hall(shop, -float(rng.uniform(0.6, 0.9)), near=width + 0.7)
    half = np.array([width * 0.95, rng.uniform(0.4, 0.8)])
    scale = float(rng.uniform(0.09, 0.17))
    placed = drop(pack, -half, half, _heap(shop, 2, 22), 0.0, scale=scale, push=0.6)
    camera = _above(shop, max(width, 0.55), top=0.2, steep=(0.55, 1.3))
    return _stage(shop, placed, props, camera, np.zeros(3), 1.6)


def _stage_tote(pack: Packer, shop: Shop) -> Stage:
    """A tote on a belt, a table or the floor, nearly empty to full."""
    rng = shop.rng
    half = rng.uniform(0.2, 0.4, 2)
    wall = float(rng.uniform(0.12, 0.34))
    props = shop.tote(half, wall, 0.02)
    kind = rng.random()
    below = -float(rng.uniform(0.5, 0.9))
    if kind < 0.4:
        props += shop.belt(float(half[0]) + 0.1, 3.0, 0.0)
    elif kind < 0.75:
        top = built(
            [block(0, 0, -0.02, half[0] + 0.4, half[1] + 0.35, 0.02)],
            shop.backdrop(("steel", "planks", "plate")),
            metres=1.2,
        )
        props.append(top)
    else:
        below = 0.0
    if rng.random() < 0.4:  # a neighbour, empty
        off = np.array([0.0, 2 * half[1] + 0.15, 0.0])
        props += [Prop(p.mesh.moved(STILL, off), p.surface) for p in shop.tote(half, wall, 0.02)]
    props += _hall(shop, below, near=0.9)
    inner = half - 0.01
    placed = drop(
        pack, -inner, inner, _heap(shop, 1, 18), 0.025, scale=float(half.min()) * rng.uniform(0.35, 0.6), tilt=0.5
    )
    camera = _above(shop, float(half.max()) * 1.15, top=wall, steep=(0.85, 1.4))
    return _stage(shop, placed, props, camera, np.array([0, 0, wall / 2]), float(half.max()) + 0.05)


def _stage_deep_tote(pack: Packer, shop: Shop) -> Stage:
    """The gantry's: a deep tote, straight from above."""
    rng = shop.rng
    half = rng.uniform(0.28, 0.4, 2)
    wall = float(rng.uniform(0.38, 0.5))
    props = shop.tote(half, wall, 0.02) + _hall(shop, 0.0, near=0.9)
    inner = half - 0.01
    placed = drop(
        pack, -inner, inner, _heap(shop, 8, 20), 0.025, scale=float(half.min()) * rng.uniform(0.4, 0.55), tilt=0.5
    )
    camera = _above(shop, float(half.max()) * 1.2, top=wall, steep=(1.5, 1.57))
    return _stage(shop, placed, props, camera, np.array([0, 0, wall / 2]), float(half.max()) + 0.05)


def _stage_cart(pack: Packer, shop: Shop) -> Stage:
    """A roll cage filled by hand, seen obliquely from its open side or from above."""
    rng = shop.rng
    half = np.array([rng.uniform(0.3, 0.42), rng.uniform(0.3, 0.5)])
    height = float(rng.uniform(0.9, 1.5))
    props = shop.cart(half, height, 0.0) + _hall(shop, -0.16, near=1.0)
    inner = half - 0.02
    placed = drop(
        pack, -inner, inner, _heap(shop, 6, 26), 0.005, scale=float(half.min()) * rng.uniform(0.35, 0.6), tilt=0.25
    )
    camera = _above(shop, 0.62, top=0.6, steep=(0.45, 1.25))
    return _stage(shop, placed, props, camera, np.array([0, 0, 0.4]), 0.6)


def _stage_container(pack: Packer, shop: Shop) -> Stage:
    """A wall of packages in a container or truck, some fallen in front of it."""
    rng = shop.rng
    width, depth = float(rng.uniform(0.7, 1.2)), float(rng.uniform(0.4, 0.8))
    shell = shop.grimy(grey(rng, 60, 220, 12), gloss=0.2)
    ribs = [block(s * (width + 0.03), y, 1.0, 0.02, 0.03, 1.4) for s in (-1, 1) for y in np.arange(-1.4, 1.0, 0.25)]
    tall = 2.4
    shut = [
        block(-width - 0.06, -0.5, tall / 2, 0.03, 2.0, tall / 2),
        block(width + 0.06, -0.5, tall / 2, 0.03, 2.0, tall / 2),
        block(0, depth + 0.05, tall / 2, width, 0.03, tall / 2),
    ]
    floor = built(
        [block(0, -0.5, -0.03, width + 0.1, 2.2, 0.03)], shop.backdrop(("planks", "plate", "steel")), metres=1.6
    )
    props = [built(shut, shell, metres=1.5), built(ribs, shell, metres=1.5), floor, shop.floor(-0.8)]
    placed: list[Placed] = []
    x = -width
    while x < width - 0.2:
        step = min(float(rng.uniform(0.25, 0.8)), width - x)
        if step < 0.2:
            break
        low, high = (
            np.array([x + 0.01, rng.uniform(0, 0.2), 0.002]),
            np.array([x + step - 0.01, depth, rng.uniform(0.3, 1.5)]),
        )
        placed += stacked(pack, low, high, missing=0.5)
        x += step
    low, high = np.array([-width * 0.8, -1.0]), np.array([width * 0.8, -0.15])
    placed += drop(pack, low, high, int(rng.integers(0, 7)), 0.0, scale=0.16, push=0.3)
    focus = np.array([rng.normal(0, 0.15), depth / 3, rng.uniform(0.35, 0.8)])
    eye = focus + (rng.normal(0, 0.25), -rng.uniform(1.3, 2.1), rng.uniform(0.0, 0.9))
    eye[0] = np.clip(eye[0], -width * 0.8, width * 0.8)
    camera = look_at(eye, focus, fov_degrees=float(rng.uniform(*shop.look.wide)), size=384, roll=rng.normal(0, 0.03))
    return _stage(shop, placed, props, camera, focus + (0, -0.8, 0.3), 2.2)


def _stage_pallet(pack: Packer, shop: Shop) -> Stage:
    """One to three loaded pallets on the floor, some wrapped, seen from standing height or above."""
    return _pallets(pack, shop, int(shop.rng.integers(1, 4)), lift=(0.2, 1.2), away=(1.2, 2.2))


def _stage_dock(pack: Packer, shop: Shop) -> Stage:
    """The dock's: mixed pallets under film, obliquely from a portal."""
    return _pallets(pack, shop, 2, lift=(0.5, 0.75), away=(1.7, 2.3))


def _pallets(pack: Packer, shop: Shop, count: int, *, lift: tuple[float, float], away: tuple[float, float]) -> Stage:
    rng = shop.rng
    props = _hall(shop, 0.0, near=2.1)
    placed: list[Placed] = []
    wrapped: list[list[int]] = []
    for k in range(count):
        x, y = (k - (count - 1) / 2) * 1.4 + rng.normal(0, 0.05), float(rng.normal(0, 0.12))
        made, top = shop.pallet(x, y, 0.0, 1.2, 0.8)
        props += made
        a, b, tall = rng.uniform(0.38, 0.58), rng.uniform(0.3, 0.4), rng.uniform(0.25, 1.0)
        first = len(placed)
        cut = rng.uniform(-0.2, 0.2) if rng.random() < 0.6 else a
        for low, high in ((-a, cut), (cut + 0.01, a)):
            if high - low > 0.12:
                corner = np.array([x + high, y + b, top + tall * rng.uniform(0.6, 1.0)])
                placed += stacked(pack, np.array([x + low, y - b, top + 0.002]), corner, missing=0.35)
        if rng.random() < shop.look.shrink_wrap:
            wrapped.append(list(range(first, len(placed))))
        if rng.random() < 0.35:
            peak = top + tall + 0.05
            placed += drop(
                pack,
                np.array([x - a, y - b]),
                np.array([x + a, y + b]),
                int(rng.integers(1, 5)),
                peak,
                scale=0.15,
                tilt=0.1,
            )
    focus = np.array([rng.normal(0, 0.2), 0.0, rng.uniform(0.3, 0.6)])
    yaw, up = rng.normal(0, 0.5), rng.uniform(*lift)
    way = np.array([np.sin(yaw) * np.cos(up), -np.cos(yaw) * np.cos(up), np.sin(up)])
    eye = focus + rng.uniform(*away) * way
    camera = look_at(eye, focus, fov_degrees=float(rng.uniform(*shop.look.wide)), size=384, roll=rng.normal(0, 0.03))
    return _stage(shop, placed, props, camera, focus, 3.0, wrapped)


def _stage_rack(pack: Packer, shop: Shop) -> Stage:
    """Three bays of a pallet rack from the aisle."""
    rng = shop.rng
    bay, depth = float(rng.uniform(1.3, 2.6)), float(rng.uniform(0.8, 1.1))
    level, floors = float(rng.uniform(0.8, 1.4)), 2
    props = shop.rack(bay, depth, level, floors, 0.0)
    props += [shop.floor(-float(rng.uniform(0.05, 0.4))), *shop.walls(-0.4, away=2.5)]
    props += clutter(shop, int(rng.integers(*shop.look.distractors)), near=1.6, far=2.6, z=-0.05, yaw=(0.6, 2.5))
    placed: list[Placed] = []
    for floor in range(floors):
        for span in (-1, 0, 1):
            places = int(rng.integers(1, 3)) if bay < 1.8 else int(rng.integers(2, 4))
            slot = bay / places
            for place in range(places):
                if rng.random() < 0.15 or len(placed) > 60:
                    continue
                x = span * (bay + 0.1) - bay / 2 + slot * (place + 0.5)
                wide, z = slot * float(rng.uniform(0.7, 0.92)), floor * level
                if rng.random() < 0.75:
                    made, z = shop.pallet(x, depth / 2, z, wide, depth * 0.92)
                    props += made
                tall = (level - 0.2 - (z - floor * level)) * rng.uniform(0.35, 0.95)
                low = np.array([x - wide * 0.46, 0.06, z + 0.002])
                high = np.array([x + wide * 0.46, depth * rng.uniform(0.6, 0.92), z + max(float(tall), 0.15)])
                if rng.random() < 0.82:
                    placed += stacked(pack, low, high)
                else:
                    placed += drop(pack, low[:2], high[:2], int(rng.integers(2, 7)), z, scale=0.16, tilt=0.1)
    focus = np.array([rng.uniform(-0.4, 0.4) * bay, depth * 0.2, level * rng.uniform(0.3, 1.4)])
    away = rng.uniform(1.1, 2.4)
    eye = focus + (rng.normal(0, 0.35) * away, -away, rng.normal(0.05, 0.15) * away)
    camera = look_at(eye, focus, fov_degrees=float(rng.uniform(*shop.look.wide)), size=384, roll=rng.normal(0, 0.02))
    return _stage(shop, placed, props, camera, focus + (0, -0.9, 0.2), 5.0)


_STAGES: dict[str, Callable[[Packer, Shop], Stage]] = {
    "conveyor": _stage_conveyor,
    "tote": _stage_tote,
    "cart": _stage_cart,
    "container": _stage_container,
    "pallet": _stage_pallet,
    "rack": _stage_rack,
    "deep_tote": _stage_deep_tote,
    "dock": _stage_dock,
}
STAGES = tuple(_STAGES)


def set_stage(environment: str, pack: Packer, shop: Shop) -> Stage:
    """The stage of an environment (one of `STAGES`) before the physics."""
    return _STAGES[environment](pack, shop)
