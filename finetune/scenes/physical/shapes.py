"""Triangle meshes with texture coordinates: pure functions of geometry.

Lengths in metres. Texture coordinates are (u to the right, v down) from 0 to 1 over the picture, as pictures are
stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array

Float = NDArray[np.float32]
Index = NDArray[np.int32]

ATLAS = (3, 2)  # columns and rows of faces in the texture of a box


@dataclass(frozen=True, slots=True)
class Mesh:
    """Vertices float32 [V, 3], faces int32 [F, 3] (counter-clockwise from outside), uv float32 [V, 2], unit normals
    float32 [V, 3]."""

    vertices: Float
    faces: Index
    uv: Float
    normals: Float

    def moved(self, rotation: Array, offset: Array) -> Mesh:
        """The same mesh turned by `rotation` [3, 3] and then shifted by `offset` [3]."""
        turn = rotation.astype(np.float32)
        vertices = self.vertices @ turn.T + np.asarray(offset, np.float32)
        return Mesh(vertices, self.faces, self.uv, self.normals @ turn.T)

    def scaled(self, factor: float) -> Mesh:
        """The mesh with its vertices times `factor`; faces, uv and normals are shared, not copied."""
        return Mesh(self.vertices * np.float32(factor), self.faces, self.uv, self.normals)

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low, high)."""
        return self.vertices.min(axis=0).astype(float), self.vertices.max(axis=0).astype(float)


def smooth(vertices: Array, faces: Index, uv: Array) -> Mesh:
    """A mesh whose normals are the area-weighted means of the faces around each place. Vertices at the same place
    (seams of the texture) share one normal."""
    points = np.asarray(vertices, np.float32)
    _, place = np.unique(np.round(points, 6), axis=0, return_inverse=True)
    place = place.reshape(-1)
    a, b, c = (points[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    total = np.zeros((int(place.max()) + 1, 3), np.float32)
    for k in range(3):
        np.add.at(total, place[faces[:, k]], across)
    return Mesh(points, np.asarray(faces, np.int32), np.asarray(uv, np.float32), _unit(total[place]))


def merge(meshes: list[Mesh]) -> Mesh:
    """All of them as one mesh."""
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + np.int32(s) for m, s in zip(meshes, starts, strict=True)]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
    )


def _unit(vectors: Float) -> Float:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), np.array([0, 0, 1], np.float32))
    return found.astype(np.float32)


def grid_faces(rows: int, columns: int, start: int = 0) -> Index:
    """Two triangles for each cell of a grid of (rows + 1) x (columns + 1) vertices stored row by row."""
    r, c = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a = (start + r * (columns + 1) + c).ravel()
    b, d = a + 1, a + columns + 1
    return np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, d + 1], 1)]).astype(np.int32)


# Axes of the faces of a box: outward, right, up as seen from outside; the order of `packages.FACES`.
_SIDES = (
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (1, 0, 0), (0, -1, 0)),
)


def box(half: Array, *, bulge: float = 0.0, cells: int = 1, dents: Array | None = None) -> Mesh:
    """A box with half-extents [3]; face k takes cell k (row by row) of an atlas of 3 x 2 pictures.

    `bulge` is how far the middle of each face stands out (a share of its smaller half-extent); `dents` [N, 4] are
    places [3] (in half-extents) and depths (metres) of knocks that push vertices near them inwards.
    """
    ramp = np.linspace(-1, 1, cells + 1)
    v, u = np.meshgrid(ramp[::-1], ramp, indexing="ij")  # row 0 is the top of the picture
    vertices, uvs, faces, normals = [], [], [], []
    dome = (1 - u**2) * (1 - v**2)
    for side, (out, right, up) in enumerate(_SIDES):
        o, r, w = (np.array(axis, float) for axis in (out, right, up))
        reach_u, reach_v = float(np.abs(r) @ half), float(np.abs(w) @ half)
        rise = bulge * min(reach_u, reach_v)
        place = (
            o * float(np.abs(o) @ half)
            + u[..., None] * r * reach_u
            + v[..., None] * w * reach_v
            + (dome * rise)[..., None] * o
        )
        slope_u = -2 * u * (1 - v**2) * rise / max(reach_u, 1e-6)
        slope_v = -2 * v * (1 - u**2) * rise / max(reach_v, 1e-6)
        normal = o - slope_u[..., None] * r - slope_v[..., None] * w
        column, row = side % ATLAS[0], side // ATLAS[0]
        # A margin keeps neighbours in the atlas out of the filtered edge.
        cell_u = (column + 0.5 + 0.492 * u) / ATLAS[0]
        cell_v = (row + 0.5 - 0.492 * v) / ATLAS[1]
        faces.append(grid_faces(cells, cells, side * (cells + 1) ** 2))
        vertices.append(place.reshape(-1, 3))
        normals.append(normal.reshape(-1, 3))
        uvs.append(np.stack([cell_u, cell_v], -1).reshape(-1, 2))
    points = np.concatenate(vertices)
    if dents is not None:
        for dent in dents:
            place = dent[:3] * half
            away = np.linalg.norm((points - place) / float(half.min()), axis=1)
            inward = -place / max(float(np.linalg.norm(place)), 1e-9)
            points = points + np.exp(-((away / 0.5) ** 2))[:, None] * inward * dent[3]
    return Mesh(
        points.astype(np.float32),
        np.concatenate(faces),
        np.concatenate(uvs).astype(np.float32),
        _unit(np.concatenate(normals).astype(np.float32)),
    )


def slab(half: Array, *, metres: float = 1.0) -> Mesh:
    """A plain box whose texture repeats every `metres`, the same way up on every face."""
    made = box(half)
    uv = made.uv.copy()
    for side, (_, right, up) in enumerate(_SIDES):
        rows = slice(4 * side, 4 * side + 4)
        uv[rows] = np.stack([made.vertices[rows] @ np.abs(right), -(made.vertices[rows] @ np.abs(up))], 1) / metres
    return Mesh(made.vertices, made.faces, uv, made.normals)


def lathe(profile: Array, *, segments: int = 28, caps: bool = True) -> Mesh:
    """A body turned about z: `profile` [N, 2] lists (radius, height) from the bottom up.

    The side takes the left 3/4 of the texture (u once around, v from top to bottom), both caps the right quarter.
    """
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    rows = len(profile)
    heights = profile[::-1, 1]
    run = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile[::-1], axis=0), axis=1))])
    v, u = np.meshgrid(run / max(run[-1], 1e-9), np.linspace(0, 0.75, segments + 1), indexing="ij")
    radius = profile[::-1, 0][:, None]
    place = np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.repeat(heights[:, None], segments + 1, 1)], -1
    ).reshape(-1, 3)
    side = smooth(place, grid_faces(rows - 1, segments), np.stack([u, v], -1).reshape(-1, 2))
    if not caps:
        return side
    parts = [side]
    for end, up in ((0, -1.0), (-1, 1.0)):
        r, z = profile[end]
        if r < 1e-6:
            continue
        ring = np.stack([r * np.cos(angle[:-1]), r * np.sin(angle[:-1]), np.full(segments, z)], 1)
        points = np.concatenate([ring, [[0, 0, z]]])
        k = np.arange(segments)
        following = (k + 1) % segments
        order = (k, following) if up > 0 else (following, k)
        faces = np.stack([np.full(segments, segments), *order], 1).astype(np.int32)
        uv = np.stack([0.875 + 0.12 * points[:, 0] / r, 0.5 + 0.45 * points[:, 1] / r], 1)
        normals = np.tile(np.array([[0, 0, up]], np.float32), (len(points), 1))
        parts.append(Mesh(points.astype(np.float32), faces, uv.astype(np.float32), normals))
    return merge(parts)


def tube(path: Array, radius: float, *, segments: int = 8) -> Mesh:
    """A cable or bar along a path [N, 3]."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(along[:, 2:]) < 0.9, np.array([[0.0, 0, 1]]), np.array([[1.0, 0, 0]]))
    side = np.cross(along, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, segments + 1)[:, None]
    rings = path[:, None] + radius * (np.cos(angle) * side[:, None] + np.sin(angle) * other[:, None])
    uv = np.stack(
        np.meshgrid(np.linspace(0, 1, len(path)), np.linspace(0, 1, segments + 1), indexing="ij"), -1
    ).reshape(-1, 2)
    return smooth(rings.reshape(-1, 3), grid_faces(len(path) - 1, segments)[:, ::-1], uv)


def pillow(half: Array, relief: Array, *, squareness: float, rim: float, seam: float = 0.0) -> Mesh:
    """A closed soft body: two sheets that meet at a rounded outline in the plane z = 0.

    `half` [3]; `relief` [2, N + 1, N + 1] are offsets (in half-thicknesses) of the upper and lower sheet;
    `squareness` is
    the exponent of the outline (2 is an ellipse, 9 nearly a rectangle); `rim` is the exponent of the swell: small is a
    plump cushion, large is flat to the edge; `seam` is the share of the extent that the sealed, flat edge takes.
    """
    cells = relief.shape[1] - 1
    ramp = np.linspace(-1, 1, cells + 1)
    y, x = np.meshgrid(ramp[::-1], ramp, indexing="ij")
    # The square grid is squeezed into the outline ray by ray.
    level = np.maximum(np.abs(x), np.abs(y))
    power = (np.abs(x) ** squareness + np.abs(y) ** squareness) ** (1 / squareness)
    shrink = np.where(power > 1e-9, level / np.maximum(power, 1e-9), 1.0)
    px, py = x * shrink * half[0], y * shrink * half[1]
    inside = np.clip(level / (1 - seam), 0, 1)
    swell = np.clip(1 - inside ** (2 * rim), 0, 1) ** 0.5 if rim > 1 else np.clip(1 - inside**2, 0, 1) ** (rim / 2)
    u, v = (x + 1) / 2, (1 - y) / 2
    count = (cells + 1) ** 2
    vertices, uvs, faces = [], [], []
    for sheet, sign in ((0, 1.0), (1, -1.0)):
        edge = level > 1 - 1e-9
        rise = np.where(edge, 0.0, sign * half[2] * (swell * (1 + relief[sheet])))
        # Wrinkles pull at the outline as well; both sheets move together there, so that the body stays closed.
        wave = 1 + 0.06 * relief[0] * edge
        vertices.append(np.stack([px * wave, py * wave, rise], -1).reshape(-1, 3))
        uvs.append(np.stack([u, v], -1).reshape(-1, 2))
        grid = grid_faces(cells, cells, sheet * count)
        faces.append(grid if sign > 0 else grid[:, ::-1])
    return smooth(np.concatenate(vertices), np.concatenate(faces).astype(np.int32), np.concatenate(uvs))


def quad(corners: Array, *, repeat: tuple[float, float] = (1.0, 1.0), cells: int = 1) -> Mesh:
    """A flat sheet through four corners [4, 3] (top-left, top-right, bottom-right, bottom-left of its picture)."""
    ramp = np.linspace(0, 1, cells + 1)
    v, u = np.meshgrid(ramp, ramp, indexing="ij")
    a, b, c, d = corners
    place = (
        (1 - v)[..., None] * ((1 - u)[..., None] * a + u[..., None] * b)
        + v[..., None] * ((1 - u)[..., None] * d + u[..., None] * c)
    ).reshape(-1, 3)
    uv = np.stack([u * repeat[0], v * repeat[1]], -1).reshape(-1, 2)
    return smooth(place, grid_faces(cells, cells), uv)
