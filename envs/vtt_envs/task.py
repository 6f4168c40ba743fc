"""What a task is: objects, a reset distribution, a reward, a success test and a scripted expert, all batched.

Legend: B environments, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from vtt_envs.engine import Engine
from vtt_envs.robots import Robot

__all__ = ["Camera", "Task", "axis_rotation", "rotate", "rotate_back", "uniform"]


@dataclass(frozen=True)
class Camera:
    """A fixed camera: where it stands and what it looks at, in [m] in the base frame; its vertical view in [deg]."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: float = 45.0


class Task(Protocol):
    """What the batched environment needs from a task; attributes and observations are documented by each task.

    A reset writes the state of the simulations `ids` from one generator each, so that an episode depends on its seed
    alone. All poses are those of `Engine.forward` at the present state.

    Attributes:
        robots: What `robot="name"` makes, by name.
        robot: The robot in use.
        rest_action: Action while the grip comes to rest after a reset; () stands for zeros. Shape (A,).
        payload: Mass whose weight its controller carries, in [kg].
        objects: Bodies of the manipulated objects; contact is counted on the first.
        surroundings: Bodies that they meet; contact is counted with the first.
    """

    robots: ClassVar[Mapping[str, Callable[[], Robot]]]
    rest_action: ClassVar[tuple[float, ...]] = ()

    horizon: int
    physics_dt: float
    substeps: int
    camera: Camera
    robot: Robot
    payload: float
    goal_names: tuple[str, ...]
    privileged_names: tuple[str, ...]
    objects: tuple[str, ...]
    surroundings: tuple[str, ...]

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the objects."""
        ...

    def bind(self, engine: Engine) -> None:
        """Look up addresses and allocate per-episode values."""
        ...

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        """Draw new episodes."""
        ...

    def goal(self, engine: Engine) -> NDArray[np.float32]:
        """What is known of the target, with its noise, in the tool frame."""
        ...

    def privileged(self, engine: Engine) -> NDArray[np.float32]:
        """What only a simulator knows."""
        ...

    def success(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the task is done. Shape (B,)."""
        ...

    def failed(self, engine: Engine) -> NDArray[np.bool_]:
        """Whether the episode is beyond saving, such as after a drop, and ends. Shape (B,)."""
        return np.zeros(engine.num_envs, dtype=bool)

    def reward(self, engine: Engine, success: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Reward of the present state. Shape (B,)."""
        ...

    def expert(self, engine: Engine) -> NDArray[np.float32]:
        """Action of the privileged expert. Shape (B, A)."""
        ...


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
