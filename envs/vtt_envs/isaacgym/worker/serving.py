"""The worker's loop: requests in, physics steps, answers out.

Legend: B simulations, D joints of the robot, A actors besides it, n simulations.
"""

from __future__ import annotations

import json
import mmap
import os
import platform
import sys
import traceback
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from .protocol import VERSION, Scene, Shared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Physics", "serve"]


class Physics(ABC):
    """What computes the simulations of a scene.

    Attributes:
        joints: Position and velocity of each joint. Shape (B, D, 2).
        actors: State of each actor; see `Shared`. Shape (B, A, 13).
    """

    joints: NDArray[np.float32]
    actors: NDArray[np.float32]

    @abstractmethod
    def set_properties(self, ids: NDArray[np.intp], shared: Shared) -> None:
        """Take stiffness, damping, mass and friction of simulations from the shared memory; `write` follows."""

    @abstractmethod
    def write(self, ids: NDArray[np.intp]) -> None:
        """Put simulations into the state that `joints` and `actors` have."""

    @abstractmethod
    def step(self, targets: NDArray[np.float32]) -> None:
        """Advance all simulations by one step, then update `joints` and `actors`.

        Args:
            targets: Where the springs of the joints pull to. Shape (B, D).
        """


def serve(make_physics: Callable[[Scene, Shared, str], Physics], arguments: Sequence[str]) -> None:
    """Answer requests until the input ends.

    Args:
        make_physics: Builds the simulations of a scene with the properties in the memory; its files are in a folder.
        arguments: Scene file and file descriptor of the shared memory.
    """
    # Libraries print to standard output, C++ ones by its number: that goes to standard error, the answers elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        answer(hello=VERSION, python=platform.python_version())
        path, descriptor = arguments
        scene = Scene.read(path)
        shared = Shared(scene, mmap.mmap(int(descriptor), Shared.size(scene)))
        worker = _Worker(scene, shared, make_physics(scene, shared, os.path.dirname(path)))
        answer(ready=True)
        for line in sys.stdin:
            steps = json.loads(line)["step"]
            worker.step(steps)
            answer(done=steps)
    except BrokenPipeError:  # the environment has ended
        pass
    except BaseException:
        answer(error=traceback.format_exc())


class _Worker:
    """Advances the active simulations; the others are put back before they are active again."""

    def __init__(self, scene: Scene, shared: Shared, physics: Physics) -> None:
        self._scene = scene
        self._shared = shared
        self._physics = physics
        self._stale = np.ones(scene.num_envs, dtype=bool)  # whose simulation is not what the shared memory says

    def step(self, steps: int) -> None:
        shared, physics = self._shared, self._physics
        active = shared.active > 0
        changed = np.flatnonzero(active & (shared.changed > 0))
        if len(changed):
            physics.set_properties(changed, shared)
        written = np.flatnonzero(active & (self._stale | (shared.written > 0)))
        if len(written):
            physics.joints[written], physics.actors[written] = shared.joints[written], shared.actors[written]
            physics.write(written)
        for _ in range(steps):
            targets = shared.drive / shared.stiffness
            for first, second in self._scene.coupled:  # each is drawn to where the other is
                targets[:, first] += physics.joints[:, second, 0]
                targets[:, second] += physics.joints[:, first, 0]
            physics.step(targets)
        rows = np.flatnonzero(active)
        shared.joints[rows], shared.actors[rows] = physics.joints[rows], physics.actors[rows]
        self._stale = ~active
