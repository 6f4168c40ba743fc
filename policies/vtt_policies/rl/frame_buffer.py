"""A replay buffer that stores every observation once: the next observation is the first one of the next step.

E environments, N slots (a step of every environment), B samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples

from vtt.errors import StoreError

__all__ = ["FrameReplayBuffer", "Frames"]

_FORMAT = "vtt-replay/1"
_PARTS = ("actions", "rewards", "dones", "timeouts")


class Frames(dict[str, torch.Tensor]):
    """Observations of a batch, which CrossQ joins with those of the next step as if they were one tensor."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Join batches key by key."""
        if func is not torch.cat:
            return NotImplemented
        parts, *rest = args
        return cls({key: torch.cat([part[key] for part in parts], *rest, **(kwargs or {})) for key in parts[0]})


class FrameReplayBuffer(BaseBuffer):
    """Gives the samples of SB3's `DictReplayBuffer` from half the memory.

    What an episode ends with has no next step, so these observations are kept beside the slots.

    Args:
        buffer_size: Transitions to remember, over all environments.
        observation_space: What is observed, by key.
        action_space: Bounds of the actions.
        device: Where samples go.
        n_envs: Number of environments E.
        optimize_memory_usage: Ignored: this is what it would do.
    """

    observation_space: spaces.Dict  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
    ) -> None:
        del optimize_memory_usage
        super().__init__(max(buffer_size // n_envs, 1), observation_space, action_space, device, n_envs=n_envs)
        slots = (self.buffer_size, n_envs)
        self.observations = {key: np.zeros((*slots, *s.shape), s.dtype) for key, s in observation_space.spaces.items()}  # type: ignore[misc]
        self.actions = np.zeros((*slots, self.action_dim), np.float32)
        self.rewards, self.dones, self.timeouts = np.zeros((3, *slots), np.float32)
        # Last observation of the episode that ended in a slot and environment.
        self._last: dict[tuple[int, int], dict[str, NDArray]] = {}
        # What follows the newest slot.
        self._newest: dict[str, NDArray] = {}

    @staticmethod
    def nbytes(buffer_size: int, observation_space: spaces.Dict, *, action_dim: int, horizon: int) -> int:
        """Tell how much memory a full buffer takes, if episodes are `horizon` steps long, in bytes."""
        frame = sum(int(np.prod(s.shape or ())) * np.dtype(s.dtype).itemsize for s in observation_space.spaces.values())
        return buffer_size * (frame + frame // horizon + 4 * (action_dim + 3))

    def add(
        self,
        obs: Mapping[str, NDArray],
        next_obs: Mapping[str, NDArray],
        action: NDArray,
        reward: NDArray,
        done: NDArray,
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """Store one step of every environment.

        Args:
            obs: What was observed, each (E, ...).
            next_obs: What that led to; where an episode ended, its last observation.
            action: What was done, in [-1, 1]. Shape (E, A).
            reward: Shape (E,).
            done: Whether an episode ended. Shape (E,).
            infos: `TimeLimit.truncated` tells a horizon from an end.
        """
        for key, array in obs.items():
            self.observations[key][self.pos] = array
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos], self.dones[self.pos] = reward, done
        self.timeouts[self.pos] = [info.get("TimeLimit.truncated", False) for info in infos]
        for env in range(self.n_envs):
            self._last.pop((self.pos, env), None)
            if done[env]:
                self._last[self.pos, env] = {key: np.array(array[env]) for key, array in next_obs.items()}
        self._newest = {key: np.array(array) for key, array in next_obs.items()}
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full, self.pos = True, 0

    def save(self, path: Path) -> None:
        """Write what is remembered as one safetensors file; the caller makes it atomic."""
        size = self.size()
        arrays = {name: getattr(self, name)[:size] for name in _PARTS}
        arrays |= {f"observations.{key}": array[:size] for key, array in self.observations.items()}
        arrays |= {f"newest.{key}": array for key, array in self._newest.items()}
        if self._last:
            arrays["last"] = np.array(list(self._last), np.int64)
            for key in self.observations:
                arrays[f"last.{key}"] = np.stack([held[key] for held in self._last.values()])
        facts = {"pos": self.pos, "full": self.full, "buffer_size": self.buffer_size, "n_envs": self.n_envs}
        save_file(arrays, path, metadata={"format": _FORMAT, "facts": json.dumps(facts)})

    def load(self, path: Path) -> None:
        """Remember what `save` wrote.

        Raises:
            StoreError: If the file is missing, damaged, or of a buffer of another size.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                if (facts["buffer_size"], facts["n_envs"]) != (self.buffer_size, self.n_envs):
                    raise StoreError(
                        f"{path} must hold {self.buffer_size} slots of {self.n_envs} environments, got {facts}."
                    )
                self.pos, self.full = facts["pos"], facts["full"]
                size = self.size()
                for name in _PARTS:
                    getattr(self, name)[:size] = file.get_tensor(name)
                for key, array in self.observations.items():
                    array[:size] = file.get_tensor(f"observations.{key}")
                held = set(file.keys())
                self._newest = {
                    key: file.get_tensor(f"newest.{key}") for key in self.observations if f"newest.{key}" in held
                }
                if "last" in held:
                    last = {key: file.get_tensor(f"last.{key}") for key in self.observations}
                    self._last = {
                        (int(slot), int(env)): {key: array[row] for key, array in last.items()}
                        for row, (slot, env) in enumerate(file.get_tensor("last"))
                    }
        except (SafetensorError, KeyError, ValueError, FileNotFoundError) as error:
            raise StoreError(f"{path} is missing or damaged ({error}).") from error

    def _get_samples(self, batch_inds: NDArray[np.int64], env: Any = None) -> Any:
        """Draw the environments of some slots, as SB3 does, and return their transitions."""
        envs = np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))  # noqa: NPY002 (SB3's own generator)
        now = {key: array[batch_inds, envs] for key, array in self.observations.items()}
        following = {key: array[(batch_inds + 1) % self.buffer_size, envs] for key, array in self.observations.items()}
        for row in np.flatnonzero((batch_inds + 1) % self.buffer_size == self.pos):
            for key, array in self._newest.items():
                following[key][row] = array[envs[row]]
        dones, timeouts = self.dones[batch_inds, envs], self.timeouts[batch_inds, envs]
        for row in np.flatnonzero(dones):
            for key, array in self._last[batch_inds[row], envs[row]].items():
                following[key][row] = array
        return DictReplayBufferSamples(
            observations=Frames({key: self.to_torch(array) for key, array in now.items()}),
            actions=self.to_torch(self.actions[batch_inds, envs]),
            next_observations=Frames({key: self.to_torch(array) for key, array in following.items()}),
            # A horizon is no end: what would have followed still has a value.
            dones=self.to_torch((dones * (1 - timeouts)).reshape(-1, 1)),
            rewards=self.to_torch(self.rewards[batch_inds, envs].reshape(-1, 1)),
        )
