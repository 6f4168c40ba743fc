"""A bundle in action on one robot: contract in front, memory and chunks inside, limits behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ShapeError, StateError
from vtt.streams import StreamSpec, check_observation
from vtt_policies.chunks import ObservationHistory, chunk_executor
from vtt_policies.deploy.contract import NOISE, PREVIOUS_ACTION, Contract, check_arrays, read_contract
from vtt_policies.deploy.engines import Backend, Engine, start_engine
from vtt_policies.deploy.limits import Limits, Verdict, limit

__all__ = ["DeployedPolicy", "load"]

_log = logging.getLogger(__name__)


class DeployedPolicy:
    """Acts for one robot.

    Args:
        contract: What it must be shown, and how it is executed.
        engine: What computes a step.
        limits: Bounds of its actions; those of the contract unless given.
        seed: Draws the noise of policies that need some.

    Attributes:
        contract: As given.
        limits: Bounds in force.
        verdict: What the limits did to the latest action; None before the first.
    """

    def __init__(self, contract: Contract, engine: Engine, *, limits: Limits | None = None, seed: int = 0) -> None:
        self.contract = contract
        self.limits = limits or contract.limits
        self.verdict: Verdict | None = None
        self._engine = engine
        self._rng = np.random.default_rng(seed)
        self._history = None if contract.obs_horizon is None else ObservationHistory(contract.obs_horizon)
        horizon = contract.action_horizon
        self._chunks = None if horizon is None else chunk_executor(horizon, ensemble=contract.ensemble)
        self._state: dict[str, NDArray] | None = None
        self._previous = np.zeros(contract.action_dim, np.float32)

    def check(self, arriving: Mapping[str, StreamSpec]) -> None:
        """Compare what the robot's sensors will deliver with what the policy was trained on; call it once, at start.

        Args:
            arriving: Specs of the robot's streams; further ones are ignored.

        Raises:
            ConfigError: If a key is missing; names both sides.
            ShapeError: If shape, dtype, unit, sensor or calibration differ; names both sides.
        """
        expected = self.contract.observation
        check_observation(expected, arriving, ignore=[key for key in arriving if key not in expected])

    def reset(self) -> None:
        """Forget the past; an episode begins with the robot at rest."""
        self._state = {name: np.zeros((1, *shape), np.float32) for name, shape in self.contract.state.items()}
        self._previous = np.zeros(self.contract.action_dim, np.float32)
        self.verdict = None
        for part in (self._history, self._chunks):
            if part is not None:
                part.reset()

    def act(self, observation: Mapping[str, NDArray]) -> NDArray[np.float32]:
        """Decide one control step.

        Args:
            observation: Arrays by key as `observation.json` says, without a batch axis; further keys are never read.

        Returns:
            The action within the limits; `verdict` tells what they changed. Shape (A,), in [-1, 1].

        Raises:
            StateError: If `reset` was never called.
            MissingError: If a key is missing.
            ShapeError: If an array has another shape or dtype than trained on.
            ConfigError: If an array holds NaN or infinity.
        """
        if self._state is None:
            raise StateError("act needs reset to be called first.")
        check_arrays(observation, self.contract.observation)
        seen = {key: observation[key][None] for key in self.contract.observation}
        verdict = limit(self._decide(seen, self._state), self._previous, self.limits)
        if verdict.refused and not (self.verdict and self.verdict.refused):
            _log.error("The policy's action is not finite (%s); zero is executed instead.", verdict.asked)
        self.verdict = verdict
        self._executed(verdict.action)
        return verdict.action.copy()

    def recall(self, action: NDArray[np.float32]) -> None:
        """Take note of what the robot really executed, where that was not what `act` returned. Shape (A,)."""
        if self._state is None:
            raise StateError("recall needs reset to be called first.")
        action = np.asarray(action, np.float32)
        if action.shape != self._previous.shape or not np.isfinite(action).all():
            raise ShapeError(f"action must be finite and {self._previous.shape}, got {action}.")
        self._executed(action)

    def _decide(self, seen: Mapping[str, NDArray], state: dict[str, NDArray]) -> NDArray[np.float32]:
        """Ask the network, or go on with its latest chunk. Shape (A,)."""
        if self._history is not None:
            seen = self._history.add(seen)
        if self._chunks is None:
            return self._infer(seen, state)[0]
        if self._chunks.due:
            chunk = self._infer(seen, state)
            if not np.isfinite(chunk).all():
                self._chunks.reset()  # nothing of it may be executed later
                return np.full(self.contract.action_dim, np.nan, np.float32)
            self._chunks.add(chunk)
        return self._chunks.next()[0]

    def _infer(self, seen: Mapping[str, NDArray], state: dict[str, NDArray]) -> NDArray[np.float32]:
        """Run the network; a memory that is no longer finite is not taken over."""
        if NOISE in state:
            state = {**state, NOISE: self._rng.standard_normal(state[NOISE].shape, np.float32)}
        action, new = self._engine.step(seen, state)
        if np.isfinite(action).all() and all(np.isfinite(value).all() for value in new.values()):
            self._state = new
            return action
        return np.full_like(action, np.nan)

    def _executed(self, action: NDArray[np.float32]) -> None:
        """Remember what the robot does now."""
        self._previous = action.copy()
        if self._state is not None and PREVIOUS_ACTION in self._state:
            self._state = {**self._state, PREVIOUS_ACTION: action[None].copy()}


def load(
    folder: str | Path,
    *,
    backend: Backend = "torch",
    threads: int | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> DeployedPolicy:
    """Load a bundle that `vtt export` wrote.

    Args:
        folder: The bundle.
        backend: "torch", or "onnx", which needs no torch.
        threads: Threads of the backend; None lets it choose.
        limits: Bounds of the actions, instead of those in the bundle.
        seed: Draws the noise of policies that need some.

    Returns:
        The policy; call `reset` before the first `act`.

    Raises:
        StoreError: If there is no bundle, or it is damaged.
        DependencyError: If the backend is not installed.
    """
    folder = Path(folder)
    contract = read_contract(folder)
    return DeployedPolicy(contract, start_engine(folder, contract, backend, threads=threads), limits=limits, seed=seed)
