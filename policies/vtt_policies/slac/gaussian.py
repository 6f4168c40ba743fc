"""Diagonal Gaussians: sample, density, divergence, and the network that gives their parameters.

... any leading axes · D dimensions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Gaussian", "GaussianMlp", "kl_divergence", "log_density", "mlp"]

_LOG_TWO_PI = math.log(2 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions.

    Attributes:
        mean: Shape (..., D).
        std: Standard deviations, positive. Shape (..., D).
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Move standard normal noise (..., D) here; gradients reach mean and standard deviation."""
        return self.mean + self.std * noise


def log_density(x: Tensor, mean: Tensor, variance: Tensor | float) -> Tensor:
    """Logarithm of a normal density, element by element."""
    variance = torch.as_tensor(variance, dtype=mean.dtype, device=mean.device)
    return -0.5 * ((x - mean).square() / variance + variance.log() + _LOG_TWO_PI)


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p), summed over dimensions. Shape (...).

    Example:
        >>> one, two = (Gaussian(torch.full((3,), mean), torch.ones(3)) for mean in (1.0, 3.0))
        >>> kl_divergence(one, two)
        tensor(6.)
    """
    ratio = (q.std / p.std).square()
    return 0.5 * (ratio + ((q.mean - p.mean) / p.std).square() - 1.0 - ratio.log()).sum(-1)


def mlp(inputs: int, outputs: int, *, hidden: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, outputs)
    )


class GaussianMlp(nn.Module):
    """Two hidden layers with leaky units to mean and standard deviation.

    Args:
        inputs: Length of the input.
        outputs: D.
        hidden: Width of the hidden layers.
        floor: Smallest standard deviation.
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: int, floor: float = 1e-5) -> None:
        super().__init__()
        self._floor = floor
        self.layers = mlp(inputs, 2 * outputs, hidden=hidden, activation=_Leaky)

    def forward(self, *inputs: Tensor) -> Gaussian:
        """Map joined inputs (..., n) to a Gaussian (..., D)."""
        mean, spread = self.layers(torch.cat(inputs, -1)).chunk(2, -1)
        return Gaussian(mean, F.softplus(spread) + self._floor)


class _Leaky(nn.LeakyReLU):
    """Slope of the released code."""

    def __init__(self) -> None:
        super().__init__(0.2)
