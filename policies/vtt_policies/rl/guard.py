"""Stops a training that can come to nothing: losses that are no numbers, and values that no reward can explain."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vtt.errors import StateError

__all__ = ["check_training"]

# A value may exceed what the rewards explain by this factor, in a fit that overshoots and recovers.
_SLACK = 10.0
# Of SAC's entropy bonus: nats per action dimension that a policy could at most be rewarded with in a step.
_NATS = 5.0


def check_training(
    metrics: Mapping[str, float], *, largest_reward: float, gamma: float, action_dim: int, step: int
) -> None:
    """Look at what an algorithm of SB3 has logged of its latest update.

    No discounted sum of rewards exceeds R / (1 - gamma), and no squared error of two such sums 4 R^2 / (1 - gamma)^2;
    for SAC, R holds the entropy bonus too.

    Args:
        metrics: By SB3's names, such as `train/value_loss`.
        largest_reward: Largest absolute reward so far.
        gamma: Discount.
        action_dim: Number of action dimensions.
        step: Control steps so far, for the message.

    Raises:
        StateError: If a loss is not finite, or that of the critic is beyond all bounds; names it, and what to change.
    """
    losses = {name: value for name, value in metrics.items() if name.endswith("loss") or name.endswith("approx_kl")}
    for name, value in losses.items():
        if not math.isfinite(value):
            raise StateError(
                f"{name} must be finite, got {value} after {step} steps: the weights have diverged. "
                "Lower learning_rate, or continue from the last checkpoint with another seed."
            )
    entropy = metrics.get("train/ent_coef", 0.0) * _NATS * action_dim if "train/critic_loss" in losses else 0.0
    bound = _SLACK * (max(1.0, largest_reward) + entropy) / max(1.0 - gamma, 1e-3)
    for name in ("train/value_loss", "train/critic_loss"):
        if losses.get(name, 0.0) > 4.0 * bound**2:
            raise StateError(
                f"{name} must stay below {4.0 * bound**2:.3g}, {_SLACK:.0f} times what rewards up to "
                f"{largest_reward:.3g} can sum up to, got {losses[name]:.3g} after {step} steps: the critic diverges. "
                "Lower learning_rate or gamma, or scale the reward down."
            )
