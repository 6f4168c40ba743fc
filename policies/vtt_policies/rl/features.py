"""Observations to features: an encoder over images and force grids, and vectors as they are.

B samples, n components of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder, signal_specs
from vtt.errors import ConfigError
from vtt.streams import StreamSpec

__all__ = ["Features"]

# Normalised vectors are cut here, as VecNormalize of stable-baselines3 does: what moved little when the scale was
# measured, such as a force before the first contact, must not blow up the network when it moves.
_LIMIT = 10.0


class Features(nn.Module):
    """Joins what an encoder says of normalised observations with their vectors.

    Args:
        specs: What is observed.
        encoder: Sees whatever it knows of that; None where there are only vectors.

    Raises:
        ConfigError: If an image or force grid would be seen by nobody.
    """

    def __init__(self, specs: Mapping[str, StreamSpec], encoder: Encoder | None) -> None:
        super().__init__()
        signals = signal_specs(specs, specs)
        self.encoder = encoder
        self.keys = tuple(signals)
        self.encoder_keys = tuple(key for key in signals if encoder is not None and key in encoder.signals)
        self.vectors = {key: signal.shape[0] for key, signal in signals.items() if signal.kind == "vector"}
        lost = [key for key in signals if key not in self.vectors and key not in self.encoder_keys]
        if lost:
            known = ", ".join(encoder.signals) if encoder is not None else "nothing"
            raise ConfigError(
                f"The encoder must know all images and force grids, not {', '.join(lost)}; it knows {known}."
            )
        latent_dim = encoder.config.latent_dim if encoder is not None else 0
        # The scale of a pretrained latent is arbitrary.
        self.latent_norm = nn.LayerNorm(latent_dim) if encoder is not None else None
        self.features_dim = latent_dim + sum(self.vectors.values())

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Join. Observations normalised, by key; shape (B, features_dim)."""
        held = {
            key: observation[key].clamp(-_LIMIT, _LIMIT) if key in self.vectors else observation[key]
            for key in self.keys
        }
        parts = [held[key] for key in self.vectors]
        if self.encoder is not None and self.latent_norm is not None:
            parts.append(self.latent_norm(self.encoder({key: held[key] for key in self.encoder_keys}).latent))
        return torch.cat(parts, dim=-1)

    def made_of(self) -> dict[str, Any] | None:
        """Tell what `build` needs, ready for JSON: the encoder and all that it knows, or None."""
        if self.encoder is None:
            return None
        signals = {key: asdict(signal) for key, signal in self.encoder.signals.items()}
        return {"encoder": self.encoder.config.to_dict(), "signals": signals}

    @classmethod
    def build(cls, made_of: Mapping[str, Any] | None, specs: Mapping[str, StreamSpec]) -> Features:
        """Build features of that make that have learned nothing."""
        if made_of is None:
            return cls(specs, None)
        signals = {
            key: SignalSpec(**{**signal, "shape": tuple(signal["shape"])}) for key, signal in made_of["signals"].items()
        }
        return cls(specs, build_encoder(EncoderConfig.from_dict(made_of["encoder"]), signals))
