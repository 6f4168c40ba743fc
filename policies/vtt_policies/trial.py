"""A policy by name, in an environment by id: evaluated, or recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv
from tqdm import tqdm

from vtt.streams import StreamSpec, check_observation
from vtt_policies.bundle import load_policy
from vtt_policies.environments import make_environments, stream_specs
from vtt_policies.evaluation import FIRST_EVALUATION_SEED, Evaluation, evaluate, evaluation_seeds
from vtt_policies.observations import environment_word
from vtt_policies.perturbation import make_perturbation
from vtt_policies.policy import Deployable, ExpertPolicy, Observation, Policy, RandomPolicy, ZeroPolicy
from vtt_policies.recording import RolloutStore
from vtt_policies.rollout import rollout

__all__ = ["evaluate_by_name", "record_by_name"]

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
    # Shuffled touch needs donors.
    num_envs = min(num_envs, max(n, 2))
    with _trial(env_id, policy, None, num_envs=num_envs, env_args=env_args, device=device) as (env, acting):
        perturbation: Callable[[Sequence[Observation]], Observation] | None = None
        if perturb != "none":
            rest = acting.rest_images() if isinstance(acting, Deployable) else {}
            rng = np.random.default_rng(first_seed)
            perturbation = make_perturbation(perturb, num_envs=num_envs, rng=rng, rest=rest, delay_steps=delay_steps)
        with tqdm(total=n, unit="episode", disable=None) as bar:
            seeds = evaluation_seeds(n, start=first_seed)
            return evaluate(env, acting, seeds, perturbation=perturbation, progress=bar.update)


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
    with _trial(env_id, policy, "all", num_envs=n, env_args=env_args, device=device) as (env, acting):
        specs = stream_specs(env)
        store = RolloutStore(path, observations=specs, facts={"env": env_id, "policy": policy})
        store.add(rollout(env, acting, seeds, record=tuple(specs)).episodes, seeds=seeds)


@contextmanager
def _trial(
    env_id: str, policy: str, word: str | None, *, num_envs: int, env_args: Sequence[str], device: str
) -> Iterator[tuple[VectorEnv, Policy]]:
    """Bring environments and policy together; without a word, the environments show what the policy sees."""
    student: Deployable | None = None
    expected: Mapping[str, StreamSpec] = {}
    if policy not in _UNLEARNED:
        student, expected = load_policy(Path(policy), device=device)
    word = word or ("proprio" if student is None else environment_word(",".join(student.keys)))
    env = make_environments(env_id, num_envs=num_envs, observation=word, env_args=env_args)
    try:
        offered = stream_specs(env)
        check_observation(expected, offered, ignore=[key for key in offered if key not in expected])
        yield env, student or _unlearned(policy, env.single_action_space.shape[0])  # pyright: ignore[reportOptionalSubscript]
    finally:
        env.close()


def _unlearned(name: str, action_dim: int) -> Policy:
    """Build a policy that needs no learning."""
    if name == "random":
        return RandomPolicy(action_dim, rng=np.random.default_rng(0))
    return ExpertPolicy() if name == "expert" else ZeroPolicy(action_dim)
