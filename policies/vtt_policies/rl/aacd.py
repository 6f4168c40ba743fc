"""The critic of one run for the actor of another: asymmetric actor-critic distillation.

Source: Akinola et al. 2025 (TacSL, arXiv 2408.06506v2), Algorithm 3, with what its code reuses: all weights of the
critic and the statistics that normalise its input, but neither its optimiser nor anything of the actor. There is no
loss between actions; the new actor learns by PPO alone, from values that are right from the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError
from vtt.normalizer import Normalizer
from vtt.runs import RunFolder
from vtt.streams import StreamSpec, check_observation
from vtt_policies.bundle import find_checkpoint
from vtt_policies.rl.config import AacdConfig
from vtt_policies.rl.state import load_normalizer, load_specs

__all__ = ["Critic", "freeze_critic", "give_critic", "read_critic"]

_PARTS = ("vf_features_extractor.", "mlp_extractor.value_net.", "value_net.")


class Critic(NamedTuple):
    """A critic that has learned.

    Attributes:
        weights: By name in PPO's policy.
        normalizer: Of what it sees.
    """

    weights: dict[str, Tensor]
    normalizer: Normalizer


def read_critic(path: Path, config: AacdConfig, specs: Mapping[str, StreamSpec]) -> Critic:
    """Read the critic of a run of `vtt train ppo`.

    Args:
        path: The run, whose newest checkpoint is read.
        config: Of the new run, which must give its critic the same layers.
        specs: What the new run's critic sees, in order.

    Raises:
        StoreError: If there is no checkpoint.
        ConfigError: If it is no run of PPO, or its critic differs; names both sides.
    """
    settings = RunFolder.open(path).config
    if settings.get("algorithm") not in ("ppo", "aacd"):
        raise ConfigError(
            f"critic_run must be a run of vtt train ppo, got {settings.get('algorithm', 'another')} at {path}."
        )
    for name, mine in (("hidden", list(config.hidden)), ("gamma", config.gamma), ("env", config.env)):
        if settings[name] != mine:
            raise ConfigError(f"{name} must be {settings[name]}, as of the critic at {path}, got {mine}.")
    state = load_training_state(find_checkpoint(path))
    sees = load_specs(state["specs"])
    keys = tuple(state["seen"]["critic"])
    if keys != tuple(specs):
        raise ConfigError(f"critic must see {', '.join(keys)}, as that at {path}, got {', '.join(specs)}.")
    check_observation({key: sees[key] for key in keys}, specs)
    policy = state["learner"]["modules"]["policy"]
    normalizer = load_normalizer(state["critic_normalizer"] or state["normalizer"])
    weights = {name: value for name, value in policy.items() if name.startswith(_PARTS)}
    return Critic(weights, Normalizer({key: normalizer.entries[key] for key in keys}))


def give_critic(model: BaseAlgorithm, critic: Critic) -> None:
    """Make a critic that of PPO.

    Raises:
        ConfigError: If it is of another make.
    """
    held = model.policy.state_dict()
    mine = {name: tuple(value.shape) for name, value in held.items() if name.startswith(_PARTS)}
    theirs = {name: tuple(value.shape) for name, value in critic.weights.items()}
    if mine != theirs:
        differing = sorted(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
        raise ConfigError(
            f"The critic must have the same layers as the new run's, got other {', '.join(differing[:3])}."
        )
    model.policy.load_state_dict({**held, **critic.weights})


def freeze_critic(model: BaseAlgorithm) -> None:
    """Leave the critic of PPO as it is from now on."""
    for name, parameter in model.policy.named_parameters():
        if name.startswith(_PARTS):
            parameter.requires_grad_(False)
