"""The floating gripper.

Legend: B environments, n of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots.base import GEL_MASS, add_tool_sensors
from vtt_envs.robots.floating_tool import add_floating_tool, add_tool_springs, tool_addresses, tool_targets
from vtt_envs.robots.gripper import Gripper, add_fingers, add_grip

__all__ = ["FloatingGripper"]


@dataclass
class FloatingGripper(Gripper):
    """A parallel gripper that moves freely, by a Cartesian impedance on six joints: fast, and enough for touch.

    Actions are tool-frame twist increments. The target pose is the present pose plus the increment, so the force at a
    blocked tool is at most `stiffness[0] * translation_step` (TacSL controls in the same way, section "Actions").
    Damping is critical. The grip force is constant, or the action's. Gravity of gripper and of a known payload is
    compensated.
    """

    mass = 0.806  # kg: hand 0.6, two fingers of 0.1, two gels of 0.003: light as the Franka hand (0.73 kg)
    centre_of_mass = (0.0, 0.0, (0.6 * -0.08 + 0.2 * -0.03 + 2 * GEL_MASS * -0.0126) / 0.806)  # m, tool frame
    _HAND_MASS = 0.6
    _INERTIA = 3e-3  # kg m^2, of the whole gripper about the tool, for the critical damping

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
        add_fingers(spec, hand, self.pad, touch=self.touch)
        add_tool_springs(spec, self.stiffness, mass=self.mass, inertia=self._INERTIA)
        add_grip(spec)
        add_tool_sensors(spec)

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        super().bind(model)
        self._tool = tool_addresses(model)

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
        ctrl[:, 6:] = self._grip(action)
        return ctrl
