"""Skin: `gymnasium.Env`, a batch of one."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from vtt.streams import StreamSpec
from vtt_envs.core import BatchedEnv
from vtt_envs.task import Task

__all__ = ["TaskEnv"]


class TaskEnv(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """One environment; `info` as in `vtt_envs.vector.VectorTaskEnv`, without the leading axis.

    Args:
        task: What to do.
        kwargs: Further arguments of `vtt_envs.core.BatchedEnv`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, task: Task, *, render_mode: str | None = None, **kwargs: Any) -> None:
        self.core = BatchedEnv(task, num_envs=1, **kwargs)
        self.render_mode = render_mode
        self.control_dt = self.core.control_dt
        self.horizon = self.core.horizon
        self.observation_space = self.core.observation_space
        self.action_space = self.core.action_space

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
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, Any]]:
        """Start an episode: the one that `seed` names, or the next of the sequence that an earlier seed began."""
        super().reset(seed=seed)
        self.core.reset([int(self.np_random.integers(2**31)) if seed is None else seed])
        return self._observe(), self._info(False)

    def step(self, action: NDArray[np.floating]) -> tuple[dict[str, NDArray], float, bool, bool, dict[str, Any]]:
        """Advance by one control step; action (A,) in [-1, 1]."""
        step = self.core.step(np.asarray(action)[None])
        return (
            self._observe(),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            self._info(bool(step.success[0])),
        )

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Draw the front camera. Shape (H, W, 3)."""
        return self.core.render()[0] if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Release graphics contexts."""
        self.core.close()

    def _observe(self) -> dict[str, NDArray]:
        return {key: value[0].copy() for key, value in self.core.observation.items()}

    def _info(self, success: bool) -> dict[str, Any]:
        info = {
            "success": success,
            "expert_action": self.core.expert_action()[0],
            "contact": self.core.contact()[0],
        }
        if drawn := self.core.drawn():
            info["randomisation"] = {name: float(values[0]) for name, values in drawn.items()}
        return info
