"""A tool that moves freely, by a Cartesian impedance on six joints: what the floating robots share.

Legend: n environments.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.robots.base import BASE_FROM_TOOL, Robot

__all__ = ["add_floating_tool", "add_tool_springs", "tool_addresses", "tool_targets"]

_MAX_TILT = 1.2  # rad, pitch and roll of the tool from its home pose
_JOINTS = (*(f"tool_t{a}" for a in "xyz"), *(f"tool_r{a}" for a in "zyx"))


def add_floating_tool(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """Add body and site `tool` on three slides and three hinges (yaw, pitch, roll); masses are the caller's."""
    base = spec.worldbody.add_body(name="tool_base", gravcomp=1)
    axes = {"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1]}
    for name in "xyz":
        base.add_joint(name=f"tool_t{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axes[name])
    for name in "zyx":
        joint = base.add_joint(name=f"tool_r{name}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axes[name])
        if name != "z":  # Euler angles are singular at a pitch of pi/2
            joint.limited, joint.range = mujoco.mjtLimited.mjLIMITED_TRUE, [-_MAX_TILT, _MAX_TILT]
    base.explicitinertial, base.mass, base.inertia = True, 1e-3, [1e-6] * 3
    tool = base.add_body(name="tool", quat=[0, 1, 0, 0], gravcomp=1)
    tool.add_site(name="tool")
    return tool


def add_tool_springs(spec: mujoco.MjSpec, stiffness: tuple[float, float], *, mass: float, inertia: float) -> None:
    """Add a critically damped spring to each joint of the tool; control is where it pulls to.

    Args:
        spec: Where the tool is.
        stiffness: Translational [N/m] and rotational [N m/rad].
        mass: Of all that moves along, in [kg].
        inertia: Of the same about the tool, in [kg m^2].
    """
    for name in _JOINTS:
        spring, load = (stiffness[0], mass) if name.startswith("tool_t") else (stiffness[1], inertia)
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[0] = spring
        actuator.biasprm[:3] = [0, -spring, -2 * np.sqrt(spring * load)]


def tool_addresses(model: mujoco.MjModel) -> NDArray[np.intp]:
    """Where `qpos` has position, yaw, pitch and roll of the tool. Shape (6,)."""
    return np.array([model.joint(name).qposadr[0] for name in _JOINTS])


def tool_targets(
    robot: Robot, pose: NDArray[np.float64], action: NDArray, *, stiffness: float, payload: float
) -> NDArray[np.float64]:
    """Add tool-frame twist increments to poses.

    Args:
        robot: Whose steps scale the action.
        pose: Position, yaw, pitch, roll. Shape (n, 6).
        action: Translation x y z, rotation x y z in [-1, 1]; what follows is not read. Shape (n, A).
        stiffness: Of the translational springs, in [N/m].
        payload: Mass whose weight they carry, in [kg].

    Returns:
        Targets of the springs. Shape (n, 6).
    """
    yaw, pitch, roll = pose[:, 3:].T
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    vx, vy, vz = (action[:, :3] * robot.translation_step * BASE_FROM_TOOL).T
    wx, wy, wz = (action[:, 3:6] * robot.rotation_step * BASE_FROM_TOOL).T
    # World translation R_z(yaw) R_y(pitch) R_x(roll) v, and the Euler rates of a body rate.
    ux, uy, uz = vx, cr * vy - sr * vz, sr * vy + cr * vz
    ux, uz = cp * ux + sp * uz, -sp * ux + cp * uz
    delta = [
        cy * ux - sy * uy,
        sy * ux + cy * uy,
        uz,
        (wy * sr + wz * cr) / cp,
        wy * cr - wz * sr,
        wx + (wy * sr + wz * cr) * sp / cp,
    ]
    target = pose + np.stack(delta, axis=1)
    target[:, 2] += payload * 9.81 / stiffness
    return target
