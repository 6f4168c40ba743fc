"""The loop of SLAC: act, remember, predict, improve; in rounds that each leave a checkpoint.

A round begins with every environment anew and with random numbers of its own, so that a run goes on from a checkpoint
exactly as it would have without the interruption.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vtt.checkpoint import load_training_state
from vtt.normalizer import Normalizer
from vtt_policies.bundle import load_as, save_policy
from vtt_policies.config import Budget
from vtt_policies.environments import make_environments, rest_images, stream_specs
from vtt_policies.evaluation import FIRST_EVALUATION_SEED
from vtt_policies.observations import ObservationGroups, environment_word, resolve_keys, without_keys
from vtt_policies.policy import Policy
from vtt_policies.slac.archive import ReplayArchive
from vtt_policies.slac.collector import Collector, Ended
from vtt_policies.slac.config import SlacConfig
from vtt_policies.slac.learner import SlacLearner
from vtt_policies.slac.model import WorldModel, check_verdicts, to_tensors
from vtt_policies.slac.policy import SlacNetwork, SlacPolicy
from vtt_policies.slac.replay import SequenceReplay
from vtt_policies.training import Trained, begin_run

__all__ = ["greedy_returns", "train_slac"]

_MAY_CHANGE = ("out", "steps", "seconds", "device")
# Updates of the model in a round that does not act: some minutes between checkpoints.
_PRETRAIN_ROUND = 1_000
# Windows from which the mean of each signal is taken.
_CENTRE_WINDOWS = 64


def train_slac(config: SlacConfig, *, show_progress: bool = True) -> Trained:
    """Train until the budget is spent, from where an earlier call on the same folder stopped.

    Args:
        config: Everything about the run.
        show_progress: Show a bar on a terminal.

    Returns:
        What was reached; its iterations are rounds.

    Raises:
        ConfigError: If the run folder holds a run with other settings, the policy would see privileged keys, or a loss
            that is asked for has nothing to learn from.
        MissingError: If the environment or an observation does not exist.
        StateError: If a loss stops being finite, or the critics diverge.
    """
    word = environment_word(config.student, without=config.without)

    def make(count: int) -> VectorEnv:
        return make_environments(config.env, num_envs=count, observation=word, env_args=config.env_args)

    env = make(config.num_envs)
    trial = make(config.evaluation_episodes) if config.evaluation_episodes else None
    try:
        return _Slac(env, trial, config).run(show_progress=show_progress)
    finally:
        env.close()
        if trial is not None:
            trial.close()


def greedy_returns(
    env: VectorEnv, policy: Policy, seeds: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Run one episode in each environment.

    Args:
        env: Environments with autoreset disabled.
        policy: What acts.
        seeds: One per environment.

    Returns:
        Sum of the rewards and success of each episode, both (B,).
    """
    # A list is allowed by Gymnasium's own vector environments, though not by the signature of their base class.
    observation, _ = env.reset(seed=list(seeds))  # pyright: ignore[reportArgumentType]
    policy.reset(env.num_envs)
    total, success, alive = np.zeros(env.num_envs), np.zeros(env.num_envs, bool), np.ones(env.num_envs, bool)
    while alive.any():
        observation, reward, terminated, truncated, info = env.step(policy.act(observation))
        total += alive * reward
        success |= alive & info.get("success", False)
        alive &= ~(terminated | truncated)
    return total, success


class _Learning(NamedTuple):
    """What exists once the first experience has set the scale of the observations."""

    policy: SlacPolicy
    learner: SlacLearner


class _Slac:
    """One call of `train_slac`."""

    def __init__(self, env: VectorEnv, trial: VectorEnv | None, config: SlacConfig) -> None:
        self.env, self.trial, self.config = env, trial, config
        offered = stream_specs(env)
        keys = without_keys(resolve_keys(config.student, offered), config.without)
        ObservationGroups(student=keys, ignore=tuple(key for key in offered if key not in keys)).check(offered)
        self.specs = {key: offered[key] for key in keys}
        self.action_dim = int(env.single_action_space.shape[0])  # pyright: ignore[reportOptionalSubscript]
        self.num_contacts = Collector(env, keys, rng=np.random.default_rng(0)).num_contacts
        check_verdicts(self.specs, config.model, num_contacts=self.num_contacts)
        self.folder = begin_run(config.out, asdict(config), seed=config.seed, may_change=_MAY_CHANGE)
        self.replay = SequenceReplay(keys, capacity=config.capacity, sequence=config.model.sequence)
        self.archive = ReplayArchive(self.folder.path / "replay", self.replay)
        self.budget = Budget(config.steps, config.seconds)
        self.metrics = self.folder.metrics()
        self.round = self.env_steps = self.episodes = 0
        self._before, self._began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time over all interruptions."""
        return self._before + time.perf_counter() - self._began

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.budget.progress(self.env_steps, self.seconds) >= 1.0

    def run(self, *, show_progress: bool) -> Trained:
        """Go through the rounds until the budget is spent."""
        config, disable = self.config, None if show_progress else True
        learning = self._resume()
        with (
            SummaryWriter(str(self.folder.path / "tensorboard")) as board,
            tqdm(total=config.steps, initial=self.env_steps, unit="step", disable=disable) as bar,
        ):
            while learning is None or not self.over:
                began, steps = self.seconds, self.env_steps
                rng = np.random.default_rng([config.seed, self.round])
                if learning is None:
                    bar.set_description("random")
                    row = self._act(None, rng, bar)
                    learning = self._begin()
                elif learning.learner.model_updates < config.pretrain_updates:
                    bar.set_description("model")
                    row = self._pretrain(learning, rng, bar)
                else:
                    bar.set_description("agent")
                    row = self._act(learning, rng, bar)
                    row |= self._evaluate(learning)
                row["steps_per_second"] = (self.env_steps - steps) / max(self.seconds - began, 1e-9)
                self._commit(learning, row, board)
        wanted = self.env_steps >= config.steps
        return Trained(self.folder, self.round, self.seconds, wanted, self.metrics.rows()[-1])

    def _begin(self) -> _Learning:
        """Build networks on the first experience."""
        config = self.config
        known = {key: image for key, image in rest_images(self.env).items() if key in self.specs}
        samples = {key: self.replay.frames(key) for key in self.specs}
        normalizer = Normalizer.fit(self.specs, samples, rest_images=known)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = SlacNetwork(
                self.specs,
                config=config.model,
                hidden_dim=config.agent.hidden_dim,
                action_dim=self.action_dim,
                num_contacts=self.num_contacts,
            )
        policy = SlacPolicy(network.to(config.device), normalizer, keys=tuple(self.specs), device=config.device)
        learning = self._learning(policy)
        some = self.replay.sample(_CENTRE_WINDOWS, rng=np.random.default_rng(config.seed))
        seen = to_tensors(some, normalizer, device=policy.device)
        learning.learner.world.centre({key: frames[seen.valid.flatten()] for key, frames in seen.observation.items()})
        return learning

    def _learning(self, policy: SlacPolicy) -> _Learning:
        """Put the latent model and the critics beside a policy."""
        config, frames = self.config, policy.network.frames
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)
            world = WorldModel(
                frames.signals, feature_dim=frames.feature_dim, action_dim=self.action_dim, config=config.model
            )
        learner = SlacLearner(
            policy.network,
            world.to(config.device),
            policy.normalizer,
            agent=config.agent,
            seed=config.seed + 2,
            device=config.device,
        )
        return _Learning(policy, learner)

    def _resume(self) -> _Learning | None:
        """Take up the newest checkpoint, if there is one."""
        last = self.folder.last()
        if last is None:
            return None
        policy, _ = load_as(SlacPolicy, last, device=self.config.device)
        learning = self._learning(policy)
        state = load_training_state(last)
        learning.learner.load_state(state["learner"])
        self.round, self.env_steps, self.episodes = (state[name] for name in ("round", "env_steps", "episodes"))
        self._before = state["seconds"]
        self.archive.load(before=self.round)
        self.replay.largest_reward = state["largest_reward"]
        self.metrics = self.folder.metrics(through_step=self.round)
        return learning

    def _act(self, learning: _Learning | None, rng: np.random.Generator, bar: tqdm) -> dict[str, float]:
        """Step the environments for one round; learn on the way, or act at random where nothing has been learned."""
        config = self.config
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        collector = Collector(self.env, tuple(self.specs), rng=rng)
        count = self.env.num_envs
        until = config.start_steps if learning is None else min(self.env_steps + config.checkpoint_every, config.steps)
        tally, ended, owed = _Tally(), list[Ended](), 0.0
        if learning is not None:
            learning.policy.reset(count)
        while self.env_steps < until and (learning is None or not self.over):
            if learning is None:
                action = rng.uniform(-1.0, 1.0, (count, self.action_dim)).astype(np.float32)
            else:
                action = learning.policy.sample(collector.observation, generator=generator)
            new, begun = collector.step(action)
            for end in new:
                self.archive.add(end.episode)
            ended += new
            self.env_steps += count
            bar.update(count)
            if learning is None:
                continue
            learning.policy.forget(begun)
            owed += config.updates_per_step * count
            while owed >= 1.0:
                tally.add(self._update_model(learning, rng, generator))
                tally.add(self._update_agent(learning, rng, generator))
                owed -= 1.0
            bar.set_postfix(tally.latest("value", "reward", "kl") | _returns(ended[-20:]))
        for episode in collector.cut():
            self.archive.add(episode)
        self.episodes += len(ended)
        pulls = {} if learning is None else self._pulls(learning, rng, generator)
        return tally.means() | pulls | _returns(ended)

    def _pretrain(self, learning: _Learning, rng: np.random.Generator, bar: tqdm) -> dict[str, float]:
        """Fit the model alone to what there is."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        tally, wanted = _Tally(), self.config.pretrain_updates
        for _ in range(min(_PRETRAIN_ROUND, wanted - learning.learner.model_updates)):
            if self.over:
                break
            tally.add(self._update_model(learning, rng, generator))
            done = f"{learning.learner.model_updates}/{wanted}"
            bar.set_postfix({"updates": done, **tally.latest("image", "touch", "reward", "kl")})
        return tally.means() | self._pulls(learning, rng, generator)

    def _pulls(self, learning: _Learning, rng: np.random.Generator, generator: torch.Generator) -> dict[str, float]:
        windows = self.replay.sample(self.config.model.batch_windows, rng=rng)
        return learning.learner.gradient_norms(windows, generator=generator)

    def _update_model(
        self, learning: _Learning, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, float]:
        windows = self.replay.sample(self.config.model.batch_windows, rng=rng)
        return learning.learner.update_model(windows, generator=generator)

    def _update_agent(
        self, learning: _Learning, rng: np.random.Generator, generator: torch.Generator
    ) -> dict[str, float]:
        windows = self.replay.sample(self.config.agent.batch_windows, rng=rng)
        values = learning.learner.update_agent(windows, generator=generator)
        learning.learner.check_value(values["value"], largest_reward=self.replay.largest_reward)
        return values

    def _evaluate(self, learning: _Learning) -> dict[str, float]:
        """Measure the greedy policy, on the same seeds each time."""
        if self.trial is None:
            return {}
        rng = np.random.default_rng([self.config.seed, 2**32 - 1])
        seeds = rng.integers(FIRST_EVALUATION_SEED, size=self.trial.num_envs).tolist()
        total, success = greedy_returns(self.trial, learning.policy, seeds)
        return {"greedy_return": float(total.mean()), "greedy_success": float(success.mean())}

    def _commit(self, learning: _Learning, row: dict[str, float], board: SummaryWriter) -> None:
        """Write metrics, replay and checkpoint of the round that has just ended; the one before is kept until then."""
        learner = learning.learner
        self.archive.commit(self.round)
        self.round += 1
        done = {"env_steps": self.env_steps, "episodes": self.episodes, "seconds": self.seconds}
        updates = {"model_updates": learner.model_updates, "agent_updates": learner.agent_updates}
        self.metrics.add(self.round, {**done, **updates, **row})
        # While the model is fitted alone, no step passes.
        phase, at = ("agent", self.env_steps) if learner.agent_updates else ("model", learner.model_updates)
        for name, value in row.items():
            board.add_scalar(f"{phase}/{name}", value, at)
        state = {**done, "round": self.round, "learner": learner.state(), "largest_reward": self.replay.largest_reward}
        folder = self.folder.checkpoint(self.round)
        save_policy(folder, learning.policy, specs=self.specs, run=self.folder.config, training_state=state)
        self.folder.set_last(self.round)
        for old in folder.parent.iterdir():
            if old != folder:
                shutil.rmtree(old)
        self.archive.clean()


class _Tally:
    """Means of what updates report."""

    def __init__(self) -> None:
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, values: dict[str, float]) -> None:
        """Take note of one update."""
        for name, value in values.items():
            self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """Average over all."""
        return {name: float(np.mean(values)) for name, values in self._values.items()}

    def latest(self, *names: str) -> dict[str, str]:
        """Show some of the latest values."""
        return {name: f"{self._values[name][-1]:.3g}" for name in names if name in self._values}


def _returns(ended: list[Ended]) -> dict[str, float]:
    """Average over episodes that came to their end; nothing if none did."""
    if not ended:
        return {}
    return {
        "return": float(np.mean([end.episode["reward"].sum() for end in ended])),
        "success": float(np.mean([end.success for end in ended])),
        "episode_steps": float(np.mean([len(end.episode["reward"]) for end in ended])),
    }
