"""Distillation: the student drives, the expert says what it would have done, all of it is kept (DAgger).

Source: Ross, Gordon and Bagnell 2011, Algorithm 3.1. Deviations: the student is fitted further in each iteration, not
from scratch, and rollouts are whole episodes of a batch of environments.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv
from tqdm import tqdm

from vtt.pretrained import load_encoder
from vtt.store import EpisodeStore
from vtt_policies.bundle import load_as
from vtt_policies.config import DistillConfig
from vtt_policies.construction import build_student
from vtt_policies.environments import make_environments, rest_images, stream_specs
from vtt_policies.evaluation import FIRST_EVALUATION_SEED
from vtt_policies.learner import Learner
from vtt_policies.observations import environment_word, student_keys
from vtt_policies.policy import ExpertPolicy
from vtt_policies.recording import RolloutStore, read_episodes
from vtt_policies.replay import Batch, EpisodeBuffer
from vtt_policies.rollout import Episode, rollout
from vtt_policies.student import StudentPolicy
from vtt_policies.training import Trained, Training, begin_run_of, begin_training

__all__ = ["distill", "training_seeds"]

_log = logging.getLogger(__name__)


def distill(config: DistillConfig, *, show_progress: bool = True) -> Trained:
    """Train a student until its budget is spent, from where an earlier call on the same folder stopped.

    Args:
        config: Everything about the run.
        show_progress: Show a bar on a terminal.

    Returns:
        What was reached.

    Raises:
        ConfigError: If the run folder holds a run with other settings, or the student would see privileged keys.
        MissingError: If the environment or an observation does not exist.
        StateError: If the loss stops being finite.
    """
    word = environment_word(config.student, without=config.without)
    env = make_environments(config.env, num_envs=config.num_envs, observation=word, env_args=config.env_args)
    try:
        return _Distillation(env, config).run(show_progress=show_progress)
    finally:
        env.close()


def training_seeds(seed: int, iteration: int, count: int) -> list[int]:
    """Choose the environments' seeds of one iteration, all below the seeds of evaluation."""
    return np.random.default_rng([seed, iteration, 0]).integers(FIRST_EVALUATION_SEED, size=count).tolist()


class _Gathered(NamedTuple):
    """Episodes of one iteration, and whether they were driven just now."""

    episodes: list[Episode]
    seconds: float
    env_steps: int


class _Distillation:
    """One call of `distill`: the environments, what was recorded, and the training on it."""

    def __init__(self, env: VectorEnv, config: DistillConfig) -> None:
        self.env = env
        self.config = config
        offered = stream_specs(env)
        keys = student_keys(config.student, offered, without=config.without)
        self.specs = {key: offered[key] for key in keys}
        self.folder = begin_run_of(config)
        self.store = RolloutStore(
            config.out / "rollouts", observations=self.specs, facts={"env": config.env, "seed": config.seed}
        )
        self.env_steps = 0
        self.episodes = 0
        self.success = float("nan")
        # What the first rollout cost is known only afterwards; then the last one's cost foretells the next.
        self.gather_seconds = 0.0

    def run(self, *, show_progress: bool) -> Trained:
        """Iterate until the budget is spent."""
        config = self.config
        training, first = self._begin()
        buffer = EpisodeBuffer(list(self.specs), capacity=int(config.memory_gb * 1e9))
        if self.learner.frozen:
            self._reduce(buffer)
        for iteration in range(training.iteration):
            self._remember(self._recorded(iteration), buffer)
        with tqdm(
            total=config.iterations, initial=training.iteration, unit="it", disable=None if show_progress else True
        ) as bar:
            while not training.over:
                # The last seconds are worth more in updates than in a rollout that nothing is learned from.
                rest = None if config.seconds is None else config.seconds - training.seconds
                closing = rest is not None and training.iteration > 0 and rest < 2.0 * self.gather_seconds
                gathered = first or (_Gathered([], 0.0, 0) if closing else self._gather(training))
                first = None
                if not self.learner.frozen and training.progress >= config.freeze_from:
                    self.learner.freeze()
                    self._reduce(buffer)
                self._remember(gathered.episodes, buffer)
                updating = time.perf_counter()
                share = config.expert_share(training.iteration)
                updates = config.frozen_updates if self.learner.frozen else config.updates
                if training.iteration == 0 and config.first_updates:
                    updates = config.first_updates
                loss = training.fit(buffer, updates=updates, until_over=closing)
                self.success = _success(gathered.episodes, unknown=self.success)
                training.commit(
                    {
                        "episodes": self.episodes,
                        "env_steps": self.env_steps,
                        "expert_share": share,
                        "rollout_success": self.success,
                        "loss": loss,
                        "rollout_seconds": gathered.seconds,
                        "update_seconds": time.perf_counter() - updating,
                    }
                )
                speed = gathered.env_steps / gathered.seconds if gathered.seconds else 0.0
                bar.update()
                bar.set_postfix(success=f"{self.success:.2f}", loss=f"{loss:.4f}", fps=f"{speed:.0f}")
        return training.result()

    def _begin(self) -> tuple[Training[Batch], _Gathered | None]:
        """Build the student on the first episodes, or load it; return episodes that are not remembered yet."""
        config = self.config
        last = self.folder.last()
        first: _Gathered | None = None
        if last is not None:
            self.policy, _ = load_as(StudentPolicy, last, device=config.device)
        else:
            first = self._first_episodes()
            self.policy = build_student(
                self.specs,
                {key: [episode[key] for episode in first.episodes] for key in self.specs},
                action_dim=int(self.env.single_action_space.shape[0]),  # pyright: ignore[reportOptionalSubscript]
                network=config.network,
                pretrained=load_encoder(config.encoder, device=config.device) if config.encoder else None,
                rest_images=rest_images(self.env),
                seed=config.seed,
                device=config.device,
            )
        self.learner = Learner(self.policy.network, self.policy.normalizer, config=config.learner, device=config.device)
        training = begin_training(self.folder, self.policy, self.learner, specs=self.specs, config=config)
        if last is not None:
            self.success = training.metrics.rows()[-1]["rollout_success"]
        elif first is not None and not config.data and not self._recorded(0):
            self.store.add(first.episodes, iteration=0, seeds=training_seeds(config.seed, 0, config.num_envs))
        return training, first

    def _first_episodes(self) -> _Gathered:
        """Demonstrate: read the given store, or let the expert drive."""
        config = self.config
        began = time.perf_counter()
        recorded = self._recorded(0)
        if recorded:
            return _Gathered(recorded, 0.0, _steps(recorded))
        seeds = training_seeds(config.seed, 0, config.num_envs)
        shown = rollout(self.env, ExpertPolicy(), seeds, record=tuple(self.specs))
        _log.info("The expert succeeded in %d of %d episodes.", shown.success.sum(), len(shown.success))
        seconds = self.gather_seconds = time.perf_counter() - began
        return _Gathered(shown.episodes, seconds, _steps(shown.episodes))

    def _recorded(self, iteration: int) -> list[Episode]:
        """Read the episodes of an iteration that are on disk already."""
        if iteration == 0 and self.config.data is not None:
            return read_episodes(EpisodeStore.open(self.config.data), tuple(self.specs))
        return self.store.iteration(iteration)

    def _gather(self, training: Training[Batch]) -> _Gathered:
        """Let the student drive, and record; or read what was recorded before an interruption."""
        began = time.perf_counter()
        iteration = training.iteration
        episodes = self._recorded(iteration)
        if not episodes:
            config = self.config
            seeds = training_seeds(config.seed, iteration, config.num_envs)
            driven = rollout(
                self.env,
                self.policy,
                seeds,
                record=tuple(self.specs),
                expert_share=config.expert_share(iteration),
                rng=np.random.default_rng([config.seed, iteration, 2]),
            )
            episodes = driven.episodes
            self.store.add(episodes, iteration=iteration, seeds=seeds)
            self.gather_seconds = time.perf_counter() - began
        return _Gathered(episodes, time.perf_counter() - began, _steps(episodes))

    def _remember(self, episodes: Sequence[Episode], buffer: EpisodeBuffer) -> None:
        """Add episodes to what is learned from."""
        for episode in episodes:
            latent = {"latent": self.policy.encode_episode(episode)} if self.learner.frozen else {}
            buffer.add({**episode, **latent})
        self.episodes += len(episodes)
        self.env_steps += _steps(episodes)

    def _reduce(self, buffer: EpisodeBuffer) -> None:
        """Remember what a frozen encoder says instead of what it saw."""
        vectors = [key for key, spec in self.specs.items() if spec.kind == "vector"]
        buffer.reduce(vectors, self.policy.encode_episode)


def _steps(episodes: Sequence[Episode]) -> int:
    """Count control steps."""
    return sum(len(episode["expert_action"]) for episode in episodes)


def _success(episodes: Sequence[Episode], *, unknown: float) -> float:
    """Share of the episodes that succeeded; `unknown` if that was not recorded."""
    known = [bool(episode["success"].any()) for episode in episodes if "success" in episode]
    return float(np.mean(known)) if known else unknown
