"""One branch per signal: the parts the two baselines of the paper share.

Axes: B batch · C channels · H, W rows and columns. Source: released code of VTT at 256677f, `slac/network/encoder.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtt.encoders.config import EncoderConfig
from vtt.errors import ConfigError, ShapeError, missing
from vtt.tokens import SignalSpec

__all__ = ["Branches", "image_branch", "scaled", "vector_branch"]

_KERNEL, _STRIDE, _PADDING = 6, 2, 1


def scaled(channels: int, width: float) -> int:
    """Widen a layer; at least one channel remains."""
    return max(1, round(channels * width))


def image_branch(shape: tuple[int, ...], *, width: float, out: int) -> nn.Sequential:
    """Build the paper's CNN for an image of any size, (B, C, H, W) to (B, out).

    Convolutions 6x6 with stride 2 and 16, 32, 64, 128, 128 ... x `width` channels while at least two rows and columns
    remain, then one convolution over the whole remaining map. For 84x84 and width 1 that is the paper's network.
    """
    sides, c = [shape[0], shape[1]], shape[2]
    layers: list[nn.Module] = []
    channels = 16
    while min(after := [(side + 2 * _PADDING - _KERNEL) // _STRIDE + 1 for side in sides]) >= 2:
        layers += [nn.Conv2d(c, scaled(channels, width), _KERNEL, _STRIDE, _PADDING), nn.LeakyReLU(0.2)]
        sides, c, channels = after, scaled(channels, width), min(2 * channels, 128)
    layers += [nn.Conv2d(c, out, (sides[0], sides[1])), nn.LeakyReLU(0.2), nn.Flatten(), nn.LayerNorm(out)]
    return nn.Sequential(*layers)


def vector_branch(length: int, *, out: int) -> nn.Sequential:
    """Build the paper's touch branch, (B, n) to (B, out)."""
    return nn.Sequential(nn.Tanh(), nn.Linear(length, out), nn.LayerNorm(out), nn.LeakyReLU(0.2), nn.LayerNorm(out))


class Branches(nn.Module):
    """Encode each signal by a branch of its own."""

    def __init__(
        self, config: EncoderConfig, signals: Mapping[str, SignalSpec], *, width: float, image: int, vector: int
    ) -> None:
        """Build with branches that end in `image` or `vector` features."""
        super().__init__()
        if config.window != 1:
            raise ConfigError(f"window must be 1 for encoder '{config.name}', got {config.window}.")
        self.signals = dict(signals)
        self.branches = nn.ModuleDict()
        self.widths: dict[str, int] = {}
        for key, signal in signals.items():
            if signal.kind == "vector":
                self.branches[key] = vector_branch(signal.shape[0], out=vector)
            else:
                self.branches[key] = image_branch(signal.shape, width=width, out=image)
            self.widths[key] = vector if signal.kind == "vector" else image

    def forward(
        self, observation: Mapping[str, Tensor], valid: Mapping[str, Tensor] | None
    ) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Encode what is there: by key the features (B, width) and which samples have them, (B,), None for all."""
        valid = valid or {}
        for key in (*observation, *valid):
            if key not in self.signals:
                raise missing("signal", key, self.signals)
        features: dict[str, tuple[Tensor, Tensor | None]] = {}
        for key, signal in self.signals.items():
            if key not in observation:
                continue
            data, there = observation[key], valid.get(key)
            want = signal.shape if signal.kind == "vector" else (signal.shape[2], *signal.shape[:2])
            if data.shape[1:] != want:
                raise ShapeError(f"'{key}' must be (B, {str(want)[1:-1].strip(',')}), got {tuple(data.shape)}.")
            if there is not None:  # overwritten before anything reads it, so that not even a NaN gets through
                zero = torch.zeros((), dtype=data.dtype, device=data.device)
                data = torch.where(there.view(-1, *[1] * (data.ndim - 1)), data, zero)
            features[key] = (self.branches[key](data), there)
        if not features:
            raise ShapeError("observation must hold at least one signal, got none.")
        return features
