"""What conditions a chunk: every observation, each through an encoder of its own, or all through a joint one.

Axes: N frames · C, H, W of an image · F, h, w of its map · n components of a vector · D width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from vtt.encoders import Encoder, EncoderConfig, SignalSpec, build_encoder
from vtt.errors import ConfigError
from vtt_policies.chunking.backbones import ConvNet, ResNet18, SpatialSoftmax
from vtt_policies.chunking.config import EncodersConfig

__all__ = ["Encoders", "MapPool", "PlaceTokens", "sine_positions"]


class Encoders(nn.Module):
    """Turns normalised frames into maps and vectors.

    Attributes:
        vectors: Length of each vector that is used as it is.
        shapes: Shape (F, h, w) of each map.
        latent_dim: Length of the joint latent; 0 without a joint encoder.
        token_dim: Width of a joint token.

    Args:
        config: Which encoders.
        signals: What is seen, by key.
        joint: Encoder for "joint"; None builds one.
        frozen: Leave the joint encoder as it is.
    """

    def __init__(
        self,
        config: EncodersConfig,
        signals: Mapping[str, SignalSpec],
        *,
        joint: Encoder | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.signals = config, dict(signals)
        self.vectors = {key: signal.shape[0] for key, signal in signals.items() if signal.kind == "vector"}
        self.shapes: dict[str, tuple[int, int, int]] = {}
        self.maps = nn.ModuleDict()
        self._map_of: dict[str, str] = {}
        self.joint: Encoder | None = None
        self.latent_dim = self.token_dim = 0
        self.frozen = frozen
        if config.kind == "joint":
            self._join(joint)
        elif joint is not None:
            raise ConfigError("A pretrained encoder needs encoders.kind 'joint', got 'per_key'.")
        else:
            self._separate()

    def _join(self, joint: Encoder | None) -> None:
        """Use one encoder for all it knows; images that it does not know would be ignored."""
        if joint is None:
            size = replace(EncoderConfig.preset(self.config.joint_preset), name=self.config.joint_name)
            joint = build_encoder(size, self.signals)
        self.seen = tuple(key for key in self.signals if key in joint.signals)
        lost = [key for key, signal in self.signals.items() if key not in self.seen and signal.kind != "vector"]
        if lost or not self.seen:
            raise ConfigError(
                f"The encoder must know all images and force fields that are seen, not {', '.join(lost) or 'nothing'}; "
                f"it knows {', '.join(joint.signals)}."
            )
        self.joint = joint.requires_grad_(not self.frozen)
        self.latent_dim = joint.config.latent_dim
        self.token_dim = joint.config.embed_dim if joint.config.name == "vtt" else joint.config.latent_dim
        # The scale of a pretrained latent is arbitrary.
        self.latent_norm = nn.LayerNorm(self.latent_dim)
        self.token_norm = nn.LayerNorm(self.token_dim)

    def _separate(self) -> None:
        """Build one encoder per image and force field, or per size of image if they are shared."""
        for key, signal in self.signals.items():
            if signal.kind == "vector":
                continue
            rows, columns, channels = signal.shape
            image = signal.kind != "force_grid"
            name = f"all_{rows}x{columns}x{channels}" if self.config.shared and image else key
            if name not in self.maps:
                if image and self.config.image == "resnet18":
                    network: nn.Module = ResNet18(channels, width=self.config.width, norm=self.config.norm)
                else:
                    network = ConvNet(channels, rows, columns, width=self.config.width)
                self.maps[name] = network
            self._map_of[key] = name
            with torch.no_grad():
                self.shapes[key] = tuple(self.maps[name](torch.zeros(1, channels, rows, columns)).shape[1:])

    def name_of(self, key: str) -> str:
        """Name the encoder of an image in `maps`: the key, unless it is shared."""
        return self._map_of[key]

    def encode_map(self, key: str, image: Tensor) -> Tensor:
        """Encode images (N, C, H, W) of one key. Shape (N, F, h, w)."""
        return self.maps[self._map_of[key]](image)

    def encode_joint(
        self, observation: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encode frames jointly.

        Args:
            observation: Normalised, (N, ...).
            valid: Which frames have a signal, by key, (N,); the others are as if there were none.

        Returns:
            Latent (N, latent_dim); the tokens of the transformer (N, L, token_dim), of a baseline the latent again, as
            one token; and which tokens exist (N, L), None if all do.
        """
        assert self.joint is not None
        seen = {key: observation[key] for key in self.seen if key in observation}
        there = {key: flag for key, flag in (valid or {}).items() if key in seen}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output = self.joint(seen, valid=there or None)
        tokens = output.latent[:, None] if output.tokens is None else output.tokens
        return self.latent_norm(output.latent), self.token_norm(tokens), output.valid

    def made_of(self) -> dict[str, Any]:
        """List what rebuilds the joint encoder; JSON-ready."""
        if self.joint is None:
            return {}
        # A pretrained encoder may know more than the policy sees.
        signals = {key: asdict(signal) for key, signal in self.joint.signals.items()}
        return {"config": self.joint.config.to_dict(), "signals": signals, "frozen": self.frozen}


class MapPool(nn.Module):
    """Turns a map into one vector: positions of points, or the mean of each channel.

    Args:
        shape: (F, h, w).
        keypoints: Points P; 0 averages.
    """

    def __init__(self, shape: tuple[int, int, int], *, keypoints: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.feature_dim = 2 * keypoints if keypoints else channels
        self.pool = SpatialSoftmax(channels, height, width, keypoints=keypoints) if keypoints else None
        self.out = nn.Linear(self.feature_dim, self.feature_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, F, h, w) to (N, feature_dim)."""
        pooled = features.mean((2, 3)) if self.pool is None else self.pool(features).flatten(1)
        return torch.relu(self.out(pooled))


class PlaceTokens(nn.Module):
    """Turns each place of a map into a token, and tells where it is.

    Args:
        shape: (F, h, w).
        dim: D, divisible by 4.
    """

    def __init__(self, shape: tuple[int, int, int], *, dim: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(shape[0], dim, 1)
        self.position: Tensor
        self.register_buffer("position", sine_positions(shape[1], shape[2], dim), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, F, h, w) to tokens (N, h * w, D), and tell their positions (h * w, D)."""
        return self.project(features).flatten(2).mT, self.position


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Encode the places of a map, rows in the first half of the channels. Shape (h * w, dim).

    Source: Carion et al. 2020 (DETR) as used by ACT: places count from 1 and are scaled to 2 pi.
    """
    half = dim // 2
    frequency = 10000.0 ** (2 * (torch.arange(half) // 2) / half)

    def encode(count: int) -> Tensor:
        place = torch.arange(1, count + 1) / (count + 1e-6) * (2 * torch.pi)
        angle = place[:, None] / frequency  # (count, half)
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), 2).flatten(0, 1)
