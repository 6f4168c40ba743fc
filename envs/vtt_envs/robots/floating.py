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
    GEL_MASS,
    TOOL_PROPRIOCEPTION,
    GelPad,
    Robot,
    add_tool_sensors,
    tool_proprioception,
)
from vtt_envs.robots.floating_tool import add_floating_tool, add_tool_springs, tool_addresses, tool_targets
from vtt_envs.robots.gripper import FINGERS, MIRRORED, add_fingers, add_grip

__all__ = ["FloatingGripper"]

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
        hand = add_floating_tool(spec)
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
        add_fingers(spec, hand, self.pad, mass=self._FINGER_MASS, centre=-0.03, length=_FINGER_LENGTH, touch=self.touch)
        add_tool_springs(spec, self.stiffness, mass=self.mass, inertia=self._INERTIA)
        add_grip(spec)
        add_tool_sensors(spec)

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        self._tool = tool_addresses(model)
        self._fingers = np.array([model.joint(f"finger_{f}").qposadr[0] for f in FINGERS])

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose; see `Robot`."""
        qpos[:, self._tool[:3]] = position
        qpos[:, self._tool[3:]] = angles
        qpos[:, self._fingers] = opening[:, None]

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn tool-frame twist increments (translation x y z, rotation x y z) and grip into targets; see `Robot`."""
        pose = engine.qpos[ids][:, self._tool]
        ctrl = np.empty((len(ids), 8))
        ctrl[:, :6] = tool_targets(self, pose, action, stiffness=self.stiffness[0], payload=payload)
        ctrl[:, 6:] = self.grip_force * (action[:, 6:] if self.gripper_action else 1)
        return ctrl

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return pose and twist of the tool and the distance between the fingers. Shape (B, 14)."""
        opening = engine.qpos[:, self._fingers].sum(axis=1)
        return np.column_stack([tool_proprioception(engine), opening])
