"""Fingertips turn every shape to the goal angle, feel it all the way, and success means that they hold it there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.robots import FloatingGripper
from vtt_envs.tasks.in_hand_rotation import InHandRotation

_SHAPES = ("cylinder", "sphere", "egg")
_NAMES = {name: index for index, name in enumerate(InHandRotation.privileged_names)}


def _make(num_envs: int = 4, observation: str = "oracle", **kwargs: Any) -> BatchedEnv:
    task = InHandRotation(**kwargs)
    return BatchedEnv(task, num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _drawn(env: BatchedEnv, name: str) -> NDArray[np.float32]:
    return env.observation["privileged"][:, _NAMES[name]].copy()


def _write_turn(env: BatchedEnv, angle: NDArray[np.floating] | float, *, lift: float = 0.0) -> None:
    """Turn and lift the objects by hand, without the fingers."""
    address = env.engine.model.joint("object").qposadr[0]
    w, z = env.engine.qpos[:, address + 3].copy(), env.engine.qpos[:, address + 6].copy()
    cosine, sine = np.cos(angle / 2), np.sin(angle / 2)
    env.engine.qpos[:, address + 3] = w * cosine - z * sine
    env.engine.qpos[:, address + 6] = w * sine + z * cosine
    env.engine.qpos[:, address + 2] += lift
    env.engine.forward()


@pytest.mark.parametrize("shape", _SHAPES)
def test_the_expert_turns_every_shape(shape: str) -> None:
    env = _make(16, shape=shape)
    env.reset(range(1000, 1016))
    success = np.zeros(16, dtype=bool)
    while not env.done.all():
        step = env.step(env.expert_action())
        success |= step.success
        assert (step.reward <= 0).all()

    assert success.sum() >= 14
    assert (np.abs(_drawn(env, "angle_turned") - env.observation["goal"][:, 0])[success] < 0.07).all()


def test_the_expert_turns_by_more_than_a_right_angle() -> None:
    env = _make(16, goal_angle=(1.65, 1.65))
    env.reset(range(1000, 1016))
    success = np.zeros(16, dtype=bool)
    while not env.done.all():
        success |= env.step(env.expert_action()).success

    assert success.sum() >= 14
    assert (_drawn(env, "angle_turned")[success] > np.pi / 2).all()


def test_random_actions_drop_the_object() -> None:
    env = _make(16)
    env.reset(range(16))
    rng, success, dropped = np.random.default_rng(0), np.zeros(16, dtype=bool), np.zeros(16, dtype=bool)
    for _ in range(100):
        step = env.step(rng.uniform(-1, 1, (16, 16)))
        success |= step.success
        dropped |= step.terminated & ~step.success
        assert all(np.isfinite(value).all() for value in env.observation.values())

    assert success.sum() <= 2
    assert dropped.sum() >= 14


def test_the_hand_holds_the_object_without_acting() -> None:
    env = _make(8)
    env.reset(range(8))
    for _ in range(20):
        env.step(np.zeros((8, 16)))
    assert not env.done.any()
    assert np.abs(_drawn(env, "angle_turned")).max() < 0.2
    assert _drawn(env, "grip_index") == pytest.approx(1.0, abs=0.3)
    assert (_drawn(env, "grip_middle") == 0).all()


def test_the_pads_push_the_object_from_both_sides_as_the_touch_says() -> None:
    env = _make(4, "all")
    observation = env.reset(range(4))
    for finger in ("index", "thumb"):
        assert observation[f"tactile_{finger}"].shape == (4, 48, 36, 3)
        assert observation[f"force_{finger}"][..., 0].sum(axis=(1, 2)) == pytest.approx(1.0, abs=0.25)
    for finger in ("middle", "ring"):
        rest = env.rest_images()[f"tactile_{finger}"]
        assert (observation[f"tactile_{finger}"] == rest).all()
    # The object hangs on the hand: the wrist carries its weight.
    assert observation["wrench"][:, 2] == pytest.approx(-9.81 * _drawn(env, "object_mass"), abs=0.03)


def test_the_contact_wanders_over_both_pads_while_the_object_turns() -> None:
    env = _make(4, "all")
    env.reset(range(4))

    def column(finger: str) -> NDArray[np.float64]:
        force = env.observation[f"force_{finger}"][..., 0].sum(axis=1)
        return force @ np.arange(force.shape[1]) / force.sum(axis=1)

    first = {finger: column(finger) for finger in ("index", "thumb")}
    while _drawn(env, "angle_turned").min() < 1.0:
        env.step(env.expert_action())
    for finger in ("index", "thumb"):
        assert (first[finger] - column(finger) > 3).all()  # cells of 1.4 mm


@pytest.mark.parametrize(("error", "succeeds"), [(0.05, True), (-0.01, True), (0.14, False), (-0.1, False)])
def test_success_needs_the_angle_and_time_in_the_grip(error: float, succeeds: bool) -> None:
    env = _make(2, goal_angle=(1.5, 1.5))
    env.reset([0, 1])
    _write_turn(env, 1.5 + error - _drawn(env, "angle_turned"))
    for step in range(29):
        assert not env.step(np.zeros((2, 16))).success.any(), step  # not yet one and a half seconds
    last = [env.step(np.zeros((2, 16))).success for _ in range(2)]
    assert (np.logical_or(*last) == succeeds).all()


def test_a_turned_object_out_of_the_grip_is_no_success_and_a_low_one_is_dropped() -> None:
    env = _make(2, goal_angle=(1.5, 1.5))
    env.reset([0, 1])
    _write_turn(env, 1.5, lift=0.05)
    env.step(np.zeros((2, 16)))
    assert not env.contact()[:, :4].any()
    assert not env.task.success(env.engine).any()

    env.reset([0, 1])
    _write_turn(env, 0.0, lift=-0.04)
    step = env.step(np.zeros((2, 16)))
    assert step.terminated.all()
    assert not step.success.any()
    assert (step.reward == -env.horizon).all()


def test_a_backward_turn_is_not_taken_for_a_forward_one() -> None:
    env = _make(1)
    env.reset([0])
    task = env.task
    assert isinstance(task, InHandRotation)
    start = task.turned(env.engine)[0]
    for turn in range(1, 5):
        _write_turn(env, -1.0)
        assert task.turned(env.engine)[0] == pytest.approx(start - turn, abs=1e-6)


def test_draws_are_in_range_and_depend_on_the_seed_alone() -> None:
    env, small = _make(32), _make(2)
    env.reset(range(32))
    assert ((_drawn(env, "object_width") >= 0.011) & (_drawn(env, "object_width") <= 0.015)).all()
    assert ((_drawn(env, "gel_friction") >= 0.8) & (_drawn(env, "gel_friction") <= 1.5)).all()
    assert _drawn(env, "object_width").std() > 5e-4
    assert ((env.observation["goal"] >= 1.2) & (env.observation["goal"] <= 1.75)).all()
    assert env.observation["goal"].std() > 0.1
    small.reset([7, 30])
    for _ in range(5):
        env.step(env.expert_action())
        small.step(small.expert_action())
    for key, value in small.observation.items():
        assert (value == env.observation[key][[7, 30]]).all()


def test_a_slippery_object_turns_less_for_the_same_motion() -> None:
    firm, slippery = _make(4, friction=(1.5, 1.5)), _make(4, friction=(0.2, 0.2))
    firm.reset(range(4))
    slippery.reset(range(4))
    for _ in range(25):
        action = firm.expert_action()
        firm.step(action)
        slippery.step(action)
    assert (_drawn(slippery, "angle_turned") < _drawn(firm, "angle_turned") - 0.15).all()
    assert not slippery.done.any()


def test_a_tight_tolerance_is_harder() -> None:
    rates = []
    for tolerance in (0.07, 0.02):
        env, success = _make(16, tolerance=tolerance), np.zeros(16, dtype=bool)
        env.reset(range(16))
        while not env.done.all():
            success |= env.step(env.expert_action()).success
        rates.append(success.mean())
    assert rates[0] > rates[1] + 0.2


def test_a_smaller_angle_is_reached_earlier() -> None:
    env = _make(4, goal_angle=(0.5, 0.5), reward_kind="sparse")
    observation = env.reset(range(4))
    assert (observation["goal"] == np.float32(0.5)).all()
    reward = np.zeros(4)
    while not env.done.all():
        reward += env.step(env.expert_action()).reward
    assert (reward == 1).all()
    assert (_drawn(env, "angle_turned") < 1.0).all()


def test_extreme_actions_stay_finite() -> None:
    env = _make(4)
    env.reset(range(4))
    for step in range(200):
        if env.done.any():
            env.reset(range(env.done.sum()), ids=np.flatnonzero(env.done))
        env.step(np.full((4, 16), 1.0 if step // 15 % 2 else -1.0))
        assert all(np.isfinite(value).all() for value in env.observation.values())


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(MissingError, match="No shape of InHandRotation 'cube'"):
        InHandRotation(shape="cube")
    with pytest.raises(ConfigError, match="goal_angle must be two rising numbers"):
        InHandRotation(goal_angle=(1.5, 3.0))
    with pytest.raises(ConfigError, match="tolerance must be in"):
        InHandRotation(tolerance=1.0)
    with pytest.raises(ConfigError, match="friction must be two rising numbers"):
        InHandRotation(friction=(1.0, 0.5))
    with pytest.raises(ConfigError, match="reward_kind must be dense or sparse"):
        InHandRotation(reward_kind="shaped")
    with pytest.raises(ConfigError, match="robot must be a Hand"):
        InHandRotation(robot=FloatingGripper())
