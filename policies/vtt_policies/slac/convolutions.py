"""SLAC's convolutions for images of any size: the encoder without touch, and the decoders of the latent model.

Axes: N frames · C channels · H, W rows and columns. Source: alexlee-gk/slac `compressor_network`, `decoder_network`:
64 x 64 through 32, 64, 128, 256 channels. Deviation: the decoder ends linear (there with a leaky unit), because
normalised pixels have both signs, and its output is the difference from the mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtt.encoders.config import EncoderOutput
from vtt.tokens import SignalSpec
from vtt_policies.slac.gaussian import mlp

__all__ = ["ConvEncoder", "Decoder"]


class ConvEncoder(nn.Module):
    """One stack of convolutions per image, one linear map per vector, joined by a linear map.

    Args:
        signals: What it sees.
        feature_dim: Length of the feature.
        width: Channels next to an image.
        num_contacts: Contact verdicts.
    """

    def __init__(self, signals: Mapping[str, SignalSpec], *, feature_dim: int, width: int, num_contacts: int) -> None:
        super().__init__()
        self.signals = dict(signals)
        self.branches = nn.ModuleDict({key: _branch(s, feature_dim, width) for key, s in signals.items()})
        self.join = nn.Linear(feature_dim * len(signals), feature_dim) if len(signals) > 1 else nn.Identity()
        self.align = nn.Linear(feature_dim, 1)
        self.contact = nn.Linear(feature_dim, num_contacts)

    def forward(self, observation: Mapping[str, Tensor], *, generator: torch.Generator | None = None) -> EncoderOutput:
        """Encode normalised frames, as the encoders of `vtt` do."""
        del generator
        feature = self.join(torch.cat([branch(observation[key]) for key, branch in self.branches.items()], 1))
        return EncoderOutput(feature, self.align(feature)[:, 0], self.contact(feature))


class Decoder(nn.Module):
    """Predict how one signal differs from its mean: transposed convolutions for images and force grids, else an MLP.

    The mean is given, so that nothing of a still background has to be learned: most of a camera's image never moves.

    Args:
        signal: What it is.
        z_dim: Length of the latent.
        width: Channels next to an image.
        hidden: Width of the MLP.
    """

    def __init__(self, signal: SignalSpec, *, z_dim: int, width: int, hidden: int) -> None:
        super().__init__()
        self._size = signal.shape[:2]
        shape = signal.shape if signal.kind == "vector" else (signal.shape[2], *self._size)
        self.register_buffer("mean", torch.zeros(shape))
        if signal.kind == "vector":
            self.layers = mlp(z_dim, signal.shape[0], hidden=hidden, activation=nn.LeakyReLU)
            return
        levels = _levels(signal.shape)
        base = tuple(-(-side // 2**levels) for side in self._size)  # rounded up; what is too much is cut off
        channels = [width * 2**level for level in reversed(range(levels))]
        layers: list[nn.Module] = [nn.Unflatten(1, (z_dim, 1, 1)), nn.ConvTranspose2d(z_dim, channels[0], base)]
        for level, (before, after) in enumerate(zip(channels, [*channels[1:], signal.shape[2]], strict=True)):
            kernel = 5 if level == levels - 1 else 3
            layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(before, after, kernel, 2, kernel // 2, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (N, z_dim) to normalised signals (N, C, H, W) or (N, n)."""
        found = self.layers(z)
        return self.mean + (found if found.ndim == 2 else found[..., : self._size[0], : self._size[1]])


def _branch(signal: SignalSpec, feature_dim: int, width: int) -> nn.Module:
    """Encode one signal to (N, feature_dim)."""
    if signal.kind == "vector":
        return nn.Sequential(nn.Linear(signal.shape[0], feature_dim), nn.LeakyReLU(0.2))
    layers: list[nn.Module] = []
    rows, columns, channels = signal.shape
    for level in range(_levels(signal.shape)):
        kernel = 3 if level else 5
        layers += [nn.Conv2d(channels, width * 2**level, kernel, 2, kernel // 2), nn.LeakyReLU(0.2)]
        rows, columns, channels = -(-rows // 2), -(-columns // 2), width * 2**level
    layers += [nn.Conv2d(channels, feature_dim, (rows, columns)), nn.LeakyReLU(0.2), nn.Flatten()]
    return nn.Sequential(*layers)


def _levels(shape: tuple[int, ...]) -> int:
    """Count halvings until some 4 rows or columns remain; four, as SLAC's 64 x 64, at most and one at least."""
    return max(1, min(4, (min(shape[:2]) // 4).bit_length() - 1))
