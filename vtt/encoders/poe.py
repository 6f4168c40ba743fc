"""Baseline: product of experts.

Axes: B batch · Z latent_dim. Source: VTT's PoE baseline, `slac/network/encoder.py`. Deviations: any set of signals, an
absent one being an expert less; the latent is the mean of the product, and a sample of it only in training with a
generator (the original samples while acting, too); logits instead of sigmoids.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtt.encoders.branches import Branches
from vtt.encoders.config import EncoderConfig, EncoderOutput
from vtt.errors import ConfigError
from vtt.tokens import SignalSpec

__all__ = ["PoeEncoder"]


class PoeEncoder(nn.Module):
    """Each signal is a Gaussian expert; their product with a standard normal prior is the latent."""

    def __init__(self, config: EncoderConfig, signals: Mapping[str, SignalSpec], *, width: float = 1.0) -> None:
        """Build with convolutions `width` times as wide as the paper's."""
        super().__init__()
        self.config, self.signals = config, dict(signals)
        z = config.latent_dim
        self.branches = Branches(config, signals, width=width, image=2 * z, vector=2 * z)
        self.norm = nn.LayerNorm(z)
        self.align = nn.Linear(z, 1)
        self.contact = nn.Linear(z, config.num_contacts)

    def forward(
        self,
        observation: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        return_attention: bool = False,
    ) -> EncoderOutput:
        """Encode an observation; see `VttEncoder.forward`. In training, `generator` draws the latent's sample."""
        if return_attention:
            raise ConfigError("return_attention must be False for encoder 'poe', got True.")
        features = self.branches(observation, valid)
        mean = next(iter(features.values()))[0].new_zeros(())  # the prior N(0, 1) is the first expert
        precision = mean + 1
        for feature, there in features.values():
            mu, spread = feature.chunk(2, 1)  # (B, Z) each
            weight = 1 / (F.softplus(spread) + 1e-8)
            if there is not None:
                weight = weight * there[:, None]
            mean, precision = mean + mu * weight, precision + weight
        z = mean / precision
        if self.training and generator is not None:
            z = z + torch.randn(z.shape, generator=generator, device=generator.device).to(z) * precision**-0.5
        return EncoderOutput(self.norm(z), self.align(z)[:, 0], self.contact(z))
