import dataclasses

import pytest
import torch

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.errors import ConfigError, ShapeError
from vtt.normalizer import Normalizer
from vtt.pretrained import Pretrained
from vtt_policies.bundle import load_policy, save_policy
from vtt_policies.config import StudentConfig
from vtt_policies.construction import build_student


@pytest.fixture
def toy(corners):
    """What the toy offers, and samples of it."""
    env = corners(4, observation="tactile")
    return env.stream_specs(), {key: [value] for key, value in env.reset(seed=[0, 1, 2, 3])[0].items()}


def pretrained(specs, samples, keys, tmp_path) -> Pretrained:
    known = {key: specs[key] for key in keys}
    normalizer = Normalizer.fit(known, samples)
    config = EncoderConfig(latent_dim=24, embed_dim=32)
    return Pretrained(build_encoder(config, signal_specs(known, known)), normalizer, known, tmp_path)


def build(specs, samples, **options):
    return build_student(specs, samples, action_dim=2, network=StudentConfig(hidden_dim=16), seed=0, **options)


def test_a_pretrained_encoder_brings_its_weights_and_its_normaliser(toy, tmp_path):
    specs, samples = toy
    before = pretrained(specs, samples, ("tactile_left", "proprioception"), tmp_path)
    policy = build(specs, samples, pretrained=before)
    assert policy.network.encoder is before.encoder
    assert policy.network.encoder_keys == ("proprioception", "tactile_left")
    assert policy.normalizer.entries["tactile_left"] is before.normalizer.entries["tactile_left"]
    assert set(policy.normalizer.entries) == set(specs)


def test_the_same_seed_draws_the_same_weights_and_leaves_torchs_own_alone(toy):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second = build(*toy), build(*toy)
    assert torch.equal(torch.rand(3), expected)
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_student_comes_back_from_disk_as_it_was(toy, tmp_path):
    specs, samples = toy
    before = pretrained(specs, samples, ("tactile_left", "proprioception"), tmp_path)
    policy = build(specs, samples, pretrained=before)
    save_policy(tmp_path / "student", policy, specs=specs, run={"seed": 0})
    again, expected = load_policy(tmp_path / "student")
    assert expected == specs
    observation = {key: value[0] for key, value in samples.items()}
    for one in (policy, again):
        one.reset(4)
    assert (policy.act(observation) == again.act(observation)).all()


def test_rest_images_that_are_known_are_what_touch_is_compared_with(toy):
    specs, samples = toy
    rest = samples["tactile_left"][0][0] // 2
    policy = build(specs, samples, rest_images={"tactile_left": rest, "tactile_right": rest})
    assert (policy.rest_images()["tactile_left"] == rest).all()


def test_an_encoder_that_does_not_fit_is_refused(toy, tmp_path):
    specs, samples = toy
    without_touch = pretrained(specs, samples, ("proprioception",), tmp_path)
    with pytest.raises(ConfigError, match="know all images and force grids that the student sees, not tactile_left"):
        build(specs, samples, pretrained=without_touch)
    blind = {key: specs[key] for key in ("goal",)}
    with pytest.raises(ConfigError, match=r"must know something of what the student sees \(goal\)"):
        build(blind, samples, pretrained=without_touch)
    other_unit = {**specs, "proprioception": dataclasses.replace(specs["proprioception"], unit="mm")}
    with pytest.raises(ShapeError, match="expects 'proprioception' with unit m, but it arrives with unit mm"):
        build(other_unit, samples, pretrained=without_touch)
    with pytest.raises(ConfigError, match="must be a policy, got a checkpoint of encoder"):
        save_and_load_encoder(without_touch, tmp_path)


def save_and_load_encoder(encoder: Pretrained, tmp_path) -> None:
    from vtt.pretrained import save_encoder

    folder = tmp_path / "encoder"
    save_encoder(folder, encoder.encoder, normalizer=encoder.normalizer, observation=encoder.observation, readme="")
    load_policy(folder)
