"""What the two processes agree on: the scene, the memory that they share, and the messages.

The environment starts the worker as `PYTHON <this folder> SCENE_FILE MEMORY_FD`. Messages are lines of JSON: requests
on the worker's standard input, answers on its standard output.

| who | message | meaning |
|---|---|---|
| worker | `{"hello": VERSION, "python": "3.8.18"}` | at once |
| worker | `{"ready": true}` | the simulations are built; the files are no longer needed |
| environment | `{"step": n}` | advance the active simulations by n physics steps |
| worker | `{"done": n}` | their state is in the shared memory |
| worker | `{"error": "..."}` | what went wrong; the worker ends |

The end of its input ends the worker, so it never outlives the environment.

Needs Python 3.8 and numpy only. Quaternions are xyzw, vectors in the frame of the world, all in SI units.

Legend: B simulations, D joints of the robot, A actors besides the robot, C bodies that collide.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import asdict, dataclass

import numpy as np

__all__ = [
    "ANGULAR_VELOCITY",
    "POSITION",
    "QUATERNION",
    "VELOCITY",
    "VERSION",
    "Actor",
    "Collider",
    "Scene",
    "Shared",
]

VERSION = 1

POSITION, QUATERNION, VELOCITY, ANGULAR_VELOCITY = slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 13)
"""Columns of `Shared.actors`."""


@dataclass(frozen=True)
class Actor:
    """A thing in the scene.

    Attributes:
        name: Its name.
        file: Its URDF file, beside the scene's.
        fixed: Whether it stands where it is put. The robot's base always does.
    """

    name: str
    file: str
    fixed: bool


@dataclass(frozen=True)
class Collider:
    """A link with collision shapes.

    Attributes:
        actor: Its actor: 0 is the robot, others are those of `Scene.actors` plus 1.
        link: Its name.
        filter: Two links collide if their filters have no bit in common.
    """

    actor: int
    link: str
    filter: int


@dataclass(frozen=True)
class Scene:
    """What is simulated, B times.

    Attributes:
        num_envs: B.
        physics_dt: Time step in [s].
        gravity: Along z, in [m/s^2]. The robot has none.
        device: Of the physics: `"cpu"`, `"cuda"` or `"cuda:<index>"`.
        ground: Whether there is a floor at z = 0, without friction, that meets everything.
        robot: The robot's URDF file.
        joints: Its movable joints.
        armature: Of each, in [kg] or [kg m^2].
        coupled: Pairs of joints, by index, that are held at the same position.
        actors: Everything else that collides.
        colliders: Links that collide.
    """

    num_envs: int
    physics_dt: float
    gravity: float
    device: str
    ground: bool
    robot: str
    joints: tuple[str, ...]
    armature: tuple[float, ...]
    coupled: tuple[tuple[int, int], ...]
    actors: tuple[Actor, ...]
    colliders: tuple[Collider, ...]

    def write(self, path: str) -> None:
        """Write the description to a file."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)

    @classmethod
    def read(cls, path: str) -> Scene:
        """Read a description from a file."""
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        values["actors"] = tuple(Actor(**actor) for actor in values["actors"])
        values["colliders"] = tuple(Collider(**collider) for collider in values["colliders"])
        for name in ("joints", "armature", "coupled"):
            values[name] = tuple(values[name])
        return cls(**values)


class Shared:
    """The arrays of both processes, on one piece of memory.

    Stiffness, damping, mass and friction have their first values before the worker starts. The environment writes all
    arrays before a step, and a simulation that is `changed` is also `written`; the worker writes `joints` and `actors`
    of the active simulations before it answers. What the environment has not written is as the worker left it.

    Attributes:
        active: Which simulations advance, uint8. Shape (B,).
        written: Which of them the environment has put into another state, uint8. Shape (B,).
        changed: Which of them have other stiffness, damping, mass or friction than before, uint8. Shape (B,).
        joints: Position and velocity of each joint, in [m, m/s] or [rad, rad/s]. Shape (B, D, 2).
        drive: Force of each joint's spring at position 0, in [N] or [N m]. Shape (B, D).
        stiffness: Of that spring, in [N/m] or [N m/rad]; positive. Shape (B, D).
        damping: In [N s/m] or [N m s/rad]. Shape (B, D).
        actors: Position, quaternion, velocity and angular velocity of each actor. Shape (B, A, 13).
        mass: Of each actor, in [kg]; of fixed ones it means nothing. Shape (B, A).
        friction: Of each collider; two that touch have the mean of theirs. Shape (B, C).
    """

    def __init__(self, scene: Scene, memory: mmap.mmap) -> None:
        arrays, offset = [], 0
        for shape, kind in _layout(scene):
            array = np.frombuffer(memory, kind, int(np.prod(shape)), offset).reshape(shape)
            arrays.append(array)
            offset += array.nbytes
        self.joints, self.drive, self.stiffness, self.damping, self.actors, self.mass, self.friction = arrays[:7]
        self.active, self.written, self.changed = arrays[7:]

    @staticmethod
    def size(scene: Scene) -> int:
        """Return how many bytes the arrays take."""
        return sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in _layout(scene))


def _layout(scene: Scene) -> list[tuple[tuple[int, ...], type]]:
    """Shapes and types in their order; bytes come last, so that all numbers are aligned."""
    size, joints = scene.num_envs, len(scene.joints)
    numbers = [(joints, 2), (joints,), (joints,), (joints,), (len(scene.actors), 13)]
    numbers += [(len(scene.actors),), (len(scene.colliders),)]
    return [((size, *shape), np.float32) for shape in numbers] + [((size,), np.uint8)] * 3
