"""Skin: stable-baselines3's `VecEnv` over the batched environment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from vtt.errors import StateError
from vtt_envs.core import BatchedEnv
from vtt_envs.task import Task

__all__ = ["Sb3VecEnv"]


class Sb3VecEnv(VecEnv):
    """`VecEnv` that steps all environments in one physics batch.

    As SB3 expects, an environment that ends is reset at once: its last observation is in
    `info["terminal_observation"]`, and `info["TimeLimit.truncated"]` tells a horizon from a success.
    `info["is_success"]` feeds SB3's success rate.

    Args:
        task: What to do.
        num_envs: Number of environments B.
        kwargs: Further arguments of `vtt_envs.core.BatchedEnv`.
    """

    def __init__(self, task: Task, *, num_envs: int = 1, render_mode: str | None = None, **kwargs: Any) -> None:
        self.core = BatchedEnv(task, num_envs=num_envs, **kwargs)
        self.render_mode = render_mode
        self._generator = np.random.default_rng()
        self._actions: NDArray | None = None
        self._return = np.zeros(num_envs)
        super().__init__(num_envs, self.core.observation_space, self.core.action_space)

    def reset(self) -> VecEnvObs:
        """Start new episodes from the seeds given by `seed`, or from drawn ones."""
        seeds = [int(s) if s is not None else self._draw() for s in self._seeds]
        self.core.reset(seeds)
        self._return[:] = 0
        self._reset_seeds()
        self._reset_options()
        return self._observe()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset and all that follow."""
        self._generator = np.random.default_rng(seed)
        return super().seed(seed)

    def step_async(self, actions: NDArray) -> None:
        """Take the actions of the next step. Shape (B, A)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and reset what has ended."""
        if self._actions is None:
            raise StateError("step_wait needs step_async to be called first.")
        reward, terminated, truncated, success = self.core.step(self._actions)
        self._actions = None
        self._return += reward
        done = terminated | truncated
        expert, contact = self.core.expert_action(), self.core.contact()
        infos: list[dict[str, Any]] = [
            {"is_success": bool(success[i]), "expert_action": expert[i], "contact": contact[i]}
            for i in range(self.num_envs)
        ]
        for name, values in self.core.drawn().items():
            for info, value in zip(infos, values.tolist(), strict=True):
                info.setdefault("randomisation", {})[name] = value
        ended = np.flatnonzero(done)
        if len(ended):
            last = self._observe()
            for index in ended:
                infos[index]["terminal_observation"] = {key: value[index] for key, value in last.items()}  # type: ignore[index]
                infos[index]["TimeLimit.truncated"] = bool(truncated[index])
                infos[index]["episode"] = {"r": float(self._return[index]), "l": int(self.core.steps[index])}
            self._return[ended] = 0
            self.core.reset([self._draw() for _ in ended], ids=ended)
        return self._observe(), reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Release graphics contexts."""
        self.core.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Draw the front camera of every environment."""
        return list(self.core.render())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batched environment, once for each index."""
        value = getattr(self if attr_name == "render_mode" else self.core, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batched environment, which all indices share."""
        setattr(self.core, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a batched method and return each index' row of its result, or None where it has none."""
        result = getattr(self.core, method_name)(*method_args, **method_kwargs)
        return [None if result is None else result[index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No wrapper is around a batched environment."""
        return [False for _ in self._get_indices(indices)]

    def _get_indices(self, indices: VecEnvIndices) -> Iterable[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices

    def _draw(self) -> int:
        return int(self._generator.integers(2**31))

    def _observe(self) -> VecEnvObs:
        return {key: value.copy() for key, value in self.core.observation.items()}
