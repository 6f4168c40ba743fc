"""The scripted experts solve their tasks over the whole range of episodes; acting at random does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vtt_envs import TASKS, tasks


def _successes(env, *, seed: int, act) -> NDArray[np.bool_]:
    _, info = env.reset(seed=seed)
    success = np.zeros(env.num_envs, dtype=bool)
    for step in range(env.horizon):
        *_, truncated, info = env.step(act(step, info))
        success |= info["success"]
        if (success | truncated).all():
            break
    return success


def test_the_expert_succeeds(task: str, make_vector) -> None:
    env = make_vector(task, 64, num_threads=2)

    success = _successes(env, seed=1000, act=lambda _, info: info["expert_action"])

    assert success.mean() >= 0.95


@pytest.mark.parametrize("name", [name for name in TASKS if "franka" in getattr(tasks, name).robots])
def test_the_expert_succeeds_with_an_arm(name: str, make_vector) -> None:
    env = make_vector(name, 16, num_threads=2, robot="franka")

    success = _successes(env, seed=1000, act=lambda _, info: info["expert_action"])

    assert success.mean() >= 0.9


def test_acting_at_random_fails_and_stays_finite(task: str, make_vector) -> None:
    env = make_vector(task, 16, observation="all", num_threads=2, horizon=30)
    generator = np.random.default_rng(0)
    # Each is held for a while, which carries the tool far.
    actions = generator.uniform(-1.2, 1.2, (4, *env.action_space.shape))

    success = _successes(env, seed=0, act=lambda step, _: actions[step // 8])

    assert success.mean() < 0.2
    assert all(np.isfinite(value).all() for value in env.core.observation.values())


def test_extreme_actions_are_clipped_and_stay_finite(task: str, make_vector) -> None:
    observations = []
    for scale in (1.0, np.inf):
        env = make_vector(task, 22, num_threads=2)
        corners = np.random.default_rng(0).choice([-1.0, 1.0], env.action_space.shape)
        env.reset(seed=0)
        for _ in range(25):
            observation, *_ = env.step(scale * corners)
        observations.append(observation)

    for key, value in observations[0].items():
        assert np.isfinite(value).all()
        assert np.abs(value).max() < 100  # m, m/s, rad/s: nothing was thrown away
        np.testing.assert_array_equal(value, observations[1][key])


def test_a_simulation_that_blows_up_ends_as_a_failure(task: str, make_vector, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warning to a file of the working directory
    env = make_vector(task, 2)
    env.reset(seed=0)
    rest = np.zeros(env.action_space.shape)
    env.step(rest)

    env.core.engine.qvel[0] = 1e12
    observation, _, terminated, truncated, info = env.step(rest)

    assert truncated.tolist() == [True, False]
    assert not terminated.any()
    assert not info["success"].any()
    assert all(np.isfinite(value).all() for value in observation.values())
    env.reset(options={"reset_mask": truncated})
    assert not env.step(rest)[3].any()
