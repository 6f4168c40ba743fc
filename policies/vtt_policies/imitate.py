"""Imitation: fit a student (behaviour cloning), ACT or a diffusion policy to recorded expert episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vtt.errors import ConfigError, MissingError
from vtt.pretrained import Pretrained, load_encoder
from vtt.store import EpisodeStore
from vtt.streams import StreamSpec
from vtt_policies.bundle import load_as
from vtt_policies.chunking.config import ChunkTrainingConfig
from vtt_policies.config import BcConfig, ImitateConfig
from vtt_policies.construction import build_student
from vtt_policies.learner import GradientSteps, Learner
from vtt_policies.observations import student_keys, without_keys
from vtt_policies.policy import Deployable
from vtt_policies.recording import LABELS, read_episodes, read_rest_images
from vtt_policies.replay import EpisodeBuffer
from vtt_policies.rollout import Episode
from vtt_policies.student import StudentPolicy
from vtt_policies.training import Source, Trained, begin_run_of, begin_training

__all__ = ["Demonstrations", "Imitation", "imitate"]


class Demonstrations(NamedTuple):
    """Recorded episodes, and which of them are learned from.

    Attributes:
        store: The store.
        specs: What the policy sees of it.
        rest_images: Pictures of the untouched gels by key, where they are known.
        learned: Indices of the episodes that are learned from.
        held_out: Indices of those that only the validation loss sees.
    """

    store: EpisodeStore
    specs: dict[str, StreamSpec]
    rest_images: dict[str, NDArray[np.uint8]]
    learned: NDArray[np.int64]
    held_out: NDArray[np.int64]


class Imitation(NamedTuple):
    """What an iteration works with.

    Attributes:
        policy: What is saved.
        learner: What fits it.
        source: Gives batches.
        validate: Measures the loss on held-out episodes.
    """

    policy: Deployable
    learner: GradientSteps[Any]
    source: Source[Any]
    validate: Callable[[], float]


def imitate(config: ImitateConfig, *, show_progress: bool = True) -> Trained:
    """Train a policy until its budget is spent, from where an earlier call on the same folder stopped.

    Args:
        config: Everything about the run.
        show_progress: Show a bar on a terminal.

    Returns:
        What was reached.

    Raises:
        ConfigError: If the run folder holds a run with other settings, or the policy would see privileged keys.
        MissingError: If the store has no episode, or lacks an observation.
        StateError: If the loss stops being finite.
    """
    shown = _demonstrations(config)
    pretrained = load_encoder(config.encoder, device=config.device) if config.encoder else None
    folder = begin_run_of(config, method=config.method)
    last = folder.last()
    if isinstance(config, BcConfig):
        begun = _clone(config, shown, last, pretrained)
    elif isinstance(config, ChunkTrainingConfig):
        from vtt_policies.chunking.training import imitate_in_chunks

        begun = imitate_in_chunks(config, shown, last, pretrained)
    else:
        raise ConfigError(f"config must be of bc, act or diffusion, got {type(config).__name__}.")
    training = begin_training(folder, begun.policy, begun.learner, specs=shown.specs, config=config)
    with tqdm(
        total=config.iterations, initial=training.iteration, unit="it", disable=None if show_progress else True
    ) as bar:
        while not training.over:
            loss = training.fit(begun.source, updates=config.updates)
            validation_loss = begun.validate()
            training.commit({"loss": loss, "validation_loss": validation_loss})
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", validation=f"{validation_loss:.4f}")
    return training.result()


def _demonstrations(config: ImitateConfig) -> Demonstrations:
    """Open the store, and part its episodes."""
    store = EpisodeStore.open(config.data)
    if config.episodes is not None and config.episodes > len(store):
        raise MissingError(f"{config.data} must hold {config.episodes} episodes, got {len(store)}. Collect more.")
    if not len(store):
        raise MissingError("No episode in the store. Collect some first.")
    keys = student_keys(config.student, [k for k in store.streams if k not in LABELS], without=config.without)
    if isinstance(config, ChunkTrainingConfig):
        dropped = config.learner.drop_modality
        if dropped != "nothing" and without_keys(keys, dropped) == keys:
            raise ConfigError(
                f"drop_modality must be something that the policy sees, got {dropped} of {', '.join(keys)}."
            )
    count = config.episodes or len(store)
    order = np.random.default_rng(config.seed).permutation(count)
    held_out = round(config.held_out * count)
    if held_out == count:
        raise ConfigError(f"held_out must leave an episode to learn from, got {config.held_out} of {count}.")
    specs = {key: store.streams[key] for key in keys}
    return Demonstrations(store, specs, read_rest_images(store), order[held_out:], order[:held_out])


def _clone(config: BcConfig, shown: Demonstrations, last: Path | None, pretrained: Pretrained | None) -> Imitation:
    """Begin behaviour cloning, or go on with it."""
    episodes = read_episodes(shown.store, tuple(shown.specs))
    if last is not None:
        policy, _ = load_as(StudentPolicy, last, device=config.device)
    else:
        policy = build_student(
            shown.specs,
            {key: [episodes[index][key] for index in shown.learned] for key in shown.specs},
            action_dim=episodes[0]["expert_action"].shape[1],
            network=config.network,
            pretrained=pretrained,
            rest_images=shown.rest_images,
            seed=config.seed,
            device=config.device,
        )
    learner = Learner(policy.network, policy.normalizer, config=config.learner, device=config.device)
    learned = _buffer([episodes[index] for index in shown.learned], policy, learner)
    validation = _buffer([episodes[index] for index in shown.held_out], policy, learner)
    return Imitation(policy, learner, learned, lambda: _validate(learner, validation))


def _buffer(episodes: list[Episode], policy: StudentPolicy, learner: Learner) -> EpisodeBuffer:
    """Hold all episodes in memory; with a frozen encoder what it says of them instead of their images."""
    vectors = policy.network.vector_keys
    keys = (*vectors, "latent") if learner.frozen else policy.keys
    capacity = 1 + sum(array.nbytes for episode in episodes for array in episode.values())
    # Latents may outweigh the images they replace, so nothing is ever forgotten here.
    buffer = EpisodeBuffer(keys, capacity=64 * capacity)
    for episode in episodes:
        latent = {"latent": policy.encode_episode(episode)} if learner.frozen else {}
        buffer.add({**episode, **latent})
    return buffer


@torch.inference_mode()
def _validate(learner: Learner, buffer: EpisodeBuffer) -> float:
    """Average the loss over held-out episodes, each weighing the same; NaN without any."""
    learner.student.eval()
    losses = [float(learner.loss(buffer.gather([index]))) for index in range(len(buffer))]
    return float(np.mean(losses)) if losses else float("nan")
