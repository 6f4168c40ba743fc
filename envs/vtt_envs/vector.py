"""Skin: `gymnasium.vector.VectorEnv` over the batched environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from vtt.errors import ShapeError, missing
from vtt.streams import StreamSpec
from vtt_envs.core import BatchedEnv
from vtt_envs.task import Task

__all__ = ["VectorTaskEnv"]


class VectorTaskEnv(gym.vector.VectorEnv):
    """Vector environment whose copies are one physics batch: no subprocess, no pickling.

    Automatic resets are off: an environment that has ended ignores its actions and stands still, and its reward is 0,
    until `reset(options={"reset_mask": mask})` restarts it.

    `info` holds, at every reset and step, `success` (B,) bool, `expert_action` (B, A) float32, what the privileged
    expert would do now, and `contact` (B, F + 1) bool: object against each of F pads and against its surroundings.
    With randomisation also `randomisation`, a dictionary from names to the drawn values (B,) float64.

    Args:
        task: What to do.
        num_envs: Number of environments B.
        kwargs: Further arguments of `vtt_envs.core.BatchedEnv`.
    """

    metadata = {"render_modes": ["rgb_array"], "autoreset_mode": gym.vector.AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, task: Task, *, num_envs: int = 1, render_mode: str | None = None, **kwargs: Any) -> None:
        self.core = BatchedEnv(task, num_envs=num_envs, **kwargs)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.control_dt = self.core.control_dt
        self.horizon = self.core.horizon
        self.metadata = {**self.metadata, "render_fps": round(1 / self.control_dt)}
        self.single_observation_space = self.core.observation_space
        self.single_action_space = self.core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def stream_specs(self) -> dict[str, StreamSpec]:
        """Describe every observation as a stream of an episode store."""
        return self.core.stream_specs()

    def rest_images(self) -> dict[str, NDArray[np.uint8]]:
        """Return the images of the untouched gels, by key. Shapes (rows, columns, 3)."""
        return self.core.rest_images()

    def set_randomisation(self, factor: float) -> None:
        """Shrink all ranges of the randomisation, from the next reset on, by a factor in [0, 1]: a curriculum."""
        self.core.set_randomisation(factor)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: One seed for each environment (those not reset ignore theirs), or a first seed that counts up, or
                None to draw seeds.
            options: `{"reset_mask": (B,) bool}` restarts only some.

        Raises:
            ShapeError: If `seed` or `reset_mask` has another length.
        """
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)), dtype=bool)
        if mask.shape != (self.num_envs,):
            raise ShapeError(f"reset_mask must have shape {(self.num_envs,)}, got {mask.shape}.")
        first = seed if isinstance(seed, int | np.integer) else None
        super().reset(seed=None if first is None else int(first))
        if first is not None:
            seeds = [int(first) + index for index in range(self.num_envs)]
        elif seed is None:
            seeds = self.np_random.integers(2**31, size=self.num_envs).tolist()
        else:
            seeds = [int(value) for value in seed]  # type: ignore[union-attr]
            if len(seeds) != self.num_envs:
                raise ShapeError(
                    f"seed must have one entry for each of {self.num_envs} environments, got {len(seeds)}."
                )
        ids = np.flatnonzero(mask)
        self.core.reset([seeds[index] for index in ids], ids=ids)
        return self._observe(), self._info(np.zeros(self.num_envs, dtype=bool))

    def step(
        self, actions: NDArray[np.floating]
    ) -> tuple[dict[str, NDArray], NDArray, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Advance the running environments by one control step; actions (B, A) in [-1, 1]."""
        reward, terminated, truncated, success = self.core.step(actions)
        return self._observe(), reward, terminated, truncated, self._info(success)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw the front camera of every environment; each (H, W, 3)."""
        return tuple(self.core.render()) if self.render_mode == "rgb_array" else None

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the batched environment by name, such as `expert_action`."""
        method = getattr(self.core, name, None)
        if method is None or name.startswith("_"):
            raise missing("method", name, ("contact", "expert_action", "render", "stream_specs"))
        return method(*args, **kwargs)

    def close_extras(self, **kwargs: Any) -> None:
        """Release graphics contexts."""
        self.core.close()

    def _observe(self) -> dict[str, NDArray]:
        return {key: value.copy() for key, value in self.core.observation.items()}

    def _info(self, success: NDArray[np.bool_]) -> dict[str, Any]:
        info = {
            "success": success,
            "expert_action": self.core.expert_action(),
            "contact": self.core.contact(),
        }
        if drawn := self.core.drawn():
            info["randomisation"] = drawn
        return info
