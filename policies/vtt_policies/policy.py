"""What acts: the interface of a policy and those that need no learning.

B environments, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vtt.errors import StateError

__all__ = ["ExpertPolicy", "Observation", "Policy", "RandomPolicy", "Recalls", "ZeroPolicy"]

Observation = Mapping[str, NDArray]
"""Flat keys to arrays of shape (B, ...)."""


@runtime_checkable
class Policy(Protocol):
    """Maps the observations of B environments to their actions, with memory from `reset` on."""

    def reset(self, num_envs: int) -> None:
        """Forget the past; `num_envs` episodes begin."""
        ...

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Choose actions in [-1, 1]. Shape (B, A)."""
        ...

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these of the B environments only, in this order. Shape (b,)."""
        ...


@runtime_checkable
class Recalls(Protocol):
    """A policy that sees what was executed, which is not always what it chose."""

    def recall(self, action: NDArray[np.float32]) -> None:
        """Take note of the executed actions. Shape (B, A)."""
        ...


class ZeroPolicy:
    """Does nothing."""

    def __init__(self, action_dim: int) -> None:
        self._action_dim = action_dim
        self._num_envs = 0

    def reset(self, num_envs: int) -> None:
        """Begin `num_envs` episodes."""
        self._num_envs = num_envs

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with fewer episodes."""
        self._num_envs = len(rows)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return zeros. Shape (B, A)."""
        return np.zeros((self._num_envs, self._action_dim), np.float32)


class RandomPolicy:
    """Draws every action uniformly from [-1, 1]."""

    def __init__(self, action_dim: int, *, rng: np.random.Generator) -> None:
        self._action_dim = action_dim
        self._rng = rng
        self._num_envs = 0

    def reset(self, num_envs: int) -> None:
        """Begin `num_envs` episodes."""
        self._num_envs = num_envs

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with fewer episodes."""
        self._num_envs = len(rows)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Draw actions. Shape (B, A)."""
        return self._rng.uniform(-1.0, 1.0, (self._num_envs, self._action_dim)).astype(np.float32)


class ExpertPolicy:
    """Repeats the action that the environment's own expert offers in `info["expert_action"]`."""

    def __init__(self) -> None:
        self._label: NDArray[np.float32] | None = None

    def reset(self, num_envs: int) -> None:
        """Begin `num_envs` episodes."""
        self._label = None

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with fewer episodes."""
        self._label = None

    def advise(self, expert_action: NDArray[np.float32]) -> None:
        """Take the expert's action for the observation that `act` sees next. Shape (B, A)."""
        self._label = expert_action

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the expert's action. Shape (B, A)."""
        if self._label is None:
            raise StateError("act needs advise to be called first.")
        return np.asarray(self._label, np.float32)
