"""Reinforcement learning from beginning to end, or from where it was interrupted."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm

from vtt.checkpoint import load_training_state
from vtt.encoders import Encoder
from vtt.errors import ConfigError, StateError
from vtt.normalizer import Normalizer
from vtt.pretrained import Pretrained, load_encoder
from vtt.runs import RunFolder
from vtt_policies.bundle import load_as
from vtt_policies.environments import make_environments, stream_specs
from vtt_policies.rl.aacd import Critic, freeze_critic, give_critic, read_critic
from vtt_policies.rl.actor import ActorPolicy
from vtt_policies.rl.algorithms import actor_of, build_algorithm, encoders_of
from vtt_policies.rl.auxiliary import Auxiliary
from vtt_policies.rl.config import RL_BUDGET, AacdConfig, OffPolicyConfig, RlConfig
from vtt_policies.rl.frame_buffer import FrameReplayBuffer
from vtt_policies.rl.groups import seen_by, word_for
from vtt_policies.rl.logs import open_logs
from vtt_policies.rl.loop import REPLAY, Loop
from vtt_policies.rl.scales import measure_scales
from vtt_policies.rl.state import load_normalizer, normalizer_state, restore, specs_state
from vtt_policies.rl.vec_env import BatchVecEnv
from vtt_policies.rl.video import Film
from vtt_policies.rollout import horizon_of
from vtt_policies.training import begin_run

__all__ = ["Trained", "available_memory", "train"]

_log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """What a run reached.

    Attributes:
        run: Its folder.
        steps: Control steps of all environments together.
        finished: Whether all steps asked for were taken; False if time ran out first.
        metrics: The last row of its metrics.
    """

    run: RunFolder
    steps: int
    finished: bool
    metrics: Mapping[str, float]


def train(config: RlConfig, *, show_progress: bool = True) -> Trained:
    """Train until the budget is spent, from where an earlier call on the same folder stopped.

    On the CPU a run that was interrupted ends with the weights of an uninterrupted one, bit by bit.

    Args:
        config: Everything about the run.
        show_progress: Show a bar on a terminal.

    Returns:
        What was reached.

    Raises:
        ConfigError: If the settings do not fit the environment, the memory of this machine, or the run that is there.
        MissingError: If an observation does not exist.
        DependencyError: If a package is missing that a log needs.
        StateError: If training diverges, or the environment gives numbers that are none.
    """
    env = make_environments(
        config.env, num_envs=config.num_envs, observation=word_for(config), env_args=config.env_args
    )
    try:
        return _Run(config, env, show_progress=show_progress).go()
    finally:
        env.close()


class _Run:
    """One run in progress."""

    def __init__(self, config: RlConfig, env: VectorEnv, *, show_progress: bool) -> None:
        offered = stream_specs(env)
        self.config = config
        self.seen = seen_by(config, offered)
        self.specs = {key: offered[key] for key in self.seen.all}
        self.env = env
        self.vec = BatchVecEnv(env, self.seen.all, seed=config.seed)
        self.show_progress = show_progress
        if isinstance(config, OffPolicyConfig):
            _check_memory(config, self.vec, horizon_of(env))
        # A run that goes on needs neither any more: its checkpoint holds what became of them.
        self.pretrained: Pretrained | None = None
        self.critic: Critic | None = None
        if not _has_checkpoint(config.out):
            if config.features.pretrained is not None:
                self.pretrained = load_encoder(config.features.pretrained, device=config.device)
            if isinstance(config, AacdConfig) and config.critic_run is not None:
                sees = {key: self.specs[key] for key in self.seen.critic}
                self.critic = read_critic(config.critic_run, config, sees)

    def go(self) -> Trained:
        """Build or load, then learn."""
        config = self.config
        last = self._begin().last() if (config.out / "config.yaml").exists() else None
        state = load_training_state(last) if last is not None else None
        normalizer, critic_normalizer = self._normalizers(state)
        model = build_algorithm(
            config,
            self.vec,
            seen=self.seen,
            specs=self.specs,
            normalizer=normalizer,
            critic_normalizer=critic_normalizer,
            encoder=self._encoder(last),
        )
        auxiliary = None
        if config.auxiliary.updates:
            auxiliary = Auxiliary(config.auxiliary, encoders_of(model), seed=config.seed)
        if self.critic is not None:
            give_critic(model, self.critic)
        if isinstance(config, AacdConfig) and config.variant == "frozen":
            freeze_critic(model)
        if last is not None and state is not None:
            self._continue(model, state, last, auxiliary)
        deployed = {key: self.specs[key] for key in self.seen.actor}
        folder = self._begin()  # only now, so that what could not be built leaves nothing behind
        loop = Loop(
            config,
            folder,
            self.vec,
            deployed=lambda: actor_of(model, deployed, normalizer),
            facts={
                "seen": {"actor": list(self.seen.actor), "critic": list(self.seen.critic)},
                "specs": specs_state(self.specs),
                "normalizer": normalizer_state(normalizer),
                "critic_normalizer": normalizer_state(critic_normalizer) if critic_normalizer is not None else None,
            },
            specs=deployed,
            auxiliary=auxiliary,
            film=Film(config, wanted=config.video and "rgb_array" in self.env.metadata.get("render_modes", ())),
            spent=state["seconds"] if state is not None else 0.0,
            show_progress=self.show_progress,
        )
        self._learn(model, loop, folder)
        total = config.whole(config.steps) * config.num_envs
        rows = folder.metrics().rows()
        return Trained(folder, loop.saved, loop.saved >= total, rows[-1] if rows else {})

    def _begin(self) -> RunFolder:
        """Make the run's folder, or open the one that is there if its settings are the same."""
        settings = {"algorithm": self.config.algorithm, **asdict(self.config)}
        return begin_run(self.config.out, settings, seed=self.config.seed, may_change=RL_BUDGET)

    def _encoder(self, last: Path | None) -> Encoder | None:
        """Take the pretrained encoder, or what became of it, whose weights are loaded with all others."""
        if self.pretrained is not None:
            return self.pretrained.encoder
        if self.config.features.pretrained is None or last is None:
            return None
        return load_as(ActorPolicy, last, device=self.config.device)[0].network.features.encoder

    def _normalizers(self, state: Mapping[str, Any] | None) -> tuple[Normalizer, Normalizer | None]:
        """Load, or measure on first episodes, what normalises the actor's and a taken critic's observations."""
        if state is not None:
            own = state["critic_normalizer"]
            return load_normalizer(state["normalizer"]), load_normalizer(own) if own is not None else None
        keys = self.seen.all if self.critic is None else self.seen.actor
        specs = {key: self.specs[key] for key in keys}
        normalizer = measure_scales(self.env, specs, seed=self.config.seed, pretrained=self.pretrained)
        return normalizer, self.critic.normalizer if self.critic is not None else None

    def _continue(
        self, model: BaseAlgorithm, state: Mapping[str, Any], last: Path, auxiliary: Auxiliary | None
    ) -> None:
        """Go on from a checkpoint."""
        buffer = getattr(model, "replay_buffer", None)
        if isinstance(buffer, FrameReplayBuffer):
            buffer.load(last / REPLAY)
        if auxiliary is not None and state["auxiliary"] is not None:
            auxiliary.load_state(state["auxiliary"])
        self.vec.load_state(state["env"])
        restore(model, state["learner"])

    def _learn(self, model: BaseAlgorithm, loop: Loop, folder: RunFolder) -> None:
        """Let SB3 learn what is left."""
        config, done = self.config, model.num_timesteps
        left = config.whole(config.steps) * config.num_envs - done
        loop.saved = done
        if left <= 0:
            return
        model.set_logger(open_logs(folder, config, step=done))
        try:
            model.learn(left, callback=loop, log_interval=None, reset_num_timesteps=done == 0)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            # A distribution refuses parameters that are no numbers before any loss is logged.
            if "of distribution" not in str(error):
                raise
            raise StateError(
                f"The policy's mean and deviation must be finite after {model.num_timesteps} steps, got NaN, infinity "
                "or zero: training has diverged. Lower learning_rate."
            ) from error
        finally:
            loop.close()


def _has_checkpoint(path: Path) -> bool:
    """Tell whether a run can go on from a checkpoint."""
    return (path / "config.yaml").exists() and RunFolder.open(path).last() is not None


def _check_memory(config: OffPolicyConfig, vec: BatchVecEnv, horizon: int) -> None:
    """Say how much memory the replay buffer takes, and refuse one that does not fit."""
    space, actions = vec.observation_space, vec.action_space
    assert isinstance(space, spaces.Dict)
    assert isinstance(actions, spaces.Box)
    needed = FrameReplayBuffer.nbytes(config.buffer_size, space, action_dim=actions.shape[0], horizon=horizon)
    free = available_memory()
    _log.info("The replay buffer takes %.2f GB of memory when full; %.2f GB are free.", needed / 1e9, free / 1e9)
    if needed > free:
        raise ConfigError(
            f"buffer_size must fit into {free / 1e9:.2f} GB of free memory, got {config.buffer_size} transitions of "
            f"{needed / 1e9:.2f} GB. Take {int(config.buffer_size * 0.8 * free / needed)}, or smaller observations."
        )


def available_memory() -> int:
    """Tell how much memory this process may still take, in bytes."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
