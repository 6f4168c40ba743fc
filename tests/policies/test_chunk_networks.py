"""ACT's and diffusion policy's networks against closed forms, and against the published sizes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from vtt.encoders import SignalSpec, count_parameters
from vtt.errors import ConfigError
from vtt_policies.chunking.act import Act, ActOutput, act_loss, kl_from_normal
from vtt_policies.chunking.backbones import FrozenBatchNorm, ResNet18, SpatialSoftmax
from vtt_policies.chunking.config import ACT_PRESETS, DIFFUSION_PRESETS, ActConfig, DiffusionConfig, EncodersConfig
from vtt_policies.chunking.diffusion import Diffusion, diffusion_loss
from vtt_policies.chunking.encoders import Encoders, sine_positions
from vtt_policies.chunking.learner import ema_decay
from vtt_policies.chunking.schedule import NoiseSchedule, squared_cosine_betas
from vtt_policies.chunking.unet import ConditionalUnet1d

SIGNALS = {
    "proprioception": SignalSpec("vector", (4,)),
    "wrench": SignalSpec("vector", (6,), modality="touch"),
    "camera_front": SignalSpec("image", (16, 16, 3)),
    "tactile_left": SignalSpec("tactile_image", (16, 16, 3)),
    "force_left": SignalSpec("force_grid", (10, 14, 3)),
}
TINY = EncodersConfig(width=8, keypoints=4)
TINY_ACT = ActConfig(
    chunk_size=6, n_action_steps=3, dim_model=16, n_heads=2, dim_feedforward=32, latent_dim=4, encoders=TINY
)
TINY_DIFFUSION = DiffusionConfig(
    horizon=8, n_action_steps=4, down_dims=(16, 32), diffusion_step_embed_dim=16, encoders=TINY
)


def observation(signals=SIGNALS, *, batch: int = 3, frames: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {k: s.shape if s.kind == "vector" else (s.shape[2], *s.shape[:2]) for k, s in signals.items()}
    return {key: torch.randn(batch, frames, *shape, generator=generator) for key, shape in shapes.items()}


def act(config=TINY_ACT, signals=SIGNALS, **options) -> Act:
    torch.manual_seed(0)
    return Act(config, Encoders(config.encoders, signals), action_dim=2, **options).eval()


def diffusion(config=TINY_DIFFUSION, signals=SIGNALS, **options) -> Diffusion:
    torch.manual_seed(0)
    return Diffusion(config, Encoders(config.encoders, signals), action_dim=2, **options).eval()


def test_the_paper_presets_have_the_published_sizes():
    arm = {"proprioception": SignalSpec("vector", (14,)), "camera_front": SignalSpec("image", (480, 640, 3))}
    with torch.device("meta"):
        unet = ConditionalUnet1d(DIFFUSION_PRESETS["paper"], action_dim=7, condition_dim=270)
        hybrid = replace(DIFFUSION_PRESETS["paper"], down_dims=(256, 512, 1024), diffusion_step_embed_dim=256)
        smaller = ConditionalUnet1d(hybrid, action_dim=7, condition_dim=270)
        paper = ACT_PRESETS["paper"]
        size = count_parameters(Act(paper, Encoders(paper.encoders, arm), action_dim=14))
        resnet = count_parameters(ResNet18(3))
    # 51.6 M as measured on the released ACT; the U-Nets as on diffusion_policy: some 260 M and 69 M.
    assert size / 1e6 == pytest.approx(51.6, abs=0.05)
    assert count_parameters(unet) / 1e6 == pytest.approx(260, rel=0.02)
    assert count_parameters(smaller) / 1e6 == pytest.approx(69, abs=0.5)
    # He et al. 2016: 11.7 M with the classifier of 0.5 M.
    assert resnet == 11_176_512


def test_a_frozen_batch_norm_is_batch_norm_in_evaluation():
    torch.manual_seed(0)
    reference, frozen = nn.BatchNorm2d(5), FrozenBatchNorm(5)
    with torch.no_grad():
        for tensor in (reference.weight, reference.bias, reference.running_mean):
            tensor.copy_(torch.randn(5))
        reference.running_var.copy_(torch.rand(5) + 0.1)
    frozen.load_state_dict({k: v for k, v in reference.state_dict().items() if k != "num_batches_tracked"})
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(frozen(x), reference.eval()(x))
    assert not list(frozen.parameters())


def test_a_spatial_softmax_finds_where_a_map_is_hot():
    pool = SpatialSoftmax(2, 5, 9, keypoints=2)
    with torch.no_grad():
        pool.nets.weight.copy_(1e3 * torch.eye(2)[:, :, None, None])
        pool.nets.bias.zero_()
    features = torch.zeros(1, 2, 5, 9)
    features[0, 0, 0, 8] = 1.0  # first row, last column
    assert pool(features)[0, 0].tolist() == pytest.approx([1.0, -1.0])
    assert pool(features)[0, 1].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)  # all alike: the middle


def test_places_are_encoded_by_the_published_sines():
    encoded = sine_positions(2, 3, 8).reshape(2, 3, 8)
    row, column = 2 / (2 + 1e-6) * 2 * math.pi, 1 / (3 + 1e-6) * 2 * math.pi
    wave = [1.0, 1.0, 100.0, 100.0]
    closed = [
        *(f(row / w) for f, w in zip((math.sin, math.cos) * 2, wave, strict=True)),
        *(f(column / w) for f, w in zip((math.sin, math.cos) * 2, wave, strict=True)),
    ]
    assert encoded[1, 0].tolist() == pytest.approx(closed, abs=1e-5)


def test_the_schedule_is_the_squared_cosine():
    betas = squared_cosine_betas(100)
    kept = torch.cumprod(1 - betas, 0)

    def closed(step: int) -> float:
        return math.cos((step / 100 + 0.008) / 1.008 * math.pi / 2) ** 2

    for step in (0, 30, 98):
        assert float(kept[step]) == pytest.approx(closed(step + 1) / closed(0), rel=1e-9)
    assert float(betas[99]) == 0.999  # where the cosine reaches zero


def test_noise_is_added_with_the_closed_form_share():
    schedule = NoiseSchedule(100)
    clean, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    step = torch.tensor([0, 50, 99])
    kept = schedule.alphas_cumprod[step][:, None, None].double()
    expected = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    torch.testing.assert_close(schedule.add_noise(clean, noise, step).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("count", [100, 10, 3])
def test_a_network_that_knows_the_noise_denoises_exactly(sampler, count):
    """Whatever the number of steps: with the true noise the estimate of x_0 is exact, and so is the last step."""
    schedule = NoiseSchedule(100)
    clean = torch.rand(2, 4, 3) * 1.6 - 0.8
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(clean.shape, generator=generator)
    for step in schedule.timesteps(count):
        kept = schedule.alphas_cumprod[step]
        noise = (sample - kept.sqrt() * clean) / (1 - kept).sqrt()
        if sampler == "ddim":
            sample = schedule.ddim_step(sample, noise, step, step - 100 // count)
        else:
            fresh = torch.randn(clean.shape, generator=generator)
            sample = schedule.ddpm_step(sample, noise, step, step - 100 // count, fresh)
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=0)


def test_ddpm_steps_have_the_posterior_s_mean_and_variance():
    schedule = NoiseSchedule(100, clip_sample=False)
    step, before = 40, 39
    kept, kept_before = schedule.alphas_cumprod[step].double(), schedule.alphas_cumprod[before].double()
    beta = 1 - kept / kept_before
    noisy, noise, fresh = (torch.randn(1, 2, 2).double() for _ in range(3))
    # Ho et al. 2020, eqn. 11 and section 3.2 with the posterior's variance.
    mean = (noisy - beta / (1 - kept).sqrt() * noise) / (1 - beta).sqrt()
    variance = (1 - kept_before) / (1 - kept) * beta
    found = schedule.ddpm_step(noisy, noise, step, before, fresh)
    torch.testing.assert_close(found, mean + variance.sqrt() * fresh, atol=1e-5, rtol=1e-4)


def test_ddim_steps_are_spaced_evenly_and_clip_what_is_impossible():
    schedule = NoiseSchedule(100)
    assert schedule.timesteps(10) == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    far = torch.full((1, 1, 1), 5.0)
    assert float(schedule.estimate_clean(far, torch.zeros(1, 1, 1), 10)) == 1.0
    with pytest.raises(ConfigError, match=r"num_inference_steps must be in 1\.\.100, got 101"):
        schedule.timesteps(101)


def test_the_divergence_is_that_of_gaussians():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    there = torch.distributions.Normal(mean, (log_variance / 2).exp())
    closed = torch.distributions.kl_divergence(there, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl_from_normal(mean, log_variance), closed)


def test_losses_count_valid_steps_only():
    predicted, target = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    valid = torch.tensor([[True] * 5, [True, True, False, False, False]])
    cut = [(predicted[0], target[0]), (predicted[1, :2], target[1, :2])]
    absolute = torch.cat([(p - t).abs().flatten() for p, t in cut]).mean()
    squared = torch.cat([(p - t).square().flatten() for p, t in cut]).mean()
    loss, alone = act_loss(ActOutput(predicted, None, None), target, valid, kl_weight=10.0)
    torch.testing.assert_close(loss, absolute)
    torch.testing.assert_close(alone, absolute)
    torch.testing.assert_close(diffusion_loss(predicted, target, valid), squared)


def test_what_lies_behind_the_end_does_not_reach_act_s_style():
    network = act()
    actions, valid = torch.randn(3, 6, 2), torch.ones(3, 6, dtype=torch.bool)
    valid[:, 4:] = False
    other = actions.clone()
    other[:, 4:] = 99.0
    said = [
        network(observation(), actions=a, actions_valid=valid, generator=torch.Generator().manual_seed(0)).mean
        for a in (actions, other)
    ]
    torch.testing.assert_close(said[0], said[1])


@pytest.mark.parametrize("key", list(SIGNALS))
def test_no_observation_is_ignored(key):
    changed = observation()
    changed[key] = changed[key] + 1.0
    assert not torch.allclose(act()(observation()).chunk, act()(changed).chunk)
    frames = observation(frames=2)
    other = {**frames, key: frames[key] + 1.0}
    network = diffusion()
    assert not torch.allclose(network.condition(frames), network.condition(other))


@pytest.mark.parametrize("key", ["wrench", "tactile_left", "force_left"])
def test_a_signal_that_is_not_there_says_nothing(key):
    absent = {key: torch.tensor([False, True, True])}
    seen = observation()
    poisoned = {**seen, key: seen[key].clone()}
    poisoned[key][0] = 77.0
    without = {k: v for k, v in seen.items() if k != key}
    network = act(may_be_absent=(key,))
    chunk = network(seen, valid=absent).chunk
    torch.testing.assert_close(network(poisoned, valid=absent).chunk, chunk)
    torch.testing.assert_close(network(without).chunk[0], chunk[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network(seen).chunk[1:], chunk[1:], atol=1e-5, rtol=1e-4)

    frames = observation(frames=2)
    denoiser = diffusion(may_be_absent=(key,))
    with torch.no_grad():
        denoiser.absent[key].fill_(0.5)
    poisoned = {**frames, key: frames[key].clone()}
    poisoned[key][0] = 77.0
    condition = denoiser.condition(frames, valid=absent)
    torch.testing.assert_close(denoiser.condition(poisoned, valid=absent), condition)
    torch.testing.assert_close(denoiser.condition({k: v for k, v in frames.items() if k != key})[0], condition[0])
    torch.testing.assert_close(denoiser.condition(frames)[1:], condition[1:])


@pytest.mark.parametrize("name", ["vtt", "concat", "poe"])
def test_one_encoder_may_see_everything(name):
    joint = EncodersConfig(kind="joint", joint_name=name)
    signals = {key: SIGNALS[key] for key in ("proprioception", "camera_front", "tactile_left")}
    chunk = act(replace(TINY_ACT, encoders=joint), signals)(observation(signals)).chunk
    assert chunk.shape == (3, 6, 2)
    network = diffusion(replace(TINY_DIFFUSION, encoders=joint), signals)
    assert network.condition(observation(signals, frames=2)).shape == (3, 2 * (4 + 64))


@pytest.mark.parametrize("build", [act, diffusion])
def test_a_joint_encoder_does_not_let_through_what_is_not_there(build):
    joint = EncodersConfig(kind="joint")
    signals = {key: SIGNALS[key] for key in ("proprioception", "camera_front", "tactile_left")}
    config = replace(TINY_ACT if build is act else TINY_DIFFUSION, encoders=joint)
    network = build(config, signals, may_be_absent=("tactile_left",))
    seen = observation(signals, frames=1 if build is act else 2)
    poisoned = {**seen, "tactile_left": seen["tactile_left"] + 50.0}
    blind = {key: value for key, value in seen.items() if key != "tactile_left"}
    gone = {"tactile_left": torch.zeros(3, dtype=torch.bool)}

    def say(shown, valid=None):
        return network(shown, valid=valid).chunk if build is act else network.condition(shown, valid=valid)

    torch.testing.assert_close(say(poisoned, gone), say(seen, gone))
    torch.testing.assert_close(say(blind), say(seen, gone), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(say(poisoned), say(seen))


def test_the_running_mean_follows_the_published_decay():
    assert ema_decay(0) == 0.0
    assert ema_decay(99) == pytest.approx(1 - 100**-0.75)
    assert ema_decay(10**9) == 0.9999


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"n_action_steps must be in 1\.\.chunk_size = 1\.\.4, got 8"):
        ActConfig(chunk_size=4)
    with pytest.raises(ConfigError, match="n_action_steps must be 1 for a temporal ensemble, got 8"):
        ActConfig(temporal_ensemble_coeff=0.01)
    with pytest.raises(ConfigError, match="horizon must be divisible by 4"):
        DiffusionConfig(horizon=18)
    with pytest.raises(ConfigError, match=r"n_action_steps must be in 1\.\.horizon - n_obs_steps \+ 1 = 1\.\.7, got 8"):
        DiffusionConfig(horizon=8, down_dims=(64, 128))
