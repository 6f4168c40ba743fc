"""What the tasks with a held object share: it sits in the grip at an unknown tilt and goes to a place roughly known.

The three are TacSL's (arXiv 2408.06506, and the `tacsl` branch of IsaacGymEnvs).

Legend: B environments, n environments being reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots import Robot
from vtt_envs.task import Task, axis_rotation, check_range, rotate, rotate_back, uniform
from vtt_envs.tasks.objects import GRIP_INDENTATION, Bolt, Peg

__all__ = ["HeldObjectTask", "State", "held_names", "keypoint_distance", "leave_out_searches", "place_in_grip"]


class State(NamedTuple):
    """Where things are, in the base frame.

    Attributes:
        tool: Position of the tool, in [m]. Shape (B, 3).
        rotation: Its axes as columns. Shape (B, 3, 3).
        tip: Lower end of the object, in [m]. Shape (B, 3).
        axis: Upward unit axis of the object. Shape (B, 3).
        place: Where the lower end is to go first: the middle of the target's upper face, in [m]. Shape (B, 3).
    """

    tool: NDArray[np.float64]
    rotation: NDArray[np.float64]
    tip: NDArray[np.float64]
    axis: NDArray[np.float64]
    place: NDArray[np.float64]


def leave_out_searches(spec: mujoco.MjSpec) -> None:
    """Save a tenth of the physics where robot and object are one island of constraints and meet few geoms.

    MuJoCo then neither looks for islands nor sorts out geoms by trees of boxes; results are the same to the last bit.
    """
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND | mujoco.mjtDisableBit.mjDSBL_MIDPHASE)


def held_names(held: str, place: str) -> tuple[str, ...]:
    """Name the first components of `privileged`."""
    vectors = (f"{place}_from_{held}", f"tool_from_{held}", f"{held}_axis", f"tool_from_{place}")
    return tuple(f"{vector}_{a}" for vector in vectors for a in "xyz")


class HeldObjectTask(Task):
    """Bring a held object to a target; a task adds its arguments, the target and what counts as success.

    Attributes:
        tilt: Largest tilt of the object in the grip, in [rad]; each task's argument.
    """

    tilt: float

    def _hold(
        self, held: Peg | Bolt, *, target: str, top: float, noise: float, protrusion: tuple[float, float]
    ) -> None:
        """Say what is held, and where it goes.

        Args:
            held: The object.
            target: Body of the target, the only one moved by mocap.
            top: Height of the target's upper face above its origin, in [m].
            noise: Largest error of the observed target, per axis, in [m].
            protrusion: Least and largest length of the object below the fingertips, in [m].
        """
        check_range("tilt", self.tilt, 0, 0.8, "rad")
        self._held, self._target, self._top = held, target, np.array([0, 0, top])
        self._largest_noise, self._protrusion = noise, protrusion
        self.payload = held.mass

    def bind(self, engine: Engine) -> None:
        """Look up addresses; see `Task`."""
        self._address = engine.model.joint(self._held.name).qposadr[0]
        self._noise = np.zeros((engine.num_envs, 3))

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes; see the class for the ranges."""
        target = uniform(generators, np.array([-0.1, -0.1, 0.0]), np.array([0.1, 0.1, 0.02]))
        largest = np.full(3, self._largest_noise)
        self._noise[ids] = uniform(generators, -largest, largest)
        tilt = uniform(generators, -self.tilt, self.tilt)
        protrusion = uniform(generators, *self._protrusion)
        offset = uniform(generators, np.array([-0.02, -0.02, 0.01]), np.array([0.02, 0.02, 0.03]))
        angles = uniform(generators, np.array([-1.0, -0.1, -0.1]), np.array([1.0, 0.1, 0.1]))
        turn = self._turn_in_grip(angles, generators)
        position = target + offset
        position[:, 2] += self._top[2] + protrusion
        pivot, middle = self._held.grip(protrusion)
        qpos = engine.qpos[ids]
        place_in_grip(
            self.robot,
            qpos,
            self._address,
            position=position,
            angles=angles,
            tilt=tilt,
            pivot=pivot,
            middle=middle,
            radius=self._held.grip_radius,
            turn=turn,
        )
        engine.qpos[ids] = qpos
        engine.mocap_pos[ids, 0] = target

    def _turn_in_grip(self, angles: NDArray[np.float64], generators: Sequence[np.random.Generator]) -> NDArray | None:
        """Angle of the object about its own axis, in [rad], or None for 0; may change the tool's angles. Shape (n,)."""
        del angles, generators

    def _state(self, engine: Engine) -> State:
        """Tool, object and target, in the base frame."""
        axis = -engine.body_rotation(self._held.name)[:, :, 2]
        tip = engine.body_position(self._held.name) - axis * self._held.tip
        place = engine.body_position(self._target) + self._top
        return State(engine.body_position("tool"), engine.body_rotation("tool"), tip, axis, place)

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """Observed middle of the target's upper face in [m] and the vertical, in the tool frame. Shape (B, 6)."""
        tool, rotation, _, _, place = self._state(engine)
        observed = rotate_back(rotation, place + self._noise - tool)
        return np.concatenate([observed, rotation[:, 2]], axis=1).astype(np.float32)

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """Object against target, object and target against tool, in [m]; see `held_names`. Shape (B, 12)."""
        tool, rotation, tip, axis, place = self._state(engine)
        parts = [
            tip - place,
            rotate_back(rotation, tip - tool),
            rotate_back(rotation, axis),
            rotate_back(rotation, place - tool),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _closeness(self, engine: Engine, *, depth: float) -> NDArray[np.float64]:
        """TacSL's `exp(-40 D)`, for an object that is to stand `depth` in [m] below the target's face. Shape (B,)."""
        _, _, tip, axis, place = self._state(engine)
        return np.exp(-40 * keypoint_distance(tip, axis, place - np.array([0, 0, depth])))


def place_in_grip(
    robot: Robot,
    qpos: NDArray[np.float64],
    address: int,
    *,
    position: NDArray[np.float64],
    angles: NDArray[np.float64],
    tilt: NDArray[np.float64],
    pivot: NDArray[np.float64],
    middle: NDArray[np.float64],
    radius: float,
    turn: NDArray[np.float64] | None = None,
) -> None:
    """Write a tool pose and a free body held in its grip, tilted about the normal of the pads.

    The object's z axis points out of the gripper.

    Args:
        robot: The gripper.
        qpos: Joint positions to write into. Shape (n, nq).
        address: Of the object's free joint.
        position: Of the tool, in [m] in the base frame. Shape (n, 3).
        angles: Yaw, pitch, roll of the tool, in [rad]. Shape (n, 3).
        tilt: Of the object, in [rad]. Shape (n,).
        pivot: Height above the fingertips of the point about which it is tilted, in [m]. Shape (n,).
        middle: Distance from there to the object's origin along its z axis, in [m]. Shape (n,).
        radius: Half of the object's size between the pads, in [m].
        turn: Angle of the object about its own axis, in [rad]; None is 0. Shape (n,).
    """
    robot.place(qpos, position, angles, opening=np.full(len(qpos), radius - GRIP_INDENTATION))
    base_from_tool = axis_rotation(2, angles[:, 0]) @ axis_rotation(1, angles[:, 1]) @ axis_rotation(0, angles[:, 2])
    base_from_tool = base_from_tool @ np.diag([1.0, -1.0, -1.0])
    tool_from_object = axis_rotation(1, tilt)  # columns: the object's axes
    centre = middle[:, None] * tool_from_object[:, :, 2]
    centre[:, 2] -= pivot
    qpos[:, address : address + 3] = position + rotate(base_from_tool, centre)
    if turn is not None:
        tool_from_object = tool_from_object @ axis_rotation(2, turn)
    for row, matrix in zip(qpos, base_from_tool @ tool_from_object, strict=True):
        mujoco.mju_mat2Quat(row[address + 3 : address + 7], matrix.ravel())


def keypoint_distance(
    tip: NDArray[np.float64], axis: NDArray[np.float64], goal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean distance of four points on an object's axis, over .5 m about its lower end, from those of the placed object.

    Source: TacSL's reward, with the same points.

    Args:
        tip: Lower end of the object, in [m]. Shape (B, 3).
        axis: Its upward unit axis. Shape (B, 3).
        goal: Lower end of the object when placed upright, in [m]. Shape (B, 3).

    Returns:
        Distances in [m]. Shape (B,).
    """
    offsets = np.linspace(-0.25, 0.25, 4)[:, None, None]
    return np.linalg.norm(tip - goal + offsets * (axis - [0, 0, 1]), axis=2).mean(axis=0)
