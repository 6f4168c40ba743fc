"""What robots share: the protocol that tasks see, gel pads with their sensors, and the frames.

A robot adds bodies, joints, actuators and sensors to a `mujoco.MjSpec` and afterwards translates between actions and
its own controls.

Frames:
    base: z up, fixed in the world.
    tool: origin midway between the fingertips, z out of the gripper (down at the home pose), y from the right to the
        left finger, x completes the right-handed frame. MuJoCo site and body `tool`.
    finger: one for each touch sensor, MuJoCo body `finger_<name>`: z along the finger to its tip, where the gel ends at
        z = 0; the gel's face lies in y = 0 and the gel behind it, towards +y, or towards -y on a mirrored finger. Image
        columns run along z, rows along -x (+x on a mirrored finger), as a camera behind the gel sees them.

Legend: B environments, n of them, A action size, nq, nu positions and actuators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import NEAR, Engine

__all__ = [
    "BASE_FROM_TOOL",
    "GEL_MASS",
    "TABLE",
    "TOOL_PROPRIOCEPTION",
    "GelPad",
    "Robot",
    "add_free_body",
    "add_pad",
    "add_tool_sensors",
    "tool_proprioception",
]

# The tool frame at home is the base frame turned by pi about x, so a vector changes the sign of y and z.
BASE_FROM_TOOL = np.array([1.0, -1.0, -1.0])

TOOL_PROPRIOCEPTION = (
    *(f"tool_position_{a}" for a in "xyz"),
    *(f"tool_quat_{a}" for a in "wxyz"),
    *(f"tool_velocity_{a}" for a in "xyz"),
    *(f"tool_angular_velocity_{a}" for a in "xyz"),
)
GEL_MASS = 0.003  # kg
TABLE = 4  # collision bit of the floor, see `BatchedEnv`


@dataclass(frozen=True)
class GelPad:
    """Contact body and sensing window of one gel pad.

    The gel is a rigid block on springs with a soft contact, so that a grasped object tips and shifts under load by what
    a soft pad allows; the stiffnesses are plausible for a silicone gel, not measured on a sensor.

    Attributes:
        size: Outer size of the gel (across the finger, along the finger, thickness) in [m].
            GelSight Mini: 20.75 x 25.25 x 4 mm (TacSL's and TacEx' meshes agree to .5 mm in thickness).
        window: Part of the gel that the camera sees (across, along the finger) in [m].
            GelSight Mini: 14.16 x 18.88 mm (tactile-mnist, Taxim: .059 mm/px at 240x320).
        taxels: Rows (across) and columns (along the finger) of the penetration grid.
        friction: Coulomb coefficient (1), torsional coefficient in [m], rolling coefficient in [m].
        shear_stiffness: Spring of the gel against sliding over its finger, in [N/m]: some 4 N/mm, a layer of 4 mm with
            a shear modulus of .1 MPa under a contact of 100 mm2 and its surroundings.
        twist_stiffness: Spring of the gel against turning about its normal, in [N m/rad].
        relaxation: Ratio of damping to stiffness of both springs, in [s].
        solref: MuJoCo contact reference (-stiffness, -damping), with a constant impedance a linear spring: a steel
            cylinder of 16 mm sinks some .9 mm into the gel at 10 N.
        solimp: MuJoCo contact impedance.
    """

    size: tuple[float, float, float] = (0.02075, 0.02525, 0.004)
    window: tuple[float, float] = (0.01416, 0.01888)
    taxels: tuple[int, int] = (48, 64)
    friction: tuple[float, float, float] = (1.5, 0.01, 1e-4)
    shear_stiffness: float = 4000.0
    twist_stiffness: float = 0.4
    relaxation: float = 0.01
    solref: tuple[float, float] = (-120000.0, -400.0)
    solimp: tuple[float, float, float, float, float] = (0.5, 0.5, 0.001, 0.5, 2.0)


class Robot(Protocol):
    """What a task and the batched environment need from a robot.

    Attributes:
        fingers: Names of the touch sensors: observations `tactile_<name>`, `force_<name>`, bodies `finger_<name>`
            (housing) and `gel_<name>`.
        mirrored: Which of them have their gel towards -y of the finger frame.
        sensor: Model of the sensor behind every pad.
        pad: Its gel.
        touch: Whether the pads carry taxels; set before `add_to`.
        action_size: A.
        translation_step: Translation of the tool at action 1, in [m] per control step.
        rotation_step: Rotation of the tool at action 1, in [rad] per control step.
        proprioception_names: Components of `proprioception`.
        proprioception_unit: Their units, separated by commas.
        mass: Of what hangs on the wrist's force sensor, in [kg].
        centre_of_mass: Of the same, in [m] in the tool frame.
    """

    fingers: tuple[str, ...]
    mirrored: tuple[str, ...]
    sensor: str
    pad: GelPad
    touch: bool
    action_size: int
    translation_step: float
    rotation_step: float
    proprioception_names: tuple[str, ...]
    proprioception_unit: str
    mass: float
    centre_of_mass: tuple[float, float, float]

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors, among them those of `add_tool_sensors`."""
        ...

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses in the compiled model."""
        ...

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose into rows of `qpos`.

        Args:
            qpos: Joint positions to write into. Shape (n, nq).
            position: Tool position in the base frame, in [m]. Shape (n, 3).
            angles: Yaw, pitch, roll of the tool from its home pose, in [rad], intrinsic z-y-x. Shape (n, 3).
            opening: Distance of each finger from the middle, in [m]. Shape (n,).
        """
        ...

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn actions (n, A) in [-1, 1] of the simulations `ids` into actuator targets.

        Args:
            engine: The simulations.
            ids: Which of them. Shape (n,).
            action: In [-1, 1]. Shape (n, A).
            payload: Mass whose weight the controller carries, in [kg].

        Returns:
            Actuator targets. Shape (n, nu).
        """
        ...

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return what the robot knows of itself. Shape (B, k)."""
        ...


def add_free_body(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Add a body with a free joint of the same name to the world."""
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    return body


def add_pad(
    spec: mujoco.MjSpec, finger: mujoco.MjsBody, name: str, pad: GelPad, *, mirrored: bool, touch: bool
) -> None:
    """Put a gel pad on a finger body (see "finger" in the module's docstring).

    Adds body `gel_<name>` on springs with the collision geom `pad_<name>` and, with `touch`, the taxels: a sensor
    `gel_<name>` of rows x columns penetrations in [m], row by row, then as many pairs of sliding speeds.
    """
    sign = -1 if mirrored else 1
    across, along, thick = pad.size
    gel = _add_gel(finger, name, pad)
    gel.add_geom(
        name=f"pad_{name}",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[across / 2, thick / 2, along / 2],
        pos=[0, sign * thick / 2, -along / 2],
        contype=1,
        conaffinity=1,
        condim=4,
        priority=1,
        friction=pad.friction,
        solref=pad.solref,
        solimp=pad.solimp,
        rgba=[0.25, 0.25, 0.28, 1],
    )
    if touch:
        _add_taxels(spec, finger, name, pad, sign)


def _add_gel(finger: mujoco.MjsBody, name: str, pad: GelPad) -> mujoco.MjsBody:
    """Hang the gel on the finger by springs: it shears along and across the finger and twists."""
    gel = finger.add_body(name=f"gel_{name}", gravcomp=1)
    middle = [0, 0, -pad.size[1] / 2]
    gel.explicitinertial, gel.mass, gel.inertia, gel.ipos = True, GEL_MASS, [1e-7] * 3, middle
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    for motion, kind, axis, stiffness, armature in [
        ("across", slide, [1, 0, 0], pad.shear_stiffness, 0.02),
        ("along", slide, [0, 0, 1], pad.shear_stiffness, 0.02),
        ("twist", hinge, [0, 1, 0], pad.twist_stiffness, 2e-6),
    ]:
        gel.add_joint(
            name=f"gel_{name}_{motion}",
            type=kind,
            axis=axis,
            pos=middle,
            stiffness=stiffness,
            damping=stiffness * pad.relaxation,
            armature=armature,
        )
    return gel


def _add_taxels(spec: mujoco.MjSpec, finger: mujoco.MjsBody, name: str, pad: GelPad, sign: int) -> None:
    """Lay a grid of sensing points on the gel surface and measure its penetration by other bodies."""
    mesh = spec.mesh("taxels") or spec.add_mesh(name="taxels")
    mesh.make_plate(list(pad.taxels))
    mesh.scale = [pad.window[0] / 2, pad.window[1] / 2, 1e-6]
    # Mesh x -> image rows, mesh y -> image columns.
    axes = np.array([[-sign, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=float)
    axes[2] = np.cross(axes[0], axes[1])
    quat_wxyz = np.empty(4)
    mujoco.mju_mat2Quat(quat_wxyz, axes.T.ravel())
    finger.add_geom(
        name=f"gel_{name}",
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname="taxels",
        contype=0,
        conaffinity=0,
        mass=0,
        group=4,
        pos=[0, 0, -pad.size[1] / 2],
        quat=quat_wxyz,
    )
    # MuJoCo reads taxels only while their body is in contact, and the gel is a body of its own. A point inside the
    # finger, "in contact" without force with whatever comes as near as the gel's corners, costs least.
    reach = float(np.linalg.norm([pad.size[0] / 2, pad.size[1] / 2, pad.size[2]]))
    finger.add_geom(
        name=f"{NEAR}{name}",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[1e-4, 0, 0],
        pos=[0, sign * pad.size[2], -pad.size[1] / 2],
        contype=1,
        conaffinity=0,
        gap=reach,
        mass=0,
        group=4,
    )
    spec.add_sensor(
        name=f"gel_{name}",
        type=mujoco.mjtSensor.mjSENS_TACTILE,
        objtype=mujoco.mjtObj.mjOBJ_MESH,
        objname="taxels",
        reftype=mujoco.mjtObj.mjOBJ_GEOM,
        refname=f"gel_{name}",
    )


def add_tool_sensors(spec: mujoco.MjSpec) -> None:
    """Measure the twist of the site `tool` and what its body passes on to the one that carries it."""
    for name, kind in [
        ("tool_velocity", mujoco.mjtSensor.mjSENS_VELOCIMETER),
        ("tool_angular_velocity", mujoco.mjtSensor.mjSENS_GYRO),
        ("wrist_force", mujoco.mjtSensor.mjSENS_FORCE),
        ("wrist_torque", mujoco.mjtSensor.mjSENS_TORQUE),
    ]:
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="tool")


def tool_proprioception(engine: Engine) -> NDArray[np.float64]:
    """Return the tool's pose in the base frame and its twist in its own; see `TOOL_PROPRIOCEPTION`. Shape (B, 13)."""
    quat_wxyz = engine.body_quat("tool")
    quat_wxyz = quat_wxyz * np.where(quat_wxyz[:, 1:2] < 0, -1.0, 1.0)  # q and -q are one rotation; x is large
    return np.concatenate(
        [
            engine.body_position("tool"),
            quat_wxyz,
            engine.sensor("tool_velocity"),
            engine.sensor("tool_angular_velocity"),
        ],
        axis=1,
    )
