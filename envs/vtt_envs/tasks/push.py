"""Push: slide a round block over a table to a goal, with the pads of an open gripper.

Reproduces the pushing task of VTT (Chen et al., CoRL 2022, arXiv 2210.00121; released code 256677f) with real masses
and with gel pads instead of a wrist force sensor.

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots import FINGER_TRAVEL, FINGERS, TABLE, Robot, add_free_body, grippers, meet_table
from vtt_envs.task import Camera, Task, axis_rotation, check_range, rotate, rotate_back, uniform, unit_vectors

__all__ = ["Push"]

_RADIUS, _HEIGHT = 0.025, 0.03  # m: as wide as VTT's cube
_MASS = (0.15, 0.45)  # kg: 59 cm^3 of aluminium (2.7 g/cm^3) to steel (7.85 g/cm^3)
_FRICTION = (0.3, 0.6)  # of block and table: metals and plastics on wood or laminate
_TIP_HEIGHT = 0.01  # m above the table: the block's upper edge crosses the gel's window
# Contact impedance of the gel: 2 N along 20 mm of a cylinder of this radius sink some .3 mm (line contact on a half
# space of .2 MPa, Johnson 1985, section 4.2: half width 4 mm). The pad's own holds for a peg, gripped with more.
_SOLIMP = (0.5, 0.98, 0.0015, 0.5, 3.0)
_CAMERA = Camera((0.24, -0.24, 0.26), (0.0, 0.0, 0.02))


_ROBOTS = grippers(grip_force=-15.0)  # a negative grip holds the fingers at their open stops


@dataclass
class Push(Task):
    """Push a round block (50 mm across, 30 mm high) over the table until its middle is within 5 mm of a goal.

    The open gripper straddles the block: its fingers stand at their open stops, 80 mm apart, which leaves 30 mm of
    play, and whichever pad moves against the block pushes with its gel. The block meets the gel along an upright line,
    and where that line stands in the tactile image tells how far the block is off the pad's middle; nothing else does,
    but a camera. A flat face, such as a cube's, would cover the whole gel, whose image then hardly changes. Fingers
    collide with block and table; `contact` counts the block on the table, so its third column is nearly always true.

    Episode: 100 steps of 50 ms. Success: the block stands upright and its middle is within 5 mm of the goal in the
    plane, a tenth of its width: whoever looks says that it covers the mark, a disc of its size. VTT accepts 77 mm, more
    than the width of its cube. Success ends the episode. A scripted push that believes the block in the middle of the
    pad arrives in about half of the episodes, the expert in all.

    | drawn at reset | range | VTT |
    |---|---|---|
    | mass | .15 to .45 kg, aluminium to steel | 45 to 55 kg, a cube of 50 mm |
    | friction of block and table | .3 to .6 | 1 |
    | block x, y | ±30, ±30 mm | a square of 50 mm |
    | goal from the block | 60 to 120 mm in any direction | 100 to 200 mm in any direction |
    | error of the observed goal, x and y | ±`goal_noise` = ±2 mm | none, the goal is a mark in the picture |
    | heading of the gripper from the goal's direction | ±.3 rad | 0, the hand starts behind the block |
    | block sideways from the pad's middle | ±10 mm | 0 |
    | gap between pad and block | 5 to 15 mm | 120 to 140 mm from middle to middle |
    | tool roll, pitch | ±.05 rad | 0, fixed |
    | height of the fingertips | 8 to 12 mm | 0 to 35 mm, chosen by the policy |

    The travel is VTT's: 2 to 12 cm to the rim of its tolerance. VTT moves in x, y, z; here all six axes are free, as in
    every task of the floating gripper.

    Reward per step: `exp(-20 d) - 1` for the distance d of block and goal in [m], in [-1, 0], so that ending early is
    never a loss; sparse: 1 on success, else 0 (VTT: 25, else 0).

    Args:
        goal_noise: Largest error of the observed goal, per axis of the table, in [m].
        tolerance: Distance of block and goal that counts as success, in [m].
        reward_kind: `"dense"` or `"sparse"`.

    Raises:
        ConfigError: If an argument is out of range.
    """

    goal_noise: float = 0.002
    tolerance: float = 0.005
    _: KW_ONLY
    horizon: int = 100
    robot: Robot = field(default_factory=_ROBOTS["floating"])
    camera: Camera = _CAMERA

    robots: ClassVar = _ROBOTS
    goal_names = ("goal_x", "goal_y", "goal_z", "table_normal_x", "table_normal_y", "table_normal_z")
    privileged_names = (
        *(f"tool_from_block_{a}" for a in "xyz"),
        *(f"tool_from_goal_{a}" for a in "xyz"),
        "goal_from_block_x",
        "goal_from_block_y",
        "block_mass",
        "block_friction",
    )
    objects = ("block",)
    surroundings = ("world",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("goal_noise", self.goal_noise, 0, 0.02, "m")
        check_range("tolerance", self.tolerance, 0.001, 0.05, "m")

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add block and mark, and let the fingers meet block and table."""
        meet_table(spec)
        for finger in FINGERS:
            spec.geom(f"pad_{finger}").solimp = _SOLIMP
        # Of two coefficients MuJoCo takes the larger: the block's, which is drawn.
        spec.geom("floor").friction = [0, 0, 0]
        add_free_body(spec, "block").add_geom(
            name="block",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[_RADIUS, _HEIGHT / 2, 0],
            mass=1.0,
            contype=1 | TABLE,
            conaffinity=1 | TABLE,
            rgba=[0.85, 0.65, 0.3, 1],
        )
        mark = spec.worldbody.add_body(name="goal", mocap=True)
        mark.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[_RADIUS, 5e-4, 0],
            contype=0,
            conaffinity=0,
            rgba=[0.2, 0.6, 0.3, 1],
        )

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        self._block = engine.model.joint("block").qposadr[0]
        self._noise = np.zeros((engine.num_envs, 2))
        body, geom = engine.model.body("block").id, engine.model.geom("block").id
        self._mass = engine.expand("body_mass")[:, body]
        self._inertia = engine.expand("body_inertia")[:, body]
        self._friction = engine.expand("geom_friction")[:, geom, 0]
        self._inertia_of_1_kg = engine.model.body_inertia[body].copy()

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        mass, friction = uniform(generators, *_MASS), uniform(generators, *_FRICTION)
        block = uniform(generators, np.full(2, -0.03), np.full(2, 0.03))
        direction, distance = uniform(generators, -np.pi, np.pi), uniform(generators, 0.06, 0.12)
        self._noise[ids] = uniform(generators, np.full(2, -self.goal_noise), np.full(2, self.goal_noise))
        heading = uniform(generators, -0.3, 0.3)
        side, gap = uniform(generators, -0.01, 0.01), uniform(generators, 0.005, 0.015)
        tilt = uniform(generators, np.full(2, -0.05), np.full(2, 0.05))
        height = uniform(generators, 0.008, 0.012)

        self._mass[ids] = mass
        self._inertia[ids] = mass[:, None] * self._inertia_of_1_kg
        self._friction[ids] = friction
        engine.set_const(ids)

        zero = np.zeros(len(ids))
        goal = block + distance[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
        # The right pad faces +y of the tool, which points along -y of the base at the home pose.
        yaw = direction + heading + np.pi / 2
        block_from_tool = np.stack([side, -(gap + _RADIUS - FINGER_TRAVEL), zero], axis=1)
        tool = block - rotate(axis_rotation(2, yaw), block_from_tool)[:, :2]
        qpos = engine.qpos[ids]
        self.robot.place(
            qpos,
            np.column_stack([tool, height]),
            np.column_stack([yaw, tilt]),
            opening=np.full(len(ids), FINGER_TRAVEL),
        )
        qpos[:, self._block : self._block + 3] = np.column_stack([block, zero + _HEIGHT / 2])
        engine.qpos[ids] = qpos
        engine.mocap_pos[ids, 0] = np.column_stack([goal, zero])

    def _state(self, engine: Engine) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Position and axes of the tool, position of block and goal, in the base frame."""
        tool, block, goal = (engine.body_position(name) for name in ("tool", "block", "goal"))
        return tool, engine.body_rotation("tool"), block, goal

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Observed goal on the table in [m] and the table's normal, in the tool frame. Shape (B, 6)."""
        tool, rotation, _, goal = self._state(engine)
        observed = goal - tool
        observed[:, :2] += self._noise
        return np.concatenate([rotate_back(rotation, observed), rotation[:, 2]], axis=1).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Block and goal from the tool, goal from the block, in [m], mass in [kg] and friction. Shape (B, 10)."""
        tool, rotation, block, goal = self._state(engine)
        parts = [
            rotate_back(rotation, block - tool),
            rotate_back(rotation, goal - tool),
            (goal - block)[:, :2],
            self._mass[:, None],
            self._friction[:, None],
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _distance(self, engine: Engine) -> NDArray[np.float64]:
        _, _, block, goal = self._state(engine)
        return np.linalg.norm((block - goal)[:, :2], axis=1)

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the block stands within the tolerance of the goal. Shape (B,)."""
        upright = engine.body_rotation("block")[:, 2, 2] > 0.98  # cos of 11 degrees
        return upright & (self._distance(engine) < self.tolerance)

    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """`exp(-20 d) - 1`. Shape (B,)."""
        return np.exp(-20 * self._distance(engine)) - 1

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Level the tool, stand behind the block on the line to the goal, push; off the line, draw back. (B, 6)."""
        tool, rotation, block, goal = self._state(engine)
        right, ahead = (unit_vectors(rotation[:, :2, axis]) for axis in (0, 1))
        line, from_tool = unit_vectors((goal - block)[:, :2]), (block - tool)[:, :2]
        heading = np.arctan2(ahead[:, 0] * line[:, 1] - ahead[:, 1] * line[:, 0], (ahead * line).sum(axis=1))
        side = (from_tool * right).sum(axis=1)
        gap = (from_tool * ahead).sum(axis=1) + FINGER_TRAVEL - _RADIUS
        # Once off the line the pad draws back and must align better before it comes again: the gap is the memory.
        pressed = gap < 0.0005
        aligned = (np.abs(side) < np.where(pressed, 0.006, 0.002)) & (np.abs(heading) < np.where(pressed, 0.4, 0.1))
        forward = np.where(aligned, 0.005, np.clip(gap - 0.004, -0.005, 0.004))
        sideways = np.where(pressed, 0, np.clip(side, -0.004, 0.004))  # a pressed pad would only spin the block
        spin = np.clip(heading, -self.robot.rotation_step, self.robot.rotation_step)
        move = forward[:, None] * ahead + sideways[:, None] * right
        move += spin[:, None] * np.stack([from_tool[:, 1], -from_tool[:, 0]], axis=1)  # swing about the block
        rise = np.clip(_TIP_HEIGHT - tool[:, 2], -0.003, 0.003)
        turn = np.cross(-rotation[:, :, 2], [0.0, 0.0, 1.0])  # rotation vector that levels the tool
        turn[:, 2] = spin
        return self.tool_action(rotation, np.column_stack([move, rise]), turn)
