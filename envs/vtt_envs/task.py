"""What a task is: objects, a reset distribution, a reward, a success test and a scripted expert, all batched.

Legend: B environments, A action size, F fingers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_envs.engine import Engine
from vtt_envs.robots import Robot

__all__ = ["Camera", "Task", "axis_rotation", "check_range", "rotate", "rotate_back", "uniform", "unit_vectors"]


@dataclass(frozen=True)
class Camera:
    """A fixed camera: where it stands and what it looks at, in [m] in the base frame; its vertical view in [deg]."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: float = 45.0


@dataclass(kw_only=True)
class Task(ABC):
    """What the batched environment needs from a task; observations and arguments are documented by each task.

    A reset writes the state of the simulations `ids` from one generator each, so that an episode depends on its seed
    alone. All poses are those of `Engine.forward` at the present state.

    Attributes:
        horizon: Longest episode, in control steps.
        robot: The robot in use.
        camera: The front camera.
        reward_kind: `"dense"`, or `"sparse"`: 1 on success, else 0.
        physics_dt: Physics step in [s].
        substeps: Physics steps in a control step.
        robots: What `robot="name"` makes, by name.
        rest_action: Action while the grip comes to rest after a reset; () stands for zeros. Shape (A,).
        objects: Bodies of the manipulated objects; contact is counted on the first.
        surroundings: Bodies that they meet; contact is counted with the first.
        goal_names: Components of `goal`.
        privileged_names: Components of `privileged`.
        payload: Mass whose weight the robot's controller carries, in [kg].

    Raises:
        ConfigError: If one of these is out of range.
    """

    horizon: int
    robot: Robot
    camera: Camera
    reward_kind: str = "dense"
    physics_dt: float = 0.002
    substeps: int = 25

    robots: ClassVar[Mapping[str, Callable[[], Robot]]]
    rest_action: ClassVar[tuple[float, ...]] = ()
    objects: ClassVar[tuple[str, ...]]
    surroundings: ClassVar[tuple[str, ...]]
    # Without annotations these are no arguments; a task may set its own as it is made.
    goal_names = tuple[str, ...]()
    privileged_names = tuple[str, ...]()
    payload = 0.0

    def __post_init__(self) -> None:
        if self.reward_kind not in ("dense", "sparse"):
            raise ConfigError(f"reward_kind must be dense or sparse, got '{self.reward_kind}'.")
        for name in ("horizon", "substeps"):
            value = getattr(self, name)
            if value < 1 or value != int(value):
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value}.")
        check_range("physics_dt", self.physics_dt, 1e-4, 0.005, "s")

    @abstractmethod
    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the objects."""

    @abstractmethod
    def bind(self, engine: Engine) -> None:
        """Look up addresses and allocate per-episode values."""

    @abstractmethod
    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes."""

    @abstractmethod
    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """What is known of the target, with its noise, in the tool frame."""

    @abstractmethod
    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """What only a simulator knows."""

    @abstractmethod
    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the task is done. Shape (B,)."""

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the episode is beyond saving, such as after a drop, and ends. Shape (B,)."""
        return np.zeros(engine.num_envs, dtype=bool)

    def reward(self, engine: Engine, success: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Reward of the present state; dense, to fail costs as much as a whole episode at -1. Shape (B,)."""
        if self.reward_kind == "sparse":
            return success.astype(np.float64)
        return np.where(self.failed(engine), -float(self.horizon), self.dense_reward(engine))

    @abstractmethod
    def dense_reward(self, engine: Engine) -> NDArray[np.float64]:
        """Reward of a state that has not failed, in [-1, 0], so that ending early in success pays. Shape (B,)."""

    @abstractmethod
    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Action of the privileged expert. Shape (B, A)."""

    def tool_action(self, rotation: NDArray, move: NDArray, turn: NDArray, *more: NDArray) -> NDArray[np.float32]:
        """Return the action that moves and turns the tool of a robot whose action is a twist increment.

        Args:
            rotation: Axes of the tool as columns, in the base frame. Shape (B, 3, 3).
            move: Way in a control step, in [m] in the base frame. Shape (B, 3).
            turn: Rotation vector in a control step, in [rad] in the base frame. Shape (B, 3).
            more: Other components, such as the gripper's. Shapes (B,).

        Returns:
            Clipped to [-1, 1]. Shape (B, A).
        """
        twist = [
            rotate_back(rotation, move) / self.robot.translation_step,
            rotate_back(rotation, turn) / self.robot.rotation_step,
        ]
        return np.clip(np.column_stack([*twist, *more]), -1, 1).astype(np.float32)

    def pad_forces(self, engine: Engine) -> NDArray[np.float64]:
        """Force of each pad on the object, in [N]. Shape (B, F)."""
        forces = [engine.sensor(f"contact_{finger}")[:, 1:4] for finger in self.robot.fingers]
        return np.linalg.norm(forces, axis=2).T


def check_range(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Refuse an argument that is not in [low, high].

    Raises:
        ConfigError: If it is not.
    """
    if not low <= value <= high:
        raise ConfigError(f"{name} must be in [{low}, {high}]{unit and ' ' + unit}, got {value}.")


def uniform(generators: Sequence[np.random.Generator], low: NDArray | float, high: NDArray | float) -> NDArray:
    """Draw one uniform vector from each generator. Shape (len(generators), ...)."""
    return np.stack([np.asarray(generator.uniform(low, high)) for generator in generators])


def rotate(rotation: NDArray, vector: NDArray) -> NDArray:
    """Turn vectors (B, 3) by rotations (B, 3, 3)."""
    return np.einsum("bij,bj->bi", rotation, vector)


def rotate_back(rotation: NDArray, vector: NDArray) -> NDArray:
    """Turn vectors (B, 3) by the inverse of rotations (B, 3, 3)."""
    return np.einsum("bji,bj->bi", rotation, vector)


def axis_rotation(axis: int, angle: NDArray) -> NDArray:
    """Rotation matrices (B, 3, 3) about a coordinate axis, for angles (B,) in [rad]."""
    cosine, sine = np.cos(angle), np.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = cosine
    matrix[:, first, second], matrix[:, second, first] = -sine, sine
    return matrix


def unit_vectors(vector: NDArray) -> NDArray:
    """Scale vectors (B, k) to length 1; zero stays zero."""
    return vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
