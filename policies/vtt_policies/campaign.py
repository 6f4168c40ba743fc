"""Evaluations that are kept: batch by batch on disk, never run twice, on one machine or on a Ray cluster."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vtt.cluster import Cluster, spread
from vtt.errors import ConfigError, StoreError
from vtt.files import atomic_write_text, read_json
from vtt_policies.evaluation import Batch, Evaluation, batches_of, evaluation_seeds
from vtt_policies.trial import Condition, Runner, Trial

__all__ = ["Kept", "read_evaluation", "run_conditions"]

_Task = tuple[Batch, Condition]


class Kept:
    """Results of one condition in a JSON file, which are taken up again.

    Args:
        path: The file; None keeps nothing.
        facts: What outcomes depend on.

    Raises:
        ConfigError: If the file holds results of something else; names it.
        StoreError: If it is damaged.
    """

    def __init__(self, path: Path | None, facts: dict[str, Any]) -> None:
        self._path = path
        self._facts = facts
        self.so_far: Evaluation | None = None
        if path is not None and path.exists():
            held = read_json(path)
            # As JSON has it: lists for tuples.
            now = json.loads(json.dumps(facts))
            other = [name for name in now if held.get(name) != now[name]]
            if other:
                told = ", ".join(f"{name} {held.get(name)} (now {now[name]})" for name in other)
                raise ConfigError(f"{path} holds another evaluation: {told}. Choose another --out or remove it.")
            self.so_far = Evaluation.from_dict(held)

    def add(self, part: Evaluation) -> None:
        """Append a batch and write."""
        self.so_far = part if self.so_far is None else self.so_far.then(part)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self._path, json.dumps({**self._facts, **self.so_far.to_dict()}, indent=2) + "\n")

    def missing(self, batches: Sequence[Batch]) -> list[Batch]:
        """Drop a batch that was not whole and is now, and list those to run."""
        if self.so_far is not None:
            whole = self.so_far.n // len(batches[0].seeds) * len(batches[0].seeds)
            wanted = sum(batch.counted for batch in batches)
            if self.so_far.n < wanted:
                self.so_far = self.so_far.first(whole) if whole else None
        have = 0 if self.so_far is None else self.so_far.n
        return [batch for index, batch in enumerate(batches) if index * len(batch.seeds) >= have]


def run_conditions(
    trial: Trial,
    conditions: Sequence[Condition],
    *,
    n: int,
    first_seed: int,
    out: Path | None = None,
    cluster: Cluster | None = None,
) -> dict[str, Evaluation]:
    """Evaluate a policy under conditions, on the same seeds.

    Args:
        trial: Who is tried where; `num_envs` is the size of a batch.
        conditions: What is done to touch.
        n: Episodes of each condition.
        first_seed: The seeds count up from here.
        out: JSON file for one condition, folder with a file for each of several. What it holds is not run again.
        cluster: Ray cluster that runs the episodes; None runs them here.

    Returns:
        The outcomes by the condition's name.

    Raises:
        ConfigError: If `out` holds results of something else.
        DependencyError: If Ray is asked for and not installed.
    """
    batches = batches_of(evaluation_seeds(n, start=first_seed), trial.num_envs)
    facts = {**trial.facts(), "first_seed": first_seed}
    kept = {}
    for condition in conditions:
        path = out if out is None or len(conditions) == 1 else out / f"{condition.name}.json"
        delay = condition.delay_steps if condition.perturb == "touch_delayed" else None
        done = {"perturb": condition.perturb, "phase": condition.phase, "delay_steps": delay}
        kept[condition.name] = Kept(path, {**facts, **done})
    tasks = [(batch, condition) for condition in conditions for batch in kept[condition.name].missing(batches)]
    total = n * len(conditions)
    initial = total - sum(batch.counted for batch, _ in tasks)
    with tqdm(total=total, initial=initial, unit="episode", disable=None) as bar:
        results: Generator[Evaluation] = _local(trial, tasks)
        if cluster is not None and tasks:
            results = spread(Runner, [trial], tasks, cluster)
        with contextlib.closing(results):
            for (batch, condition), part in zip(tasks, results, strict=True):
                kept[condition.name].add(part)
                bar.set_description(condition.name)
                bar.update(batch.counted)
    return {name: one.so_far.first(n) for name, one in kept.items() if one.so_far is not None}


def read_evaluation(path: Path) -> tuple[Evaluation, dict[str, Any]]:
    """Read an evaluation that was kept, and its facts.

    Raises:
        StoreError: If the file is missing, damaged or something else.
    """
    held = read_json(path)
    try:
        return Evaluation.from_dict(held), held
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} must be an evaluation written by `vtt evaluate --out`, got {error!r}.") from error


def _local(trial: Trial, tasks: Sequence[_Task]) -> Generator[Evaluation]:
    """Run tasks here, one after the other."""
    if not tasks:
        return
    with Runner(trial) as runner:
        for _, condition in tasks:
            runner.check(condition)
        for batch, condition in tasks:
            yield runner.run(batch, condition)
