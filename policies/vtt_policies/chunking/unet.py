"""The network of diffusion policy: convolutions over the steps of a chunk, conditioned by FiLM.

Axes: B batch · K steps of a chunk · A action dimensions · C channels · G length of the condition.

Source: Chi et al. 2023, released code `conditional_unet1d.py`; the parameters bear the names of lerobot's
`modeling_diffusion.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtt_policies.chunking.config import DiffusionConfig

__all__ = ["ConditionalUnet1d"]

# The last block has eight groups whatever the others have, as in both released codes.
_LAST_GROUPS = 8


class ConditionalUnet1d(nn.Module):
    """Predicts the noise in a chunk.

    Args:
        config: Sizes.
        action_dim: A.
        condition_dim: G.
    """

    def __init__(self, config: DiffusionConfig, *, action_dim: int, condition_dim: int) -> None:
        super().__init__()
        embed, widths, kernel = config.diffusion_step_embed_dim, config.down_dims, config.kernel_size
        self.diffusion_step_encoder = nn.Sequential(
            _StepEmbedding(embed), nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, embed)
        )

        def block(inputs: int, outputs: int) -> _ResidualBlock:
            return _ResidualBlock(inputs, outputs, embed + condition_dim, kernel, config.n_groups)

        pairs = list(zip((action_dim, *widths[:-1]), widths, strict=True))
        self.down_modules = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(pairs):
            last = level == len(pairs) - 1
            halve = nn.Identity() if last else nn.Conv1d(outputs, outputs, 3, 2, 1)
            self.down_modules.append(nn.ModuleList([block(inputs, outputs), block(outputs, outputs), halve]))
        self.mid_modules = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(2))
        self.up_modules = nn.ModuleList()
        for outputs, inputs in reversed(pairs[1:]):
            double = nn.ConvTranspose1d(outputs, outputs, 4, 2, 1)
            # Twice the channels: what went down at this level comes back beside what comes up.
            self.up_modules.append(nn.ModuleList([block(2 * inputs, outputs), block(outputs, outputs), double]))
        self.final_conv = nn.Sequential(
            _ConvBlock(widths[0], widths[0], kernel, _LAST_GROUPS), nn.Conv1d(widths[0], action_dim, 1)
        )

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            noisy: Chunk with noise. Shape (B, K, A).
            timestep: Diffusion step of each. Shape (B,).
            condition: What the observation says. Shape (B, G).

        Returns:
            Shape (B, K, A).
        """
        x = noisy.mT  # (B, A, K)
        known = torch.cat((self.diffusion_step_encoder(timestep), condition), -1)
        passed = []
        for first, second, halve in self.down_modules:  # pyright: ignore[reportGeneralTypeIssues]
            x = second(first(x, known), known)
            passed.append(x)
            x = halve(x)
        for middle in self.mid_modules:
            x = middle(x, known)
        for first, second, double in self.up_modules:  # pyright: ignore[reportGeneralTypeIssues]
            x = torch.cat((x, passed.pop()), 1)
            x = double(second(first(x, known), known))
        return self.final_conv(x).mT


class _StepEmbedding(nn.Module):
    """Sines and cosines of the diffusion step, (B,) to (B, dim). Source: Vaswani et al. 2017, section 3.5."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.frequency: Tensor
        rate = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
        self.register_buffer("frequency", rate, persistent=False)

    def forward(self, timestep: Tensor) -> Tensor:
        angle = timestep[:, None] * self.frequency
        return torch.cat((angle.sin(), angle.cos()), -1)


class _ConvBlock(nn.Module):
    """Convolution, group normalisation, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.block = nn.Sequential(convolution, nn.GroupNorm(groups, outputs), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _ResidualBlock(nn.Module):
    """Two convolutions; between them the condition scales and shifts each channel (FiLM, Perez et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv1 = _ConvBlock(inputs, outputs, kernel, groups)
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * outputs))
        self.conv2 = _ConvBlock(outputs, outputs, kernel, groups)
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, C, K) and (B, G) to (B, C', K)."""
        scale, shift = self.cond_encoder(condition)[:, :, None].chunk(2, 1)
        return self.conv2(scale * self.conv1(x) + shift) + self.residual_conv(x)
