"""Actor and critics of soft actor-critic.

Axes: B windows or environments · S frames that the actor sees · F feature · A action · Z latent.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt_policies.slac.gaussian import mlp

__all__ = ["Actor", "TwinCritic"]

_LOG_STD = (-20.0, 2.0)


class Actor(nn.Module):
    """Decides from the features of the latest S frames and the S - 1 actions between them; padding is zero in both.

    The latent is not needed to act. Source: Lee et al. 2020, section 5; there padding repeats the first frame.

    Args:
        feature_dim: F.
        action_dim: A.
        sequence: S.
        hidden: Width of the two hidden layers.
    """

    def __init__(self, feature_dim: int, action_dim: int, *, sequence: int, hidden: int) -> None:
        super().__init__()
        self.layers = mlp(sequence * feature_dim + (sequence - 1) * action_dim, 2 * action_dim, hidden=hidden)

    def forward(self, feature: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, S, F) and actions (B, S - 1, A) to mean and log standard deviation before tanh, (B, A)."""
        mean, log_std = self.layers(torch.cat((feature.flatten(1), action.flatten(1)), 1)).chunk(2, 1)
        return mean, log_std.clamp(*_LOG_STD)

    def sample(self, feature: Tensor, action: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw actions (B, A) in (-1, 1), and the logarithm of their density (B,).

        Source: Haarnoja et al. 2018 (arXiv 1801.01290), appendix C: log pi = log N(u) - sum log(1 - tanh(u)^2).
        """
        mean, log_std = self(feature, action)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        raw = mean + log_std.exp() * noise
        normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        # log(1 - tanh(u)^2) without cancellation.
        squash = 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))
        return raw.tanh(), (normal - squash).sum(1)


class TwinCritic(nn.Module):
    """Two estimates of the value of an action in a latent.

    Args:
        z_dim: Z.
        action_dim: A.
        hidden: Width of the two hidden layers.
    """

    def __init__(self, z_dim: int, action_dim: int, *, hidden: int) -> None:
        super().__init__()
        self.one = mlp(z_dim + action_dim, 1, hidden=hidden)
        self.two = mlp(z_dim + action_dim, 1, hidden=hidden)

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """Map latents (B, Z) and actions (B, A) to values (2, B)."""
        both = torch.cat((z, action), 1)
        return torch.stack((self.one(both)[:, 0], self.two(both)[:, 0]))
