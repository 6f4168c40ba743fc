from pathlib import Path

import pytest

from vtt.errors import ConfigError
from vtt_policies.rl.config import (
    AacdConfig,
    AuxiliaryConfig,
    CrossqConfig,
    FeaturesConfig,
    PpoConfig,
    RecurrentPpoConfig,
    SacConfig,
    TqcConfig,
)
from vtt_policies.rl.groups import seen_by

_OFFERED = ("goal", "privileged", "proprioception", "tactile_left")
_PRETRAINED = FeaturesConfig(pretrained=Path("encoder"), frozen=True)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PpoConfig, {"batch_size": 100}, r"divide the rollout of n_steps \* num_envs = 4096 samples, got 100. Take 4"),
        (PpoConfig, {"batch_size": 1}, "batch_size must be at least 2"),
        (PpoConfig, {"gamma": 0.0}, r"gamma must be in \(0, 1\]"),
        (PpoConfig, {"hidden": ()}, "hidden must be positive widths"),
        (PpoConfig, {"steps": 0}, "steps must be positive"),
        (PpoConfig, {"seconds": -1.0}, "seconds must be positive"),
        (PpoConfig, {"ignore": ("goal",)}, "ignore must come with observation"),
        (PpoConfig, {"features": _PRETRAINED, "auxiliary": AuxiliaryConfig(updates=1)}, "0 for a frozen encoder"),
        (PpoConfig, {"features": FeaturesConfig("poe"), "auxiliary": AuxiliaryConfig(updates=1)}, "no tokens to hide"),
        (RecurrentPpoConfig, {"lstm": 0}, "lstm must be positive"),
        (
            SacConfig,
            {"buffer_size": 100},
            "buffer_size must hold a batch of 256 and a step of 16 environments, got 100",
        ),
        (SacConfig, {"learning_starts": 10**6}, "nothing would be learned"),
        (SacConfig, {"gradient_steps": 0}, "gradient_steps must be positive or -1"),
        (SacConfig, {"tau": 0.0}, "tau must be in"),
        (TqcConfig, {"drop_quantiles": 25}, "drop_quantiles must be in"),
        (CrossqConfig, {"policy_delay": 0}, "policy_delay must be positive"),
        (AacdConfig, {}, "critic_run must name a run of vtt train ppo for variant 'unfrozen', got None"),
        (AacdConfig, {"variant": "scratch", "critic_run": Path("x")}, "critic_run must be left out"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_cure(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(env="env", out=Path("run"), **options)


def test_a_new_encoder_cannot_be_frozen():
    with pytest.raises(ConfigError, match="frozen must be False for a new encoder"):
        FeaturesConfig(frozen=True)
    with pytest.raises(ConfigError, match="mask_ratio must be in"):
        AuxiliaryConfig(mask_ratio=1.0)
    with pytest.raises(ConfigError, match="updates must not be negative"):
        AuxiliaryConfig(updates=-1)


def test_steps_are_rounded_up_to_whole_rollouts():
    ppo = PpoConfig("env", Path("run"), num_envs=8, n_steps=32, batch_size=64)
    assert [ppo.whole(steps) for steps in (1, 256, 257)] == [32, 32, 64]
    assert SacConfig("env", Path("run"), num_envs=8, train_freq=2).whole(17) == 4


def test_the_critic_sees_as_the_actor_unless_it_is_told_otherwise():
    seen = seen_by(PpoConfig("env", Path("run"), actor="tactile"), _OFFERED)
    assert seen.actor == seen.critic == ("goal", "proprioception", "tactile_left")
    seen = seen_by(PpoConfig("env", Path("run"), actor="tactile", critic="oracle"), _OFFERED)
    assert seen.critic == ("goal", "privileged", "proprioception")
    assert seen.all == ("goal", "proprioception", "tactile_left", "privileged")


def test_an_actor_that_sees_only_what_a_simulator_knows_is_refused():
    with pytest.raises(ConfigError, match="something besides privileged observations, got privileged"):
        seen_by(PpoConfig("env", Path("run"), actor="privileged"), _OFFERED)
