"""Run whole episodes of a batch of environments, record what happened while each was alive.

B environments, T steps, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_policies.policy import ExpertPolicy, Observation, Policy, Recalls

__all__ = ["CONTACT", "Episode", "Rollout", "horizon_of", "mix_actions", "rollout"]

# Environments that have ended keep their rows until this share is left: a smaller batch is cheaper to act on, but
# cutting the memory of a policy at every single end is not.
_COMPACT_BELOW = 0.75

CONTACT = "contact"
"""Key under which a perturbation finds who touches whom; policies never see it. Shape (B, n), bool."""

Episode = dict[str, NDArray]
"""Arrays of one episode, each of shape (T, ...); row t holds the observation, and what was done about it."""


class Rollout(NamedTuple):
    """Whole episodes, one per environment.

    Attributes:
        episodes: The recorded streams, cut where the episode ended. Empty if nothing was recorded.
        success: Whether the episode succeeded. Shape (B,).
        steps: Control steps until the episode ended. Shape (B,).
        dropped: Whether it ended before its horizon without success: what cannot be saved. Shape (B,).
        peak_force: Largest force that was observed, in N; NaN if none is. Shape (B,).
    """

    episodes: list[Episode]
    success: NDArray[np.bool_]
    steps: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    peak_force: NDArray[np.float64]


def rollout(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    record: Sequence[str] = (),
    expert_share: float = 0.0,
    rng: np.random.Generator | None = None,
    perturbation: Callable[[Sequence[Observation]], Observation] | None = None,
) -> Rollout:
    """Run one episode in each environment, until the last has ended.

    Args:
        env: Environments with autoreset disabled, a fixed `horizon`, and `success` and `expert_action` in `info`.
        policy: What acts.
        seeds: One seed per environment.
        record: Observation keys to record. If any, then `action` (what was executed), `expert_action`, `reward`,
            `success` and, where the environment tells it, `contact` are recorded too.
        expert_share: Probability, at each step of each environment, that the expert's action is executed instead.
        rng: Draws who acts; needed where `expert_share` is strictly between 0 and 1.
        perturbation: Changes what the policy sees, given all observations of the episode, the newest last. Where the
            environment tells it, `contact` is among them.

    Returns:
        The episodes.

    Raises:
        ConfigError: If the environment resets itself, or the number of seeds is not the number of environments.
    """
    _check(env, seeds, expert_share, rng)
    num_envs = env.num_envs
    # A list is allowed by Gymnasium's own vector environments, though not by the signature of their base class.
    observation, info = env.reset(seed=[int(seed) for seed in seeds])  # pyright: ignore[reportArgumentType]
    policy.reset(num_envs)
    tape = _Tape(num_envs, horizon_of(env))
    history: list[Observation] = []
    alive = np.ones(num_envs, bool)
    success = np.zeros(num_envs, bool)
    steps = np.zeros(num_envs, np.int64)
    dropped = np.zeros(num_envs, bool)
    peak_force = np.full(num_envs, np.nan)
    rows = np.arange(num_envs)
    while alive.any():
        if alive.sum() <= _COMPACT_BELOW * len(rows):
            still = np.flatnonzero(alive[rows])
            rows = rows[still]
            policy.keep(still)
        seen: Observation = observation
        if perturbation is not None:
            # Copied, because environments may reuse their arrays.
            told = {CONTACT: info["contact"]} if "contact" in info else {}
            history.append({key: np.array(value) for key, value in {**observation, **told}.items()})
            changed = perturbation(history)
            seen = {key: changed[key] for key in observation}
        expert = info.get("expert_action")
        if isinstance(policy, ExpertPolicy):
            policy.advise(_expect(expert)[rows])
        action = np.zeros(env.action_space.shape or (), np.float32)
        action[rows] = policy.act({key: value[rows] for key, value in seen.items()})
        if expert_share > 0.0:
            action = mix_actions(action, _expect(expert), share=expert_share, rng=rng)
        if isinstance(policy, Recalls):
            policy.recall(action[rows])
        if record:
            tape.write({key: observation[key] for key in record})
            tape.write({"action": action, "expert_action": _expect(expert)})
        observation, reward, terminated, truncated, info = env.step(action)
        if record:
            tape.write({"reward": np.asarray(reward, np.float32), "success": info["success"]})
            tape.write({"contact": info["contact"]} if "contact" in info else {})
        steps += alive
        success |= alive & info["success"]
        dropped |= alive & terminated & ~info["success"]
        peak_force = np.where(alive, np.fmax(peak_force, _force(observation)), peak_force)
        alive &= ~(terminated | truncated)
        tape.step += 1
    return Rollout(tape.cut(steps) if record else [], success, steps, dropped, peak_force)


def mix_actions(
    action: NDArray[np.float32], expert_action: NDArray[np.float32], *, share: float, rng: np.random.Generator | None
) -> NDArray[np.float32]:
    """Execute the expert's action with probability `share`, independently in each environment and step. Shape (B, A).

    Source: Ross, Gordon and Bagnell 2011, Algorithm 3.1: pi_i = beta_i pi* + (1 - beta_i) pi_hat_i.
    """
    if share <= 0.0:
        return action
    if share >= 1.0 or rng is None:
        return np.asarray(expert_action, np.float32)
    return np.where(rng.random(len(action))[:, None] < share, expert_action, action).astype(np.float32)


def horizon_of(env: Any) -> int:
    """Read the number of control steps after which every episode of an environment has ended."""
    horizon = getattr(env, "horizon", None) or getattr(env.unwrapped, "horizon", None)
    if not horizon:
        raise ConfigError(f"The environment must tell its horizon, got none from {type(env).__name__}.")
    return int(horizon)


class _Tape:
    """Arrays of shape (B, T, ...), allocated when a stream is first written."""

    def __init__(self, num_envs: int, horizon: int) -> None:
        self._shape = (num_envs, horizon)
        self._streams: dict[str, NDArray] = {}
        self.step = 0

    def write(self, arrays: Mapping[str, NDArray]) -> None:
        """Write the current step of some streams, each (B, ...)."""
        for key, array in arrays.items():
            if key not in self._streams:
                self._streams[key] = np.empty((*self._shape, *array.shape[1:]), array.dtype)
            self._streams[key][:, self.step] = array

    def cut(self, steps: NDArray[np.int64]) -> list[Episode]:
        """Copy out each episode, so that the memory of the steps after its end is freed."""
        return [
            {key: stream[index, :length].copy() for key, stream in self._streams.items()}
            for index, length in enumerate(steps)
        ]


def _force(observation: Observation) -> NDArray[np.float64]:
    """Measure the force at the wrist, else the strongest of the fingers', in N; NaN without such an observation."""
    if "wrench" in observation:
        return np.linalg.norm(observation["wrench"][:, :3].astype(np.float64), axis=1)
    grids = [value for key, value in observation.items() if key.startswith("force_")]
    if not grids:
        return np.asarray(np.nan)
    return np.max([np.linalg.norm(grid.sum((1, 2), dtype=np.float64), axis=1) for grid in grids], axis=0)


def _expect(expert_action: NDArray | None) -> NDArray:
    """Insist on a label."""
    if expert_action is None:
        raise ConfigError("The environment must offer expert_action in its info, got none.")
    return expert_action


def _check(env: VectorEnv, seeds: Sequence[int], share: float, rng: np.random.Generator | None) -> None:
    """Refuse what would silently mix episodes."""
    if env.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
        raise ConfigError(f"autoreset_mode must be DISABLED, got {env.metadata.get('autoreset_mode')}.")
    if len(seeds) != env.num_envs:
        raise ConfigError(f"seeds must be one per environment ({env.num_envs}), got {len(seeds)}.")
    if 0.0 < share < 1.0 and rng is None:
        raise ConfigError(f"rng must be given to mix the expert in with share {share}, got none.")
