"""One training run in progress: fit, record, and continue exactly where it was interrupted."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from vtt.checkpoint import load_training_state
from vtt.errors import ConfigError
from vtt.runs import RunFolder
from vtt.streams import StreamSpec
from vtt_policies.bundle import save_policy
from vtt_policies.config import BUDGET, Budget, TrainingConfig
from vtt_policies.learner import GradientSteps
from vtt_policies.policy import Deployable

__all__ = ["Source", "Trained", "Training", "begin_run", "begin_run_of", "begin_training"]

BatchT = TypeVar("BatchT")
BatchT_co = TypeVar("BatchT_co", covariant=True)


class Trained(NamedTuple):
    """What a training run reached.

    Attributes:
        run: Its folder.
        iterations: Iterations done.
        seconds: Wall time over all interruptions.
        finished: Whether the iterations asked for were reached; False if time ran out first.
        metrics: The last row of its metrics.
    """

    run: RunFolder
    iterations: int
    seconds: float
    finished: bool
    metrics: Mapping[str, float]


def begin_run(path: Path, settings: Mapping[str, Any], *, seed: int, may_change: Collection[str] = ()) -> RunFolder:
    """Make the folder of a run, or continue the run that is there.

    Args:
        path: The folder.
        settings: Everything that the result depends on, flat.
        seed: The run's seed.
        may_change: Settings that a continued run may change, such as its budget.

    Raises:
        ConfigError: If something else is there, or a run with other settings; names them.
    """
    if (path / "config.yaml").exists():
        run = RunFolder.open(path)
        there, now = run.config, json.loads(json.dumps(dict(settings), default=str))
        other = [name for name in {**there, **now} if there.get(name) != now.get(name) and name not in may_change]
        if other:
            told = ", ".join(f"{name} {there.get(name)} (now {now.get(name)})" for name in other)
            raise ConfigError(f"{path} holds a run with other settings: {told}. Choose another folder.")
        return run
    if path.exists():
        # Whatever died before it wrote config.yaml left no more than these.
        if not path.is_dir() or {file.name for file in path.iterdir()} - {"command.txt", "environment.json"}:
            raise ConfigError(f"{path} must be a run or empty, got other files. Choose another folder.")
        shutil.rmtree(path)
    return RunFolder.create(path, config=settings, seed=seed)


def begin_run_of(config: TrainingConfig, **facts: str) -> RunFolder:
    """Make the folder of a training, or continue the run that is there; `facts` are settings beside the config's."""
    return begin_run(config.out, {**facts, **asdict(config)}, seed=config.seed, may_change=("out", *BUDGET))


def begin_training(
    run: RunFolder,
    policy: Deployable,
    learner: GradientSteps[BatchT],
    *,
    specs: Mapping[str, StreamSpec],
    config: TrainingConfig,
) -> Training[BatchT]:
    """Begin to train a policy, or go on from the run's newest checkpoint, of which the policy was loaded.

    Args:
        run: Folder of the run.
        policy: The policy.
        learner: What fits it.
        specs: What the policy sees.
        config: Budget and seed.
    """
    training = Training(run, policy, learner, specs=specs, budget=config.budget, seed=config.seed)
    last = run.last()
    if last is not None:
        training.continue_from(load_training_state(last))
    return training


class Source(Protocol[BatchT_co]):
    """What batches are drawn from."""

    def sample(self, count: int, *, rng: np.random.Generator) -> BatchT_co:
        """Draw a batch of so many samples."""
        ...


class Training(Generic[BatchT]):
    """Fits a policy in iterations and leaves a checkpoint after each.

    Batches are drawn from a generator that is seeded by run and iteration, so that an iteration needs no memory of how
    the earlier ones were drawn.

    Args:
        run: Folder of the run.
        policy: The policy.
        learner: What fits it.
        specs: What the policy sees.
        budget: When to stop.
        seed: Seed of the run.
    """

    def __init__(
        self,
        run: RunFolder,
        policy: Deployable,
        learner: GradientSteps[BatchT],
        *,
        specs: Mapping[str, StreamSpec],
        budget: Budget,
        seed: int,
    ) -> None:
        self.run = run
        self.metrics = run.metrics()
        self.policy = policy
        self.learner = learner
        self.iteration = 0
        self._specs = specs
        self._budget = budget
        self._seed = seed
        self._before = 0.0
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time over all interruptions."""
        return self._before + time.perf_counter() - self._began

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, in 0..1."""
        return self._budget.progress(self.iteration, self.seconds)

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.progress >= 1.0

    def continue_from(self, state: Mapping[str, Any]) -> None:
        """Take up the training state of a checkpoint."""
        self.learner.load_state(state["learner"])
        self.iteration = state["iteration"]
        self._before = state["seconds"]
        self.metrics = self.run.metrics(through_step=self.iteration)

    def fit(self, source: Source[BatchT], *, updates: int, until_over: bool = False) -> float:
        """Take the gradient steps of one iteration, fewer if time runs out.

        Args:
            source: Labelled samples.
            updates: How many.
            until_over: Go on until the budget is spent.

        Returns:
            The mean loss; NaN if there was no time for a step.
        """
        rng = np.random.default_rng([self._seed, self.iteration, 1])
        losses = []
        # Dropout and the noise of losses draw from torch's own generator: seeded likewise, and given back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([self._seed, self.iteration, 3]).integers(2**63)))
            for update in itertools.count() if until_over else range(updates):
                done = self.iteration + min(1.0, update / updates)
                progress = self._budget.progress(self.iteration if until_over else done, self.seconds)
                if progress >= 1.0:
                    break
                batch = source.sample(self.learner.batch_size, rng=rng)
                losses.append(self.learner.update(batch, progress=progress))
        self.iteration += 1
        return float(np.mean(losses)) if losses else float("nan")

    def commit(self, row: Mapping[str, float]) -> None:
        """Write the metrics and the checkpoint of the iteration that has just ended.

        The checkpoint counts from the moment that the run's `last` names it; the one before is kept until then.
        """
        rate = max(group["lr"] for group in self.learner.optimizer.param_groups)
        done = {"iteration": self.iteration, "seconds": self.seconds}
        self.metrics.add(self.iteration, {**done, "gradient_steps": self.learner.steps, "learning_rate": rate, **row})
        state = {**done, "learner": self.learner.state()}
        folder = self.run.checkpoint(self.iteration)
        save_policy(folder, self.policy, specs=self._specs, run=self.run.config, training_state=state)
        self.run.set_last(self.iteration)
        for old in folder.parent.iterdir():
            if old != folder:
                shutil.rmtree(old)

    def result(self) -> Trained:
        """Say what was reached."""
        wanted = self._budget.iterations
        finished = wanted is None or self.iteration >= wanted
        return Trained(self.run, self.iteration, self.seconds, finished, self.metrics.rows()[-1])
