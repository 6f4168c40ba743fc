"""Behaviour cloning: fit a student to recorded expert episodes."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from tqdm import tqdm

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError
from vtt.pretrained import load_encoder
from vtt.store import EpisodeStore
from vtt_policies.bundle import load_as
from vtt_policies.config import BUDGET, Budget, ImitateConfig
from vtt_policies.construction import build_student
from vtt_policies.learner import Learner
from vtt_policies.observations import ObservationGroups, resolve_keys, without_keys
from vtt_policies.recording import LABELS, read_episodes
from vtt_policies.replay import EpisodeBuffer
from vtt_policies.rollout import Episode
from vtt_policies.student import StudentPolicy
from vtt_policies.training import Trained, Training, begin_run

__all__ = ["imitate"]


def imitate(config: ImitateConfig, *, show_progress: bool = True) -> Trained:
    """Train a student until its budget is spent, from where an earlier call on the same folder stopped.

    Args:
        config: Everything about the run.
        show_progress: Show a bar on a terminal.

    Returns:
        What was reached.

    Raises:
        ConfigError: If the run folder holds a run with other settings, or the student would see privileged keys.
        MissingError: If the store has no episode, or lacks an observation.
        StateError: If the loss stops being finite.
    """
    store = EpisodeStore.open(config.data)
    offered = [key for key in store.streams if key not in LABELS]
    keys = without_keys(resolve_keys(config.student, offered), config.without)
    groups = ObservationGroups(student=keys, ignore=tuple(key for key in offered if key not in keys))
    groups.check(offered)
    specs = {key: store.streams[key] for key in keys}
    episodes = read_episodes(store, keys)
    order = np.random.default_rng(config.seed).permutation(len(episodes))
    held_out = round(config.held_out * len(episodes))
    if held_out == len(episodes):
        raise ConfigError(f"held_out must leave an episode to learn from, got {config.held_out} of {len(episodes)}.")

    folder = begin_run(config.out, asdict(config), seed=config.seed, may_change=("out", *BUDGET))
    last = folder.last()
    if last is not None:
        policy, _ = load_as(StudentPolicy, last, device=config.device)
    else:
        policy = build_student(
            specs,
            {key: [episodes[index][key] for index in order[held_out:]] for key in specs},
            action_dim=episodes[0]["expert_action"].shape[1],
            network=config.network,
            pretrained=load_encoder(config.encoder, device=config.device) if config.encoder else None,
            seed=config.seed,
            device=config.device,
        )
    learner = Learner(policy.network, policy.normalizer, config=config.learner, device=config.device)
    budget = Budget(config.iterations, config.seconds)
    training = Training(folder, policy, learner, specs=specs, budget=budget, seed=config.seed)
    if last is not None:
        training.continue_from(load_training_state(last))

    learned = _buffer([episodes[index] for index in order[held_out:]], policy, learner)
    validation = _buffer([episodes[index] for index in order[:held_out]], policy, learner)
    with tqdm(
        total=config.iterations, initial=training.iteration, unit="it", disable=None if show_progress else True
    ) as bar:
        while not training.over:
            loss = training.fit(learned, updates=config.updates)
            validation_loss = _validate(learner, validation)
            training.commit({"loss": loss, "validation_loss": validation_loss})
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", validation=f"{validation_loss:.4f}")
    return training.result()


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
