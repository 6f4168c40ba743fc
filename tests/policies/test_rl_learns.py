import pytest

from vtt_policies.bundle import load_policy
from vtt_policies.evaluation import evaluate, evaluation_seeds
from vtt_policies.rl.config import AacdConfig, CrossqConfig, PpoConfig, RecurrentPpoConfig, SacConfig, TqcConfig
from vtt_policies.rl.train import train

# A random policy reaches the mark in a fifth of the episodes, one that goes there in all.
_ENOUGH = 0.9
_PPO = {"num_envs": 16, "n_steps": 32, "batch_size": 128, "learning_rate": 1e-3, "gamma": 0.9}
_SAC = {"num_envs": 8, "gradient_steps": 2, "learning_starts": 200, "batch_size": 64, "hidden": (64,), "gamma": 0.9}
_SAC |= {"learning_rate": 2e-3, "buffer_size": 10_000, "ent_coef": 0.02}


def _success(kind, out, reach, *, n=64, env_args=(), **options):
    """Train, then measure the deployed actor on held-out seeds."""
    config = kind(env="vtt_toy/Reach-v0", out=out, env_args=env_args, video=False, checkpoint_every=10**6, **options)
    policy, _ = load_policy(train(config, show_progress=False).run.path)
    env = reach(n, **{item.split("=")[0]: True for item in env_args})
    return evaluate(env, policy, evaluation_seeds(n)).rate


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PpoConfig, {**_PPO, "steps": 4_096}),
        (SacConfig, {**_SAC, "steps": 2_000}),
        pytest.param(TqcConfig, {**_SAC, "steps": 3_000}, marks=pytest.mark.slow),
        pytest.param(CrossqConfig, {**_SAC, "steps": 3_000}, marks=pytest.mark.slow),
        pytest.param(RecurrentPpoConfig, {**_PPO, "lstm": 32, "steps": 20_000}, marks=pytest.mark.slow),
    ],
)
def test_an_algorithm_learns_to_reach_the_mark(kind, options, tmp_path, reach):
    assert _success(kind, tmp_path / "run", reach, actor="proprio", **options) >= _ENOUGH


def test_a_random_policy_does_not_reach_the_mark(reach):
    import numpy as np

    from vtt_policies.policy import RandomPolicy

    policy = RandomPolicy(2, rng=np.random.default_rng(0))
    assert evaluate(reach(64), policy, evaluation_seeds(64)).rate < 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "options"), [(PpoConfig, {**_PPO, "steps": 60_000}), (SacConfig, {**_SAC, "steps": 8_000})]
)
def test_a_mark_that_only_the_camera_shows_is_reached(kind, options, tmp_path, reach):
    options = {**options, "actor": "visual", "critic": "oracle", "env_args": ("blind=true",)}
    assert _success(kind, tmp_path / "run", reach, **options) >= 0.7


@pytest.mark.slow
def test_an_actor_learns_under_a_critic_of_another_run(tmp_path, reach):
    source = PpoConfig(
        env="vtt_toy/Reach-v0", out=tmp_path / "source", actor="oracle", steps=10_000, video=False, **_PPO
    )
    critic = train(source, show_progress=False).run.path
    options = {**_PPO, "actor": "proprio", "critic_run": critic, "variant": "frozen", "steps": 6_000}
    assert _success(AacdConfig, tmp_path / "run", reach, **options) >= _ENOUGH
