"""Success on held-out seeds, with intervals and controls. B environments run side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from vtt.errors import ConfigError
from vtt.statistics import Interval, mcnemar, paired_difference, wilson
from vtt_policies.perturbation import Perturbation
from vtt_policies.policy import Policy, RandomPolicy
from vtt_policies.rollout import rollout

__all__ = [
    "FIRST_EVALUATION_SEED",
    "Batch",
    "Comparison",
    "Evaluation",
    "batches_of",
    "compare",
    "evaluate",
    "evaluation_seeds",
    "facts_of",
    "run_batch",
    "table",
]

FIRST_EVALUATION_SEED = 1_000_000_000
"""Seeds from here on are for evaluation only; training draws below."""


class Batch(NamedTuple):
    """Seeds that are run side by side; what comes out depends on nothing else.

    Attributes:
        seeds: One per environment.
        counted: How many of them, from the first, were asked for; the rest only fills the batch.
    """

    seeds: tuple[int, ...]
    counted: int


@dataclass(frozen=True)
class Evaluation:
    """What a policy reached on a set of seeds; each tuple has one entry per seed.

    Attributes:
        seeds: The seeds of the episodes.
        outcomes: Whether each succeeded.
        steps: Control steps each took until it ended.
        seconds: Wall time of all.
        dropped: Whether each ended early without success; () if unknown.
        peak_force: Largest force observed in each, in N; None where none is observed, () if unknown.
        control_dt: Time of a control step, in s; None if unknown.
    """

    seeds: tuple[int, ...]
    outcomes: tuple[bool, ...]
    steps: tuple[int, ...]
    seconds: float
    dropped: tuple[bool, ...] = ()
    peak_force: tuple[float | None, ...] = ()
    control_dt: float | None = None

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
    def interval(self) -> Interval:
        """95 % Wilson interval of the rate."""
        return wilson(self.successes, self.n)

    @property
    def env_steps(self) -> int:
        """Control steps of all episodes."""
        return sum(self.steps)

    @property
    def steps_to_success(self) -> float:
        """Median control steps of the episodes that succeeded; NaN without one."""
        taken = [steps for steps, success in zip(self.steps, self.outcomes, strict=True) if success]
        return float(np.median(taken)) if taken else float("nan")

    @property
    def median_peak_force(self) -> float:
        """Median over the episodes of the largest force, in N; NaN if none was observed."""
        known = [force for force in self.peak_force if force is not None]
        return float(np.median(known)) if known else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """List everything, ready for JSON."""
        low, high = self.interval
        summary = {"n": self.n, "successes": self.successes, "rate": self.rate, "low": low, "high": high}
        counts = {"env_steps": self.env_steps, "steps_to_success": _known(self.steps_to_success)}
        return {**summary, **counts, "median_peak_force": _known(self.median_peak_force), **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Rebuild what `to_dict` wrote; results of earlier versions know less."""
        lists = {name: tuple(values.get(name, ())) for name in ("seeds", "outcomes", "steps", "dropped", "peak_force")}
        return cls(**lists, seconds=values["seconds"], control_dt=values.get("control_dt"))

    def first(self, n: int) -> Evaluation:
        """Keep the first `n` episodes."""
        parts = {name: getattr(self, name)[:n] for name in ("seeds", "outcomes", "steps", "dropped", "peak_force")}
        return Evaluation(**parts, seconds=self.seconds, control_dt=self.control_dt)

    def then(self, other: Evaluation) -> Evaluation:
        """Add further episodes."""
        return Evaluation(
            self.seeds + other.seeds,
            self.outcomes + other.outcomes,
            self.steps + other.steps,
            self.seconds + other.seconds,
            self.dropped + other.dropped,
            self.peak_force + other.peak_force,
            other.control_dt,
        )


class Comparison(NamedTuple):
    """Two policies on the same seeds.

    Attributes:
        n: Seeds that both met.
        only_first: Seeds on which only the first succeeded.
        only_second: Seeds on which only the second did.
        difference: Success rate of the first minus that of the second.
        interval: 95 % interval of the difference (Agresti & Min 2005).
        p: Of the exact test of McNemar, two-sided.
    """

    n: int
    only_first: int
    only_second: int
    difference: float
    interval: Interval
    p: float


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two policies on the seeds that both met.

    Raises:
        ConfigError: If they have no seed in common.
    """
    theirs = dict(zip(second.seeds, second.outcomes, strict=True))
    pairs = [(mine, theirs[seed]) for seed, mine in zip(first.seeds, first.outcomes, strict=True) if seed in theirs]
    if not pairs:
        raise ConfigError("Two evaluations must share seeds to be compared, got none in common.")
    n = len(pairs)
    only_first = sum(mine and not other for mine, other in pairs)
    only_second = sum(other and not mine for mine, other in pairs)
    return Comparison(
        n,
        only_first,
        only_second,
        (only_first - only_second) / n,
        paired_difference(only_first, only_second, n),
        mcnemar(only_first, only_second),
    )


def evaluation_seeds(n: int, *, start: int = FIRST_EVALUATION_SEED) -> range:
    """Choose `n` held-out seeds."""
    if n < 1:
        raise ConfigError(f"n must be at least 1, got {n}.")
    return range(start, start + n)


def batches_of(seeds: Sequence[int], num_envs: int) -> list[Batch]:
    """Cut seeds into batches. The last is filled with further seeds, uncounted, so that shuffled touch has donors.

    Example:
        >>> batches_of([5, 6, 7], 2)
        [Batch(seeds=(5, 6), counted=2), Batch(seeds=(7, 8), counted=1)]
    """
    if not len(seeds):
        raise ConfigError("seeds must name at least one episode, got none.")
    full = [*map(int, seeds), *range(max(seeds) + 1, max(seeds) + 1 - len(seeds) % -num_envs)]
    return [
        Batch(tuple(full[first : first + num_envs]), min(num_envs, len(seeds) - first))
        for first in range(0, len(seeds), num_envs)
    ]


def run_batch(env: VectorEnv, policy: Policy, batch: Batch, *, perturbation: Perturbation | None = None) -> Evaluation:
    """Run one episode per seed, all side by side."""
    began = time.perf_counter()
    if isinstance(policy, RandomPolicy):
        policy.seed(batch.seeds[0])
    done = rollout(env, policy, batch.seeds, perturbation=perturbation)
    everything = Evaluation(
        batch.seeds,
        tuple(done.success.tolist()),
        tuple(done.steps.tolist()),
        time.perf_counter() - began,
        tuple(done.dropped.tolist()),
        tuple(map(_known, done.peak_force.tolist())),
        getattr(env.unwrapped, "control_dt", None),
    )
    return everything.first(batch.counted)


def evaluate(
    env: VectorEnv,
    policy: Policy,
    seeds: Sequence[int],
    *,
    perturbation: Perturbation | None = None,
) -> Evaluation:
    """Run one episode per seed, `env.num_envs` at a time.

    Args:
        env: The environments.
        policy: What acts.
        seeds: Held-out seeds.
        perturbation: What is done to the observations, see `make_perturbation`.

    Returns:
        The outcomes, one per seed.
    """
    first, *others = batches_of(seeds, env.num_envs)
    everything = run_batch(env, policy, first, perturbation=perturbation)
    for batch in others:
        everything = everything.then(run_batch(env, policy, batch, perturbation=perturbation))
    return everything


def table(rows: Mapping[str, Evaluation]) -> str:
    """Lay out evaluations as plain text, one row each.

    Args:
        rows: Evaluations by name.

    Returns:
        Lines with the success rate, its 95 % Wilson interval, n, the median time to success, the median of the largest
        force, and how many episodes ended early without success; "-" for what is unknown.
    """
    width = max(len("policy"), *(len(name) for name in rows))
    lines = [f"{'policy':<{width}}  success  95 % interval  successes/n  time, s  peak force, N  dropped"]
    for name, row in rows.items():
        low, high = row.interval
        count = f"{row.successes}/{row.n}"
        time_to, force, dropped = facts_of(row)
        cells = f"{row.rate:>7.3f}  {f'{low:.3f} - {high:.3f}':>13}  {count:>11}"
        lines.append(f"{name:<{width}}  {cells}  {time_to:>7}  {force:>13}  {dropped:>7}")
    return "\n".join(lines)


def facts_of(row: Evaluation) -> tuple[str, str, str]:
    """Word the median time to success in s, the median of the largest force in N, and the count of early ends."""
    time_to = "-"
    if row.control_dt is not None and not math.isnan(row.steps_to_success):
        time_to = f"{row.steps_to_success * row.control_dt:.2f}"
    force = "-" if math.isnan(row.median_peak_force) else f"{row.median_peak_force:.1f}"
    return time_to, force, str(sum(row.dropped)) if row.dropped else "-"


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
