import shutil

import pytest
import torch

from vtt.encoders import EncoderConfig, build_encoder, signal_specs
from vtt.errors import ShapeError
from vtt.normalizer import Normalizer
from vtt.pretrained import load_encoder, save_encoder
from vtt.streams import StreamSpec
from vtt_policies.bundle import load_policy
from vtt_policies.environments import stream_specs
from vtt_policies.rl.config import FeaturesConfig, PpoConfig
from vtt_policies.rl.train import train

_SMALL = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 1, "checkpoint_every": 64, "video": False}


@pytest.fixture
def pretrained(tmp_path, reach):
    """A checkpoint of an encoder that knows camera and goal, the goal with a scale of its own."""
    specs = {key: stream_specs(reach(1))[key] for key in ("camera_front", "goal")}
    encoder = build_encoder(EncoderConfig(), signal_specs(specs, specs))
    scaled = Normalizer.fit(specs, {"goal": torch.tensor([[-7.0, -7.0], [7.0, 7.0]]).numpy()})
    return save_encoder(tmp_path / "encoder", encoder, normalizer=scaled, observation=specs, readme="")


def _run(out, pretrained, *, steps, frozen):
    features = FeaturesConfig(pretrained=pretrained, frozen=frozen)
    config = PpoConfig(
        "vtt_toy/Reach-v0", out, actor="visual", critic="oracle", steps=steps, features=features, **_SMALL
    )
    return load_policy(train(config, show_progress=False).run.path)[0]


def test_a_frozen_encoder_is_deployed_as_it_was_pretrained_even_if_its_folder_is_gone(pretrained, tmp_path):
    given = load_encoder(pretrained)
    _run(tmp_path / "run", pretrained, steps=64, frozen=True)
    shutil.rmtree(pretrained)
    policy = _run(tmp_path / "run", pretrained, steps=128, frozen=True)
    held = policy.network.features.encoder.state_dict()
    assert all(torch.equal(held[name], value) for name, value in given.encoder.state_dict().items())
    # It goes on seeing what it was trained on; what it does not know is measured anew.
    assert torch.equal(policy.normalizer.entries["goal"].scale, given.normalizer.entries["goal"].scale)
    assert policy.network.features.encoder_keys == ("camera_front", "goal")
    assert policy.keys == ("camera_front", "goal", "proprioception")


def test_an_encoder_that_is_fine_tuned_moves(pretrained, tmp_path):
    given = load_encoder(pretrained).encoder.state_dict()
    held = _run(tmp_path / "run", pretrained, steps=64, frozen=False).network.features.encoder.state_dict()
    assert any(not torch.equal(held[name], value) for name, value in given.items())


def test_an_encoder_of_another_camera_is_refused_before_a_run_is_begun(tmp_path):
    specs = {"camera_front": StreamSpec("image", (32, 32, 3), "uint8", "1", 20.0)}
    encoder = build_encoder(EncoderConfig(), signal_specs(specs, specs))
    path = save_encoder(tmp_path / "other", encoder, normalizer=Normalizer.fit(specs, {}), observation=specs, readme="")
    with pytest.raises(ShapeError, match=r"'camera_front' with shape \(32, 32, 3\)"):
        _run(tmp_path / "run", path, steps=64, frozen=True)
    assert not (tmp_path / "run").exists()
