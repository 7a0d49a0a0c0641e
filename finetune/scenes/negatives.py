"""Where things that are no packages come up: behind packages, among them, before and over them, and alone."""

from __future__ import annotations

import numpy as np

from finetune.scenes.bodies import placed
from finetune.scenes.camera import Array
from finetune.scenes.environment import Maker, World
from finetune.scenes.materials import choose, grey, hue_colour
from finetune.scenes.packages import Thing
from finetune.scenes.props import STANDING
from finetune.scenes.reaching import make_arm, make_hand, make_mast
from finetune.scenes.strokes import Net, Shade, Tube

KINDS = {"standing": 0.52, "arm": 0.2, "hand": 0.07, "cable": 0.08, "mesh": 0.06, "shadow": 0.07}
ATTEMPTS = 4


class View:
    """Places in the world as the camera sees them."""

    def __init__(self, world: World) -> None:
        self.camera = world.camera
        packages = [thing for thing in world.things if thing.label is not None] or world.things
        bounds = [thing.bounds() for thing in packages]
        self.low, self.high = np.stack([b[0] for b in bounds]), np.stack([b[1] for b in bounds])
        middles = (self.low + self.high) / 2
        _, depth = self.camera.project(middles)
        self.depth = max(0.4, float(np.median(depth)))
        self.middles = middles

    def at(self, across: float, down: float, depth: float) -> Array:
        """The point that shows at a share of the picture's width and height, at a depth in metres."""
        side = self.camera.width / self.camera.focal
        ray = np.array([(across - 0.5) * side, (down - 0.5) * side, 1.0])
        return self.camera.eye + self.camera.rotation.T @ ray * depth

    def on_floor(self, across: float, down: float, floor: float) -> Array | None:
        """The point of the floor that shows there, None where the ray meets none or one far away."""
        ray = self.at(across, down, 1.0) - self.camera.eye
        if ray[2] > -0.05:
            return None
        away = (floor - self.camera.eye[2]) / ray[2]
        return self.camera.eye + ray * away if 0.3 < away < 4 * self.depth + 2 else None

    @property
    def right(self) -> Array:
        """Unit vector [3] in the world that points to the right in the picture."""
        return self.camera.rotation[0]

    @property
    def up(self) -> Array:
        """Unit vector [3] in the world that points up in the picture."""
        return -self.camera.rotation[1]

    def free(self, things: list[Thing]) -> bool:
        """Whether the things keep clear of every package."""
        bounds = [thing.bounds() for thing in things]
        low = np.stack([b[0] for b in bounds]).min(axis=0)
        high = np.stack([b[1] for b in bounds]).max(axis=0)
        return not bool(((low < self.high) & (high > self.low)).all(axis=1).any())


def add_negatives(make: Maker, world: World, count: int) -> None:
    """Put `count` things that are no packages into a world, where its camera sees them."""
    view = View(world)
    for _ in range(count):
        kind = choose(make.rng, KINDS)
        if kind == "standing":
            _stand(make, world, view)
        elif kind == "arm":
            _reach(make, world, view)
        elif kind == "hand":
            _hand(make, world, view)
        elif kind == "cable":
            _cable(make, world, view)
        elif kind == "mesh":
            _mesh(make, world, view)
        else:
            _shadow(make, world, view)


def _stand(make: Maker, world: World, view: View) -> None:
    """Something on the floor, behind or among the packages, and now and then cut off by the frame before them."""
    rng = make.rng
    weights = {name: weight for name, (_, weight) in STANDING.items()}
    for _ in range(ATTEMPTS):
        across, down = rng.uniform(-0.1, 1.1, 2).tolist()
        place = view.on_floor(across, down, world.floor)
        if place is None:
            continue
        yaw = rng.uniform(0, 2 * np.pi) if rng.random() < 0.6 else rng.normal(0, 0.2)
        things = placed(STANDING[choose(rng, weights)][0](make), place, yaw, rng.uniform(0.85, 1.15))
        if view.free(things):
            world.things += things
            return


def _target(make: Maker, view: View) -> Array:
    """On top of a package, or anywhere in the picture at its depth."""
    rng = make.rng
    if rng.random() < 0.65:
        k = int(rng.integers(len(view.middles)))
        return np.array([*view.middles[k, :2], view.high[k, 2] + rng.uniform(0.0, 0.12)])
    across, down = rng.uniform(0.1, 0.9, 2).tolist()
    return view.at(across, down, view.depth * rng.uniform(0.7, 1.0))


def _reach(make: Maker, world: World, view: View) -> None:
    """An arm or a mast that reaches into the frame over a package, with its shadow."""
    rng = make.rng
    tip = _target(make, view)
    if rng.random() < 0.22:
        things = make_mast(make, tip)
    else:
        angle, length = rng.uniform(-0.4, np.pi + 0.4), view.depth * rng.uniform(0.45, 1.0)
        away = view.right * np.cos(angle) + view.up * np.sin(angle)
        nearer = view.camera.eye - tip
        shoulder = (
            tip + away * length + nearer / max(float(np.linalg.norm(nearer)), 1e-6) * length * rng.uniform(-0.1, 0.35)
        )
        shoulder[2] = max(shoulder[2], world.floor + 0.2)
        things = make_arm(make, tip, shoulder)
        if rng.random() < 0.5:
            drop = np.array([tip, shoulder]) - (0, 0, rng.uniform(0.1, 0.4))
            side = view.right * rng.uniform(0.05, 0.15)
            world.front.append(Shade(np.concatenate([drop - side, drop + side]), float(rng.uniform(0.15, 0.45))))
    world.front += things


def _hand(make: Maker, world: World, view: View) -> None:
    rng = make.rng
    tip = _target(make, view)
    angle = rng.uniform(0, 2 * np.pi)
    elbow = tip + (view.right * np.cos(angle) + view.up * np.sin(angle)) * rng.uniform(0.35, 0.6)
    elbow += (view.camera.eye - tip) * rng.uniform(0.02, 0.2)
    world.front += make_hand(make, tip, elbow)


def _cable(make: Maker, world: World, view: View) -> None:
    """A cable, hose or strap that hangs or lies across the picture."""
    rng = make.rng
    depth = view.depth * rng.uniform(0.6, 1.3)
    ends = rng.uniform(-0.2, 1.2, (2, 2))
    share = np.linspace(0, 1, 9)[:, None]
    path = ends[0] + share * (ends[1] - ends[0]) + np.sin(np.pi * share) * rng.normal(0, 0.15, 2)
    path = path + rng.normal(0, 0.012, path.shape)
    points = np.stack([view.at(float(u), float(v), depth) for u, v in path])
    colour = grey(rng, 8, 70) if rng.random() < 0.6 else hue_colour(rng, make.look, (0.7, 1), (0.4, 0.95))
    tube = Tube(points, float(rng.uniform(0.004, 0.03)), colour)
    (world.front if depth < view.depth * 0.95 else world.behind).append(tube)


def _mesh(make: Maker, world: World, view: View) -> None:
    """Wire mesh or fence before or behind everything."""
    rng = make.rng
    before = rng.random() < 0.4
    depth = view.depth * (rng.uniform(0.5, 0.8) if before else rng.uniform(1.2, 2.0))
    u, v, w, h = *rng.uniform(-0.3, 0.7, 2), *rng.uniform(0.3, 1.2, 2)
    corner = view.at(u, v, depth)
    across, along = view.at(u + w, v, depth * rng.uniform(0.9, 1.1)) - corner, view.at(u, v + h, depth) - corner
    pitch = rng.uniform(0.05, 0.2) * max(0.6, depth / 2)
    many = [max(2, min(60, int(np.linalg.norm(edge) / pitch))) for edge in (across, along)]
    colour = grey(rng, 20, 230) if rng.random() < 0.8 else hue_colour(rng, make.look, (0.6, 1), (0.4, 0.9))
    net = Net(corner, across, along, many[0], many[1], float(rng.uniform(0.0015, 0.004)), colour)
    (world.front if before else world.behind).append(net)


def _shadow(make: Maker, world: World, view: View) -> None:
    """The shadow of a beam, an arm or a lorry that is not in the picture."""
    rng = make.rng
    (a, b), wide = rng.uniform(-0.2, 1.2, (2, 2)), rng.uniform(0.02, 0.15)
    side = np.array([b[1] - a[1], a[0] - b[0]])
    side *= wide / max(float(np.linalg.norm(side)), 1e-6)
    corners = np.stack([a - side, a + side, b + side, b - side])
    points = np.stack([view.at(float(u), float(v), view.depth) for u, v in corners])
    world.front.append(Shade(points, float(rng.uniform(0.15, 0.5))))
