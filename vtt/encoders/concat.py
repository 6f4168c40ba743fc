"""Baseline: one branch per signal, features joined.

Axes: B batch · F features of all signals. Source: VTT's Concatenation baseline, `slac/network/encoder.py`. Deviations:
any set of signals; features of absent ones leave the LayerNorm and every sum; logits instead of sigmoids.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtt.encoders.branches import Branches, scaled
from vtt.encoders.config import EncoderConfig, EncoderOutput
from vtt.errors import ConfigError
from vtt.tokens import SignalSpec

__all__ = ["ConcatEncoder"]


class ConcatEncoder(nn.Module):
    """Branches, LayerNorm over all features, one linear map each to latent, alignment and contact."""

    def __init__(self, config: EncoderConfig, signals: Mapping[str, SignalSpec], *, width: float = 1.0) -> None:
        """Build `width` times as wide as the paper's."""
        super().__init__()
        self.config, self.signals = config, dict(signals)
        self.branches = Branches(config, signals, width=width, image=scaled(256, width), vector=scaled(32, width))
        total = sum(self.branches.widths.values())
        self.norm = nn.LayerNorm(total)
        self.latent = nn.Linear(total, config.latent_dim)
        self.align = nn.Linear(total, 1)
        self.contact = nn.Linear(total, config.num_contacts)

    def forward(
        self,
        observation: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        return_attention: bool = False,
    ) -> EncoderOutput:
        """Encode an observation; see `VttEncoder.forward`. There is no attention to return."""
        del generator
        if return_attention:
            raise ConfigError("return_attention must be False for encoder 'concat', got True.")
        features = self.branches(observation, valid)
        if len(features) == len(self.signals) and not valid:
            x = self.norm(torch.cat([f for f, _ in features.values()], 1))  # (B, F)
        else:
            x = self._masked(features)
        return EncoderOutput(self.latent(x), self.align(x)[:, 0], self.contact(x))

    def _masked(self, features: Mapping[str, tuple[Tensor, Tensor | None]]) -> Tensor:
        """LayerNorm over the features that exist; the others are 0 behind it, which leaves them out of every sum."""
        some = next(iter(features.values()))[0]
        x, there = [], []
        for key, width in self.branches.widths.items():
            feature, flag = features.get(key, (some.new_zeros(len(some), width), some.new_zeros(len(some))))
            flag = some.new_ones(len(some)) if flag is None else flag.to(some.dtype)
            x.append(feature)
            there.append(flag[:, None].expand(-1, width))
        full, mask = torch.cat(x, 1), torch.cat(there, 1)  # (B, F) both
        count = mask.sum(1, keepdim=True).clamp_min(1)
        centred = (full - (full * mask).sum(1, keepdim=True) / count) * mask
        variance = centred.square().sum(1, keepdim=True) / count
        return (centred * (variance + self.norm.eps).rsqrt() * self.norm.weight + self.norm.bias) * mask
