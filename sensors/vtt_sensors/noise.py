"""Sensor noise: what differs between two pictures of the same touch.

Legend: B images, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vtt.errors import ConfigError
from vtt_sensors.calibration import NoiseParameters

__all__ = ["EpisodeNoise", "add_noise", "frame_noise", "sample_episode_noise"]

# A single generator for the batch, or one per image (then an image's noise does not depend on its batch).
_Generators = torch.Generator | Sequence[torch.Generator]


class EpisodeNoise(NamedTuple):
    """What stays the same during an episode.

    Attributes:
        gain: Gain per channel. Shape (B, 1, 1, 3).
        offset: Pattern plus offset per channel, in grey levels. Shape (B, H, W, 3).
    """

    gain: Tensor
    offset: Tensor


def sample_episode_noise(
    parameters: NoiseParameters, batch: int, *, image_shape: tuple[int, int], generator: _Generators
) -> EpisodeNoise:
    """Draw the noise of `batch` episodes.

    Args:
        parameters: Sizes of the noise.
        batch: Number of images.
        image_shape: Rows and columns.
        generator: One generator, or one per image.
    """
    gain = 1.0 + parameters.gain_std * _normal((batch, 1, 1, 3), generator)
    offset = 255.0 * parameters.offset_std * _normal((batch, 1, 1, 3), generator)
    pattern = _coloured((batch, *image_shape, 3), parameters.pattern_exponent, generator)
    return EpisodeNoise(gain, offset + 255.0 * parameters.pattern_std * pattern)


def add_noise(
    image: Tensor, parameters: NoiseParameters, *, episode: EpisodeNoise | None = None, generator: _Generators
) -> Tensor:
    """Add a frame's noise, and an episode's if given, to uint8 pictures (B, H, W, 3)."""
    noise = frame_noise(parameters, len(image), image_shape=(image.shape[1], image.shape[2]), generator=generator)
    noisy = image.to(torch.float32)
    if episode is not None:
        noisy = noisy * episode.gain.to(image.device) + episode.offset.to(image.device)
    return (noisy + noise.to(image.device)).round().clamp(0, 255).to(torch.uint8)


def frame_noise(
    parameters: NoiseParameters, batch: int, *, image_shape: tuple[int, int], generator: _Generators
) -> Tensor:
    """Draw the noise of `batch` frames in grey levels, periodic over rows and columns. Shape (B, H, W, 3)."""
    white = _normal((batch, *image_shape, 4), generator)
    # Channels share a part of the noise, which makes their correlation.
    shared = parameters.channel_correlation
    mixed = (1.0 - shared) ** 0.5 * white[..., :3] + shared**0.5 * white[..., 3:]
    return 255.0 * parameters.frame_std * _shape_spectrum(mixed, parameters.frame_exponent)


def _normal(shape: tuple[int, ...], generator: _Generators) -> Tensor:
    """Draw standard normal numbers on the generator's device."""
    if not isinstance(generator, Sequence):
        return torch.randn(shape, generator=generator, device=generator.device)
    if len(generator) != shape[0]:
        raise ConfigError(f"generator must be one or one per image ({shape[0]}), got {len(generator)}.")
    return torch.stack([torch.randn(shape[1:], generator=each, device=each.device) for each in generator])


def _coloured(shape: tuple[int, ...], exponent: float, generator: _Generators) -> Tensor:
    return _shape_spectrum(_normal(shape, generator), exponent)


def _shape_spectrum(white: Tensor, exponent: float) -> Tensor:
    """Give white noise (B, H, W, C) of unit deviation the power spectrum 1 / f^exponent and keep its deviation."""
    rows, columns = white.shape[1:3]
    frequency = torch.hypot(
        torch.fft.fftfreq(rows, device=white.device)[:, None], torch.fft.rfftfreq(columns, device=white.device)
    )
    frequency[0, 0] = torch.inf  # no mean: an offset is a number of its own
    amplitude = frequency.pow(-0.5 * exponent)
    full = torch.hypot(
        torch.fft.fftfreq(rows, device=white.device)[:, None], torch.fft.fftfreq(columns, device=white.device)
    )
    full[0, 0] = torch.inf
    amplitude = amplitude / full.pow(-exponent).mean().sqrt()
    spectrum = torch.fft.rfft2(white, dim=(1, 2)) * amplitude[None, :, :, None]
    return torch.fft.irfft2(spectrum, s=(rows, columns), dim=(1, 2))
