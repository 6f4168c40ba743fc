"""The stable-baselines3 skin keeps SB3's conventions and feeds its algorithms."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

import vtt_envs
from vtt.errors import StateError


def test_ppo_learns_from_touch_without_a_wrapper(task: str) -> None:
    env = vtt_envs.make_sb3(f"vtt/{task}-v0", num_envs=4, observation="tactile", num_threads=1, horizon=20)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]

    model.learn(256)

    assert model.num_timesteps == 256
    assert len(model.ep_info_buffer) >= 8  # episodes with a return
    assert any((old != new).any() for old, new in zip(before, model.policy.parameters(), strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in model.policy.parameters())
    env.close()


def test_an_ended_episode_restarts_and_leaves_its_last_observation(task: str, resting) -> None:
    env = vtt_envs.make_sb3(f"vtt_envs:vtt/{task}-v0", num_envs=2, observation="oracle", num_threads=1, horizon=2)
    env.seed(0)
    first = env.reset()
    action = resting(env.core)

    observation, reward, done, infos = env.step(action)
    assert not done.any()
    assert reward.dtype == np.float32
    assert "terminal_observation" not in infos[0]
    total = reward.astype(float)

    observation, reward, done, infos = env.step(action)
    total += reward
    assert done.all()
    for index, info in enumerate(infos):
        assert info["TimeLimit.truncated"]
        assert not info["is_success"]
        assert info["episode"]["l"] == 2
        assert info["episode"]["r"] == pytest.approx(total[index], abs=1e-6)
        last = info["terminal_observation"]["privileged"]
        assert np.abs(last - first["privileged"][index]).max() < 2  # it is of the same episode
        assert (observation["privileged"][index] != last).any()


def test_a_success_is_no_time_limit() -> None:
    env = vtt_envs.make_sb3("vtt/Push-v0", num_envs=8, observation="oracle", num_threads=1)
    env.seed(0)
    env.reset()
    action = np.zeros((8, *env.action_space.shape), dtype=np.float32)
    for _ in range(60):
        _, _, done, infos = env.step(action)
        if done.any():
            break
        action = np.stack([info["expert_action"] for info in infos])

    ended = [info for info, flag in zip(infos, done, strict=True) if flag]
    assert ended
    assert all(info["is_success"] and not info["TimeLimit.truncated"] for info in ended)


def test_the_skin_sees_the_episodes_of_the_vector_environment(task: str, make_vector) -> None:
    env = vtt_envs.make_sb3(f"vtt/{task}-v0", num_envs=3, observation="tactile", num_threads=1)
    env.seed(40)  # SB3 counts up from it

    observation = env.reset()

    expected, _ = make_vector(task, 3, observation="tactile").reset(seed=[40, 41, 42])
    for key, value in expected.items():
        np.testing.assert_array_equal(observation[key], value)


def test_the_vector_interface_of_sb3_is_complete(task: str) -> None:
    env = vtt_envs.make_sb3(
        f"vtt/{task}-v0", num_envs=2, observation="oracle", num_threads=1, renderer="rays", render_mode="rgb_array"
    )
    with pytest.raises(StateError, match="step_wait needs step_async to be called first"):
        env.step_wait()
    env.reset()

    assert env.get_attr("control_dt") == [pytest.approx(0.05)] * 2
    assert env.get_attr("render_mode", 1) == ["rgb_array"]
    assert [row.shape for row in env.env_method("expert_action", indices=[1])] == [env.action_space.shape]
    assert env.env_is_wrapped(gym.Wrapper) == [False, False]
    env.set_attr("horizon", 5)
    assert env.get_attr("horizon") == [5, 5]
    assert [image.shape for image in env.get_images()] == [(64, 64, 3)] * 2
    env.close()
