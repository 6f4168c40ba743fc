"""Robots: how a twist command becomes actuator targets, and where the tool and the touch sensors are.

A robot adds bodies, joints, actuators and sensors to a `mujoco.MjSpec` and afterwards translates between tool-frame
twist increments and its own controls. `Robot` is the seam where an arm goes: tasks see only this protocol.

Frames:
    base: z up, fixed in the world.
    tool: origin midway between the fingertips, z out of the gripper (down at the home pose), y from the right to the
        left finger, x completes the right-handed frame. MuJoCo site and body `tool`.

Legend: B environments, N physics degrees of freedom of the robot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

__all__ = ["FINGERS", "FloatingGripper", "GelPad", "Robot", "add_free_body"]

FINGERS = ("left", "right")

# The tool frame is the base frame turned by pi about x, so a vector changes the sign of y and z.
_BASE_FROM_TOOL = np.array([1.0, -1.0, -1.0])

_MAX_TILT = 1.2  # rad, pitch and roll of the floating tool from its home pose


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
    """What a task needs from a robot."""

    action_size: int

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors."""
        ...

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses in the compiled model."""
        ...

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose into rows of `qpos`."""
        ...

    def control(self, qpos: NDArray[np.float64], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn an action into actuator targets."""
        ...

    def opening(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance between the fingers in [m]. Shape (B,)."""
        ...


def add_free_body(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Add a body with a free joint of the same name to the world."""
    body = spec.worldbody.add_body(name=name)
    body.add_freejoint(name=name)
    return body


@dataclass
class FloatingGripper:
    """A parallel gripper that moves freely, by a Cartesian impedance on six joints: fast, and enough for touch.

    Actions are tool-frame twist increments. The target pose is the present pose plus the increment, so the force at a
    blocked tool is at most `stiffness[0] * translation_step` (TacSL controls in the same way, section "Actions").
    The grip force is constant. Gravity of gripper and of a known payload is compensated.

    Attributes:
        pad: Gel pad on both fingers.
        touch: Whether the pads carry taxel sensors.
        translation_step: Translation at action 1, in [m] per control step.
        rotation_step: Rotation at action 1, in [rad] per control step.
        stiffness: Translational [N/m] and rotational [N m/rad] stiffness; damping is critical.
        grip_force: Closing force of each finger in [N].
    """

    pad: GelPad = GelPad()
    touch: bool = True
    translation_step: float = 0.005
    rotation_step: float = 0.08
    stiffness: tuple[float, float] = (2000.0, 40.0)
    grip_force: float = 10.0

    action_size = 6
    mass = 0.806  # kg: hand 0.6, two fingers of 0.1, two gels of 0.003: light as the Franka hand (0.73 kg)
    centre_of_mass = (0.0, 0.0, (0.6 * -0.08 + 0.2 * -0.03 + 0.006 * -0.0126) / 0.806)  # m, tool frame
    _HAND_MASS = 0.6
    _FINGER_MASS = 0.1
    _GEL_MASS = 0.003
    _INERTIA = 3e-3  # kg m^2, of the whole gripper about the tool, for the critical damping

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors; see `Robot`."""
        base = spec.worldbody.add_body(name="tool_base", gravcomp=1)
        axes = {"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1]}
        for name in "xyz":
            base.add_joint(name=f"tool_t{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axes[name])
        for name in "zyx":
            joint = base.add_joint(name=f"tool_r{name}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axes[name])
            if name != "z":  # Euler angles are singular at a pitch of pi/2
                joint.limited, joint.range = mujoco.mjtLimited.mjLIMITED_TRUE, [-_MAX_TILT, _MAX_TILT]
        base.explicitinertial, base.mass, base.inertia = True, 1e-3, [1e-6] * 3
        hand = base.add_body(name="tool", quat=[0, 1, 0, 0], gravcomp=1)
        hand.explicitinertial, hand.mass = True, self._HAND_MASS
        hand.ipos, hand.inertia = [0, 0, -0.08], [1.5e-3, 1e-3, 1e-3]
        across, along, thick = self.pad.size
        # Seen by cameras, touched by nothing: the bare hand keeps clear of every task's objects.
        hand.add_geom(
            name="hand",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[0.015, 0.055, 0.018],
            pos=[0, 0, -0.085],
            contype=0,
            conaffinity=0,
            mass=0,
            rgba=[0.85, 0.85, 0.87, 1],
        )
        hand.add_site(name="tool")
        for finger, sign in zip(FINGERS, (1, -1), strict=True):
            body = hand.add_body(name=f"finger_{finger}", gravcomp=1)
            body.explicitinertial, body.mass, body.inertia = True, self._FINGER_MASS, [1e-4] * 3
            body.ipos = [0, sign * 0.01, -0.03]
            body.add_joint(
                name=f"finger_{finger}",
                type=mujoco.mjtJoint.mjJNT_SLIDE,
                axis=[0, sign, 0],
                range=[0, 0.04],
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                armature=0.05,
            )
            gel = self._add_gel(body, finger)
            gel.add_geom(
                name=f"pad_{finger}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[across / 2, thick / 2, along / 2],
                pos=[0, sign * thick / 2, -along / 2],
                contype=1,
                conaffinity=1,
                condim=4,
                priority=1,
                friction=self.pad.friction,
                solref=self.pad.solref,
                solimp=self.pad.solimp,
                rgba=[0.25, 0.25, 0.28, 1],
            )
            body.add_geom(
                name=f"shell_{finger}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[across / 2, 0.008, 0.035],
                pos=[0, sign * (thick + 0.008), -0.035],
                contype=0,
                conaffinity=0,
                rgba=[0.15, 0.17, 0.2, 1],
            )
            if self.touch:
                self._add_touch(spec, body, finger, sign)
        for name, stiffness, inertia in [(f"tool_t{a}", self.stiffness[0], self.mass) for a in "xyz"] + [
            (f"tool_r{a}", self.stiffness[1], self._INERTIA) for a in "zyx"
        ]:
            actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            actuator.gainprm[0] = stiffness
            actuator.biasprm[:3] = [0, -stiffness, -2 * np.sqrt(stiffness * inertia)]
        for finger in FINGERS:
            actuator = spec.add_actuator(
                name=f"grip_{finger}", target=f"finger_{finger}", trntype=mujoco.mjtTrn.mjTRN_JOINT
            )
            actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            actuator.gainprm[0] = -1.0
            actuator.biasprm[:3] = [0, 0, -5.0]
        # The fingers of a parallel gripper are coupled: without this the pair could slide sideways together.
        couple = spec.add_equality(
            type=mujoco.mjtEq.mjEQ_JOINT, name1="finger_left", name2="finger_right", solref=[0.004, 1]
        )
        couple.data[1] = 1.0
        for name, kind in [
            ("tool_velocity", mujoco.mjtSensor.mjSENS_VELOCIMETER),
            ("tool_angular_velocity", mujoco.mjtSensor.mjSENS_GYRO),
            ("wrist_force", mujoco.mjtSensor.mjSENS_FORCE),
            ("wrist_torque", mujoco.mjtSensor.mjSENS_TORQUE),
        ]:
            spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="tool")

    def _add_gel(self, finger_body: mujoco.MjsBody, finger: str) -> mujoco.MjsBody:
        """Hang the gel on the finger by springs: it shears along and across the finger and twists."""
        gel = finger_body.add_body(name=f"gel_{finger}", gravcomp=1)
        middle = [0, 0, -self.pad.size[1] / 2]
        gel.explicitinertial, gel.mass, gel.inertia, gel.ipos = True, self._GEL_MASS, [1e-7] * 3, middle
        slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
        for name, kind, axis, stiffness, armature in [
            ("across", slide, [1, 0, 0], self.pad.shear_stiffness, 0.02),
            ("along", slide, [0, 0, 1], self.pad.shear_stiffness, 0.02),
            ("twist", hinge, [0, 1, 0], self.pad.twist_stiffness, 2e-6),
        ]:
            gel.add_joint(
                name=f"gel_{finger}_{name}",
                type=kind,
                axis=axis,
                pos=middle,
                stiffness=stiffness,
                damping=stiffness * self.pad.relaxation,
                armature=armature,
            )
        return gel

    def _add_touch(self, spec: mujoco.MjSpec, body: mujoco.MjsBody, finger: str, sign: int) -> None:
        """Lay a grid of sensing points on the gel surface and measure its penetration by other bodies."""
        mesh = spec.mesh("taxels") or spec.add_mesh(name="taxels")
        mesh.make_plate(list(self.pad.taxels))
        mesh.scale = [self.pad.window[0] / 2, self.pad.window[1] / 2, 1e-6]
        # Mesh x -> image rows, mesh y -> image columns (along the finger, towards the tip). The camera behind the gel
        # looks at the object: rows run along -x of the tool on the left finger and along +x on the right one.
        axes = np.array([[-sign, 0, 0], [0, 0, 1], [0, 0, 0]], dtype=float)
        axes[2] = np.cross(axes[0], axes[1])
        quat_wxyz = np.empty(4)
        mujoco.mju_mat2Quat(quat_wxyz, axes.T.ravel())
        body.add_geom(
            name=f"gel_{finger}",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname="taxels",
            contype=0,
            conaffinity=0,
            mass=0,
            group=4,
            pos=[0, 0, -self.pad.size[1] / 2],
            quat=quat_wxyz,
        )
        # MuJoCo reads taxels only while their body is in contact, and the gel is a body of its own. A point inside the
        # finger, "in contact" without force with whatever comes as near as the gel's corners, costs least.
        reach = float(np.linalg.norm([self.pad.size[0] / 2, self.pad.size[1] / 2, self.pad.size[2]]))
        body.add_geom(
            name=f"near_{finger}",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[1e-4, 0, 0],
            pos=[0, sign * self.pad.size[2], -self.pad.size[1] / 2],
            contype=1,
            conaffinity=0,
            gap=reach,
            mass=0,
            group=4,
        )
        for other in FINGERS:
            if other != finger:
                spec.add_exclude(bodyname1=f"finger_{finger}", bodyname2=f"gel_{other}")
        spec.add_sensor(
            name=f"gel_{finger}",
            type=mujoco.mjtSensor.mjSENS_TACTILE,
            objtype=mujoco.mjtObj.mjOBJ_MESH,
            objname="taxels",
            reftype=mujoco.mjtObj.mjOBJ_GEOM,
            refname=f"gel_{finger}",
        )

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        joints = [f"tool_t{a}" for a in "xyz"] + [f"tool_r{a}" for a in "zyx"]
        self._tool = np.array([model.joint(name).qposadr[0] for name in joints])
        self._fingers = np.array([model.joint(f"finger_{f}").qposadr[0] for f in FINGERS])

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose.

        Args:
            qpos: Joint positions to write into. Shape (B, nq).
            position: Tool position in the base frame, in [m]. Shape (B, 3).
            angles: Yaw, pitch, roll of the tool from its home pose, in [rad], intrinsic z-y-x. Shape (B, 3).
            opening: Distance of each finger from the middle, in [m]. Shape (B,).
        """
        qpos[:, self._tool[:3]] = position
        qpos[:, self._tool[3:]] = angles
        qpos[:, self._fingers] = opening[:, None]

    def control(self, qpos: NDArray[np.float64], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn tool-frame twist increments into actuator targets.

        Args:
            qpos: Joint positions. Shape (B, nq).
            action: Increments in [-1, 1]: translation x y z, rotation x y z, in the tool frame. Shape (B, 6).
            payload: Mass whose weight the controller carries, in [kg].

        Returns:
            Actuator targets. Shape (B, 8).
        """
        yaw, pitch, roll = qpos[:, self._tool[3:]].T
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        vx, vy, vz = (action[:, :3] * self.translation_step * _BASE_FROM_TOOL).T
        wx, wy, wz = (action[:, 3:] * self.rotation_step * _BASE_FROM_TOOL).T
        # World translation R_z(yaw) R_y(pitch) R_x(roll) v, and the Euler rates of a body rate.
        ux, uy, uz = vx, cr * vy - sr * vz, sr * vy + cr * vz
        ux, uz = cp * ux + sp * uz, -sp * ux + cp * uz
        delta = np.stack(
            [
                cy * ux - sy * uy,
                sy * ux + cy * uy,
                uz,
                (wy * sr + wz * cr) / cp,
                wy * cr - wz * sr,
                wx + (wy * sr + wz * cr) * sp / cp,
            ],
            axis=1,
        )
        ctrl = np.empty((len(qpos), 8))
        ctrl[:, :6] = qpos[:, self._tool] + delta
        ctrl[:, 2] += payload * 9.81 / self.stiffness[0]
        ctrl[:, 6:] = self.grip_force
        return ctrl

    def opening(self, qpos: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance between the fingers in [m]. Shape (B,)."""
        return qpos[:, self._fingers].sum(axis=1)
