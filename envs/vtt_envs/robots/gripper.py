"""A parallel gripper, for a hand that floats or hangs on an arm.

Legend: B environments, n of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots.base import TABLE, TOOL_PROPRIOCEPTION, GelPad, Robot, add_pad, tool_proprioception

__all__ = [
    "FINGERS",
    "FINGER_CENTRE",
    "FINGER_LENGTH",
    "FINGER_MASS",
    "FINGER_TRAVEL",
    "PAD_MIDDLE",
    "Gripper",
    "add_fingers",
    "add_grip",
    "meet_table",
]

FINGERS = ("left", "right")
FINGER_TRAVEL = 0.04  # m, of each finger, from closed to its open stop
FINGER_LENGTH = 0.07  # m
FINGER_MASS, FINGER_CENTRE = 0.1, -0.03  # kg of each with its sensor, without the gel; m along z of the tool
PAD_MIDDLE = 0.0126  # m from the fingertips to the middle of the gels


@dataclass
class Gripper(Robot):
    """A parallel gripper with gel pads whose tool is pulled to a target pose by springs; what moves it is a subclass's.

    Attributes:
        pad: Gel pad on both fingers.
        touch: Whether the pads carry taxel sensors.
        translation_step: Translation at action 1, in [m] per control step.
        rotation_step: Rotation at action 1, in [rad] per control step.
        stiffness: Translational [N/m] and rotational [N m/rad] stiffness.
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
    mirrored = ("right",)
    sensor = "gelsight_mini"
    proprioception_names = (*TOOL_PROPRIOCEPTION, "gripper_opening")
    proprioception_unit = "m, 1, m/s, rad/s, m"

    def __post_init__(self) -> None:
        self.action_size = 7 if self.gripper_action else 6

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        self._fingers = np.array([model.joint(f"finger_{finger}").qposadr[0] for finger in FINGERS])

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return pose and twist of the tool and the distance between the fingers. Shape (B, 14)."""
        opening = engine.qpos[:, self._fingers].sum(axis=1)
        return np.column_stack([tool_proprioception(engine), opening])

    def _grip(self, action: NDArray) -> NDArray[np.float64]:
        """Closing force of a finger, in [N]. Shape (n, 1)."""
        return self.grip_force * (action[:, 6:] if self.gripper_action else np.ones((len(action), 1)))


def add_fingers(spec: mujoco.MjSpec, tool: mujoco.MjsBody, pad: GelPad, *, touch: bool) -> None:
    """Add two coupled fingers with gel pads, which slide along y of the tool.

    Args:
        spec: Where the tool is.
        tool: The body that carries them.
        pad: Gel pad on both.
        touch: Whether the pads carry taxels.
    """
    across, _, thick = pad.size
    for finger, sign in zip(FINGERS, (1, -1), strict=True):
        body = tool.add_body(name=f"finger_{finger}", gravcomp=1)
        body.explicitinertial, body.mass, body.inertia = True, FINGER_MASS, [1e-4] * 3
        body.ipos = [0, sign * 0.01, FINGER_CENTRE]
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
            size=[across / 2, 0.008, FINGER_LENGTH / 2],
            pos=[0, sign * (thick + 0.008), -FINGER_LENGTH / 2],
            contype=0,
            conaffinity=0,
            rgba=[0.15, 0.17, 0.2, 1],
        )
        add_pad(spec, body, finger, pad, mirrored=finger in Gripper.mirrored, touch=touch)
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
