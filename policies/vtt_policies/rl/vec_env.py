"""Any batched Gymnasium environment as the `VecEnv` that stable-baselines3 learns in.

B environments, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from vtt.errors import ConfigError, StateError, missing
from vtt_policies.evaluation import FIRST_EVALUATION_SEED

__all__ = ["BatchVecEnv"]


class BatchVecEnv(VecEnv):
    """Resets what has ended at once, as SB3 expects, and shows only the keys that are learned from.

    An `info` is filled only where an episode ends: `terminal_observation`, `TimeLimit.truncated`, `is_success` and
    `episode` with return `r` and length `l`. Filling all of them made SB3 three times slower on many environments.

    Every episode has a seed of its own, so where all episodes begin anew, these seeds are the whole state: see `cut`.

    Args:
        env: Environments with autoreset disabled, `reset_mask` among their reset options and `success` in their info.
        keys: Observations to show.
        seed: Draws the seeds of the episodes, all below those of evaluation.

    Raises:
        ConfigError: If the environment resets itself, or its actions are not in [-1, 1].
        MissingError: If it does not offer a key.
    """

    def __init__(self, env: VectorEnv, keys: Sequence[str], *, seed: int) -> None:
        if env.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
            raise ConfigError(
                f"The environment must leave resets to its caller (AutoresetMode.DISABLED), got "
                f"{env.metadata.get('autoreset_mode')}."
            )
        offered, actions = env.single_observation_space, env.single_action_space
        if not isinstance(offered, spaces.Dict):
            raise ConfigError(f"The environment must observe a Dict of flat keys, got {offered}.")
        for key in keys:
            if key not in offered.spaces:
                raise missing("observation", key, offered.spaces)
        if not isinstance(actions, spaces.Box) or (actions.low != -1).any() or (actions.high != 1).any():
            raise ConfigError(f"The environment's actions must be a Box in [-1, 1], got {actions}.")
        self.env = env
        self.keys = tuple(keys)
        self.render_mode = None
        self.largest_reward = 0.0
        self._rng = np.random.default_rng(seed)
        self._begun: list[int] | None = None
        self._cut = False
        self._actions: NDArray | None = None
        self._return = np.zeros(env.num_envs)
        self._length = np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, spaces.Dict({key: offered[key] for key in keys}), actions)

    def cut(self) -> None:
        """End all episodes with the next step, as the horizon would.

        What follows then depends on nothing that happened before, so a run that is continued from there repeats an
        uninterrupted one. Such an end counts neither as a failure nor as an episode.
        """
        self._cut = True

    def state(self) -> dict[str, Any]:
        """Tell what a continued run needs, right after a cut: the seeds of the episodes that have just begun."""
        return {"rng": self._rng.bit_generator.state, "begun": self._begun, "largest_reward": self.largest_reward}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Let the next reset begin the episodes of a `state`."""
        self._rng.bit_generator.state = state["rng"]
        self._begun = state["begun"]
        self.largest_reward = state["largest_reward"]

    def reset(self) -> VecEnvObs:
        """Begin an episode everywhere: those of `load_state`, or new ones."""
        self._begun = self._begun or self._draw(self.num_envs)
        # A list is allowed by Gymnasium's own vector environments, though not by the signature of their base class.
        observation, _ = self.env.reset(seed=self._begun)  # pyright: ignore[reportArgumentType]
        self._return[:], self._length[:] = 0.0, 0
        return self._show(observation)

    def step_async(self, actions: NDArray) -> None:
        """Take the actions of the next step. Shape (B, A)."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and begin anew what has ended.

        Raises:
            StateError: If there is no action, or the environment gives a reward or an observation that is not finite.
        """
        if self._actions is None:
            raise StateError("step_wait needs step_async to be called first.")
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        self._actions, self._begun = None, None
        self._check(observation, reward)
        ended = terminated | truncated
        done = np.ones(self.num_envs, bool) if self._cut else ended
        self._return += reward
        self._length += 1
        self.largest_reward = max(self.largest_reward, float(np.abs(reward).max()))
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        rows = np.flatnonzero(done)
        if not len(rows):
            return self._show(observation), np.asarray(reward, np.float32), done, infos
        last = self._show(observation)
        for row in rows:
            infos[row]["terminal_observation"] = {key: array[row] for key, array in last.items()}
            infos[row]["TimeLimit.truncated"] = not terminated[row]
            if ended[row]:
                infos[row]["is_success"] = bool(info["success"][row])
                infos[row]["episode"] = {"r": float(self._return[row]), "l": int(self._length[row])}
        self._return[rows], self._length[rows] = 0.0, 0
        seeds = np.zeros(self.num_envs, np.int64)
        seeds[rows] = self._draw(len(rows))
        if self._cut:
            self._begun, self._cut = seeds.tolist(), False
        observation, _ = self.env.reset(seed=seeds.tolist(), options={"reset_mask": done})  # pyright: ignore[reportArgumentType]
        return self._show(observation), np.asarray(reward, np.float32), done, infos

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Do nothing: the seeds of the episodes come from this object's own generator."""
        return [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the batch, once for each index."""
        value = getattr(self if attr_name == "render_mode" else self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the batch, which all indices share."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch, and return its result once for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No wrapper is around a batch."""
        return [False for _ in self._get_indices(indices)]

    def _draw(self, count: int) -> list[int]:
        return self._rng.integers(FIRST_EVALUATION_SEED, size=count).tolist()

    def _show(self, observation: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Pick the keys, copied, because environments may reuse their arrays."""
        return {key: np.array(observation[key]) for key in self.keys}

    def _check(self, observation: Mapping[str, NDArray], reward: NDArray) -> None:
        """Stop at the first number that is none, where its origin is still known."""
        shown = {key: observation[key] for key in self.keys if observation[key].dtype.kind == "f"}
        for name, array in {"reward": reward, **shown}.items():
            bad = ~np.isfinite(array).reshape(self.num_envs, -1).all(1)
            if bad.any():
                raise StateError(
                    f"The environment's {name} must be finite, got NaN or infinity in environment "
                    f"{int(np.argmax(bad))} after {int(self._length[np.argmax(bad)]) + 1} steps. Mend the environment."
                )
