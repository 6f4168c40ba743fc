"""One training run in progress: fit, record, and continue exactly where it was interrupted."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vtt.errors import ConfigError
from vtt.runs import RunFolder
from vtt.streams import StreamSpec
from vtt_policies.bundle import save_policy
from vtt_policies.config import Budget
from vtt_policies.learner import Learner
from vtt_policies.replay import EpisodeBuffer
from vtt_policies.student import StudentPolicy

__all__ = ["Trained", "Training", "begin_run"]


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


class Training:
    """Fits a student in iterations and leaves a checkpoint after each.

    Batches are drawn from a generator that is seeded by run and iteration, so that an iteration needs no memory of how
    the earlier ones were drawn.

    Args:
        run: Folder of the run.
        policy: The student.
        learner: What fits it.
        specs: What the student sees.
        budget: When to stop.
        seed: Seed of the run.
    """

    def __init__(
        self,
        run: RunFolder,
        policy: StudentPolicy,
        learner: Learner,
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

    def fit(self, buffer: EpisodeBuffer, *, updates: int, until_over: bool = False) -> float:
        """Take the gradient steps of one iteration, fewer if time runs out.

        Args:
            buffer: Labelled episodes.
            updates: How many.
            until_over: Go on until the budget is spent.

        Returns:
            The mean loss; NaN if there was no time for a step.
        """
        rng = np.random.default_rng([self._seed, self.iteration, 1])
        losses = []
        for update in itertools.count() if until_over else range(updates):
            done = self.iteration + min(1.0, update / updates)
            progress = self._budget.progress(self.iteration if until_over else done, self.seconds)
            if progress >= 1.0:
                break
            batch = buffer.sample(self.learner.config.batch_episodes, rng=rng)
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
