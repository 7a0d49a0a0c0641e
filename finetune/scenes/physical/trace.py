"""Pictures of a shot by path tracing with Mitsuba: the same meshes, textures and lamps, with light that bounces."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array, Camera
from finetune.scenes.physical.backend import mitsuba
from finetune.scenes.physical.shapes import Mesh
from finetune.scenes.physical.world import Lamp, Piece, Shot, Surface
from finetune.scenes.textures import Image

SAMPLES = 24  # a pixel
DEPTH = 6  # bounces
SMALLEST = 0.03  # metres: half a lamp's side
# The raster tier writes display values of a plain sum of lights; the tracer works in linear light. A texture is
# taken out of
# its display curve, and the picture is put back into it, so that both tiers hand the camera the same kind of picture.
CURVE = 2.2


def trace(shot: Shot, size: int, *, samples: int = SAMPLES, seed: int = 0) -> Image:
    """The picture uint8 [size, size, 3]. The same shot, samples, seed and Mitsuba variant give the same picture.

    Raises SceneToolError when Mitsuba is missing.
    """
    mi = mitsuba()
    scene = mi.load_dict(_scene(mi, shot, size))
    linear = np.array(mi.render(scene, spp=samples, seed=seed % (1 << 31)), np.float32)[:, :, :3]
    shown = np.clip(_calm(linear), 0, None) ** (1 / CURVE)
    return np.clip(shown * 255, 0, 255).astype(np.uint8)


def shape_ids(shot: Shot, size: int) -> NDArray[np.uint8]:
    """Instance ids uint8 [size, size] as the tracer's own first hits see them (ghosts left out): what the raster
    tier's ids are tested against."""
    mi = mitsuba()
    solid = [piece for piece in shot.pieces if not piece.ghost]
    bare = Shot(tuple(solid), shot.labels, shot.camera, shot.lighting, shot.environment, shot.speed)
    description = _scene(mi, bare, size)
    description["integrator"] = {"type": "aov", "aovs": "index:shape_index"}
    # A sample in the middle of each pixel: one stratum.
    description["sensor"]["sampler"] = {"type": "stratified", "sample_count": 1, "jitter": False}
    index = np.array(mi.render(mi.load_dict(description), spp=1))[:, :, -1]
    scene_shapes = [piece.instance for piece in solid]
    table = np.zeros(int(index.max()) + 2, np.uint8)
    # Shape indices count from 1 in the order of the description (lamps come after the pieces), 0 is nothing.
    table[1 : 1 + len(scene_shapes)] = scene_shapes[: len(table) - 1]
    return table[np.round(index).astype(int)]


def _scene(mi: Any, shot: Shot, size: int) -> dict[str, Any]:
    ambient = [float(v) ** CURVE for v in shot.lighting.ambient]
    film = any(piece.surface.clear > 0 for piece in shot.pieces)
    description: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "volpath" if film else "path", "max_depth": DEPTH + 6 * film, "rr_depth": DEPTH},
        "sensor": _sensor(mi, shot.camera, size),
    }
    for k, piece in enumerate(shot.pieces):
        description[f"piece{k:04d}"] = _mesh(mi, f"piece{k:04d}", piece)
    for k, lamp in enumerate(shot.lighting.lamps):
        description[f"zlamp{k}"] = _lamp(mi, lamp)
    description["zsky"] = {"type": "constant", "radiance": {"type": "rgb", "value": [1.6 * v for v in ambient]}}
    return description


def _sensor(mi: Any, camera: Camera, size: int) -> dict[str, Any]:
    right, down, forward = camera.rotation
    # Mitsuba's camera looks along +z with x to the left and y up.
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = -right, -down, forward, camera.eye
    return {
        "type": "perspective",
        "fov": float(np.degrees(2 * np.arctan(camera.width / 2 / camera.focal))),
        "fov_axis": "x",
        "near_clip": 0.03,
        "far_clip": 60.0,
        "to_world": mi.ScalarTransform4f(pose),
        "film": {
            "type": "hdrfilm",
            "width": size,
            "height": size,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
            "component_format": "float32",
        },
        "sampler": {"type": "independent"},
    }


def _mesh(mi: Any, name: str, piece: Piece) -> Any:
    mesh: Mesh = piece.mesh
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(_bsdf(mi, piece.surface))
    made = mi.Mesh(
        name,
        vertex_count=len(mesh.vertices),
        face_count=len(mesh.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=True,
        props=properties,
    )
    params = mi.traverse(made)
    params["vertex_positions"] = mesh.vertices.ravel()
    params["vertex_normals"] = mesh.normals.ravel()
    params["faces"] = mesh.faces.ravel().astype(np.uint32)
    params["vertex_texcoords"] = mesh.uv.ravel()
    params.update()
    return made


def _bsdf(mi: Any, surface: Surface) -> dict[str, Any]:
    colour = _reflectance(mi, surface)
    rough = float(np.clip(0.5 - 0.42 * surface.gloss, 0.06, 0.5))
    if surface.metal:
        body: dict[str, Any] = {"type": "roughconductor", "alpha": max(rough, 0.15), "specular_reflectance": colour}
    elif surface.gloss > 0.15:
        body = {"type": "roughplastic", "alpha": rough, "diffuse_reflectance": colour, "nonlinear": False}
    else:
        body = {"type": "diffuse", "reflectance": colour}
    body = {"type": "twosided", "bsdf": body}
    if surface.clear > 0:
        # Film: a share of the light goes straight through, the rest meets a glossy sheet. Lamps are found through
        # it, which they would not be through a dielectric: what is wrapped would be all noise.
        return {"type": "mask", "opacity": float(1 - surface.clear), "bsdf": body}
    return body


def _reflectance(mi: Any, surface: Surface) -> dict[str, Any]:
    if surface.texture is None:
        return {"type": "rgb", "value": [float(np.clip(v, 0, 1)) ** CURVE * 0.9 for v in surface.colour]}
    picture = surface.texture.astype(np.float32) / 255 * np.array(surface.colour, np.float32)
    linear = np.clip(picture, 0, 1) ** np.float32(CURVE) * np.float32(0.9)
    return {"type": "bitmap", "bitmap": mi.Bitmap(linear), "raw": True, "wrap_mode": "repeat"}


def _lamp(mi: Any, lamp: Lamp) -> dict[str, Any]:
    """A panel whose light on a surface that faces it at its target is `colour` (display value, so curved to linear)."""
    colour = np.clip(lamp.colour, 0, None) ** CURVE
    way = lamp.target - lamp.place
    away = float(np.linalg.norm(way))
    if lamp.kind == "sun":
        return {
            "type": "directional",
            "direction": [float(v) for v in way / away],
            "irradiance": {"type": "rgb", "value": [float(1.5 * np.pi * v) for v in colour]},
        }
    half = max(lamp.size / 2, SMALLEST)
    # A far panel of area A and radiance L gives the irradiance L A / d^2, and a white card L A / (pi d^2).
    radiance = 1.5 * colour * np.pi * away**2 / (4 * half**2)
    up = [0.0, 0.0, 1.0] if abs(way[2]) / away < 0.95 else [1.0, 0.0, 0.0]
    turn = mi.ScalarTransform4f().look_at(origin=_list(lamp.place), target=_list(lamp.target), up=up)
    return {
        "type": "rectangle",
        "to_world": turn @ mi.ScalarTransform4f().scale(half),
        "emitter": {"type": "area", "radiance": {"type": "rgb", "value": _list(radiance)}},
    }


def _list(values: Array) -> list[float]:
    return [float(v) for v in values]


def _calm(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take away fireflies: a pixel far above its neighbours' highest comes down to it."""
    import cv2

    level = picture.max(axis=2)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    limit = cv2.dilate(level, ring) * np.float32(1.15) + np.float32(0.02)
    return picture * np.minimum(limit / np.maximum(level, 1e-6), 1)[:, :, None].astype(np.float32)
