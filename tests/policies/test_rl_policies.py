import numpy as np
import pytest
import torch

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.errors import ConfigError, MissingError
from vtt_policies.bundle import load_policy, save_policy
from vtt_policies.environments import stream_specs
from vtt_policies.rl.actor import build_layers, describe_layers
from vtt_policies.rl.algorithms import actor_of, build_algorithm
from vtt_policies.rl.config import CrossqConfig, FeaturesConfig, PpoConfig, RecurrentPpoConfig, SacConfig, TqcConfig
from vtt_policies.rl.features import Features
from vtt_policies.rl.groups import seen_by
from vtt_policies.rl.scales import measure_scales
from vtt_policies.rl.vec_env import BatchVecEnv

KINDS = [PpoConfig, RecurrentPpoConfig, SacConfig, TqcConfig, CrossqConfig]


def _build(reach, tmp_path, kind, *, encoder=None, **options):
    config = kind(
        env="reach", out=tmp_path, hidden=(16,), num_envs=4, **{"actor": "visual", "critic": "oracle", **options}
    )
    env = reach(4)
    seen = seen_by(config, env.single_observation_space.spaces)
    specs = {key: stream_specs(env)[key] for key in seen.all}
    normalizer = measure_scales(env, specs, seed=0)
    vec = BatchVecEnv(env, seen.all, seed=0)
    model = build_algorithm(config, vec, seen=seen, specs=specs, normalizer=normalizer, encoder=encoder)
    return model, vec, {key: specs[key] for key in seen.actor}, normalizer


def _observations(vec, steps=3):
    """Some observations, and where episodes begin."""
    shown = [(vec.reset(), np.ones(4, bool))]
    for _ in range(steps):
        observation, _, done, _ = vec.step(np.full((4, 2), 0.5, np.float32))
        shown.append((observation, done))
    return shown


@pytest.mark.parametrize("kind", KINDS)
def test_the_deployed_actor_does_what_the_trained_one_predicts(kind, tmp_path, reach):
    model, vec, specs, normalizer = _build(reach, tmp_path, kind)
    if kind is CrossqConfig:  # statistics that differ from those at the start
        for name, buffer in model.policy.named_buffers():
            if name.endswith(("ra_mean", "ra_var")):
                buffer.uniform_(0.5, 1.5)
    with torch.no_grad():  # SB3 begins with a mean action near zero
        for parameter in model.policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    save_policy(tmp_path / "saved", actor_of(model, specs, normalizer), specs=specs, run={})
    policy, _ = load_policy(tmp_path / "saved")
    policy.reset(4)
    state, spread = None, []
    for observation, begins in _observations(vec):
        policy.reset(4) if begins.all() else None
        if begins.any() and not begins.all():
            break
        wanted, state = model.predict(observation, state, begins, deterministic=True)
        acted = policy.act(observation)
        # SB3 maps what it squashed to [-1, 1] and back, which rounds.
        assert np.allclose(acted, wanted, atol=0 if kind in (PpoConfig, RecurrentPpoConfig) else 1e-6, rtol=0)
        spread.append(acted)
    assert np.std(spread) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_the_critic_sees_leaves_every_action_as_it_was(kind, tmp_path, reach):
    model, vec, _, _ = _build(reach, tmp_path, kind)
    observation = vec.reset()
    other = {**observation, "privileged": observation["privileged"] + 100.0}
    assert np.array_equal(
        model.predict(observation, deterministic=True)[0], model.predict(other, deterministic=True)[0]
    )
    torch.manual_seed(0)
    drawn, _ = model.predict(observation)
    torch.manual_seed(0)
    assert np.array_equal(model.predict(other)[0], drawn)


@pytest.mark.parametrize("kind", [PpoConfig, SacConfig])
def test_what_only_the_critic_sees_changes_its_values(kind, tmp_path, reach):
    model, vec, _, _ = _build(reach, tmp_path, kind)
    observation = vec.reset()

    def values(**changed):
        tensors = model.policy.obs_to_tensor({**observation, **changed})[0]
        if kind is PpoConfig:
            return model.policy.predict_values(tensors)
        return model.critic(tensors, torch.zeros(4, 2))[0]

    assert not torch.equal(values(), values(privileged=observation["privileged"] + 1.0))
    assert torch.equal(values(), values(camera_front=observation["camera_front"] // 2))


def test_actor_and_critic_share_features_where_they_see_the_same(tmp_path, reach):
    shared = _build(reach, tmp_path, PpoConfig, critic=None)[0].policy
    assert shared.pi_features_extractor is shared.vf_features_extractor
    apart = _build(reach, tmp_path, PpoConfig)[0].policy
    assert apart.pi_features_extractor.features_dim != apart.vf_features_extractor.features_dim


@pytest.mark.parametrize(("kind", "frozen"), [(PpoConfig, True), (PpoConfig, False), (SacConfig, True)])
def test_a_pretrained_encoder_arrives_as_it_is_and_stays_so_if_frozen(kind, frozen, tmp_path, reach):
    specs = stream_specs(reach(1, observation="visual"))
    encoder = build_encoder(EncoderConfig(), signal_specs(specs, specs))
    features = FeaturesConfig(pretrained=tmp_path, frozen=frozen)
    model, *_ = _build(reach, tmp_path, kind, encoder=encoder, features=features, critic=None)
    part = model.policy.pi_features_extractor if kind is PpoConfig else model.actor.features_extractor
    held = part.features.encoder
    assert held is not encoder
    for name, value in encoder.state_dict().items():
        assert torch.equal(held.state_dict()[name], value)
    assert all(parameter.requires_grad != frozen for parameter in held.parameters())


def test_an_image_that_the_encoder_does_not_know_is_refused(reach):
    specs = stream_specs(reach(1, observation="visual"))
    blind = build_encoder(EncoderConfig(), signal_specs(specs, ["goal"]))
    with pytest.raises(ConfigError, match="must know all images and force grids, not camera_front; it knows goal"):
        Features(specs, blind)


def test_a_vector_far_beyond_its_scale_is_cut(reach):
    specs = stream_specs(reach(1, observation="proprio"))
    features = Features(specs, None)
    assert features({"goal": torch.full((1, 2), 1e9), "proprioception": torch.zeros(1, 2)}).max() == 10.0


def test_layers_are_described_and_built_again():
    described = [["linear", 3, 8], ["standardise", 8, 0.001], ["relu"], ["linear", 8, 2], ["tanh"]]
    assert describe_layers(build_layers(described)) == described
    with pytest.raises(MissingError, match="No deployable layer 'Dropout'"):
        describe_layers(torch.nn.Sequential(torch.nn.Dropout()))
