import pytest
import torch

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError
from vtt_policies.rl.aacd import _PARTS
from vtt_policies.rl.config import AacdConfig, PpoConfig, SacConfig
from vtt_policies.rl.train import train

_SMALL = {"num_envs": 4, "n_steps": 16, "batch_size": 32, "n_epochs": 1, "checkpoint_every": 64, "video": False}
_SOURCE = {**_SMALL, "actor": "oracle", "hidden": (16,), "seed": 1}


def _train(kind, out, **options):
    return train(kind(env="vtt_toy/Reach-v0", out=out, **options), show_progress=False).run


def _critic(run):
    policy = load_training_state(run.last())["learner"]["modules"]["policy"]
    return {name: value for name, value in policy.items() if name.startswith(_PARTS)}


@pytest.fixture
def source(tmp_path):
    return _train(PpoConfig, tmp_path / "source", steps=64, **_SOURCE)


def test_a_frozen_critic_stays_what_its_run_left(source, tmp_path):
    options = {**_SMALL, "actor": "visual", "hidden": (16,), "variant": "frozen", "critic_run": source.path}
    run = _train(AacdConfig, tmp_path / "frozen", steps=64, **options)
    learned, taken = _critic(source), _critic(run)
    assert taken.keys() == learned.keys()
    assert all(torch.equal(taken[name], learned[name]) for name in learned)
    run = _train(AacdConfig, tmp_path / "frozen", steps=128, **options)
    assert all(torch.equal(value, learned[name]) for name, value in _critic(run).items())


def test_an_unfrozen_critic_begins_as_its_run_left_it_and_goes_on(source, tmp_path):
    options = {**_SMALL, "actor": "proprio", "hidden": (16,), "critic_run": source.path}
    still = _train(AacdConfig, tmp_path / "still", steps=64, learning_rate=1e-30, **options)
    moving = _train(AacdConfig, tmp_path / "moving", steps=64, **options)
    learned = _critic(source)
    assert all(torch.allclose(value, learned[name], atol=1e-12) for name, value in _critic(still).items())
    assert not any(torch.equal(value, learned[name]) for name, value in _critic(moving).items())
    # What it sees is normalised as its own run did, the actor's as the new run measured.
    state = load_training_state(moving.last())
    theirs = load_training_state(source.last())["normalizer"]
    for key in ("goal", "privileged", "proprioception"):
        assert torch.equal(state["critic_normalizer"][key]["scale"], theirs[key]["scale"])
    assert not torch.equal(state["normalizer"]["goal"]["scale"], theirs["goal"]["scale"])


def test_from_scratch_nothing_is_taken(tmp_path):
    run = _train(AacdConfig, tmp_path / "aac", steps=64, actor="proprio", hidden=(16,), variant="scratch", **_SMALL)
    assert load_training_state(run.last())["critic_normalizer"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8,)}, r"hidden must be \[16\], as of the critic at .*, got \[8\]"),
        ({"gamma": 0.9}, r"gamma must be 0.99, as of the critic"),
        ({"critic": "proprio"}, "critic must see goal, privileged, proprioception, as that at .*, got goal, proprio"),
    ],
)
def test_a_critic_that_does_not_fit_is_refused(options, message, source, tmp_path):
    changed = {"actor": "proprio", "hidden": (16,), "critic_run": source.path, **options}
    with pytest.raises(ConfigError, match=message):
        _train(AacdConfig, tmp_path / "run", steps=64, **_SMALL, **changed)


def test_only_a_critic_of_states_can_be_taken(tmp_path):
    options = {"num_envs": 4, "learning_starts": 8, "batch_size": 8, "buffer_size": 64, "hidden": (16,)}
    sac = _train(SacConfig, tmp_path / "sac", steps=16, actor="oracle", video=False, **options)
    with pytest.raises(ConfigError, match="critic_run must be a run of vtt train ppo, got sac"):
        _train(AacdConfig, tmp_path / "run", steps=64, critic_run=sac.path, actor="proprio", hidden=(16,), **_SMALL)
