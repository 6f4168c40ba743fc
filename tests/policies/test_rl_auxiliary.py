import pytest
import torch

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError, StateError
from vtt.runs import RunFolder
from vtt_policies.rl.config import AuxiliaryConfig, PpoConfig, SacConfig
from vtt_policies.rl.train import train

_ON = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 1, "checkpoint_every": 64, "log_every": 64}
_OFF = {"num_envs": 4, "buffer_size": 200, "learning_starts": 20, "batch_size": 16, "gradient_steps": 1}


def _run(kind, out, *, steps, auxiliary=AuxiliaryConfig(updates=1, batch_size=8), **options):  # noqa: B008 (frozen)
    common = {"actor": "visual", "critic": "oracle", "hidden": (16,), "video": False, "auxiliary": auxiliary}
    return train(kind(env="vtt_toy/Reach-v0", out=out, steps=steps, **{**common, **options}), show_progress=False)


def _learner(folder):
    return load_training_state(RunFolder.open(folder).last())["learner"]["modules"]["policy"]


@pytest.mark.parametrize("updates", [0, 2])
def test_the_reconstruction_moves_the_encoder_of_a_policy_that_stands_still(updates, tmp_path):
    config = AuxiliaryConfig(updates=updates, batch_size=8)
    _run(PpoConfig, tmp_path / "run", steps=64, auxiliary=config, learning_rate=1e-30, **_ON)
    _run(PpoConfig, tmp_path / "begin", steps=64, auxiliary=AuxiliaryConfig(), learning_rate=1e-30, **_ON)
    moved, begun = _learner(tmp_path / "run"), _learner(tmp_path / "begin")
    trunk = [name for name in begun if "pi_features_extractor.features.encoder.trunk" in name]
    assert trunk
    assert all(torch.equal(moved[name], begun[name]) != bool(updates) for name in trunk if name.endswith("weight"))


@pytest.mark.parametrize(
    ("kind", "options", "steps"),
    [(PpoConfig, _ON, 128), pytest.param(SacConfig, _OFF, 64, marks=pytest.mark.slow)],
)
def test_a_joint_run_that_was_interrupted_ends_as_an_uninterrupted_one(kind, options, steps, tmp_path):
    options = {**options, "checkpoint_every": steps // 2}
    _run(kind, tmp_path / "whole", steps=steps, **options)
    _run(kind, tmp_path / "parts", steps=steps // 2, **options)
    _run(kind, tmp_path / "parts", steps=steps, **options)
    whole, parts = _learner(tmp_path / "whole"), _learner(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_reconstruction_that_diverges_says_so(tmp_path):
    config = AuxiliaryConfig(updates=20, batch_size=8, learning_rate=1e30)
    with pytest.raises(StateError, match=r"auxiliary loss must be finite.*Lower auxiliary.learning_rate"):
        _run(PpoConfig, tmp_path / "run", steps=64, auxiliary=config, **_ON)


def test_there_must_be_something_to_reconstruct(tmp_path):
    with pytest.raises(ConfigError, match=r"auxiliary.updates must be 0 where there is no image or force grid"):
        _run(PpoConfig, tmp_path / "run", steps=64, actor="proprio", **_ON)
