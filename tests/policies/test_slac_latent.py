import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vtt.encoders import count_parameters
from vtt.errors import ConfigError
from vtt.streams import StreamSpec
from vtt.tokens import SignalSpec
from vtt_policies.slac import gaussian
from vtt_policies.slac.agent import Actor
from vtt_policies.slac.config import ModelConfig
from vtt_policies.slac.convolutions import ConvEncoder, Decoder
from vtt_policies.slac.gaussian import Gaussian
from vtt_policies.slac.latent import LatentModel
from vtt_policies.slac.model import Frames, TensorWindows, WorldModel, check_verdicts

SPECS = {
    "camera_front": StreamSpec("image", (16, 16, 3), "uint8", "1", 20.0),
    "tactile_left": StreamSpec("tactile_image", (16, 16, 3), "uint8", "1", 20.0),
    "proprioception": StreamSpec("vector", (2,), "float32", "m", 20.0),
}
SMALL = {"width": 4, "z1_dim": 3, "z2_dim": 5, "hidden_dim": 16, "sequence": 4, "feature_dim": 12, "min_gap": 1}


@pytest.fixture
def parts():
    """Build an encoder and a latent model."""

    def build(**settings):
        torch.manual_seed(0)
        config = ModelConfig(**{**SMALL, **settings})
        frames = Frames(SPECS, config=config, num_contacts=3)
        world = WorldModel(frames.signals, feature_dim=frames.feature_dim, action_dim=2, config=config)
        return frames, world

    return build


def windows(*, first=(0, 0), steps=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count, frames = len(first), steps + 1
    shapes = {"camera_front": (3, 16, 16), "tactile_left": (3, 16, 16), "proprioception": (2,)}
    observation = {key: torch.randn(count * frames, *shape, generator=generator) for key, shape in shapes.items()}
    return TensorWindows(
        observation,
        torch.rand(count, steps, 2, generator=generator),
        torch.randn(count, steps, generator=generator),
        torch.zeros(count, steps),
        (torch.rand(count, frames, 3, generator=generator) > 0.5).float(),
        torch.tensor(first),
        torch.arange(count),
        torch.zeros(count, dtype=torch.int64) - torch.tensor(first),
    )


def padded(short, *, by):
    """Put frames in front that must not matter."""
    count, frames = len(short.first), short.action.shape[1] + 1

    observation = {}
    for key, tensor in short.observation.items():
        rows = tensor.unflatten(0, (count, frames))
        junk = torch.full((count, by, *rows.shape[2:]), 7.0)
        observation[key] = torch.cat((junk, rows), 1).flatten(0, 1)

    def front(tensor, value):
        return torch.cat((torch.full((count, by, *tensor.shape[2:]), value), tensor), 1)

    return short._replace(
        observation=observation,
        action=front(short.action, 3.0),
        reward=front(short.reward, 9.0),
        terminated=front(short.terminated, 1.0),
        contact=front(short.contact, 1.0),
        first=short.first + by,
        start=short.start - by,
    )


def test_divergence_is_that_of_torch_distributions():
    torch.manual_seed(0)
    q, p = (Gaussian(torch.randn(4, 6), torch.rand(4, 6) + 0.1) for _ in range(2))
    wanted = kl_divergence(Normal(*q), Normal(*p)).sum(-1)
    torch.testing.assert_close(gaussian.kl_divergence(q, p), wanted)
    assert gaussian.kl_divergence(q, q).abs().max() < 1e-6


def test_density_is_that_of_torch_distributions():
    x, mean = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(gaussian.log_density(x, mean, 0.1), Normal(mean, math.sqrt(0.1)).log_prob(x))


def test_samples_have_the_mean_and_spread_asked_for():
    noise = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
    drawn = Gaussian(torch.tensor([2.0]), torch.tensor([0.5])).sample(noise)
    assert drawn.mean() == pytest.approx(2.0, abs=0.01)
    assert drawn.std() == pytest.approx(0.5, abs=0.01)


def test_prior_follows_from_the_posterior_of_the_step_before():
    torch.manual_seed(0)
    model = LatentModel(6, 2, config=ModelConfig(**SMALL))
    feature, action, noise = torch.randn(3, 5, 6), torch.randn(3, 4, 2), torch.randn(3, 5, 8)
    found = model(feature, action, first=torch.zeros(3, dtype=torch.int64), noise=noise)
    for t in range(1, 5):
        wanted = model.z1_prior(found.z[:, t - 1, 3:], action[:, t - 1])
        torch.testing.assert_close(found.prior.mean[:, t], wanted.mean)
        torch.testing.assert_close(found.prior.std[:, t], wanted.std)
    assert torch.equal(found.prior.mean[:, 0], torch.zeros(3, 3))
    assert torch.equal(found.prior.std[:, 0], torch.ones(3, 3))


def test_belief_never_looks_ahead():
    torch.manual_seed(0)
    model = LatentModel(6, 2, config=ModelConfig(**SMALL))
    feature, action, noise = torch.randn(1, 5, 6), torch.randn(1, 4, 2), torch.randn(1, 5, 8)
    first = torch.zeros(1, dtype=torch.int64)
    before = model(feature, action, first=first, noise=noise).z
    feature[:, 3:], action[:, 2:] = 0.0, 0.0
    after = model(feature, action, first=first, noise=noise).z
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("by", [1, 3])
def test_padding_leaves_every_loss_unchanged(parts, by):
    frames, world = parts(encoder="conv", contact=0.0, align=0.0)
    short = windows(first=(0, 0, 0), steps=3)
    longer = padded(short, by=by)
    noise = torch.randn(3, 4 + by, world.latent.z_dim)
    results = []
    for batch, part in ((short, noise[:, by:]), (longer, noise)):
        feature = frames(batch.observation)[0].unflatten(0, batch.valid.shape)
        filtered = world.latent(feature, batch.action, first=batch.first, noise=part)
        results.append(world.evidence(filtered, batch))
    assert set(results[0]) == {"kl", "reward", "image", "touch", "vector"}
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, msg=name)


def test_padding_leaves_gradients_finite_and_unread(parts):
    frames, world = parts(encoder="concat")
    batch = padded(windows(first=(0, 0), steps=3), by=2)
    for tensor in batch.observation.values():
        tensor.requires_grad_()
    losses = world.losses(frames, batch, generator=torch.Generator().manual_seed(0))
    torch.stack(list(losses.values())).sum().backward()
    for key, tensor in batch.observation.items():
        gradient = tensor.grad.unflatten(0, (2, 6))
        assert torch.equal(gradient[:, :2], torch.zeros_like(gradient[:, :2])), key
        assert gradient[:, 2:].abs().sum() > 0, key


def test_reward_of_a_terminal_step_is_learned(parts):
    _, world = parts(contact=0.0, align=0.0)
    batch = windows()
    batch.terminated[:, -1] = 1.0
    other = batch._replace(reward=batch.reward.clone())
    other.reward[:, -1] += 25.0
    generator = torch.Generator()
    feature = torch.randn(2, 5, world.latent.z1_posterior.layers[0].in_features - 5 - 2)
    found = [
        world.evidence(world.filter(feature, each, generator=generator.manual_seed(0)), each)["reward"]
        for each in (batch, other)
    ]
    assert found[1] > found[0] + 25.0


@pytest.mark.parametrize("encoder", ["vtt", "concat", "poe", "conv"])
def test_every_loss_trains_the_encoder_and_what_it_is_named_after(parts, encoder):
    frames, world = parts(encoder=encoder)
    losses = world.losses(frames, windows(), generator=torch.Generator().manual_seed(0))
    trained = {
        "kl": world.latent.z1_prior,
        "reward": world.reward,
        "image": world.decoders["camera_front"],
        "touch": world.decoders["tactile_left"],
        "vector": world.decoders["proprioception"],
        "contact": frames.encoder.contact,
        "align": frames.encoder.align,
    }
    assert set(losses) == set(trained)
    for name, module in trained.items():
        own = torch.autograd.grad(losses[name], list(module.parameters()), retain_graph=True)
        assert sum(float(gradient.abs().sum()) for gradient in own) > 0, name
        seen = torch.autograd.grad(
            losses[name], list(frames.encoder.parameters()), retain_graph=True, allow_unused=True
        )
        assert sum(float(gradient.abs().sum()) for gradient in seen if gradient is not None) > 0, name


@pytest.mark.parametrize("name", ["contact", "align"])
def test_a_verdict_of_weight_zero_is_left_out(parts, name):
    frames, world = parts(**{name: 0.0})
    losses = world.losses(frames, windows(), generator=torch.Generator().manual_seed(0))
    assert {"contact", "align"} - set(losses) == {name}


def test_moments_of_one_episode_close_in_time_are_no_mismatch(parts):
    frames, world = parts(min_gap=10)
    batch = windows()
    close = batch._replace(episode=torch.zeros(2, dtype=torch.int64), start=torch.tensor([0, 9]))
    apart = close._replace(start=torch.tensor([0, 10]))
    found = [world._mismatched(frames, each, torch.Generator().manual_seed(0)) for each in (batch, close, apart)]
    assert found[1] == 0.0
    assert found[0] == found[2] > 0.0


@pytest.mark.parametrize("shape", [(64, 64, 3), (48, 64, 3), (16, 16, 3), (21, 10, 3), (84, 84, 3)])
def test_convolutions_fit_images_of_any_size(shape):
    signal = SignalSpec("tactile_image", shape)
    encoder = ConvEncoder({"tactile_left": signal}, feature_dim=8, width=2, num_contacts=2)
    image = torch.randn(2, shape[2], *shape[:2])
    assert encoder({"tactile_left": image}).latent.shape == (2, 8)
    assert Decoder(signal, z_dim=5, width=2, hidden=8)(torch.randn(2, 5)).shape == image.shape


def test_networks_for_64_pixels_have_the_layers_of_slac():
    signal = SignalSpec("image", (64, 64, 3))
    encoder = ConvEncoder({"camera_front": signal}, feature_dim=256, width=32, num_contacts=1)
    decoder = Decoder(signal, z_dim=288, width=32, hidden=256)
    down = [tuple(weight.shape) for weight in encoder.branches.parameters() if weight.ndim == 4]
    up = [tuple(weight.shape) for weight in decoder.parameters() if weight.ndim == 4]
    assert down == [(32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (256, 256, 4, 4)]
    assert up == [(288, 256, 4, 4), (256, 128, 3, 3), (128, 64, 3, 3), (64, 32, 3, 3), (32, 3, 5, 5)]


def test_density_of_squashed_actions_is_that_of_torch_distributions():
    torch.manual_seed(0)
    actor = Actor(3, 2, sequence=2, hidden=8)
    feature, action = torch.randn(50, 2, 3), torch.randn(50, 1, 2)
    drawn, density = actor.sample(feature, action, generator=torch.Generator().manual_seed(1))
    mean, log_std = actor(feature, action)
    transform = torch.distributions.TanhTransform(cache_size=1)
    wanted = torch.distributions.TransformedDistribution(Normal(mean, log_std.exp()), [transform])
    torch.testing.assert_close(density, wanted.log_prob(drawn).sum(1), rtol=1e-4, atol=1e-4)


def test_losses_without_labels_are_refused():
    specs = {"camera_front": SPECS["camera_front"]}
    with pytest.raises(ConfigError, match=r"model.contact must be 0 where the environment's info tells no contact"):
        check_verdicts(SPECS, ModelConfig(), num_contacts=0)
    with pytest.raises(ConfigError, match=r"model.align must be 0 unless touch and something else are seen"):
        check_verdicts(specs, ModelConfig(contact=0.0), num_contacts=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"sequence": 2}, "sequence must be at least 3, got 2"),
        ({"reward_floor": 0.0}, "reward_floor must be positive, got 0.0"),
        ({"align": -1.0}, "align must not be negative, got -1.0"),
        ({"match_parameters": 1000}, "match_parameters must be None for encoder 'vtt', got 1000"),
        ({"batch_windows": 1}, "batch_windows must be at least 2 for the alignment loss, got 1"),
    ],
)
def test_impossible_models_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        ModelConfig(**settings)


def test_decoders_predict_the_difference_from_the_mean(parts):
    _, world = parts()
    seen = {key: torch.randn(6, *shape) for key, shape in (("camera_front", (3, 16, 16)), ("proprioception", (2,)))}
    seen["tactile_left"] = torch.randn(6, 3, 16, 16)
    z = torch.randn(1, world.latent.z_dim)
    before = {key: decoder(z) for key, decoder in world.decoders.items()}
    world.centre(seen)
    for key, decoder in world.decoders.items():
        torch.testing.assert_close(decoder(z) - before[key], seen[key].mean(0)[None])


def test_baselines_are_widened_to_the_size_of_the_transformer(parts):
    wanted = count_parameters(parts(encoder="vtt")[0].encoder)
    for encoder in ("concat", "poe"):
        found = count_parameters(parts(encoder=encoder, match_parameters=wanted)[0].encoder)
        assert found == pytest.approx(wanted, rel=0.05), encoder


def test_poe_draws_its_latent_in_training_only(parts):
    frames, _ = parts(encoder="poe")
    observation = windows().observation
    one, two = (frames(observation, generator=torch.Generator().manual_seed(seed))[0] for seed in (0, 1))
    assert not torch.equal(one, two)
    frames.eval()
    one, two = (frames(observation, generator=torch.Generator().manual_seed(seed))[0] for seed in (0, 1))
    assert torch.equal(one, two)
    assert np.isfinite(one.detach().numpy()).all()
