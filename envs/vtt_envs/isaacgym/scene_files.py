"""A compiled MuJoCo model as URDF files and a description of the scene, which another simulator can load.

What collides, moves or weighs something is written; what is only seen stays behind. Every joint gets a link, because a
URDF link has one joint. The gel, whose softness MuJoCo has in the contact, becomes a rigid block with one more joint,
for a spring along its normal.

Legend: D joints of the robot, A actors besides it, C bodies that collide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_envs.isaacgym.worker.protocol import Actor, Collider, Scene

__all__ = ["Collision", "Export", "Movable", "export_scene"]

_PRESS_ARMATURE = 0.02  # kg, that of the gel's shear (`vtt_envs.robots.base`)
_LIGHT = (1e-3, (1e-6, 1e-6, 1e-6))  # kg, kg m^2: of links that only carry a joint
_FAR = "1e6"  # no limit
_TWINS = 4  # geom group of what collides in place of what is seen
_SHAPES = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_MESH)


@dataclass(frozen=True)
class Movable:
    """A joint of the robot: one of the model's, or one that lets a gel pad give way along its normal.

    Attributes:
        name: Its name in the robot's file.
        joint: Index of the model's joint, or -1.
        actuator: Index of its actuator, or -1.
        pad: Index of the geom of a gel pad, or -1.
        sign: Direction along y of the finger in which the pad gives way.
        armature: In [kg] or [kg m^2].
    """

    name: str
    joint: int = -1
    actuator: int = -1
    pad: int = -1
    sign: float = 1.0
    armature: float = _PRESS_ARMATURE


@dataclass(frozen=True)
class Collision:
    """A body that collides.

    Attributes:
        body: Its index in the model.
        actor: 0 for the robot, otherwise the actor's index plus 1.
        geoms: Its geoms that were written.
        bits: What its geoms collide with.
    """

    body: int
    actor: int
    geoms: tuple[int, ...]
    bits: int


@dataclass(frozen=True)
class Export:
    """What was written, and what of the model it came from.

    Attributes:
        scene: The description.
        movables: Of each joint of the robot. Length D.
        bodies: Of each actor besides the robot, its body. Length A.
        collisions: Of each body that collides. Length C.
    """

    scene: Scene
    movables: tuple[Movable, ...]
    bodies: tuple[int, ...]
    collisions: tuple[Collision, ...]


def export_scene(model: mujoco.MjModel, folder: Path, *, num_envs: int, device: str) -> Export:
    """Write `scene.json`, a URDF file for each actor and the meshes that they use.

    Bodies with a free joint, and mocap bodies that collide, are actors; whatever else moves is the robot.

    Args:
        model: The scene.
        folder: Where the files go.
        num_envs: Number of simulations.
        device: Of the physics.

    Raises:
        ConfigError: If the model holds what the files or the protocol cannot say.
    """
    _check(model)
    free = [int(model.jnt_bodyid[j]) for j in range(model.njnt) if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE]
    fixed = [body for body in range(model.nbody) if model.body_mocapid[body] >= 0 and _colliding(model, body)]
    mocap = [body for body in range(model.nbody) if model.body_mocapid[body] >= 0]
    robot = [body for body in range(1, model.nbody) if model.body_rootid[body] not in (*free, *mocap)]
    owners = {**dict.fromkeys(robot, 0), **{body: 1 + index for index, body in enumerate((*free, *fixed))}}
    collisions = []
    for body, actor in owners.items():
        geoms = _colliding(model, body)
        twins = [geom for geom in geoms if model.geom_group[geom] == _TWINS]
        bits = int(np.bitwise_or.reduce([model.geom_contype[geom] for geom in geoms])) if geoms else 0
        if geoms:
            collisions.append(Collision(body, actor, tuple(twins or geoms), bits))
    movables = _movables(model, robot)
    _write_robot(model, robot, movables, collisions, folder / "robot.urdf")
    actors = []
    for body in (*free, *fixed):
        name = model.body(body).name
        _write_actor(model, body, collisions, folder / f"{name}.urdf")
        actors.append(Actor(name, f"{name}.urdf", body in fixed))
    planes = [geom for geom in _colliding(model, 0) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE]
    ground = any(model.geom_contype[plane] & collision.bits for plane in planes for collision in collisions)
    filters = _filters(collisions)
    names = [movable.name for movable in movables]
    scene = Scene(
        num_envs=num_envs,
        physics_dt=float(model.opt.timestep),
        gravity=float(model.opt.gravity[2]),
        device=device,
        ground=ground,
        robot="robot.urdf",
        joints=tuple(names),
        armature=tuple(movable.armature for movable in movables),
        coupled=tuple(
            (names.index(model.joint(first).name), names.index(model.joint(second).name))
            for first, second in zip(model.eq_obj1id, model.eq_obj2id, strict=True)
        ),
        actors=tuple(actors),
        colliders=tuple(
            Collider(collision.actor, model.body(collision.body).name, bits)
            for collision, bits in zip(collisions, filters, strict=True)
        ),
    )
    scene.write(str(folder / "scene.json"))
    return Export(scene, movables, (*free, *fixed), tuple(collisions))


def _check(model: mujoco.MjModel) -> None:
    """Refuse what cannot be said."""
    lacks = []
    if (model.eq_type != mujoco.mjtEq.mjEQ_JOINT).any() or not np.array_equal(
        model.eq_data[:, :5], np.tile([0.0, 1, 0, 0, 0], (model.neq, 1))
    ):
        lacks.append("constraints other than joints held at equal positions")
    affine = mujoco.mjtBias.mjBIAS_AFFINE
    if (model.actuator_trntype != mujoco.mjtTrn.mjTRN_JOINT).any() or (model.actuator_biastype != affine).any():
        lacks.append("actuators other than springs of single joints")
    if model.ntendon:
        lacks.append("tendons")
    shapes = {int(model.geom_type[geom]) for body in range(1, model.nbody) for geom in _colliding(model, body)}
    if shapes - {int(kind) for kind in _SHAPES}:
        lacks.append("shapes other than boxes, cylinders and meshes")
    if lacks:
        raise ConfigError(f"backend='isaacgym' has no {', no '.join(lacks)}. Use backend='mujoco'.")


def _colliding(model: mujoco.MjModel, body: int) -> list[int]:
    """Geoms of a body that collide, and are collided with."""
    geoms = range(model.body_geomadr[body], model.body_geomadr[body] + model.body_geomnum[body])
    return [geom for geom in geoms if model.geom_contype[geom] and model.geom_conaffinity[geom]]


def _joints(model: mujoco.MjModel, body: int) -> range:
    return range(int(model.body_jntadr[body]), int(model.body_jntadr[body] + model.body_jntnum[body]))


def _movables(model: mujoco.MjModel, robot: Sequence[int]) -> tuple[Movable, ...]:
    """Joints of the robot, that of a gel's normal before those of its shear."""
    driver = {int(joint): index for index, joint in enumerate(model.actuator_trnid[:, 0])}
    movables = []
    for body in robot:
        name = model.body(body).name
        if name.startswith("gel_"):
            pad = model.geom(f"pad_{name.removeprefix('gel_')}")
            movables.append(Movable(f"{name}_press", pad=int(pad.id), sign=float(np.sign(pad.pos[1]))))
        for joint in _joints(model, body):
            armature = float(model.dof_armature[model.jnt_dofadr[joint]])
            movables.append(Movable(model.joint(joint).name, joint, driver.get(joint, -1), armature=armature))
    return tuple(movables)


def _filters(collisions: Sequence[Collision]) -> list[int]:
    """Filters of which two have a bit in common exactly where the bodies do not collide."""
    kinds = [(collision.actor == 0, collision.bits) for collision in collisions]
    distinct = sorted(set(kinds))
    filters = dict.fromkeys(distinct, 0)
    bit = 1
    for index, first in enumerate(distinct):
        for second in distinct[index:]:
            if (first[0] and second[0]) or not first[1] & second[1]:
                filters[first] |= bit
                filters[second] |= bit
                bit <<= 1
    return [filters[kind] for kind in kinds]


def _write_robot(
    model: mujoco.MjModel,
    robot: Sequence[int],
    movables: Iterable[Movable],
    collisions: Sequence[Collision],
    path: Path,
) -> None:
    """Write the robot as a tree of links that hang on the link `base`."""
    urdf = ElementTree.Element("robot", name="robot")
    _add_link(urdf, "base", mass=1.0, inertia=(1e-2,) * 3)
    frames = {0: ("base", np.zeros(3))}  # link of each body, and the body's origin in it
    by_body: dict[int, list[Movable]] = {}
    for movable in movables:
        body = model.geom_bodyid[movable.pad] if movable.pad >= 0 else model.jnt_bodyid[movable.joint]
        by_body.setdefault(int(body), []).append(movable)
    for body in robot:
        name = model.body(body).name
        parent, shift = frames[int(model.body_parentid[body])]
        place, rotation = shift + model.body_pos[body], _rotation(model.body_quat[body])
        # Link frames lie at the anchors of their joints, with the axes of the body.
        chain, anchor = by_body.get(body, []), np.zeros(3)
        for index, movable in enumerate(chain):
            last = index == len(chain) - 1
            link = name if last else f"{name}_{index}"
            at = anchor if movable.joint < 0 else model.jnt_pos[movable.joint]
            place = place + rotation @ (at - anchor)
            if not last:
                _add_link(urdf, link, mass=_LIGHT[0], inertia=_LIGHT[1])
            _add_joint(urdf, model, movable, parent, link, place, rotation)
            parent, place, rotation, anchor = link, np.zeros(3), np.eye(3), at
        if not chain:
            _add_fixed(urdf, parent, name, place, rotation)
        _add_body(urdf, model, body, name, collisions, path.parent, offset=-anchor)
        frames[body] = (name, -anchor)
    _save(urdf, path)


def _write_actor(model: mujoco.MjModel, body: int, collisions: Sequence[Collision], path: Path) -> None:
    """Write one body."""
    name = model.body(body).name
    urdf = ElementTree.Element("robot", name=name)
    _add_body(urdf, model, body, name, collisions, path.parent, offset=np.zeros(3))
    _save(urdf, path)


def _save(urdf: ElementTree.Element, path: Path) -> None:
    ElementTree.indent(urdf)
    ElementTree.ElementTree(urdf).write(path, encoding="utf-8", xml_declaration=True)


def _add_body(
    urdf: ElementTree.Element,
    model: mujoco.MjModel,
    body: int,
    name: str,
    collisions: Sequence[Collision],
    folder: Path,
    *,
    offset: NDArray[np.float64],
) -> None:
    """Add a body as a link; `offset` is the body's origin in the link."""
    mass, inertia = float(model.body_mass[body]), model.body_inertia[body]
    link = _add_link(
        urdf,
        name,
        mass=mass or 1.0,  # what stands fixed may have none
        inertia=tuple(inertia) if mass else (1e-2,) * 3,
        place=offset + model.body_ipos[body],
        rotation=_rotation(model.body_iquat[body]),
    )
    for collision in collisions:
        for geom in collision.geoms if collision.body == body else ():
            _add_collision(link, model, geom, folder, offset)


def _add_link(
    urdf: ElementTree.Element,
    name: str,
    *,
    mass: float,
    inertia: Sequence[float],
    place: NDArray[np.float64] | None = None,
    rotation: NDArray[np.float64] | None = None,
) -> ElementTree.Element:
    link = ElementTree.SubElement(urdf, "link", name=name)
    inertial = ElementTree.SubElement(link, "inertial")
    _add_origin(inertial, np.zeros(3) if place is None else place, np.eye(3) if rotation is None else rotation)
    ElementTree.SubElement(inertial, "mass", value=_text(mass))
    xx, yy, zz = (_text(value) for value in inertia)
    ElementTree.SubElement(inertial, "inertia", ixx=xx, iyy=yy, izz=zz, ixy="0", ixz="0", iyz="0")
    return link


def _add_collision(
    link: ElementTree.Element, model: mujoco.MjModel, geom: int, folder: Path, offset: NDArray[np.float64]
) -> None:
    collision = ElementTree.SubElement(link, "collision")
    place, rotation, size = offset + model.geom_pos[geom], _rotation(model.geom_quat[geom]), model.geom_size[geom]
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH:
        # The pose goes into the vertices: what MuJoCo calls a mesh's frame is its inertia's.
        mesh = int(model.geom_dataid[geom])
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        lines = [f"v {_text(*vertex)}" for vertex in place + model.mesh_vert[first : first + count] @ rotation.T]
        first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        lines += ["f {} {} {}".format(*(1 + face)) for face in model.mesh_face[first : first + count]]
        file = folder / f"{link.get('name')}_{model.mesh(mesh).name}.obj"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        kind, attributes, place, rotation = "mesh", {"filename": file.name}, np.zeros(3), np.eye(3)
    elif model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_BOX:
        kind, attributes = "box", {"size": _text(*(2 * size))}
    else:
        kind, attributes = "cylinder", {"radius": _text(size[0]), "length": _text(2 * size[1])}
    _add_origin(collision, place, rotation)
    ElementTree.SubElement(ElementTree.SubElement(collision, "geometry"), kind, attributes)


def _add_joint(
    urdf: ElementTree.Element,
    model: mujoco.MjModel,
    movable: Movable,
    parent: str,
    child: str,
    place: NDArray[np.float64],
    rotation: NDArray[np.float64],
) -> None:
    joint, index = ElementTree.SubElement(urdf, "joint", name=movable.name), movable.joint
    if index < 0:
        thickness = 2 * float(model.geom_size[movable.pad, 1])
        kind, axis, limits = "prismatic", (0.0, movable.sign, 0.0), (-thickness, thickness)
    else:
        hinge, axis = model.jnt_type[index] == mujoco.mjtJoint.mjJNT_HINGE, tuple(model.jnt_axis[index])
        limited = bool(model.jnt_limited[index])
        limits = tuple(model.jnt_range[index]) if limited else (-100.0, 100.0)
        kind = ("revolute" if limited else "continuous") if hinge else "prismatic"
    joint.set("type", kind)
    _add_origin(joint, place, rotation)
    ElementTree.SubElement(joint, "parent", link=parent)
    ElementTree.SubElement(joint, "child", link=child)
    ElementTree.SubElement(joint, "axis", xyz=_text(*axis))
    limit = ElementTree.SubElement(joint, "limit", effort=_FAR, velocity=_FAR)
    if kind != "continuous":
        limit.set("lower", _text(limits[0]))
        limit.set("upper", _text(limits[1]))


def _add_fixed(
    urdf: ElementTree.Element, parent: str, child: str, place: NDArray[np.float64], rotation: NDArray[np.float64]
) -> None:
    joint = ElementTree.SubElement(urdf, "joint", name=f"{child}_fixed", type="fixed")
    _add_origin(joint, place, rotation)
    ElementTree.SubElement(joint, "parent", link=parent)
    ElementTree.SubElement(joint, "child", link=child)


def _add_origin(element: ElementTree.Element, place: NDArray[np.float64], rotation: NDArray[np.float64]) -> None:
    """Add a pose; URDF turns about x, then y, then z of the parent."""
    roll, pitch, yaw = (
        np.arctan2(rotation[2, 1], rotation[2, 2]),
        np.arcsin(np.clip(-rotation[2, 0], -1, 1)),
        np.arctan2(rotation[1, 0], rotation[0, 0]),
    )
    ElementTree.SubElement(element, "origin", xyz=_text(*place), rpy=_text(roll, pitch, yaw))


def _rotation(quat_wxyz: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return matrix.reshape(3, 3)


def _text(*values: float) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)
