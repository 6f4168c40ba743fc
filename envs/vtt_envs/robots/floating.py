"""The floating gripper.

Legend: B environments, n of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots.base import (
    BASE_FROM_TOOL,
    GEL_MASS,
    TOOL_PROPRIOCEPTION,
    GelPad,
    Robot,
    add_tool_sensors,
    tool_proprioception,
)
from vtt_envs.robots.gripper import FINGERS, MIRRORED, add_fingers, add_grip

__all__ = ["FloatingGripper"]

_MAX_TILT = 1.2  # rad, pitch and roll of the floating tool from its home pose
_FINGER_LENGTH = 0.07  # m


@dataclass
class FloatingGripper(Robot):
    """A parallel gripper that moves freely, by a Cartesian impedance on six joints: fast, and enough for touch.

    Actions are tool-frame twist increments. The target pose is the present pose plus the increment, so the force at a
    blocked tool is at most `stiffness[0] * translation_step` (TacSL controls in the same way, section "Actions").
    The grip force is constant, or the action's. Gravity of gripper and of a known payload is compensated.

    Attributes:
        pad: Gel pad on both fingers.
        touch: Whether the pads carry taxel sensors.
        translation_step: Translation at action 1, in [m] per control step.
        rotation_step: Rotation at action 1, in [rad] per control step.
        stiffness: Translational [N/m] and rotational [N m/rad] stiffness; damping is critical.
        grip_force: Closing force of each finger in [N]; negative opens.
        gripper_action: Whether a seventh action scales the grip force: 1 closes with all of it, -1 opens with as much.
    """

    pad: GelPad = field(default_factory=GelPad)
    touch: bool = True
    translation_step: float = 0.005
    rotation_step: float = 0.08
    stiffness: tuple[float, float] = (2000.0, 40.0)
    grip_force: float = 10.0
    gripper_action: bool = False

    fingers = FINGERS
    mirrored = MIRRORED
    sensor = "gelsight_mini"
    proprioception_names = (*TOOL_PROPRIOCEPTION, "gripper_opening")
    proprioception_unit = "m, 1, m/s, rad/s, m"
    mass = 0.806  # kg: hand 0.6, two fingers of 0.1, two gels of 0.003: light as the Franka hand (0.73 kg)
    centre_of_mass = (0.0, 0.0, (0.6 * -0.08 + 0.2 * -0.03 + 2 * GEL_MASS * -0.0126) / 0.806)  # m, tool frame
    _HAND_MASS = 0.6
    _FINGER_MASS = 0.1
    _INERTIA = 3e-3  # kg m^2, of the whole gripper about the tool, for the critical damping

    def __post_init__(self) -> None:
        self.action_size = 7 if self.gripper_action else 6

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
        add_fingers(spec, hand, self.pad, mass=self._FINGER_MASS, centre=-0.03, length=_FINGER_LENGTH, touch=self.touch)
        for name, stiffness, inertia in [(f"tool_t{a}", self.stiffness[0], self.mass) for a in "xyz"] + [
            (f"tool_r{a}", self.stiffness[1], self._INERTIA) for a in "zyx"
        ]:
            actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            actuator.gainprm[0] = stiffness
            actuator.biasprm[:3] = [0, -stiffness, -2 * np.sqrt(stiffness * inertia)]
        add_grip(spec)
        add_tool_sensors(spec)

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        joints = [f"tool_t{a}" for a in "xyz"] + [f"tool_r{a}" for a in "zyx"]
        self._tool = np.array([model.joint(name).qposadr[0] for name in joints])
        self._fingers = np.array([model.joint(f"finger_{f}").qposadr[0] for f in FINGERS])

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose; see `Robot`."""
        qpos[:, self._tool[:3]] = position
        qpos[:, self._tool[3:]] = angles
        qpos[:, self._fingers] = opening[:, None]

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn tool-frame twist increments (translation x y z, rotation x y z) and grip into targets; see `Robot`."""
        qpos = engine.qpos[ids]
        yaw, pitch, roll = qpos[:, self._tool[3:]].T
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        vx, vy, vz = (action[:, :3] * self.translation_step * BASE_FROM_TOOL).T
        wx, wy, wz = (action[:, 3:6] * self.rotation_step * BASE_FROM_TOOL).T
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
        ctrl[:, 6:] = self.grip_force * (action[:, 6:] if self.gripper_action else 1)
        return ctrl

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return pose and twist of the tool and the distance between the fingers. Shape (B, 14)."""
        opening = engine.qpos[:, self._fingers].sum(axis=1)
        return np.column_stack([tool_proprioception(engine), opening])
