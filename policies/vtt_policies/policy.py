"""What acts: the interface of a policy, what one that was learned adds to it, and those that need no learning.

B environments, A action dimensions, K actions of a chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtt.errors import StateError, missing
from vtt.images import from_network
from vtt.normalizer import Normalizer, as_tensor
from vtt.streams import StreamSpec
from vtt_policies.deploy.contract import PREVIOUS_ACTION

__all__ = [
    "Deployable",
    "ExpertPolicy",
    "Observation",
    "Policy",
    "RandomPolicy",
    "Recalls",
    "ZeroPolicy",
]

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


class Deployable(ABC):
    """A learned policy that can be saved, loaded and taken to a robot.

    A subclass says what it is made of and what one step computes; acting, memory and letting environments go follow.

    Attributes:
        kind: Its word in `vtt_policies.bundle.KINDS`.
        network: What was learned; nothing else is saved of it.
        normalizer: Turns raw observations into what the network was trained on.
        keys: Observations that it sees, in order; all others are never read.
        device: Where the network is.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        network: nn.Module,
        normalizer: Normalizer,
        *,
        keys: tuple[str, ...],
        device: str | torch.device = "cpu",
    ) -> None:
        self.network = network
        self.normalizer = normalizer
        self.keys = keys
        self.device = torch.device(device)
        self._state: dict[str, Tensor] | None = None

    @abstractmethod
    def made_of(self) -> dict[str, Any]:
        """Tell everything that `build` needs, ready for JSON."""

    @classmethod
    @abstractmethod
    def build(
        cls,
        made_of: Mapping[str, Any],
        specs: Mapping[str, StreamSpec],
        normalizer: Normalizer,
        *,
        device: str | torch.device = "cpu",
    ) -> Self:
        """Build an untrained policy of that make, which sees `specs` in that order."""

    @abstractmethod
    def stepper(self) -> nn.Module:
        """Return one control step as a function without side effects: what is exported.

        Its `forward(observation, state)` takes raw observations by key, as their specs say, each (B, ...), and the
        memory, and returns the action (B, A), or a chunk (B, K, A) that begins now, and the new memory with the same
        keys and shapes.
        """

    @abstractmethod
    def initial_state(self, num_envs: int) -> dict[str, Tensor]:
        """Return the memory at the start of an episode, by name, each (B, ...) on `device`; {} without memory."""

    def reset(self, num_envs: int) -> None:
        """Forget the past; `num_envs` episodes begin."""
        self._state = self.initial_state(num_envs)

    @torch.inference_mode()
    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide. Shape (B, A), in [-1, 1]."""
        state = self._remembered("act")
        self.network.eval()
        action, self._state = self.stepper()(self.observe(observation), state)
        return action.numpy(force=True)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        chosen = torch.as_tensor(rows, device=self.device)
        self._state = {name: memory[chosen] for name, memory in self._remembered("keep").items()}

    def recall(self, action: NDArray[np.float32]) -> None:
        """Take note of what was executed instead of the last answer of `act`. Shape (B, A)."""
        state = self._remembered("recall")
        if PREVIOUS_ACTION in state:
            self._state = {**state, PREVIOUS_ACTION: torch.as_tensor(action, device=self.device)}

    def observe(self, observation: Observation) -> dict[str, Tensor]:
        """Pick what this policy sees, as tensors on its device; nothing else is read."""
        for key in self.keys:
            if key not in observation:
                raise missing("observation", key, observation)
        return {key: as_tensor(observation[key]).to(self.device) for key in self.keys}

    def rest_images(self) -> dict[str, NDArray[np.uint8]]:
        """Return what the policy takes for untouched gels, by key. Shape (H, W, 3)."""
        entries = self.normalizer.entries
        chosen = [key for key in self.keys if key in entries and entries[key].kind == "tactile_image"]
        return {key: from_network(entries[key].offset).cpu().numpy() for key in chosen}

    def _remembered(self, method: str) -> dict[str, Tensor]:
        """Insist on a memory."""
        if self._state is None:
            raise StateError(f"{method} needs reset to be called first.")
        return self._state


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

    def seed(self, seed: int) -> None:
        """Draw from a new generator from now on."""
        self._rng = np.random.default_rng(seed)

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
