"""A policy by name, in an environment by id: evaluated, or watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vtt.checkpoint import check_observation
from vtt.streams import StreamSpec
from vtt_policies.bundle import load_student
from vtt_policies.environments import make_environments, stream_specs
from vtt_policies.evaluation import FIRST_EVALUATION_SEED, Evaluation, evaluate, evaluation_seeds
from vtt_policies.observations import environment_word
from vtt_policies.perturbation import make_perturbation
from vtt_policies.policy import ExpertPolicy, Observation, Policy, RandomPolicy, ZeroPolicy
from vtt_policies.rollout import Episode, rollout

__all__ = ["evaluate_by_name", "watch"]

_UNLEARNED = ("expert", "random", "zero")


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
    """Evaluate a policy.

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
    student, expected = (None, {}) if policy in _UNLEARNED else load_student(Path(policy), device=device)
    word = "proprio" if student is None else environment_word(",".join(student.keys))
    env = make_environments(env_id, num_envs=num_envs, observation=word, env_args=env_args)
    try:
        perturbation: Callable[[Sequence[Observation]], Observation] | None = None
        if student is not None:
            _check(expected, stream_specs(env))
        if perturb != "none":
            rest = {} if student is None else student.rest_images()
            rng = np.random.default_rng(first_seed)
            perturbation = make_perturbation(perturb, num_envs=num_envs, rng=rng, rest=rest, delay_steps=delay_steps)
        acting = student or _unlearned(policy, env.single_action_space.shape[0])  # pyright: ignore[reportOptionalSubscript]
        with tqdm(total=n, unit="episode", disable=None) as bar:
            seeds = evaluation_seeds(n, start=first_seed)
            return evaluate(env, acting, seeds, perturbation=perturbation, progress=bar.update)
    finally:
        env.close()


def watch(env_id: str, policy: Path, *, seed: int = FIRST_EVALUATION_SEED, env_args: Sequence[str] = ()) -> Episode:
    """Record one episode with every observation there is, of which the student sees its own.

    Args:
        env_id: Gymnasium id with its module.
        policy: Run or checkpoint folder of the student.
        seed: Seed of the episode.
        env_args: Further options of the environment, each `key=value`.

    Returns:
        All observations, `action`, `expert_action`, `reward`, `success` and, where told, `contact`; each (T, ...).
    """
    student, expected = load_student(policy)
    env = make_environments(env_id, num_envs=1, observation="all", env_args=env_args)
    try:
        specs = stream_specs(env)
        _check(expected, specs)
        return rollout(env, student, [seed], record=tuple(specs)).episodes[0]
    finally:
        env.close()


def _check(expected: Mapping[str, StreamSpec], offered: Mapping[str, StreamSpec]) -> None:
    """Compare what a student was trained on with what an environment offers, beyond which nothing reaches it."""
    check_observation(expected, offered, ignore=[key for key in offered if key not in expected])


def _unlearned(name: str, action_dim: int) -> Policy:
    """Build a policy that needs no learning."""
    if name == "random":
        return RandomPolicy(action_dim, rng=np.random.default_rng(0))
    return ExpertPolicy() if name == "expert" else ZeroPolicy(action_dim)
