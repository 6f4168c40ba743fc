"""Diffusion policy: a chunk is denoised under the condition of the latest frames.

Axes: B batch · T frames · K steps of a chunk · A action dimensions · G length of the condition.

Source: Chi et al. 2023. Deviations: any mix of images, force fields, vectors or a joint encoder, any of which may be
absent.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtt_policies.chunking.config import DiffusionConfig
from vtt_policies.chunking.encoders import Encoders, MapPool
from vtt_policies.chunking.schedule import NoiseSchedule
from vtt_policies.chunking.unet import ConditionalUnet1d

__all__ = ["Diffusion", "diffusion_loss"]


class Diffusion(nn.Module):
    """Encoders of the observation, and the network that denoises.

    Args:
        config: Sizes.
        encoders: Turns observations into maps and vectors.
        action_dim: A.
        may_be_absent: Keys for which `valid` may say that they are not there.
    """

    def __init__(
        self, config: DiffusionConfig, encoders: Encoders, *, action_dim: int, may_be_absent: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.config, self.action_dim, self.may_be_absent = config, action_dim, may_be_absent
        self.encoders = encoders
        self.pools = nn.ModuleDict(
            {key: MapPool(shape, keypoints=config.encoders.keypoints) for key, shape in encoders.shapes.items()}
        )
        widths = {**encoders.vectors, **{key: self.pools[key].feature_dim for key in encoders.shapes}}
        # Said instead of a signal that is not there, which is never filled with zeros.
        self.absent = nn.ParameterDict(
            {key: nn.Parameter(torch.zeros(int(widths[key]))) for key in may_be_absent if key in widths}  # pyright: ignore[reportArgumentType]
        )
        per_frame = int(sum(int(width) for width in widths.values())) + encoders.latent_dim  # pyright: ignore[reportArgumentType]
        self.unet = ConditionalUnet1d(config, action_dim=action_dim, condition_dim=config.n_obs_steps * per_frame)
        self.schedule = NoiseSchedule(config.num_train_timesteps, clip_sample=config.clip_sample)

    def condition(self, observation: Mapping[str, Tensor], *, valid: Mapping[str, Tensor] | None = None) -> Tensor:
        """Encode the latest frames.

        Args:
            observation: Normalised, (B, T, ...). A key that may be absent need not be there.
            valid: Which samples have a signal, by key. Shape (B,).

        Returns:
            Vectors first, then images, then the joint latent, frame by frame. Shape (B, G).
        """
        first = next(iter(observation.values()))
        batch, frames = first.shape[:2]
        flat = {key: value.flatten(0, 1) for key, value in observation.items()}  # (B * T, ...)
        there = {key: flag.repeat_interleave(frames) for key, flag in (valid or {}).items()}
        parts = []
        for key in (*self.encoders.vectors, *self.encoders.shapes):
            if key not in flat and key in self.absent:
                part = self.absent[key].expand(batch * frames, -1)
            else:
                part = self.pools[key](self.encoders.encode_map(key, flat[key])) if key in self.pools else flat[key]
                if key in there and key in self.absent:
                    part = torch.where(there[key][:, None], part, self.absent[key])
            parts.append(part)
        if self.encoders.joint is not None:
            parts.append(self.encoders.encode_joint(flat, valid=there)[0])
        return torch.cat(parts, -1).unflatten(0, (batch, frames)).flatten(1)

    def loss(
        self,
        observation: Mapping[str, Tensor],
        actions: Tensor,
        actions_valid: Tensor,
        *,
        valid: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Add noise to demonstrated chunks and measure how well it is found. Scalar.

        Args:
            observation: Normalised, (B, T, ...).
            actions: Normalised. Shape (B, K, A).
            actions_valid: Which steps exist. Shape (B, K).
            valid: Which samples have a signal, by key. Shape (B,).
            generator: Draws noise and diffusion steps.
        """
        device = actions.device
        noise = torch.randn(actions.shape, generator=generator, device=device)
        count = self.config.num_train_timesteps
        timestep = torch.randint(count, (len(actions),), generator=generator, device=device)
        noisy = self.schedule.add_noise(actions, noise, timestep)
        predicted = self.unet(noisy, timestep, self.condition(observation, valid=valid))
        counted = actions_valid if self.config.do_mask_loss_for_padding else torch.ones_like(actions_valid)
        return diffusion_loss(predicted, noise, counted)

    def denoise(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Turn noise into chunks.

        Args:
            condition: From `condition`. Shape (B, G).
            noise: Standard normal, `draws` of them. Shape (B, draws, K, A).

        Returns:
            Normalised actions, which begin at the oldest frame. Shape (B, K, A).
        """
        sample = noise[:, 0]
        steps = self.schedule.timesteps(self.config.num_inference_steps)
        for index, step in enumerate(steps):
            before = step - self.config.num_train_timesteps // self.config.num_inference_steps
            timestep = torch.full((len(sample),), step, device=sample.device)
            predicted = self.unet(sample, timestep, condition)
            if self.config.sampler == "ddim":
                sample = self.schedule.ddim_step(sample, predicted, step, before)
            else:
                # The last step adds none, so its draw would be the first one's again.
                fresh = noise[:, (index + 1) % self.draws]
                sample = self.schedule.ddpm_step(sample, predicted, step, before, fresh)
        return sample

    @property
    def draws(self) -> int:
        """Noises that one chunk needs: the first, and with "ddpm" another for each step but the last."""
        return self.config.num_inference_steps if self.config.sampler == "ddpm" else 1


def diffusion_loss(predicted: Tensor, noise: Tensor, counted: Tensor) -> Tensor:
    """Average the squared error over the counted steps. Shapes (B, K, A), (B, K, A), (B, K)."""
    error = (predicted - noise).square().mean(-1)  # (B, K)
    return (error * counted).sum() / counted.sum().clamp_min(1)
