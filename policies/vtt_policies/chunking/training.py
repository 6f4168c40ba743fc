"""Begin to train ACT or a diffusion policy on recorded episodes.

Axes: K steps of a chunk · A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vtt.affine import Affine
from vtt.errors import missing
from vtt.normalizer import Normalizer
from vtt.pretrained import Pretrained
from vtt.streams import Stream, StreamSpec
from vtt_policies.bundle import load_as
from vtt_policies.chunking.config import ActTrainingConfig, ChunkTrainingConfig
from vtt_policies.chunking.learner import ChunkLearner
from vtt_policies.chunking.policy import ACTION, ActPolicy, ChunkPolicy, DiffusionPolicy
from vtt_policies.chunking.windows import ChunkWindows
from vtt_policies.construction import fit_normalizer
from vtt_policies.imitate import Demonstrations, Imitation
from vtt_policies.observations import without_keys

__all__ = ["build_chunk_policy", "fit_actions", "imitate_in_chunks"]

# Zhao et al. 2023 clip the standard deviation of an action at .01; Chi et al. 2023 leave a range below 1e-4 as it is.
_ACTION_FLOOR = 1e-2


def imitate_in_chunks(
    config: ChunkTrainingConfig, shown: Demonstrations, last: Path | None, pretrained: Pretrained | None
) -> Imitation:
    """Begin to train, or load the policy of a checkpoint to go on.

    Args:
        config: Everything about the run.
        shown: Recorded episodes.
        last: Checkpoint to go on from.
        pretrained: Encoder to begin with.
    """
    store, keys = shown.store, tuple(shown.specs)
    label = "expert_action" if "expert_action" in store.streams else "action"
    if label not in store.streams:
        raise missing("stream", label, store.streams)
    kind = ActPolicy if isinstance(config, ActTrainingConfig) else DiffusionPolicy

    def windows(indices: NDArray[np.int64]) -> tuple[list[dict[str, Stream]], ChunkWindows]:
        episodes = [store.read(int(index), (*keys, label)) for index in indices]
        return episodes, ChunkWindows(
            episodes,
            keys,
            label=label,
            period=1.0 / store.streams[label].rate_hz,
            obs_horizon=config.network.obs_horizon,
            prediction_horizon=config.network.prediction_horizon,
            # Diffusion policy also denoises what was done between the frames it sees.
            first_step=0 if kind is ActPolicy else 1 - config.network.obs_horizon,
        )

    episodes, learned = windows(shown.learned)
    _, validation = windows(shown.held_out)
    if last is not None:
        policy, _ = load_as(kind, last, device=config.device)
    else:
        policy = build_chunk_policy(
            kind,
            config,
            shown.specs,
            {key: [episode[key].data for episode in episodes] for key in keys},
            [episode[label].data for episode in episodes],
            pretrained=pretrained,
            rest_images=shown.rest_images,
        )
    learner = ChunkLearner(policy, config=config.learner)
    return Imitation(policy, learner, learned, lambda: learner.validate(validation))


def build_chunk_policy(
    kind: type[ActPolicy] | type[DiffusionPolicy],
    config: ChunkTrainingConfig,
    specs: Mapping[str, StreamSpec],
    samples: Mapping[str, Sequence[NDArray]],
    actions: Sequence[NDArray],
    *,
    pretrained: Pretrained | None = None,
    rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
) -> ChunkPolicy:
    """Build a policy that has not learned yet.

    Args:
        kind: Which policy.
        config: Sizes and seed.
        specs: What it sees.
        samples: Observations, which give vectors their scale. Each array (T, ...).
        actions: Demonstrated actions. Each array (T, A).
        pretrained: Encoder to begin with.
        rest_images: Pictures of the untouched gels by key, where they are known.
    """
    observed = fit_normalizer(specs, samples, pretrained=pretrained, rest_images=rest_images)
    entry = fit_actions(np.concatenate(actions), limits=kind is DiffusionPolicy)
    hidden = set(specs) - set(without_keys(specs, config.learner.drop_modality))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = kind.make_network(
            config.network,  # pyright: ignore[reportArgumentType]
            specs,
            action_dim=actions[0].shape[1],
            joint=pretrained.encoder if pretrained is not None else None,
            frozen=config.learner.encoder_rate == 0.0,
            may_be_absent=tuple(key for key in specs if key in hidden),
        )
    normalizer = Normalizer({**observed.entries, ACTION: entry})
    return kind(network.to(config.device), normalizer, keys=tuple(specs), device=config.device)


def fit_actions(actions: NDArray, *, limits: bool) -> Affine:
    """Measure how actions are normalised.

    Args:
        actions: Demonstrated. Shape (N, A).
        limits: Map the range to [-1, 1], as diffusion policy does; else to mean 0 and deviation 1, as ACT does.
    """
    if limits:
        low, high = actions.min(0), actions.max(0)
        offset, scale = (high + low) / 2, (high - low) / 2
    else:
        offset, scale = actions.mean(0), actions.std(0)
    dead = tuple(str(index) for index in np.flatnonzero(scale < _ACTION_FLOOR))
    return Affine(
        "vector",
        (actions.shape[1],),
        torch.tensor(offset, dtype=torch.float32),
        torch.tensor(np.maximum(scale, _ACTION_FLOOR), dtype=torch.float32),
        dead,
    )
