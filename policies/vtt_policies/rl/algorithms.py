"""Builds the algorithm of stable-baselines3 that a config asks for, and takes the deployable actor out of one."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from sb3_contrib import TQC, CrossQ, RecurrentPPO
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from vtt.encoders import Encoder, EncoderConfig, build_encoder, signal_specs
from vtt.errors import missing
from vtt.normalizer import Normalizer
from vtt.streams import StreamSpec
from vtt_policies.rl import policies
from vtt_policies.rl.actor import Actor, ActorPolicy, Standardise
from vtt_policies.rl.config import (
    CrossqConfig,
    FeaturesConfig,
    OffPolicyConfig,
    PpoConfig,
    RecurrentPpoConfig,
    RlConfig,
    SacConfig,
    TqcConfig,
)
from vtt_policies.rl.features import Features
from vtt_policies.rl.frame_buffer import FrameReplayBuffer
from vtt_policies.rl.groups import Seen
from vtt_policies.rl.policies import Extractor, Extractors

__all__ = ["actor_of", "build_algorithm", "encoders_of"]


def build_algorithm(
    config: RlConfig,
    env: VecEnv,
    *,
    seen: Seen,
    specs: Mapping[str, StreamSpec],
    normalizer: Normalizer,
    critic_normalizer: Normalizer | None = None,
    encoder: Encoder | None = None,
) -> BaseAlgorithm:
    """Build an algorithm that has learned nothing.

    Args:
        config: Which, and how.
        env: Where it learns.
        seen: What actor and critic see.
        specs: What that is.
        normalizer: Knows what the actor sees, and the critic unless it has its own.
        critic_normalizer: Of a critic that was trained before.
        encoder: Pretrained encoder to begin with; None builds a new one where there are images or force grids.
    """
    make = partial(_extractor, config.features, specs=specs, pretrained=encoder)
    actor = partial(make, seen.actor, normalizer=normalizer)
    critic = partial(make, seen.critic, normalizer=critic_normalizer or normalizer)
    shared = isinstance(config, PpoConfig) and seen.actor == seen.critic and critic_normalizer is None
    extractors = Extractors(actor, None if shared else critic)
    rate = config.learning_rate
    common: dict[str, Any] = {
        "env": env,
        "learning_rate": rate if config.schedule == "constant" else LinearSchedule(rate, 0.0, 1.0),
        "gamma": config.gamma,
        "seed": config.seed,
        "device": config.device,
        "policy_kwargs": {"extractors": extractors, "net_arch": list(config.hidden)},
    }
    if isinstance(config, PpoConfig):
        return _on_policy(config, common)
    if isinstance(config, OffPolicyConfig):
        return _off_policy(config, common)
    raise missing("algorithm", type(config).__name__, ("PPO", "RecurrentPPO", "SAC", "TQC", "CrossQ"))


def actor_of(model: BaseAlgorithm, specs: Mapping[str, StreamSpec], normalizer: Normalizer) -> ActorPolicy:
    """Take the mean action out of an algorithm. It shares the weights, except batch statistics, which it copies.

    Args:
        model: The algorithm.
        specs: What the actor sees, in the order of its keys.
        normalizer: Knows that.
    """
    policy: Any = model.policy
    memory = None
    if isinstance(model, PPO | RecurrentPPO):
        memory = getattr(policy, "lstm_actor", None)
        extractor, hidden, head = policy.pi_features_extractor, policy.mlp_extractor.policy_net, policy.action_net
    else:
        extractor, hidden, head = policy.actor.features_extractor, policy.actor.latent_pi, policy.actor.mu
    layers = nn.Sequential(*(_still(layer) for layer in (*hidden, head)))
    actor = Actor(extractor.features, memory, layers, bound="clip" if isinstance(model, PPO | RecurrentPPO) else "tanh")
    own = Normalizer({key: normalizer.entries[key] for key in specs})
    return ActorPolicy(actor, own, keys=tuple(specs), device=model.device)


def encoders_of(model: BaseAlgorithm) -> list[Extractor]:
    """List the extractors whose encoder is trained, each once; not the targets, which follow."""
    policy: Any = model.policy
    if isinstance(model, PPO | RecurrentPPO):
        found = [policy.pi_features_extractor, policy.vf_features_extractor]
    else:
        found = [policy.actor.features_extractor, policy.critic.features_extractor]
    return [part for part in dict.fromkeys(found) if part.features.encoder is not None]


def _on_policy(config: PpoConfig, common: dict[str, Any]) -> BaseAlgorithm:
    """Build PPO, with or without memory."""
    common["policy_kwargs"]["log_std_init"] = config.log_std
    same = ("n_steps", "batch_size", "n_epochs", "gae_lambda", "clip_range", "ent_coef", "vf_coef", "max_grad_norm")
    options = {name: getattr(config, name) for name in (*same, "target_kl")}
    if isinstance(config, RecurrentPpoConfig):
        common["policy_kwargs"]["lstm_hidden_size"] = config.lstm
        return _as_is(RecurrentPPO)(policies.AsymmetricRecurrentPpo, **common, **options)
    return _as_is(PPO)(policies.AsymmetricPpo, **common, **options)


def _off_policy(config: OffPolicyConfig, common: dict[str, Any]) -> BaseAlgorithm:
    """Build one of the SAC family."""
    same = ("buffer_size", "learning_starts", "batch_size", "train_freq", "gradient_steps")
    options = {name: getattr(config, name) for name in same}
    options["ent_coef"] = "auto" if config.ent_coef is None else config.ent_coef
    options["replay_buffer_class"] = FrameReplayBuffer
    if isinstance(config, CrossqConfig):
        return _as_is(CrossQ)(policies.AsymmetricCrossq, **common, **options, policy_delay=config.policy_delay)
    if isinstance(config, TqcConfig):
        drop = config.drop_quantiles
        options |= {"tau": config.tau, "top_quantiles_to_drop_per_net": drop}
        return _as_is(TQC)(policies.AsymmetricTqc, **common, **options)
    assert isinstance(config, SacConfig)
    return _as_is(SAC)(policies.AsymmetricSac, **common, **options, tau=config.tau)


def _as_is(algorithm: type[BaseAlgorithm]) -> Any:
    """Keep SB3 from transposing images: they stay as the environment gives them, as when deployed."""
    return type(algorithm.__name__, (algorithm,), {"_wrap_env": staticmethod(lambda env, *_: env)})


def _extractor(
    config: FeaturesConfig,
    keys: tuple[str, ...],
    *,
    specs: Mapping[str, StreamSpec],
    normalizer: Normalizer,
    pretrained: Encoder | None,
) -> Extractor:
    """Build the extractor of what one of actor and critic sees."""
    seen = {key: specs[key] for key in keys}
    signals = signal_specs(seen, seen)
    encoder: Encoder | None = None
    if pretrained is not None and set(pretrained.signals) & set(signals):
        encoder = deepcopy(pretrained).requires_grad_(not config.frozen)
    elif any(signal.kind != "vector" for signal in signals.values()):
        encoder = build_encoder(replace(EncoderConfig.preset(config.preset), name=config.encoder), signals)
    return Extractor(Features(seen, encoder), normalizer)


@torch.no_grad()
def _still(layer: nn.Module) -> nn.Module:
    """Make batch renormalisation stand still; leave any other layer."""
    if not isinstance(layer, BatchRenorm1d):
        return layer
    still = Standardise(layer.num_features, eps=layer.eps)
    for name, value in (
        ("mean", layer.ra_mean),
        ("variance", layer.ra_var),
        ("scale", layer.scale),
        ("bias", layer.bias),
    ):
        getattr(still, name).copy_(value)
    return still.to(layer.scale.device)
