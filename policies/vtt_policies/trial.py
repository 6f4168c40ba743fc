"""A policy by name, in an environment by id: evaluated, filmed or recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tqdm import tqdm

from vtt.errors import ConfigError, MissingError
from vtt.images import resize
from vtt.streams import StreamSpec, check_observation
from vtt_policies.bundle import find_checkpoint, load_policy
from vtt_policies.environments import make_environments, rest_images, stream_specs
from vtt_policies.evaluation import (
    FIRST_EVALUATION_SEED,
    Batch,
    Evaluation,
    batches_of,
    evaluation_seeds,
    run_batch,
)
from vtt_policies.observations import TOUCH, environment_word
from vtt_policies.perturbation import PERTURBATIONS, PHASES, Perturbation, make_perturbation
from vtt_policies.policy import Deployable, ExpertPolicy, Observation, Policy, RandomPolicy, ZeroPolicy
from vtt_policies.recording import RolloutStore
from vtt_policies.rollout import rollout

__all__ = ["TOUCH_REPORT", "Condition", "Runner", "Trial", "evaluate_by_name", "record_by_name", "side_by_side"]

_UNLEARNED = ("expert", "random", "zero")
_FILM = 192  # px, height of a film


@dataclass(frozen=True)
class Trial:
    """Who is tried where; plain data, which travels to other machines.

    Attributes:
        env: Gymnasium id with its module.
        policy: Run or checkpoint folder, or one of expert, random, zero.
        env_args: Further options of the environment, each `key=value`.
        num_envs: Episodes run side by side.
        device: Torch device of the policy.
    """

    env: str
    policy: str
    env_args: tuple[str, ...] = ()
    num_envs: int = 64
    device: str = "cpu"

    def facts(self) -> dict[str, Any]:
        """List what outcomes depend on, ready for JSON; a policy's weights by their hash."""
        weights = None
        if self.policy not in _UNLEARNED:
            folder = find_checkpoint(Path(self.policy))
            files = [folder / name for name in ("model.safetensors", "normalizer.safetensors")]
            weights = hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()[:16]
        named = {"env": self.env, "env_args": list(self.env_args), "policy": self.policy, "weights": weights}
        return {**named, "num_envs": self.num_envs}


class Condition(NamedTuple):
    """What is done to touch at test time.

    Attributes:
        perturb: A name of `PERTURBATIONS`, or "none".
        phase: A name of `PHASES`: when it is done.
        delay_steps: Control steps that `touch_delayed` lags.
    """

    perturb: str = "none"
    phase: str = "always"
    delay_steps: int = 10

    @property
    def name(self) -> str:
        """Name of the condition, fit for a file."""
        return self.perturb if self.phase == "always" else f"{self.perturb}_{self.phase}"


TOUCH_REPORT = (Condition(), *(Condition(perturb, phase) for perturb in PERTURBATIONS for phase in PHASES))
"""Conditions that tell whether, and when, touch is used; the first is touch as it is."""


class Runner:
    """Environments and policy of a trial, ready to run; close it, or use it in a `with` statement.

    Without an observation word the environments show what the policy sees and, where they offer it, `wrench`, from
    which the largest force is read.

    Args:
        trial: Who is tried where.
        observation: Observation word of the environments.

    Attributes:
        env: The environments.
        policy: What acts.

    Raises:
        MissingError: If the environment or the policy does not exist.
        ConfigError: If the environment's observations are not those that the policy was trained on.
    """

    def __init__(self, trial: Trial, *, observation: str | None = None) -> None:
        learned: Deployable | None = None
        expected: Mapping[str, StreamSpec] = {}
        if trial.policy not in _UNLEARNED:
            learned, expected = load_policy(Path(trial.policy), device=trial.device)
        word = "proprio" if learned is None else environment_word(",".join(learned.keys))
        self.env = _make(trial, observation) if observation else _with_wrench(trial, word)
        try:
            offered = stream_specs(self.env)
            check_observation(expected, offered, ignore=[key for key in offered if key not in expected])
        except BaseException:
            self.close()
            raise
        self.policy: Policy = learned or _unlearned(trial.policy, self.env.single_action_space.shape[0])  # pyright: ignore[reportOptionalSubscript]

    def check(self, condition: Condition) -> None:
        """Refuse to take touch from who has none: nothing would come of it."""
        seen = self.policy.keys if isinstance(self.policy, Deployable) else ()
        if condition.perturb != "none" and not any(fnmatch(key, pattern) for key in seen for pattern in TOUCH):
            what = f"sees only {', '.join(seen)}" if seen else "sees nothing"
            raise ConfigError(f"The control {condition.perturb} must have touch to act on, got a policy that {what}.")

    def run(self, batch: Batch, condition: Condition) -> Evaluation:
        """Run one batch."""
        return run_batch(self.env, self.policy, batch, perturbation=self._perturbation(batch, condition))

    def film(self, seeds: Sequence[int]) -> tuple[Evaluation, list[NDArray[np.uint8]]]:
        """Run one episode per environment and draw every step, with what the policy sees of touch beside it.

        The environments must have been made with `render_mode=rgb_array`.

        Returns:
            The outcomes, and for each seed its frames (T, H, W, 3).
        """
        frames: list[NDArray[np.uint8]] = []

        def draw(history: Sequence[Observation]) -> Observation:
            drawn = self.env.render()
            if drawn is None:
                raise ConfigError("The environments must draw, got none that does. Add the option render_mode.")
            scene = np.stack(list(drawn))  # pyright: ignore[reportArgumentType]
            touch = [value for key, value in history[-1].items() if fnmatch(key, "tactile_*")]
            shown = [resize(x, height=_FILM, width=round(x.shape[2] * _FILM / x.shape[1])) for x in (scene, *touch)]
            frames.append(np.concatenate(shown, axis=2))
            return history[-1]

        done = run_batch(self.env, self.policy, Batch(tuple(seeds), len(seeds)), perturbation=draw)
        return done, [np.stack([frame[row] for frame in frames[:steps]]) for row, steps in enumerate(done.steps)]

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the environments."""
        self.close()

    def _perturbation(self, batch: Batch, condition: Condition) -> Perturbation | None:
        """Build what is done to touch, from the batch's seeds alone."""
        if condition.perturb == "none":
            return None
        self.check(condition)
        known = self.policy.rest_images() if isinstance(self.policy, Deployable) else {}
        return make_perturbation(
            condition.perturb,
            num_envs=self.env.num_envs,
            rng=np.random.default_rng(batch.seeds[0]),
            rest={**rest_images(self.env), **known},
            delay_steps=condition.delay_steps,
            phase=condition.phase,
        )


def evaluate_by_name(
    env_id: str,
    policy: str,
    *,
    n: int = 200,
    perturb: str = "none",
    env_args: Sequence[str] = (),
    num_envs: int = 64,
    first_seed: int = FIRST_EVALUATION_SEED,
    delay_steps: int = 10,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate a policy under one condition.

    Args:
        env_id: Gymnasium id with its module.
        policy: Run or checkpoint folder, or one of expert, random, zero.
        n: Episodes.
        perturb: A name of `PERTURBATIONS`, or "none".
        env_args: Further options of the environment, each `key=value`.
        num_envs: Episodes run side by side.
        first_seed: The seeds count up from here.
        delay_steps: Control steps that `touch_delayed` lags.
        device: Torch device of the policy.

    Returns:
        The outcomes.

    Raises:
        MissingError: If the environment, the policy or the perturbation does not exist.
        ConfigError: If the environment's observations are not those that the policy was trained on.
    """
    trial = Trial(env_id, policy, tuple(env_args), side_by_side(num_envs, n), device)
    first, *others = batches_of(evaluation_seeds(n, start=first_seed), trial.num_envs)
    condition = Condition(perturb, delay_steps=delay_steps)
    with Runner(trial) as runner, tqdm(total=n, unit="episode", disable=None) as bar:
        everything = runner.run(first, condition)
        bar.update(first.counted)
        for batch in others:
            everything = everything.then(runner.run(batch, condition))
            bar.update(batch.counted)
    return everything


def side_by_side(num_envs: int, n: int) -> int:
    """Use no more environments than episodes, but two: shuffled touch needs donors."""
    return min(num_envs, max(n, 2))


def record_by_name(
    env_id: str,
    policy: str,
    path: Path,
    *,
    n: int,
    env_args: Sequence[str] = (),
    first_seed: int = FIRST_EVALUATION_SEED,
    device: str = "cpu",
) -> None:
    """Record episodes with every observation there is, of which the policy sees its own.

    Args:
        env_id: Gymnasium id with its module.
        policy: Run or checkpoint folder, or one of expert, random, zero.
        path: Episode store; one that exists is continued.
        n: Episodes, run side by side.
        env_args: Further options of the environment, each `key=value`.
        first_seed: The seeds count up from here.
        device: Torch device of the policy.
    """
    seeds = evaluation_seeds(n, start=first_seed)
    with Runner(Trial(env_id, policy, tuple(env_args), n, device), observation="all") as runner:
        specs = stream_specs(runner.env)
        store = RolloutStore(path, observations=specs, facts={"env": env_id, "policy": policy})
        store.add(rollout(runner.env, runner.policy, seeds, record=tuple(specs)).episodes, seeds=seeds)


def _make(trial: Trial, observation: str) -> VectorEnv:
    return make_environments(trial.env, num_envs=trial.num_envs, observation=observation, env_args=trial.env_args)


def _with_wrench(trial: Trial, word: str) -> VectorEnv:
    """Make environments that show a word's observations and, if there is one, the force at the wrist."""
    try:
        return _make(trial, f"{word},wrench")
    except (MissingError, ConfigError):
        return _make(trial, word)


def _unlearned(name: str, action_dim: int) -> Policy:
    """Build a policy that needs no learning."""
    if name == "random":
        return RandomPolicy(action_dim, rng=np.random.default_rng(0))
    return ExpertPolicy() if name == "expert" else ZeroPolicy(action_dim)
