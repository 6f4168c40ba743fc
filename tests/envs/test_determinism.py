"""An episode depends on its seed and actions alone: not on its batch, its neighbours or the number of threads."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

_STEPS = 14


def _actions(expert: NDArray, seeds: list[int], step: int) -> NDArray:
    """The expert's actions with noise that belongs to an episode, so that contacts are rich."""
    noise = np.stack([np.random.default_rng([seed, step]).normal(0, 0.2, expert.shape[1]) for seed in seeds])
    return np.clip(expert + noise, -1, 1).astype(np.float32)


def _run(env: VectorEnv, seeds: list[int], steps: int = _STEPS) -> dict[str, NDArray]:
    """Everything that an episode shows, by name. Shapes (steps + 1, B, ...)."""
    observation, info = env.reset(seed=seeds)
    reward = np.zeros(len(seeds))
    record = []
    for step in range(steps + 1):
        record.append({**observation, "reward": reward, **info})
        observation, reward, _, _, info = env.step(_actions(info["expert_action"], seeds, step))
    return {key: np.stack([frame[key] for frame in record]) for key in record[0]}


@pytest.mark.parametrize(("num_envs", "num_threads"), [(3, 1), (3, 2), (8, 1), (8, 2)])
def test_an_episode_is_bit_identical_at_any_batch_size_and_thread_count(
    task: str, num_envs: int, num_threads: int, make_vector
) -> None:
    seeds = list(range(20, 20 + num_envs))
    batch = _run(make_vector(task, num_envs, observation="all", num_threads=num_threads), seeds)
    alone = make_vector(task, 1, observation="all")

    for index in (0, 2):
        single = _run(alone, [seeds[index]])
        assert {"camera_front", "wrench", "privileged"} <= set(single)
        for key, values in single.items():
            np.testing.assert_array_equal(batch[key][:, index], values[:, 0], err_msg=key)
    touch = [key for key in batch if key.startswith("tactile_")]
    assert touch
    if task == "PegInsertion":  # the others may be untouched so early
        assert all((batch[key] != batch[key][:1]).any() for key in touch)


def test_an_episode_does_not_depend_on_its_batch_once_objects_meet(task: str, make_vector) -> None:
    batch, alone = make_vector(task, 3).unwrapped.core, make_vector(task, 1).unwrapped.core
    batch.reset([5, 6, 7])
    alone.reset([6])
    met = False
    for _ in range(40):
        batch.step(batch.expert_action())
        alone.step(alone.expert_action())
        met |= bool(alone.contact()[0, :-1].any())  # the last is the object on its surroundings

    assert met
    for key, value in alone.observation.items():
        np.testing.assert_array_equal(batch.observation[key][1], value[0], err_msg=key)


def test_seeds_differ_and_one_seed_counts_up(task: str, make_vector) -> None:
    env = make_vector(task, 3)

    listed, _ = env.reset(seed=[5, 6, 7])
    counted, _ = env.reset(seed=5)

    for key in listed:
        np.testing.assert_array_equal(listed[key], counted[key])
    assert len(np.unique(listed["privileged"], axis=0)) == 3


def test_the_single_environment_is_a_batch_of_one(task: str, make_vector) -> None:
    single = gym.make(f"vtt_envs:vtt/{task}-v0", observation="tactile", num_threads=1)
    batch = make_vector(task, 1, observation="tactile")
    observation, info = single.reset(seed=3)
    expected, _ = batch.reset(seed=[3])

    for _ in range(5):
        for key, value in observation.items():
            np.testing.assert_array_equal(value, expected[key][0])
        action = info["expert_action"]
        observation, reward, *_, info = single.step(action)
        expected, rewards, *_ = batch.step(action[None])
        assert reward == rewards[0]
    single.close()


def test_episodes_without_a_seed_go_on_from_the_last_seed(task: str) -> None:
    env = gym.make(f"vtt_envs:vtt/{task}-v0", observation="oracle", num_threads=1)

    runs = []
    for _ in range(2):
        env.reset(seed=9)
        runs.append([env.reset()[0]["privileged"] for _ in range(2)])

    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any()
    env.close()


def test_a_reset_mask_restarts_only_what_it_names(task: str, make_vector) -> None:
    seeds = [31, 32, 33]
    undisturbed = _run(make_vector(task, 3), seeds, steps=8)
    env = make_vector(task, 3)
    observation, info = env.reset(seed=seeds)

    for step in range(8):
        if step == 4:
            before = observation
            mask = np.array([False, True, False])
            observation, info = env.reset(seed=[0, 77, 0], options={"reset_mask": mask})
            np.testing.assert_array_equal(observation["privileged"][~mask], before["privileged"][~mask])
        observation, _, _, _, info = env.step(_actions(info["expert_action"], seeds, step))

    fresh, _ = make_vector(task, 1).reset(seed=[77])
    restarted, _ = env.reset(seed=[0, 77, 0], options={"reset_mask": np.array([False, True, False])})
    for index in (0, 2):
        np.testing.assert_array_equal(observation["privileged"][index], undisturbed["privileged"][8, index])
    np.testing.assert_array_equal(restarted["privileged"][1], fresh["privileged"][0])


def test_what_has_ended_stands_still_and_earns_nothing(task: str, make_vector, resting) -> None:
    env = make_vector(task, 2, observation="tactile", horizon=4)
    env.reset(seed=0)
    for _ in range(2):
        env.step(resting(env.core))
    env.reset(options={"reset_mask": np.array([False, True])})
    for _ in range(2):
        observation, _, _, truncated, _ = env.step(resting(env.core))
    assert truncated.tolist() == [True, False]

    for _ in range(2):
        last = observation
        observation, reward, terminated, truncated, info = env.step(0.5 * resting(env.core) + 0.1)
        assert all((observation[key][0] == last[key][0]).all() for key in last)
        assert (observation["proprioception"][1] != last["proprioception"][1]).any()
        assert reward[0] == 0
        assert not any(flag[0] for flag in (terminated, truncated, info["success"]))
    assert truncated.tolist() == [False, True]


def test_observations_are_fresh_arrays(task: str, make_vector) -> None:
    env = make_vector(task, 2, observation="tactile")
    first, _ = env.reset(seed=0)
    kept = {key: value.copy() for key, value in first.items()}

    env.step(np.full(env.action_space.shape, 0.5))

    for key, value in first.items():
        np.testing.assert_array_equal(value, kept[key])
