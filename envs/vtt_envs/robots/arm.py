"""What arms share: a gripper with gel pads, an impedance of the tool, and inverse kinematics.

Legend: B environments, n of them, J arm joints.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots.base import BASE_FROM_TOOL, GEL_MASS, add_tool_sensors
from vtt_envs.robots.gripper import FINGER_CENTRE, FINGER_LENGTH, FINGER_MASS, Gripper, add_fingers, add_grip
from vtt_envs.robots.kinematics import Chain, null_projection

__all__ = ["Arm"]

_GRAVITY = 9.81  # m/s^2
# The Franka hand: mass, centre and inertia from the manufacturer (franka_description, end_effectors/franka_hand), and
# where the carriages of its fingers are, all from the flange.
_HAND_MASS, _HAND_CENTRE, _HAND_INERTIA = 0.73, (-0.01, 0.0, 0.03), (0.001, 0.0025, 0.0017)  # kg, m, kg m^2
_CARRIAGE = 0.0584  # m
_TOOL_FROM_FLANGE = _CARRIAGE + FINGER_LENGTH
_CAMERA_TILT = 0.45  # rad
_MASS = _HAND_MASS + 2 * (FINGER_MASS + GEL_MASS)
# Corners of a regular tetrahedron, at distance 1 from its middle: their mean is zero, and the mean of their outer
# products a third of the identity.
_CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


@dataclass
class Arm(Gripper):
    """An arm of hinges with a parallel gripper, by an impedance of the tool, evaluated in every physics step.

    The law is that of `FloatingGripper`: the target pose is the present pose plus the action's increment. Four springs
    pull the corners of a tetrahedron, fixed to the tool, to where the target has them. They add up to

        torques = J^T (K (x* - x) - D xdot)

    with K = diag(k, k, k, kr, kr, kr) of `stiffness` and D = `relaxation` K, at any orientation. (Springs along a
    rotation vector would not do: their torque is off by half the angle from home.) The force at a blocked tool is at
    most `stiffness[0] * translation_step`. Unlike the floating gripper an arm has inertia, some 2 to 6 kg and .07 to
    .4 kg m^2 at the tool, and is stiffer for that. It takes several control steps to reach the speed of a command and
    to come to rest, goes about two thirds of the way that is commanded, and links that swing along move a turning tool
    by up to 50 mm per rad and turn a moving one by up to 1 rad per m: who acts must look.

    A redundant arm keeps its posture by torques that the tool does not feel: those of joint springs towards `home`, of
    stiffness `posture_stiffness`, and off the joint limits, projected once per control step. At rest they have no
    effect on the tool; an elbow that swings back by .8 rad, within 3 s, moves it by 2 mm. Gravity of arm, gripper
    and a known payload is compensated. Joint torques, gravity's included, stay within the motors' limits.

    The gripper is the Franka hand's with other fingers, 70 mm long. Hand and arm touch nothing: no task has anything
    where they go.

    | frame | pose |
    |---|---|
    | `tool` (site, body) | 128.4 mm from the flange along its axis; y from the right to the left finger |
    | `finger_<name>` | the tool's axes, in its origin when the gripper is closed; `left` slides along +y |
    | `camera_wrist` (site) | a camera's, at (60, 0, -110) mm of the tool, tilted by .45 rad to its tip; x: tool y |

    Attributes:
        relaxation: Ratio of damping to stiffness, in [s].
        posture_stiffness: Of each joint towards its home, in [N m/rad], without effect on the tool.
    """

    stiffness: tuple[float, float] = (3000.0, 100.0)
    relaxation: float = 0.04
    posture_stiffness: float = 5.0

    mass = _MASS
    centre_of_mass = (
        _HAND_MASS * _HAND_CENTRE[0] / _MASS,
        0.0,
        (_HAND_MASS * (_HAND_CENTRE[2] - _TOOL_FROM_FLANGE) + 2 * FINGER_MASS * FINGER_CENTRE + 2 * GEL_MASS * -0.01262)
        / _MASS,
    )

    joints: tuple[str, ...] = field(init=False)
    home: tuple[float, ...] = field(init=False)

    @abstractmethod
    def add_arm(self, spec: mujoco.MjSpec) -> mujoco.MjsBody:
        """Add the arm, whose `joints` rest at `home`; return a body on the flange, z along its axis, y the fingers'."""

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors; see `Robot`."""
        tool = self.add_arm(spec)
        self._add_gripper(spec, tool)
        self._add_impedance(spec)
        for joint in self.joints:
            motor = spec.add_actuator(name=f"posture_{joint}", target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            motor.gainprm[0] = 1.0
        add_grip(spec)
        add_tool_sensors(spec)

    def _add_gripper(self, spec: mujoco.MjSpec, flange: mujoco.MjsBody) -> None:
        """Hang hand, fingers and gels on the flange."""
        tool = flange.add_body(name="tool", pos=[0, 0, _TOOL_FROM_FLANGE], gravcomp=1)
        tool.explicitinertial, tool.mass, tool.inertia = True, _HAND_MASS, _HAND_INERTIA
        tool.ipos = np.array(_HAND_CENTRE) - [0, 0, _TOOL_FROM_FLANGE]
        tool.add_site(name="tool")
        seen = {"contype": 0, "conaffinity": 0, "mass": 0, "type": mujoco.mjtGeom.mjGEOM_BOX}
        height = _CARRIAGE + 0.008
        middle = [0, 0, -_TOOL_FROM_FLANGE + height / 2]
        tool.add_geom(name="hand", size=[0.02, 0.1, height / 2], pos=middle, rgba=[0.9, 0.92, 0.93, 1], **seen)
        # A MuJoCo camera looks along its -z; y is up in the picture.
        cosine, sine = np.cos(_CAMERA_TILT), np.sin(_CAMERA_TILT)
        axes, quat_wxyz = np.array([[0, cosine, sine], [1, 0, 0], [0, sine, -cosine]]), np.empty(4)
        mujoco.mju_mat2Quat(quat_wxyz, axes.ravel())
        tool.add_site(name="camera_wrist", pos=[0.06, 0, -0.11], quat=quat_wxyz)
        add_fingers(spec, tool, self.pad, touch=self.touch)

    def _add_impedance(self, spec: mujoco.MjSpec) -> None:
        """Pull each corner of the tetrahedron along each axis of the base."""
        tool, stiffness = spec.body("tool"), self.stiffness[0] / 4
        spec.worldbody.add_site(name="base")
        for index, corner in enumerate(self._corners()):
            tool.add_site(name=f"corner_{index}", pos=corner, group=4)
            for axis, name in enumerate("xyz"):
                actuator = spec.add_actuator(
                    name=f"pull_{index}_{name}",
                    target=f"corner_{index}",
                    refsite="base",
                    trntype=mujoco.mjtTrn.mjTRN_SITE,
                )
                actuator.gear = np.eye(6)[axis]
                actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
                actuator.gainprm[0] = stiffness
                actuator.biasprm[:3] = [0, -stiffness, -stiffness * self.relaxation]

    def _corners(self) -> NDArray[np.float64]:
        """Corners in the tool frame, in [m]: springs k / 4 at distance r turn with 2/3 k r^2. Shape (4, 3)."""
        return _CORNERS * np.sqrt(1.5 * self.stiffness[1] / self.stiffness[0])

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        super().bind(model)
        self._arm = np.array([model.joint(name).qposadr[0] for name in self.joints])
        self._arm_dofs = np.array([model.joint(name).dofadr[0] for name in self.joints])
        self._chain = Chain.of(model, self.joints, "tool")

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose; see `Robot`.

        Raises:
            ConfigError: If the arm cannot reach a pose.
        """
        yaw, pitch, roll = angles.T
        cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
        rotation = np.empty((len(qpos), 3, 3))
        rotation[:, :, 0] = np.stack([cy * cp, sy * cp, -sp], axis=1)
        rotation[:, :, 1] = np.stack([cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr], axis=1)
        rotation[:, :, 2] = np.stack([cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr], axis=1)
        home = np.array(self.home)
        qpos[:, self._arm] = self._chain.inverse(position, rotation * BASE_FROM_TOOL, rest=home)
        qpos[:, self._fingers] = opening[:, None]

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn tool-frame twist increments (translation x y z, rotation x y z) and grip into targets; see `Robot`."""
        angles, speeds = engine.qpos[ids][:, self._arm], engine.qvel[ids][:, self._arm_dofs]
        position, rotation, jacobian = self._chain.forward(angles)
        move = (rotation @ (action[:, :3] * self.translation_step)[..., None])[..., 0]
        corners = np.broadcast_to(self._corners(), (len(ids), 4, 3))
        target = (position + move)[:, None] + _turned(
            corners, action[:, 3:6] * self.rotation_step
        ) @ rotation.transpose(0, 2, 1)
        target[..., 2] += payload * _GRAVITY / self.stiffness[0]
        homing, _ = self._chain.towards(np.array(self.home), angles)
        # Critical for an inertia of 1 kg m^2, that of an elbow that swings about.
        torque = self.posture_stiffness * homing - 2 * np.sqrt(self.posture_stiffness) * speeds
        posture = (null_projection(jacobian) @ torque[..., None])[..., 0]
        grip = self._grip(action)
        return np.concatenate([target.reshape(len(ids), 12), posture, grip, grip], axis=1)


def _turned(points: NDArray[np.float64], vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn points (n, k, 3) by rotation vectors (n, 3) in [rad] (Rodrigues' formula)."""
    angle = np.linalg.norm(vector, axis=1)[:, None, None]
    axis = vector[:, None] / np.maximum(angle, 1e-12)
    along = (points * axis).sum(axis=2, keepdims=True) * axis
    return along + np.cos(angle) * (points - along) + np.sin(angle) * np.cross(axis, points)
