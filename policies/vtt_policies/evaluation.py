"""Success on held-out seeds, with intervals and controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from vtt.errors import ConfigError
from vtt.statistics import wilson
from vtt_policies.policy import Observation, Policy
from vtt_policies.rollout import rollout

__all__ = ["FIRST_EVALUATION_SEED", "Evaluation", "evaluate", "evaluation_seeds", "table"]

FIRST_EVALUATION_SEED = 1_000_000_000
"""Seeds from here on are for evaluation only; training draws below."""


@dataclass(frozen=True)
class Evaluation:
    """What a policy reached on a set of seeds.

    Attributes:
        seeds: The seeds of the episodes.
        outcomes: Whether each succeeded.
        steps: Control steps each took until it ended.
        seconds: Wall time of all.
    """

    seeds: tuple[int, ...]
    outcomes: tuple[bool, ...]
    steps: tuple[int, ...]
    seconds: float

    @property
    def n(self) -> int:
        """Number of episodes."""
        return len(self.outcomes)

    @property
    def successes(self) -> int:
        """Number of episodes that succeeded."""
        return sum(self.outcomes)

    @property
    def rate(self) -> float:
        """Share of episodes that succeeded, in 0..1."""
        return self.successes / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the rate."""
        low, high = wilson(self.successes, self.n)
        return float(low), float(high)

    @property
    def env_steps(self) -> int:
        """Control steps of all episodes."""
        return sum(self.steps)

    @property
    def steps_to_success(self) -> float:
        """Median control steps of the episodes that succeeded; NaN without one."""
        taken = [steps for steps, success in zip(self.steps, self.outcomes, strict=True) if success]
        return float(np.median(taken)) if taken else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """List everything, ready for JSON."""
        low, high = self.interval
        summary = {"n": self.n, "successes": self.successes, "rate": self.rate, "low": low, "high": high}
        median = self.steps_to_success
        counts = {"env_steps": self.env_steps, "steps_to_success": None if np.isnan(median) else median}
        return {**summary, **counts, **asdict(self)}


def evaluation_seeds(n: int, *, start: int = FIRST_EVALUATION_SEED) -> range:
    """Choose `n` held-out seeds."""
    if n < 1:
        raise ConfigError(f"n must be at least 1, got {n}.")
    return range(start, start + n)


def evaluate(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    perturbation: Callable[[Sequence[Observation]], Observation] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Run one episode per seed, `env.num_envs` at a time.

    Args:
        env: The environments.
        policy: What acts.
        seeds: Held-out seeds.
        perturbation: What is done to the observations, see `make_perturbation`.
        progress: Called with the number of episodes that have just ended.

    Returns:
        The outcomes, one per seed.
    """
    if not len(seeds):
        raise ConfigError("seeds must name at least one episode, got none.")
    began = time.perf_counter()
    outcomes: list[bool] = []
    steps: list[int] = []
    # A last batch that is not full runs further seeds, uncounted, so that shuffled touch has donors.
    padded = [*seeds, *range(max(seeds) + 1, max(seeds) + 1 - len(seeds) % -env.num_envs)]
    for first in range(0, len(seeds), env.num_envs):
        batch = rollout(env, policy, padded[first : first + env.num_envs], perturbation=perturbation)
        count = min(env.num_envs, len(seeds) - first)
        outcomes += batch.success[:count].tolist()
        steps += batch.steps[:count].tolist()
        if progress:
            progress(count)
    seconds = time.perf_counter() - began
    return Evaluation(tuple(int(seed) for seed in seeds), tuple(outcomes), tuple(steps), seconds)


def table(rows: Mapping[str, Evaluation]) -> str:
    """Lay out evaluations as plain text, one row each.

    Args:
        rows: Evaluations by name.

    Returns:
        Lines with the success rate, its 95 % Wilson interval, n, and the median control steps to success.
    """
    width = max(len("policy"), *(len(name) for name in rows))
    lines = [f"{'policy':<{width}}  success  95 % interval  successes/n  median steps"]
    for name, row in rows.items():
        low, high = row.interval
        count = f"{row.successes}/{row.n}"
        steps = "-" if np.isnan(row.steps_to_success) else f"{row.steps_to_success:.0f}"
        lines.append(f"{name:<{width}}  {row.rate:>7.3f}  {f'{low:.3f} - {high:.3f}':>13}  {count:>11}  {steps:>12}")
    return "\n".join(lines)
