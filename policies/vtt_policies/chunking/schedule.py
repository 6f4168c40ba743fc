"""Noise schedule of denoising diffusion, and its two ways back.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t = 0 .. T - 1; the network predicts eps.

Source: Ho et al. 2020 (DDPM), Song et al. 2021 (DDIM, eta = 0), Nichol and Dhariwal 2021 (the squared cosine); steps of
inference are spaced as in diffusers' "leading" mode, which diffusion policy and lerobot use.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from vtt.errors import ConfigError

__all__ = ["NoiseSchedule", "squared_cosine_betas"]

_MAX_BETA = 0.999


def squared_cosine_betas(count: int) -> Tensor:
    """Variances of the noise added at each step. Shape (count,), float64.

    Source: Nichol and Dhariwal 2021, eqn. 17: abar(s) = cos^2((s + .008) / 1.008 * pi / 2), betas at most .999.
    """
    whole = [math.cos((step / count + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(count + 1)]
    return torch.tensor(
        [min(1 - after / before, _MAX_BETA) for before, after in itertools.pairwise(whole)],
        dtype=torch.float64,
    )


class NoiseSchedule(nn.Module):
    """Adds noise, and takes steps back.

    Args:
        num_train_timesteps: T.
        clip_sample: Clip each estimate of x_0 to [-1, 1].
    """

    def __init__(self, num_train_timesteps: int, *, clip_sample: bool = True) -> None:
        super().__init__()
        self.num_train_timesteps, self.clip_sample = num_train_timesteps, clip_sample
        self.alphas_cumprod: Tensor
        kept = torch.cumprod(1.0 - squared_cosine_betas(num_train_timesteps), 0)
        self.register_buffer("alphas_cumprod", kept.float(), persistent=False)

    def timesteps(self, count: int) -> list[int]:
        """List the diffusion steps of inference, the noisiest first.

        Example:
            >>> NoiseSchedule(100).timesteps(4)
            [75, 50, 25, 0]
        """
        if not 1 <= count <= self.num_train_timesteps:
            raise ConfigError(f"num_inference_steps must be in 1..{self.num_train_timesteps}, got {count}.")
        return [step * (self.num_train_timesteps // count) for step in reversed(range(count))]

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Draw x_t given x_0. Shapes (B, K, A), (B, K, A), (B,)."""
        kept = self.alphas_cumprod[timestep][:, None, None]
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise

    def estimate_clean(self, noisy: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """Estimate x_0 from x_t and the predicted noise."""
        kept = self.alphas_cumprod[timestep]
        clean = (noisy - (1 - kept).sqrt() * noise) / kept.sqrt()
        return clean.clamp(-1.0, 1.0) if self.clip_sample else clean

    def ddim_step(self, noisy: Tensor, noise: Tensor, timestep: int, before: int) -> Tensor:
        """Go back from step `timestep` to `before`, or to x_0 if that is negative; adds no noise.

        Source: Song et al. 2021, eqn. 12 with sigma = 0. The direction is that of the predicted noise, also where the
        estimate of x_0 was clipped (diffusers' default).
        """
        kept = self._kept(before)
        return kept.sqrt() * self.estimate_clean(noisy, noise, timestep) + (1 - kept).sqrt() * noise

    def ddpm_step(self, noisy: Tensor, noise: Tensor, timestep: int, before: int, fresh: Tensor) -> Tensor:
        """Draw x_before given x_t and the estimate of x_0; `fresh` is standard normal, unused at the last step.

        Source: Ho et al. 2020, eqns. 6 and 7, over steps of any length; the variance is the posterior's.
        """
        kept, kept_before = self.alphas_cumprod[timestep], self._kept(before)
        alpha = kept / kept_before
        clean = self.estimate_clean(noisy, noise, timestep)
        mean = (kept_before.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - kept_before) * noisy) / (1 - kept)
        if before < 0:
            return mean
        variance = (1 - kept_before) / (1 - kept) * (1 - alpha)
        return mean + variance.clamp_min(1e-20).sqrt() * fresh

    def _kept(self, timestep: int) -> Tensor:
        """Share of the clean signal's power at a step; all of it before the first."""
        return self.alphas_cumprod[timestep] if timestep >= 0 else self.alphas_cumprod.new_ones(())
