"""Measures what the normaliser of a new run needs, on first episodes half at random and half by the expert."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from gymnasium.vector import VectorEnv

from vtt.normalizer import Normalizer
from vtt.pretrained import Pretrained
from vtt.streams import StreamSpec, check_observation
from vtt_policies.environments import rest_images
from vtt_policies.evaluation import FIRST_EVALUATION_SEED
from vtt_policies.policy import RandomPolicy
from vtt_policies.rollout import rollout

__all__ = ["measure_scales"]

_log = logging.getLogger(__name__)


def measure_scales(
    env: VectorEnv, specs: Mapping[str, StreamSpec], *, seed: int, pretrained: Pretrained | None = None
) -> Normalizer:
    """Fit a normaliser that then stands still, so that an actor is deployed with what it was trained with.

    Random actions alone rarely touch anything, and would leave every force with the scale of its noise; so each action
    of these episodes is the expert's with probability one half. Nothing else is learned from them.

    Args:
        env: The environments; one episode is run in each.
        specs: What is observed.
        seed: Draws episodes and actions.
        pretrained: Encoder whose normaliser is kept where it knows a key.

    Raises:
        ShapeError: If the pretrained encoder knows a key differently.
    """
    known = {}
    if pretrained is not None:
        shared = [key for key in pretrained.observation if key in specs]
        check_observation({key: pretrained.observation[key] for key in shared}, {key: specs[key] for key in shared})
        known = {key: pretrained.normalizer.entries[key] for key in shared}
    fresh = {key: spec for key, spec in specs.items() if key not in known}
    rest = {key: image for key, image in rest_images(env).items() if key in fresh}
    measured = [key for key, spec in fresh.items() if key not in rest and spec.kind != "image"]
    samples = {}
    if measured:
        _log.info("Measuring the scale of %s on %d episodes.", ", ".join(measured), env.num_envs)
        rng = np.random.default_rng([seed, 3])
        policy = RandomPolicy(int(env.single_action_space.shape[0]), rng=rng)  # pyright: ignore[reportOptionalSubscript]
        seeds = rng.integers(FIRST_EVALUATION_SEED, size=env.num_envs).tolist()
        episodes = rollout(env, policy, seeds, record=measured, expert_share=0.5, rng=rng).episodes
        samples = {key: [episode[key] for episode in episodes] for key in measured}
    fitted = Normalizer.fit(fresh, samples, rest_images=rest)
    entries = {**fitted.entries, **known}
    return Normalizer({key: entries[key] for key in specs})
