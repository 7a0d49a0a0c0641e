"""Pictures and exact instance ids of a shot with MuJoCo's own renderer, off screen.

Soft shadows and smooth edges come from several passes with the lamps moved about their panels and the camera by
parts of a pixel; what shades corners and contacts comes from the depth of the picture.
"""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.errors import SceneToolError
from finetune.scenes.camera import Camera
from finetune.scenes.physical.backend import GRAPHICS, mujoco
from finetune.scenes.physical.settle import quaternion
from finetune.scenes.physical.world import Lamp, Piece, Shot, Surface
from finetune.scenes.textures import Image

PASSES = 4
NEAR, FAR = 0.03, 40.0  # metres
CUTOFF = 58.0  # degrees: half the cone of a lamp
GHOSTS = 3  # geom group of what hides nothing
SHADOW = 1024  # pixels of a shadow map's side


class Raster:
    """An off-screen context of `size` x `size` pixels; use as a context manager or keep one for each process.

    Raises SceneToolError when MuJoCo is missing or no OpenGL can be had.
    """

    def __init__(self, size: int, passes: int = PASSES) -> None:
        self.size, self.passes = size, passes
        mj = mujoco()
        try:
            self._gl = mj.GLContext(size, size)
            self._gl.make_current()
        except Exception as error:  # PyOpenGL, EGL and GLFW each have errors of their own
            raise SceneToolError(f"no OpenGL for off-screen pictures ({error}); {GRAPHICS}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context; nothing can be drawn after it."""
        self._gl.free()

    def draw(self, shot: Shot) -> tuple[Image, NDArray[np.uint8]]:
        """The picture uint8 [S, S, 3] and the id map uint8 [S, S] (0 = no package; what can be seen, nothing else)."""
        with _Drawing(self, shot) as drawing:
            ids, depth = drawing.ids()
            return shade(drawing.picture(), depth, shot.camera), ids

    def ids(self, shot: Shot) -> NDArray[np.uint8]:
        """The id map alone."""
        with _Drawing(self, shot) as drawing:
            return drawing.ids()[0]


@lru_cache(maxsize=1)
def renders() -> None:
    """Nothing, where MuJoCo can draw off screen; else raises SceneToolError with what is missing. Looks only once."""
    Raster(16).close()


class _Drawing:
    """One shot as a compiled model in one context."""

    def __init__(self, raster: Raster, shot: Shot) -> None:
        mj = mujoco()
        self.raster, self.shot = raster, shot
        raster._gl.make_current()
        self.model: Any = compile_shot(shot, raster.size)
        self.data: Any = mj.MjData(self.model)
        mj.mj_forward(self.model, self.data)
        self.context: Any = mj.MjrContext(self.model, mj.mjtFontScale.mjFONTSCALE_50)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.context.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self.scene: Any = mj.MjvScene(self.model, maxgeom=self.model.ngeom + 16)
        self.view: Any = mj.MjvCamera()
        self.view.type, self.view.fixedcamid = mj.mjtCamera.mjCAMERA_FIXED, 0
        self.rectangle = mj.MjrRect(0, 0, raster.size, raster.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.free()

    def _update(self, *, ghosts: bool) -> None:
        mj = mujoco()
        option = mj.MjvOption()
        option.geomgroup[:] = 1
        option.geomgroup[GHOSTS] = int(ghosts)
        mj.mjv_updateScene(self.model, self.data, option, None, self.view, mj.mjtCatBit.mjCAT_ALL, self.scene)

    def ids(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Instance ids uint8 [S, S] and depth along the optical axis float32 [S, S], metres."""
        mj, size = mujoco(), self.raster.size
        self._update(ghosts=False)
        flags = self.scene.flags.copy()
        self.scene.flags[mj.mjtRndFlag.mjRND_SEGMENT] = 1
        self.scene.flags[mj.mjtRndFlag.mjRND_IDCOLOR] = 1
        mj.mjr_render(self.rectangle, self.scene, self.context)
        self.scene.flags[:] = flags
        colours, depth = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.float32)
        mj.mjr_readPixels(colours, depth, self.rectangle, self.context)
        code = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        table = np.zeros(self.scene.ngeom + 2, np.uint8)
        for geom in self.scene.geoms[: self.scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == mj.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = self.model.geom_user[geom.objid, 0]
        ids = table[np.where(code < len(table), code, 0)][::-1]
        # Reversed depth: 1 at the near plane, 0 at the far one, hyperbolic in between.
        metres = NEAR * FAR / np.maximum(NEAR + depth.astype(np.float64) * (FAR - NEAR), 1e-9)
        return np.ascontiguousarray(ids), np.ascontiguousarray(metres[::-1].astype(np.float32))

    def picture(self) -> NDArray[np.float32]:
        """Mean of the passes, float32 [S, S, 3] from 0 to 255."""
        mj, size = mujoco(), self.raster.size
        total = np.zeros((size, size, 3), np.uint32)
        buffer = np.empty((size, size, 3), np.uint8)
        places = self.model.light_pos.copy()
        lamps = self.shot.lighting.lamps
        for k in range(self.raster.passes):
            shift = _spread(k, self.raster.passes)
            for n, lamp in enumerate(lamps):
                moved = places[n] + lamp.size * _panel(lamp) @ shift
                self.model.light_pos[n] = moved
                self.model.light_dir[n] = _towards(lamp.target - moved)
            mj.mj_camlight(self.model, self.data)
            self._update(ghosts=True)
            # Half a pixel either way, the other way round for the eye than for the lamps.
            for eye in self.scene.camera:
                wide = eye.frustum_top - eye.frustum_bottom
                eye.frustum_center += shift[1] * wide / size
                eye.frustum_top += shift[0] * wide / size
                eye.frustum_bottom += shift[0] * wide / size
            self.scene.flags[mj.mjtRndFlag.mjRND_SHADOW] = 1
            self.scene.flags[mj.mjtRndFlag.mjRND_REFLECTION] = 0
            mj.mjr_render(self.rectangle, self.scene, self.context)
            mj.mjr_readPixels(buffer, None, self.rectangle, self.context)
            total += buffer
        self.model.light_pos[:] = places
        return np.ascontiguousarray((total[::-1] / np.float32(self.raster.passes)).astype(np.float32))


@lru_cache(maxsize=64)
def _spread(k: int, count: int) -> NDArray[np.float64]:
    """Point k of a rotated grid over the square from -0.5 to 0.5."""
    return np.array([(k + 0.5) / count - 0.5, ((k * 0.618034 + 0.31) % 1.0) - 0.5])


def _towards(way: NDArray[np.float64]) -> NDArray[np.float64]:
    return way / max(float(np.linalg.norm(way)), 1e-9)


def _panel(lamp: Lamp) -> NDArray[np.float64]:
    """Two unit vectors [3, 2] that span a lamp's panel."""
    way = _towards(lamp.target - lamp.place)
    side = _towards(np.cross(way, [0.0, 0.0, 1.0] if abs(way[2]) < 0.95 else [1.0, 0.0, 0.0]))
    return np.stack([side, np.cross(way, side)], 1)


def compile_shot(shot: Shot, size: int) -> Any:
    """A MuJoCo model of static meshes, lamps and the camera. A geom's first user number is its instance."""
    mj = mujoco()
    spec = mj.MjSpec()
    spec.nuser_geom = 1
    spec.stat.extent, spec.stat.center = 1.0, [0.0, 0.0, 0.0]
    spec.visual.map.znear, spec.visual.map.zfar = NEAR, FAR
    spec.visual.map.shadowclip, spec.visual.map.shadowscale = 3.0, 0.9
    spec.visual.quality.shadowsize = SHADOW
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = spec.visual.global_.offheight = size
    # OpenGL's lamps dim their own ambient light with distance and outside their cone; the headlight's is everywhere.
    # Half of what comes from everywhere is let fall from above, so that faces in the shade still differ.
    ambient = shot.lighting.ambient
    spec.visual.headlight.active = 1
    spec.visual.headlight.ambient = (0.65 * ambient).tolist()
    spec.visual.headlight.diffuse = (0.25 * ambient).tolist()
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    for lamp in shot.lighting.lamps:
        _light(spec, lamp)
    sky = spec.worldbody.add_light(type=mj.mjtLightType.mjLIGHT_DIRECTIONAL, dir=[0.25, 0.15, -1.0], castshadow=False)
    sky.diffuse, sky.ambient, sky.specular = (0.7 * ambient).tolist(), [0.0] * 3, [0.0] * 3
    camera = spec.worldbody.add_camera(name="eye", pos=shot.camera.eye.tolist())
    right, down, forward = shot.camera.rotation
    camera.quat = quaternion(np.stack([right, -down, -forward], 1))
    camera.fovy = float(np.degrees(2 * np.arctan(shot.camera.height / 2 / shot.camera.focal)))
    named: dict[int, str] = {}
    for number, piece in enumerate(shot.pieces):
        _piece(spec, number, piece, named)
    return spec.compile()


def _light(spec: Any, lamp: Lamp) -> None:
    mj = mujoco()
    away = float(np.linalg.norm(lamp.target - lamp.place))
    light = spec.worldbody.add_light(pos=lamp.place.tolist(), dir=_towards(lamp.target - lamp.place).tolist())
    light.type = mj.mjtLightType.mjLIGHT_DIRECTIONAL if lamp.kind == "sun" else mj.mjtLightType.mjLIGHT_SPOT
    light.castshadow = lamp.shadow
    light.diffuse, light.ambient = lamp.colour.tolist(), [0.0, 0.0, 0.0]
    light.specular = (0.6 * lamp.colour).tolist()
    light.attenuation = [0.6, 0.0, 0.4 / away**2]
    light.cutoff, light.exponent = CUTOFF, 0.3


def _piece(spec: Any, number: int, piece: Piece, named: dict[int, str]) -> None:
    mj = mujoco()
    surface, mesh = piece.surface, piece.mesh
    material = spec.add_material(name=f"m{number}")
    material.rgba = [*surface.colour, 1.0 - surface.clear]
    material.specular, material.shininess = _phong(surface)
    material.emission = surface.glow
    if surface.texture is not None:
        if id(surface.texture) not in named:
            named[id(surface.texture)] = f"t{number}"
            texture = spec.add_texture(name=f"t{number}", type=mj.mjtTexture.mjTEXTURE_2D)
            texture.height, texture.width, texture.nchannel = *surface.texture.shape[:2], 3
            texture.data = np.ascontiguousarray(surface.texture).tobytes()
        material.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = named[id(surface.texture)]
        material.texrepeat = [1, 1]
    spec.add_mesh(
        name=f"g{number}",
        uservert=mesh.vertices.ravel(),
        userface=mesh.faces.ravel(),
        usernormal=mesh.normals.ravel(),
        usertexcoord=mesh.uv.ravel(),
        inertia=mj.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    geom = spec.worldbody.add_geom(type=mj.mjtGeom.mjGEOM_MESH, meshname=f"g{number}", material=f"m{number}")
    geom.contype = geom.conaffinity = 0
    geom.group = GHOSTS if piece.ghost else 0
    geom.userdata = [float(piece.instance)]


def _phong(surface: Surface) -> tuple[float, float]:
    """Specular strength and shininess (both 0 to 1) of a surface."""
    if surface.metal:
        return 0.9, 0.5
    return 0.03 + 0.75 * surface.gloss**1.5, 0.1 + 0.6 * surface.gloss


def shade(picture: NDArray[np.float32], depth: NDArray[np.float32], camera: Camera) -> Image:
    """Darken corners, gaps and the ground under things: places that lie behind the mean of opposite neighbours.

    `picture` float32 [S, S, 3], `depth` float32 [S, S] in metres; uint8 [S, S, 3].
    """
    near = np.clip(depth, NEAR, FAR)
    gain = np.ones_like(near)
    middle = float(np.median(near))
    for reach, strength in ((0.012, 0.5), (0.04, 0.5), (0.12, 0.45)):  # metres, how dark at most
        step = max(1.0, reach * camera.focal / middle)  # pixels
        hidden = np.zeros_like(near)
        for angle in _ANGLES:
            x, y = step * np.cos(angle), step * np.sin(angle)
            # On a plane of any slope the two opposite neighbours cancel.
            rises = [near - _shifted(near, s * x, s * y) for s in (1, -1)]
            bend = (rises[0] + rises[1]) / (2 * reach)
            # What stands much nearer is another thing before a far background, and shades nothing there.
            apart = np.maximum(np.abs(rises[0]), np.abs(rises[1])) / reach
            hidden += np.clip(bend, 0, 1) * np.clip(3.0 - apart, 0, 1)
        gain *= 1 - strength * np.minimum(hidden / len(_ANGLES) * 1.6, 1)
    gain = cv2.GaussianBlur(gain, (0, 0), 0.8)
    return np.clip(picture * gain[:, :, None], 0, 255).astype(np.uint8)


_ANGLES = np.arange(6) * np.pi / 6 + 0.2


def _shifted(field: NDArray[np.float32], x: float, y: float) -> NDArray[np.float32]:
    """`field` read `x`, `y` pixels to the right and below."""
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(field, matrix, field.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
