"""Draws the values of episodes and applies those that concern physics, actions and vectors.

Legend: B environments, n of them, F fingers, A action size, T steps of an episode and its reset.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_envs.engine import Engine
from vtt_envs.randomisation.knobs import KNOBS
from vtt_envs.randomisation.levels import Randomisation
from vtt_envs.randomisation.physics import Physics
from vtt_envs.robots import Robot
from vtt_envs.task import Task

__all__ = ["Randomiser"]

# Torque noise of a wrist sensor in [m] times its force noise: ranges of an ATI Mini40, 40 N and 2 N m.
_WRENCH_SIGMA = np.array([1.0] * 3 + [0.05] * 3)
_WRIST_SHIFT = 0.25  # the wrist camera stands four times as near to what it sees
_ANGLE = 5.0  # rad/m: an encoder's error of 1 mm at a lever of .2 m


class Randomiser:
    """Draws the values of a batch's episodes, and applies those that concern physics, actions and vectors.

    Whoever applies the others (touch, cameras) reads `value` and `pattern` after `begin`.

    Args:
        randomisation: The ranges.
        engine: The simulations, with the task bound to them.
        task: What is simulated.
        control_dt: Time between two actions, in [s].
        cameras: Names of the cameras.
        leave_out: Beginnings of the names of knobs to leave out: what is not observed needs no randomisation.
        patterns: Shapes of further numbers, uniform in [-1, 1), that a knob needs for an episode, by its name.
    """

    def __init__(
        self,
        randomisation: Randomisation,
        engine: Engine,
        task: Task,
        *,
        control_dt: float,
        cameras: Sequence[str] = (),
        leave_out: Iterable[str] = (),
        patterns: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._fingers, self._cameras = task.robot.fingers, tuple(cameras)
        self._factor = 1.0
        left_out = tuple(leave_out)
        self._ranges = {
            name: chosen for name, chosen in randomisation.ranges().items() if not name.startswith(left_out)
        }
        size = engine.num_envs
        self._values = {
            name: np.full((size, *self._shape(name)), KNOBS[name].nominal, dtype=np.float64) for name in self._ranges
        }
        steps = task.horizon + 1
        lengths = {
            "proprioception_noise": len(task.robot.proprioception_names),
            "goal_jitter": len(task.goal_names),
            "wrench_noise": 6,
        }
        self._normal = {
            name: np.zeros((size, steps, length)) for name, length in lengths.items() if name in self._ranges
        }
        self._patterns = {
            name: np.zeros((size, *shape)) for name, shape in (patterns or {}).items() if name in self._ranges
        }
        self._physics = Physics(engine, task, self._ranges)
        self._sigma = _proprioception_sigma(task.robot, control_dt)
        self._quat = np.array(
            [i for i, name in enumerate(task.robot.proprioception_names) if "quat" in name], dtype=int
        )
        self._rest_action = np.array(task.rest_action or (0.0,) * task.robot.action_size)
        slots = self.slots("action_latency")
        self._actions = None if slots is None else np.zeros((slots, size, task.robot.action_size))

    def set_factor(self, factor: float) -> None:
        """Shrink the ranges of the episodes to come; see `Randomisation.scaled`."""
        if not 0 <= factor <= 1:
            raise ConfigError(f"factor must be in [0, 1], got {factor}.")
        self._factor = factor

    def value(self, name: str) -> NDArray[np.float64] | None:
        """Return the drawn values of a knob, or None if it is off. Shape (B, [F or cameras], [parts])."""
        return self._values.get(name)

    def uses(self, prefix: str) -> bool:
        """Whether a knob of that beginning is on."""
        return any(name.startswith(prefix) for name in self._ranges)

    def slots(self, name: str) -> int | None:
        """Return how many values a delay of at most as many steps has to keep, or None if the knob is off."""
        return int(self._ranges[name].high) + 1 if name in self._ranges else None

    def pattern(self, name: str) -> NDArray[np.float64]:
        """Return the further numbers of a knob that is on, in [-1, 1). Shape (B, ...)."""
        return self._patterns[name]

    def drawn(self) -> dict[str, NDArray[np.float64]]:
        """Return the drawn values by knob, finger or camera, and part. Shapes (B,)."""
        flat = {}
        for name, values in self._values.items():
            parts = [f"_{part}" for part in KNOBS[name].parts] or [""]
            owners = [f"_{owner}" for owner in self._owners(name)] or [""]
            columns = values.reshape(len(values), -1).T.copy()
            names = [f"{name}{owner}{part}" for owner in owners for part in parts]
            flat |= dict(zip(names, columns, strict=True))
        return flat

    def restore(self, ids: NDArray[np.intp]) -> None:
        """Set the physics back to what the task built, before it is reset."""
        self._physics.restore(ids)

    def begin(self, ids: NDArray[np.intp], seeds: Sequence[int]) -> None:
        """Draw the values of new episodes and apply the physics, after the task's reset."""
        for name, chosen in self._ranges.items():
            scaled = chosen.scaled(self._factor, KNOBS[name].nominal)
            values, key = self._values[name], zlib.crc32(name.encode())
            for index, seed in zip(ids, seeds, strict=True):
                generator = np.random.default_rng([seed, key])
                values[index] = scaled.draw(generator, values[index].size).reshape(values.shape[1:])
                if name == "camera_shift":
                    values[index, 1:] *= _WRIST_SHIFT
                if name in self._normal:
                    generator.standard_normal(out=self._normal[name][index])
                if name in self._patterns:
                    self._patterns[name][index] = generator.uniform(-1, 1, self._patterns[name].shape[1:])
        self._physics.apply(ids, self._values)
        if self._actions is not None:
            self._actions[:, ids] = self._rest_action

    def delay(self, ids: NDArray[np.intp], action: NDArray, steps: NDArray[np.integer]) -> NDArray:
        """Return the actions (n, A) that arrive now, at step `steps` (n,) of the episodes, and keep those given."""
        late = self.value("action_latency")
        if self._actions is None or late is None:
            return action
        slots = len(self._actions)
        self._actions[steps % slots, ids] = action
        return self._actions[(steps - late[ids].astype(np.int64)) % slots, ids].astype(action.dtype)

    def disturb(self, observation: Mapping[str, NDArray], ids: NDArray[np.intp], steps: NDArray[np.integer]) -> None:
        """Add noise to the vectors of the observation, in place."""
        for name, key, sigma in [
            ("proprioception_noise", "proprioception", self._sigma),
            ("goal_jitter", "goal", 1.0),
            ("wrench_noise", "wrench", _WRENCH_SIGMA),
        ]:
            size = self.value(name)
            if size is None or key not in observation:
                continue
            observation[key][ids] += size[ids, None] * sigma * self._normal[name][ids, steps]
            if key == "proprioception" and len(self._quat) and size[ids].any():
                columns = np.ix_(ids, self._quat)
                quat_wxyz = observation[key][columns]
                noisy = quat_wxyz / np.linalg.norm(quat_wxyz, axis=1, keepdims=True)
                observation[key][columns] = np.where(size[ids, None] > 0, noisy, quat_wxyz)

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(len(names) for names in (self._owners(name), KNOBS[name].parts) if names)

    def _owners(self, name: str) -> tuple[str, ...]:
        """What a knob draws separate values for: fingers, cameras or nothing."""
        return {"finger": self._fingers, "camera": self._cameras, "": ()}[KNOBS[name].owner]


def _proprioception_sigma(robot: Robot, control_dt: float) -> NDArray[np.float64]:
    """Standard deviation of each component for 1 m of the position's, by its name."""
    rate = np.sqrt(2) / control_dt  # of the difference of two readings
    sigma = []
    for name in robot.proprioception_names:
        angle = any(word in name for word in ("quat", "angular", "joint", "angle"))
        sigma.append((_ANGLE if angle else 1.0) * (rate if "velocity" in name else 1.0))
    return np.array(sigma)
