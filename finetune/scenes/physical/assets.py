"""Meshes of real things from COLLADA files, as distractors and packages of the physical tiers.

A folder is searched for `.dae` files. What a file shows is told from its name: a `cardboard_box` is a package; heaps of
goods (`clutter`), and parts of whole buildings, are left out, since the packages in them would go unlabelled; all else
is a distractor. Parts of a distractor that wear the textures of those heaps (goods on a shelf) are left out for the
same reason.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from finetune.errors import SceneToolError
from finetune.scenes.camera import Array
from finetune.scenes.physical import shapes
from finetune.scenes.physical.shapes import Mesh
from finetune.scenes.physical.world import Collider, Link, Parcel, Prop, Surface
from finetune.scenes.textures import Image

PACKAGES = ("cardboard_box",)
GOODS = ("clutter", *PACKAGES)
LEFT_OUT = ("clutter", "ground", "roof", "wall", "visual_collision")
PALLET = 1.2  # metres: the length of a pallet, whatever unit its file claims
LARGEST = 5.0  # metres: what is longer than this does not fit beside a station
FILE_LIMIT, FACE_LIMIT = 32 << 20, 100_000  # bytes of a file, triangles of a part
TEXTURE = 512  # pixels: longer side of a texture


@dataclass(frozen=True, slots=True)
class Assets:
    """`packages` have a largest extent of one metre; each of `props` is one thing, its parts standing at the origin."""

    packages: tuple[Parcel, ...]
    props: tuple[tuple[Prop, ...], ...]


def read_assets(folder: Path) -> Assets:
    """All usable meshes under `folder`, in the order of their paths.

    Raises SceneToolError when pycollada is missing, a file is damaged or over the limits, or none is found.
    """
    files = _files(folder)
    goods = {
        digest
        for path in files
        if _about(path, GOODS)
        for picture in path.parent.parent.rglob("*.png")
        if (digest := _digest(picture))
    }
    packages: list[Parcel] = []
    props: list[tuple[Prop, ...]] = []
    for path in files:
        if _about(path, PACKAGES):
            packages += [_package(mesh, surface) for mesh, surface, _ in _parts(path)][:1]
        elif not _about(path, LEFT_OUT):
            parts = [(mesh, surface) for mesh, surface, texture in _parts(path) if texture not in goods]
            thing = _standing(parts, path)
            if thing:
                props.append(thing)
    if not packages and not props:
        raise SceneToolError(f"{folder}: no COLLADA mesh (.dae) that a scene could use")
    return Assets(tuple(packages), tuple(props))


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and bytes of all meshes and textures under `folder`."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".dae", ".png", ".jpg") and p.is_file()):
        total.update(f"{path.relative_to(folder).as_posix()} {_digest(path)}\n".encode())
    return total.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".dae" and p.is_file())


def _about(path: Path, words: tuple[str, ...]) -> bool:
    return any(word in path.name.lower() for word in words)


def _digest(path: Path) -> str:
    if path.stat().st_size > FILE_LIMIT:
        raise SceneToolError(f"{path}: larger than {FILE_LIMIT >> 20} MiB")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parts(path: Path) -> Iterator[tuple[Mesh, Surface, str]]:
    """Meshes in metres with z up, their surfaces, and the digest of their texture ("" without one)."""
    try:
        collada: Any = importlib.import_module("collada")
        common: Any = importlib.import_module("collada.common")
    except ImportError as error:
        raise SceneToolError(
            f"assets need the package 'pycollada' ({error}); install it with: pip install 'parcelhub[assets]'"
        ) from error
    _digest(path)
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise SceneToolError(f"{path}: document types and entities are not read")
    try:
        with path.open("rb") as stream:
            document = collada.Collada(stream, ignore=[common.DaeUnsupportedError, common.DaeBrokenRefError])
        unit = float(document.assetInfo.unitmeter or 1.0)
        turn = _upright(str(document.assetInfo.upaxis))
        found = [part for bound in document.scene.objects("geometry") for part in bound.primitives()]
    except (common.DaeError, ValueError, KeyError, AttributeError, SyntaxError) as error:
        raise SceneToolError(f"{path}: cannot be read as COLLADA ({error})") from error
    for part in found:
        triangles = part.triangleset() if hasattr(part, "triangleset") else part
        made = _mesh(triangles, turn * unit, path)
        if made is not None:
            surface, digest = _surface(triangles, path)
            yield made, surface, digest


def _upright(axis: str) -> Array:
    """The rotation [3, 3] that turns a file's up axis to z."""
    if axis.upper().startswith("Y"):
        return np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    if axis.upper().startswith("X"):
        return np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    return np.eye(3)


def _mesh(triangles: Any, turn: Array, path: Path) -> Mesh | None:
    index = getattr(triangles, "vertex_index", None)
    if index is None or not len(index):
        return None
    if len(index) > FACE_LIMIT:
        raise SceneToolError(f"{path}: a part has {len(index)} triangles, more than {FACE_LIMIT}")
    corners = np.asarray(triangles.vertex, float)[np.asarray(index)].reshape(-1, 3)
    if not np.isfinite(corners).all():
        raise SceneToolError(f"{path}: a vertex is not a finite number")
    corners = corners @ turn.T
    uv = np.zeros((len(corners), 2))
    if len(triangles.texcoordset):
        uv = np.asarray(triangles.texcoordset[0], float)[np.asarray(triangles.texcoord_indexset[0])].reshape(-1, 2)[
            :, :2
        ]
        uv = np.nan_to_num(uv)
        uv[:, 1] = 1 - uv[:, 1]  # COLLADA counts v from below
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    a, b, c = (corners[faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    area = np.linalg.norm(across, axis=1)
    solid = area > 1e-12
    if not solid.any():
        return None
    flat = (across[solid] / area[solid, None]).astype(np.float32)
    kept = faces[solid].ravel()
    return Mesh(
        corners[kept].astype(np.float32),
        np.arange(len(kept), dtype=np.int32).reshape(-1, 3),
        uv[kept].astype(np.float32),
        np.repeat(flat, 3, axis=0),
    )


def _surface(triangles: Any, path: Path) -> tuple[Surface, str]:
    effect = getattr(getattr(triangles, "material", None), "effect", None)
    diffuse = getattr(effect, "diffuse", None)
    image = getattr(getattr(getattr(diffuse, "sampler", None), "surface", None), "image", None)
    if image is not None:
        picture = _picture(path, Path(str(image.path).replace("\\", "/")).name)
        if picture is not None:
            return Surface(picture[0], gloss=0.2), picture[1]
    if isinstance(diffuse, tuple | list) and len(diffuse) >= 3:
        r, g, b = (float(np.clip(v, 0, 1)) for v in diffuse[:3])
        return Surface(None, (r, g, b), gloss=0.2), ""
    return Surface(None, (0.55, 0.55, 0.55), gloss=0.2), ""


def _picture(path: Path, name: str) -> tuple[Image, str] | None:
    """A texture of this file name in the model's own folder: names in a file never lead out of it."""
    for place in sorted(path.parent.parent.rglob("*.png")):
        if place.name.lower() == name.lower():
            digest = _digest(place)
            read = cv2.imdecode(np.frombuffer(place.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
            if read is None:
                raise SceneToolError(f"{place}: not a picture")
            share = min(1.0, TEXTURE / max(read.shape[:2]))
            small = cv2.resize(read, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            return np.ascontiguousarray(small[:, :, ::-1]).astype(np.uint8), digest
    return None


def _package(mesh: Mesh, surface: Surface) -> Parcel:
    """The mesh centred, one metre long, with the box around it to collide."""
    low, high = mesh.bounds()
    centred = mesh.moved(np.eye(3), -(low + high) / 2).scaled(float(1 / max((high - low).max(), 1e-9)))
    half = (high - low) / 2 / max(float((high - low).max()), 1e-9)
    link = Link(Collider("box", tuple(float(v) for v in half)))
    return Parcel("box", centred, surface, (link,), 1.0, half)


def _standing(parts: list[tuple[Mesh, Surface]], path: Path) -> tuple[Prop, ...]:
    """The parts of one thing, standing on z = 0 in the middle; nothing when it is too large for a station."""
    if not parts:
        return ()
    low, high = shapes.merge([mesh for mesh, _ in parts]).bounds()
    longest = float((high - low).max())
    scale = PALLET / longest if _about(path, ("pallet",)) and not _about(path, ("jack",)) else 1.0
    if longest * scale > LARGEST or longest <= 0:
        return ()
    foot = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return tuple(Prop(mesh.moved(np.eye(3), -foot).scaled(scale), surface) for mesh, surface in parts)
