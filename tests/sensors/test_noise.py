from __future__ import annotations

import pytest
import torch

from vtt.errors import ConfigError
from vtt_sensors.calibration import NoiseParameters
from vtt_sensors.noise import add_noise, sample_episode_noise

_SHAPE = (60, 80)


def _grey(batch: int) -> torch.Tensor:
    return torch.full((batch, *_SHAPE, 3), 128, dtype=torch.uint8)


def test_frame_noise_has_the_size_and_correlation_asked_for():
    parameters = NoiseParameters(frame_std=0.05, channel_correlation=0.3)
    noise = add_noise(_grey(64), parameters, generator=torch.Generator().manual_seed(0)).float() - 128
    assert float(noise.std()) == pytest.approx(0.05 * 255, rel=0.05)
    assert float(torch.corrcoef(noise.reshape(-1, 3).T)[0, 1]) == pytest.approx(0.3, abs=0.05)


def test_coloured_noise_is_stronger_at_low_frequency():
    generator = torch.Generator().manual_seed(0)
    steep = NoiseParameters(frame_std=0.05, frame_exponent=4.0)
    noise = add_noise(_grey(8), steep, generator=generator).float()
    white = add_noise(_grey(8), NoiseParameters(frame_std=0.05, frame_exponent=0.0), generator=generator).float()
    assert noise.diff(dim=1).std() < 0.3 * white.diff(dim=1).std()


def test_an_episode_has_its_gain_and_pattern():
    parameters = NoiseParameters(frame_std=0.0, pattern_std=0.02, gain_std=0.1, offset_std=0.05)
    episode = sample_episode_noise(parameters, 200, image_shape=_SHAPE, generator=torch.Generator().manual_seed(0))
    assert float(episode.gain.std()) == pytest.approx(0.1, rel=0.1)
    offset = episode.offset.mean(dim=(1, 2), keepdim=True)
    assert float(offset.std()) == pytest.approx(0.05 * 255, rel=0.1)
    assert float((episode.offset - offset).std()) == pytest.approx(0.02 * 255, rel=0.1)
    image = add_noise(_grey(200), parameters, episode=episode, generator=torch.Generator())
    expected = (128 * episode.gain + episode.offset).round().clamp(0, 255)
    assert torch.equal(image, expected.to(torch.uint8))


def test_without_noise_pictures_stay_as_they_are():
    silent = NoiseParameters(0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    episode = sample_episode_noise(silent, 2, image_shape=_SHAPE, generator=torch.Generator())
    assert torch.equal(add_noise(_grey(2), silent, episode=episode, generator=torch.Generator()), _grey(2))


def test_with_a_generator_per_image_noise_does_not_depend_on_the_batch():
    def noisy(seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        episode = sample_episode_noise(NoiseParameters(), len(seeds), image_shape=_SHAPE, generator=generators)
        return add_noise(_grey(len(seeds)), NoiseParameters(), episode=episode, generator=generators)

    assert torch.equal(noisy([1, 2, 3])[1], noisy([2])[0])


def test_the_number_of_generators_must_fit():
    with pytest.raises(ConfigError, match="generator must be one or one per image"):
        add_noise(_grey(3), NoiseParameters(), generator=[torch.Generator()])
