"""A probe: one gel pad on a stem that moves freely.

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
    add_pad,
    add_tool_sensors,
    tool_proprioception,
)
from vtt_envs.robots.floating_tool import add_floating_tool, add_tool_springs, tool_addresses, tool_targets

__all__ = ["Probe"]

_STEM_MASS = 0.3  # kg: sensor and mount
_STEM_CENTRE = -0.03  # m along z of the tool
_FINGER_MASS = 0.1  # kg: housing behind the gel
_FINGER_CENTRE = -0.01  # m along z of the tool


@dataclass
class Probe(Robot):
    """One gel pad that faces away from the wrist, such as a sensor screwed to an arm's flange.

    The tool's origin is the middle of the gel's face; z points out of the gel (down at the home pose). Image columns
    run along x of the tool, rows along y: the camera behind the gel looks along z. The finger `pad` is one of
    `vtt_envs.robots.base` with its z along x of the tool and its y along -z.

    Moved by a Cartesian impedance on six joints as the floating gripper: actions are tool-frame twist increments, added
    to the present pose, so the force at a blocked tool is at most `stiffness[0] * translation_step`. Gravity is
    compensated.

    Attributes:
        pad: Its gel.
        touch: Whether it carries taxel sensors.
        translation_step: Translation at action 1, in [m] per control step.
        rotation_step: Rotation at action 1, in [rad] per control step.
        stiffness: Translational [N/m] and rotational [N m/rad] stiffness; damping is critical.
    """

    pad: GelPad = field(default_factory=GelPad)
    touch: bool = True
    translation_step: float = 0.005
    rotation_step: float = 0.08
    stiffness: tuple[float, float] = (2000.0, 40.0)

    fingers = ("pad",)
    mirrored = ()
    sensor = "gelsight_mini"
    action_size = 6
    proprioception_names = TOOL_PROPRIOCEPTION
    proprioception_unit = "m, 1, m/s, rad/s"
    mass = _STEM_MASS + _FINGER_MASS + GEL_MASS
    centre_of_mass = (
        0.0,
        0.0,
        (_STEM_MASS * _STEM_CENTRE + _FINGER_MASS * _FINGER_CENTRE + GEL_MASS * -0.002) / mass,
    )
    _INERTIA = 2e-3  # kg m^2, of the whole probe about the tool, for the critical damping

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Add bodies, joints, actuators and sensors; see `Robot`."""
        stem = add_floating_tool(spec)
        stem.explicitinertial, stem.mass = True, _STEM_MASS
        stem.ipos, stem.inertia = [0, 0, _STEM_CENTRE], [8e-4, 8e-4, 3e-4]
        across, along, thick = self.pad.size
        stem.add_geom(
            name="stem",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[0.012, 0.02, 0],
            pos=[0, 0, -0.05],
            contype=0,
            conaffinity=0,
            mass=0,
            rgba=[0.85, 0.85, 0.87, 1],
        )
        # Columns of the finger's frame in the tool's: x, y, z of the finger are -y, -z, x of the tool.
        quat_wxyz = np.empty(4)
        mujoco.mju_mat2Quat(quat_wxyz, np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]).ravel())
        finger = stem.add_body(name="finger_pad", pos=[along / 2, 0, 0], quat=quat_wxyz, gravcomp=1)
        finger.explicitinertial, finger.mass, finger.inertia = True, _FINGER_MASS, [1e-4] * 3
        finger.ipos = [0, -_FINGER_CENTRE, -along / 2]
        finger.add_geom(
            name="shell_pad",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[across / 2, 0.013, along / 2],
            pos=[0, thick + 0.013, -along / 2],
            contype=0,
            conaffinity=0,
            rgba=[0.15, 0.17, 0.2, 1],
        )
        add_pad(spec, finger, "pad", self.pad, mirrored=False, touch=self.touch)
        add_tool_springs(spec, self.stiffness, mass=self.mass, inertia=self._INERTIA)
        add_tool_sensors(spec)

    def bind(self, model: mujoco.MjModel) -> None:
        """Look up addresses; see `Robot`."""
        self._tool = tool_addresses(model)

    def place(self, qpos: NDArray[np.float64], position: NDArray, angles: NDArray, *, opening: NDArray) -> None:
        """Write joint positions for a tool pose; there is nothing to open. See `Robot`."""
        del opening
        qpos[:, self._tool[:3]] = position
        qpos[:, self._tool[3:]] = angles

    def control(self, engine: Engine, ids: NDArray[np.intp], action: NDArray, *, payload: float) -> NDArray[np.float64]:
        """Turn tool-frame twist increments (translation x y z, rotation x y z) into targets; see `Robot`."""
        pose = engine.qpos[ids][:, self._tool]
        return tool_targets(self, pose, action, stiffness=self.stiffness[0], payload=payload)

    def proprioception(self, engine: Engine) -> NDArray[np.float64]:
        """Return pose and twist of the tool. Shape (B, 13)."""
        return tool_proprioception(engine)
