"""Fingers of a parallel gripper, for a hand that floats or hangs on an arm."""

from __future__ import annotations

import mujoco

from vtt_envs.robots.base import TABLE, GelPad, add_pad

__all__ = ["FINGERS", "FINGER_TRAVEL", "MIRRORED", "PAD_MIDDLE", "add_fingers", "add_grip", "meet_table"]

FINGERS = ("left", "right")
MIRRORED = ("right",)
FINGER_TRAVEL = 0.04  # m, of each finger, from closed to its open stop
PAD_MIDDLE = 0.0126  # m from the fingertips to the middle of the gels


def add_fingers(
    spec: mujoco.MjSpec, tool: mujoco.MjsBody, pad: GelPad, *, mass: float, centre: float, length: float, touch: bool
) -> None:
    """Add two coupled fingers with gel pads, which slide along y of the tool.

    Args:
        spec: Where the tool is.
        tool: The body that carries them.
        pad: Gel pad on both.
        mass: Of each finger, in [kg].
        centre: Its centre of mass along z, in [m].
        length: Of its housing, in [m].
        touch: Whether the pads carry taxels.
    """
    across, _, thick = pad.size
    for finger, sign in zip(FINGERS, (1, -1), strict=True):
        body = tool.add_body(name=f"finger_{finger}", gravcomp=1)
        body.explicitinertial, body.mass, body.inertia = True, mass, [1e-4] * 3
        body.ipos = [0, sign * 0.01, centre]
        body.add_joint(
            name=f"finger_{finger}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, sign, 0],
            range=[0, FINGER_TRAVEL],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            solref_limit=[0.004, 1],  # hard stops
            armature=0.05,
        )
        body.add_geom(
            name=f"shell_{finger}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[across / 2, 0.008, length / 2],
            pos=[0, sign * (thick + 0.008), -length / 2],
            contype=0,
            conaffinity=0,
            rgba=[0.15, 0.17, 0.2, 1],
        )
        add_pad(spec, body, finger, pad, mirrored=finger in MIRRORED, touch=touch)
    # The fingers of a parallel gripper are coupled: without this the pair could slide sideways together.
    couple = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_JOINT, name1="finger_left", name2="finger_right", solref=[0.004, 1]
    )
    couple.data[1] = 1.0
    if touch:
        for finger, other in [FINGERS, FINGERS[::-1]]:
            spec.add_exclude(bodyname1=f"finger_{finger}", bodyname2=f"gel_{other}")


def add_grip(spec: mujoco.MjSpec) -> None:
    """Add the motors of the fingers: control is the closing force of each in [N], damping is 5 N s/m."""
    for finger in FINGERS:
        actuator = spec.add_actuator(
            name=f"grip_{finger}", target=f"finger_{finger}", trntype=mujoco.mjtTrn.mjTRN_JOINT
        )
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[0] = -1.0
        actuator.biasprm[:3] = [0, 0, -5.0]


def meet_table(spec: mujoco.MjSpec) -> None:
    """Let pads and fingers collide with the floor and with what collides with it."""
    for finger in FINGERS:
        for part in ("pad", "shell"):
            geom = spec.geom(f"{part}_{finger}")
            geom.contype = geom.conaffinity = 1 | TABLE
