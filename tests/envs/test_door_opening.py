"""Doors with every handle are opened, and hinge, grip and observation are what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.tasks.door_opening import DoorOpening

_HANDLES = ("round", "square", "knob")
_NAMES = {name: index for index, name in enumerate(DoorOpening.privileged_names)}
_STILL = np.zeros((4, 7))


def _make(num_envs: int = 4, observation: str = "oracle", **kwargs: Any) -> BatchedEnv:
    task = DoorOpening(**kwargs)
    return BatchedEnv(task, num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _drawn(env: BatchedEnv, name: str) -> NDArray[np.float32]:
    return env.observation["privileged"][:, _NAMES[name]]


def _open(env: BatchedEnv, *, grip: float = 1.0) -> NDArray[np.bool_]:
    """Let the expert open the doors, closing with a part of the grip force; return success."""
    success = np.zeros(env.num_envs, dtype=bool)
    while not env.done.all():
        action = env.expert_action()
        action[:, 6] = np.where(action[:, 6] > 0, grip, -1)
        step = env.step(action)
        success |= step.success
        assert (step.reward <= 0).all()
    return success


def _clear(env: BatchedEnv) -> None:
    """Take the gripper away from the door."""
    env.engine.qpos[:, env.engine.model.joint("tool_tx").qposadr[0]] -= 0.5
    env.engine.forward()


def _stiffen(env: BatchedEnv) -> None:
    """Give every hinge a friction of 1 N m: 3 to 4 N at the handle."""
    env.engine.expand("dof_frictionloss")[:, env.engine.model.joint("hinge").dofadr[0]] = 1.0


@pytest.mark.parametrize("handle", _HANDLES)
def test_the_expert_opens_every_door(handle: str) -> None:
    env = _make(16, handle=handle)
    env.reset(range(1000, 1016))

    assert _open(env).sum() >= 14


@pytest.mark.parametrize("handle", ["round", "knob"])
def test_random_actions_open_nothing(handle: str) -> None:
    env = _make(16, handle=handle)
    env.reset(range(16))
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 16, 7))  # each held for a while, which carries the tool far
    for step in range(120):
        assert not env.step(actions[step // 6]).success.any()
        assert all(np.isfinite(value).all() for value in env.observation.values())


def test_success_is_a_door_open_by_more_than_the_angle() -> None:
    env = _make()
    env.reset(range(4))
    _clear(env)
    env.engine.qpos[:, env.engine.model.joint("hinge").qposadr[0]] = [0.3, 0.57, 0.59, 1.2]

    step = env.step(_STILL)

    assert step.success.tolist() == [False, False, True, True]
    assert step.terminated.tolist() == [False, False, True, True]
    assert (np.diff(step.reward[:2]) > 0).all()
    assert (step.reward <= 0).all()


def test_no_door_starts_open() -> None:
    env = _make(200)
    env.reset(range(200))
    angle = _drawn(env, "door_angle")

    assert 0 <= angle.min() < 0.02
    assert 0.42 < angle.max() <= 0.45
    assert not env.task.success(env.engine).any()


def test_a_door_that_swings_stops_where_its_hinge_says() -> None:
    """`I w' = -friction - damping w` stops after `I / b (w - friction / b ln(1 + b w / friction))`."""
    env = _make(16)
    env.reset(range(16))
    _clear(env)
    model, speed = env.engine.model, 1.0  # rad/s
    start, width, thick = 0.1, 0.36, 0.018
    radius, friction, damping = (_drawn(env, n) for n in ("handle_radius", "hinge_friction", "hinge_damping"))
    inertia = _drawn(env, "door_mass") * (width**2 + thick**2) / 3 + 0.06 * (radius**2 + 0.02**2)  # three bars of 20 g
    expected = inertia / damping * (speed - friction / damping * np.log1p(damping * speed / friction))
    env.engine.qpos[:, model.joint("hinge").qposadr[0]] = start
    env.engine.qvel[:, model.joint("hinge").dofadr[0]] = speed

    env.engine.step(1000)
    env.engine.forward()

    swung = env.task.privileged(env.engine)[:, _NAMES["door_angle"]] - start
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(swung, expected, rtol=0.05, atol=0.003)


def test_the_handle_is_as_far_from_the_hinge_as_drawn() -> None:
    env = _make(16)
    env.reset(range(16))
    engine = env.engine
    distance = np.linalg.norm((engine.body_position("handle") - engine.body_position("door"))[:, :2], axis=1)

    np.testing.assert_allclose(distance, np.hypot(_drawn(env, "handle_radius"), 0.029), rtol=1e-5)
    assert np.ptp(distance) > 0.04


def test_the_handle_is_observed_as_it_was_at_first() -> None:
    exact, noisy = _make(handle_noise=0.0), _make(handle_noise=0.03)
    for env in (exact, noisy):
        env.reset(range(4))
    np.testing.assert_allclose(exact.observation["goal"][:, :3], exact.observation["privileged"][:, :3], atol=1e-6)
    error = np.linalg.norm(noisy.observation["goal"][:, :3] - exact.observation["goal"][:, :3], axis=1)
    assert ((error > 1e-3) & (error < 0.03 * np.sqrt(3))).all()

    tool, rotation = exact.engine.body_position("tool"), exact.engine.body_rotation("tool")
    before = tool + np.einsum("bij,bj->bi", rotation, exact.observation["goal"][:, :3])
    assert _open(exact).all()
    tool, rotation = exact.engine.body_position("tool"), exact.engine.body_rotation("tool")
    after = tool + np.einsum("bij,bj->bi", rotation, exact.observation["goal"][:, :3])
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert (np.linalg.norm(after - exact.engine.body_position("handle"), axis=1) > 0.03).all()


@pytest.mark.parametrize("handle", _HANDLES)
def test_a_loose_grip_slips_off(handle: str) -> None:
    env = _make(8, handle=handle, horizon=80)
    env.reset(range(8))
    _stiffen(env)

    assert _open(env, grip=0.1).sum() <= 1  # 2 x 1 N, and friction of .5 to 1.2


def test_the_gels_feel_the_grip_and_the_pull() -> None:
    env = _make(observation="all")
    env.reset(range(4))
    _stiffen(env)
    for _ in range(150):
        if (env.observation["privileged"][:, _NAMES["door_velocity"]] > 0.1).all():
            break
        env.step(env.expert_action())

    assert env.contact()[:, :2].all()
    for finger in ("left", "right"):
        np.testing.assert_allclose(env.observation[f"force_{finger}"][..., 0].sum(axis=(1, 2)), 10, rtol=0.3)
        changed = env.observation[f"tactile_{finger}"] != env.rest_images()[f"tactile_{finger}"]
        assert changed.any(axis=(1, 2, 3)).all()
    # The handle holds the hand back, along x of the tool, which points into the door.
    along = env.observation["wrench"][:, 0]
    assert ((along > 1) & (along < 8)).all()


def test_hinge_friction_is_the_largest_that_is_drawn() -> None:
    for largest in (0.2, 1.0):
        env = _make(64, hinge_friction=largest)
        env.reset(range(64))
        friction = _drawn(env, "hinge_friction")
        assert friction.min() >= 0.1
        assert 0.9 * largest < friction.max() <= largest


def test_a_sparse_reward_is_success() -> None:
    env = _make(reward_kind="sparse")
    env.reset(range(4))
    while not env.done.all():
        step = env.step(env.expert_action())
        np.testing.assert_array_equal(step.reward, step.success)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(MissingError, match=r"No handle of DoorOpening 'lever'. Available: knob, round, square"):
        DoorOpening(handle="lever")
    with pytest.raises(ConfigError, match="handle_noise must be"):
        DoorOpening(handle_noise=0.1)
    with pytest.raises(ConfigError, match="hinge_friction must be"):
        DoorOpening(hinge_friction=5)
    with pytest.raises(ConfigError, match="reward_kind must be"):
        DoorOpening(reward_kind="shaped")
