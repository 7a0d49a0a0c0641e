"""Letting a stage come to rest: rigid and jointed bodies under gravity, with MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.scenes.camera import Array
from finetune.scenes.physical.backend import mujoco
from finetune.scenes.physical.shapes import Mesh
from finetune.scenes.physical.world import Collider, Parcel, Placed, Prop, Stage

STEP = 0.005  # seconds
CHUNK = 40  # steps between looks at whether all is still
SHORTEST, LONGEST = 3, 16  # chunks: 0.6 to 3.2 seconds
STILL_SPEED = 0.04  # metres a second
CALM = 3  # chunks at the end under drag, if it has not come to rest by itself
DRAG, CALM_DRAG = 4.0, 15.0  # 1/s; the first lets nothing fall faster than 2.5 m/s, as if it were laid down by hand
FLYING = 0.3  # metres a second: what is still as fast as this is in the air, and is left out


@dataclass(frozen=True, slots=True)
class Settled:
    """Parcels after the physics: `meshes[k]` (and `inner[k]`, what shows through its film) lie where parcel `kept[k]`
    of the stage came to rest. `speed` is that of the fastest of them, metres a second."""

    kept: tuple[int, ...]
    meshes: tuple[Mesh, ...]
    inner: tuple[Mesh | None, ...]
    speed: float


def settle(stage: Stage) -> Settled:
    """Drop and push what is placed on a stage until it is still. Parcels that left the stage's reach, or are still
    in the air, are not kept."""
    for step in (STEP, STEP / 2, STEP / 4):
        world = _Physics(stage, step)
        world.run()
        if world.sound():
            break
    return world.baked()


class _Physics:
    """One compiled MuJoCo model of a stage."""

    def __init__(self, stage: Stage, step: float = STEP) -> None:
        self.stage, self._chunk = stage, round(CHUNK * STEP / step)
        mj = mujoco()
        spec = mj.MjSpec()
        spec.option.timestep = step
        spec.option.integrator = mj.mjtIntegrator.mjINT_IMPLICITFAST
        spec.option.iterations = 12
        spec.option.ls_iterations = 8
        # Heaps of jointed lobes stay finite with this cone; with the pyramid they do not.
        spec.option.cone = mj.mjtCone.mjCONE_ELLIPTIC
        spec.compiler.balanceinertia = True
        self._hulls = 0
        for prop in stage.props:
            self._prop(spec, prop)
        self._bodies = [self._parcel(spec, k, placed) for k, placed in enumerate(stage.placed)]
        self.model: Any = spec.compile()
        self.data: Any = mj.MjData(self.model)
        self._roots = np.array([self.model.body(f"p{k}").id for k in range(len(stage.placed))], int)
        self._free = np.array([self.model.body_dofadr[b] for b in self._roots], int)
        self._drag(DRAG)
        for k, placed in enumerate(stage.placed):
            self.data.qvel[self._free[k] : self._free[k] + 3] = placed.push

    def _geom(self, spec: Any, body: Any, collider: Collider, *, mass: float | None) -> None:
        mj = mujoco()
        kinds = {
            "box": mj.mjtGeom.mjGEOM_BOX,
            "cylinder": mj.mjtGeom.mjGEOM_CYLINDER,
            "ellipsoid": mj.mjtGeom.mjGEOM_ELLIPSOID,
            "hull": mj.mjtGeom.mjGEOM_MESH,
        }
        geom = body.add_geom(type=kinds[collider.kind], pos=list(collider.offset))
        geom.quat = quaternion(collider.rotation)
        if collider.points is not None:
            name = f"h{self._hulls}"
            self._hulls += 1
            spec.add_mesh(name=name, uservert=collider.points.ravel().tolist())
            geom.meshname = name
        else:
            size = [max(v, 0.002) for v in collider.size]
            geom.size = (size + [0.0, 0.0])[:3]
        geom.friction = [0.7, 0.02, 0.01]  # sliding, twisting, rolling: card and film do not roll on as balls would
        geom.condim = 6
        geom.solref = [0.02, 1.0]
        if mass is not None:
            geom.mass = max(mass, 0.02)

    def _prop(self, spec: Any, prop: Prop) -> None:
        for collider in prop.colliders:
            self._geom(spec, spec.worldbody, collider, mass=None)

    def _parcel(self, spec: Any, number: int, placed: Placed) -> list[str]:
        mj = mujoco()
        parcel = placed.parcel
        share = parcel.mass / len(parcel.links)
        root = spec.worldbody.add_body(name=f"p{number}", pos=placed.centre.tolist())
        root.quat = quaternion(placed.rotation)
        root.add_freejoint()
        names = [f"p{number}"]
        self._geom(spec, root, parcel.links[0].collider, mass=share)
        for k, link in enumerate(parcel.links[1:], 1):
            body = root.add_body(name=f"p{number}.{k}", pos=list(link.anchor))
            joint = body.add_joint(type=mj.mjtJoint.mjJNT_HINGE, axis=list(link.axis or (0, 1, 0)))
            joint.limited = True
            joint.range = [-link.limit, link.limit]
            joint.stiffness = [link.stiffness, 0.0, 0.0] if np.ndim(joint.stiffness) else link.stiffness
            damping = 0.1 * link.stiffness + 0.002
            joint.damping = [damping, 0.0, 0.0] if np.ndim(joint.damping) else damping
            # Lobes are light and their springs stiff; some rotor inertia keeps them calm at our steps.
            joint.armature = 1e-4 + 0.5 * share * (0.5 * float(parcel.half.max())) ** 2
            self._geom(spec, body, link.collider, mass=share)
            names.append(f"p{number}.{k}")
        for a in range(1, len(names)):
            for b in range(a + 1, len(names)):
                spec.add_exclude(bodyname1=names[a], bodyname2=names[b])
        return names

    def run(self) -> None:
        """Step until still, or until the time is up; then let drag take what motion is left."""
        if not self.stage.placed:
            return
        mj = mujoco()
        for chunk in range(LONGEST):
            mj.mj_step(self.model, self.data, self._chunk)
            if chunk + 1 >= SHORTEST and self.speed() < STILL_SPEED:
                return
        # What still rocks would be a blur on a picture.
        self._drag(CALM_DRAG)
        mj.mj_step(self.model, self.data, CALM * self._chunk)

    def _drag(self, rate: float) -> None:
        mass = self.model.body_subtreemass[self._roots]
        inertia = self.model.body_inertia[self._roots].max(axis=1) if len(self._roots) else mass
        for start, m, i in zip(self._free, mass, inertia, strict=True):
            self.model.dof_damping[start : start + 3] = rate * m
            self.model.dof_damping[start + 3 : start + 6] = rate * i

    def sound(self) -> bool:
        """Whether the integration stayed finite: MuJoCo starts over from the first state when it does not."""
        bad = mujoco().mjtWarning
        kinds = (bad.mjWARN_BADQACC, bad.mjWARN_BADQVEL, bad.mjWARN_BADQPOS)
        return not any(self.data.warning[int(kind)].number for kind in kinds)

    def inside(self) -> list[int]:
        """Parcels within the stage's reach."""
        low, high = self.stage.reach
        at = self.data.xpos[self._roots]
        return np.flatnonzero(np.all((at >= low) & (at <= high), axis=1)).tolist()

    def speeds(self) -> Array:
        """Of every parcel, metres a second: its centre's, and what turning adds at its ends."""
        half = np.array([placed.parcel.half.max() for placed in self.stage.placed])
        v, w = (np.stack([self.data.qvel[s + k : s + k + 3] for s in self._free]) for k in (0, 3))
        found: Array = np.linalg.norm(v, axis=1) + half * np.linalg.norm(w, axis=1)
        return found

    def speed(self) -> float:
        """Of the fastest parcel within reach, metres a second."""
        kept = self.inside()
        return float(self.speeds()[kept].max()) if kept else 0.0

    def baked(self) -> Settled:
        """The parcels' meshes where they lie now."""
        mujoco().mj_kinematics(self.model, self.data)
        if not self.stage.placed:
            return Settled((), (), (), 0.0)
        speeds = self.speeds()
        kept = [k for k in self.inside() if speeds[k] < FLYING]
        meshes, inner = [], []
        for k in kept:
            parcel = self.stage.placed[k].parcel
            bodies = [self.data.body(name) for name in self._bodies[k]]
            turns = np.stack([b.xmat.reshape(3, 3) for b in bodies])
            places = np.stack([b.xpos for b in bodies])
            meshes.append(bend(parcel, turns, places))
            inner.append(parcel.inside[0].moved(turns[0], places[0]) if parcel.inside else None)
        return Settled(tuple(kept), tuple(meshes), tuple(inner), float(speeds[kept].max()) if kept else 0.0)


def bend(parcel: Parcel, turns: Array, places: Array) -> Mesh:
    """The parcel's mesh with its links at `places` [L, 3], turned by `turns` [L, 3, 3]: linear blend skinning."""
    if parcel.weights is None:
        return parcel.mesh.moved(turns[0], places[0])
    vertices = np.zeros_like(parcel.mesh.vertices, dtype=float)
    normals = np.zeros_like(vertices)
    for k, link in enumerate(parcel.links):
        weight = parcel.weights[:, k : k + 1]
        vertices += weight * ((parcel.mesh.vertices - np.array(link.anchor)) @ turns[k].T + places[k])
        normals += weight * (parcel.mesh.normals @ turns[k].T)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return Mesh(vertices.astype(np.float32), parcel.mesh.faces, parcel.mesh.uv, normals.astype(np.float32))


def quaternion(rotation: Array) -> list[float]:
    """MuJoCo's quaternion (w, x, y, z) of a rotation matrix [3, 3]."""
    found = np.zeros(4)
    mujoco().mju_mat2Quat(found, np.ascontiguousarray(rotation, float).ravel())
    return [float(v) for v in found]
