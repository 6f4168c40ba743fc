"""A held object turns as gravity and friction say, and success means that it rests at the goal angle, firmly held."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.robots import GelPad
from vtt_envs.tasks.in_hand_pivot import InHandPivot

_GRAVITY = 9.81  # m/s^2
_LEVER = 0.0065  # m
_SHAPES = ("bar", "plate", "rods")
_VOLUME = {"bar": 0.01 * 0.01, "plate": 0.012 * 0.005, "rods": 2 * np.pi * 0.003**2}  # times .14, in m^3
_NAMES = {name: index for index, name in enumerate(InHandPivot.privileged_names)}


def _make(num_envs: int = 4, observation: str = "oracle", **kwargs: Any) -> BatchedEnv:
    return BatchedEnv(InHandPivot(**kwargs), num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _drawn(env: BatchedEnv, name: str) -> NDArray[np.float32]:
    return env.observation["privileged"][:, _NAMES[name]]


def _task(env: BatchedEnv) -> Any:
    return env.task


def _hold(env: BatchedEnv, grip: NDArray | float = 1.0, steps: int = 1) -> Any:
    """Hold still for some steps; return the last one."""
    action = np.zeros((env.num_envs, 7))
    action[:, 6] = grip
    for _ in range(steps - 1):
        env.step(action)
    return env.step(action)


def _set_goal(env: BatchedEnv, error: float) -> None:
    """Put the goal beside the object's angle."""
    _task(env)._goal[:] = _drawn(env, "angle") + error


def _lower(env: BatchedEnv) -> None:
    """Put the objects on the table."""
    for _ in range(60):
        _set_goal(env, 0.5)
        action = np.zeros((env.num_envs, 7))
        action[:, 2], action[:, 6] = np.where(env.contact()[:, 2], 0.2, 0.7), 1
        env.step(action)


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


def test_random_actions_turn_nothing_to_its_goal_and_stay_finite() -> None:
    env = _make(16, "all")
    env.reset(range(16))
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 16, 7))

    for step in range(120):
        assert not env.step(actions[step // 3]).success.any()
        assert all(np.isfinite(value).all() for value in env.observation.values())


def test_extreme_actions_stay_finite() -> None:
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 7)).reshape(7, -1).T[::4]
    env = _make(len(corners))
    env.reset(range(len(corners)))
    for _ in range(40):
        env.step(corners * np.inf)
    assert all(np.isfinite(value).all() for value in env.observation.values())
    assert np.abs(env.observation["proprioception"][:, :3]).max() < 2  # m: nothing was thrown away
    assert np.abs(env.observation["privileged"][:, 3:6]).max() < 2


@pytest.mark.parametrize(("error", "grip", "succeeds"), [(0.06, 1.0, True), (0.08, 1.0, False), (0.0, 0.6, False)])
def test_success_needs_the_angle_and_a_firm_grip(error: float, grip: float, succeeds: bool) -> None:
    env = _make()
    env.reset(range(4))
    _hold(env, grip, steps=20)
    _set_goal(env, error)
    if grip < 1:
        assert (_drawn(env, "angular_rate") < 0.1).all()

    assert (_hold(env, grip).success == succeeds).all()


def test_an_object_on_the_table_is_no_success() -> None:
    env = _make()
    env.reset(range(4))
    _lower(env)
    action = np.zeros((4, 7))
    action[:, 2], action[:, 6] = 0.2, 1
    for _ in range(10):
        _set_goal(env, 0.5)
        env.step(action)
    _set_goal(env, 0)

    step = env.step(action)

    assert env.contact()[:, 2].all()
    assert (np.abs(_drawn(env, "angle_error")) < 0.02).all()
    assert (np.abs(_drawn(env, "angular_rate")) < 0.1).all()
    assert not step.success.any()


def test_a_turning_object_is_no_success() -> None:
    env = _make()
    env.reset(range(4))
    _hold(env, steps=10)
    env.engine.qvel[:, _task(env)._spin + 1] = 20.0  # rad/s, which the grip stops within a control step or two
    _task(env).tolerance = 0.5

    moving = np.abs(_drawn(env, "angular_rate"))
    for _ in range(3):
        _set_goal(env, 0)
        success = _hold(env).success
        moving = np.abs(_drawn(env, "angular_rate"))
        assert not success[moving > 0.1].any()


def test_a_drop_ends_the_episode_as_a_failure_that_costs_more_than_to_go_on() -> None:
    env = _make()
    env.reset(range(4))
    ended = np.zeros(4, dtype=bool)
    for _ in range(30):
        step = _hold(env, -1.0)
        ended |= step.terminated
        assert not step.success.any()
        assert (step.reward[step.terminated] == -env.horizon).all()

    assert ended.all()


def test_the_object_slips_where_friction_gives_way_to_its_weight() -> None:
    env = _make(16, shape="bar")
    env.reset(range(16))
    _hold(env, steps=4)
    angle, offset = _drawn(env, "angle"), 0.045
    weight = _drawn(env, "object_mass") * _GRAVITY
    torque = weight * offset * np.sin(np.abs(angle))
    needed = np.hypot(torque / _LEVER, weight) / (2 * _drawn(env, "gel_friction")) / 10  # of 10 N
    steep = np.abs(angle) > 0.5
    before = angle.copy()

    _hold(env, 1.6 * needed, steps=8)
    kept = np.abs(_drawn(env, "angle") - before)
    _hold(env, 0.5 * needed, steps=8)
    turned = np.abs(before) - np.abs(_drawn(env, "angle"))

    assert steep.sum() >= 6
    assert (kept[steep] < 0.05).all()
    assert (turned[steep] > 0.2).all()  # towards hanging


def test_the_table_turns_a_loosely_held_object_outwards() -> None:
    env = _make(16, shape="plate")
    env.reset(range(16))
    _lower(env)
    start = _drawn(env, "angle").copy()
    steep = np.abs(start) > 0.75  # steeper than the cone of friction on the table
    action = np.zeros((16, 7))
    action[:, 2], action[:, 6] = 0.8, 0.3
    for _ in range(6):
        _set_goal(env, 0.5)
        env.step(action)

    assert steep.sum() >= 4
    assert (np.abs(_drawn(env, "angle")) > np.abs(start) + 0.05)[steep].all()


def test_the_tactile_image_shows_the_angle() -> None:
    env = _make(4, "all", shape="bar")
    env.reset(range(4))
    _hold(env, steps=5)
    rows, columns = GelPad().taxels
    # On the left finger rows run along -x of the tool, columns along z, both from the middle of the pad.
    x = -((np.arange(rows) + 0.5) / rows - 0.5) * GelPad().window[0]
    z = ((np.arange(columns) + 0.5) / columns - 0.5) * GelPad().window[1]
    for index in range(4):
        angle, middle = _drawn(env, "angle")[index], env.observation["privileged"][index, 3:6]
        local = np.stack(np.broadcast_arrays(x[:, None] - middle[0], z[None] - 0.0126 - middle[2]))
        across = local[0] * np.cos(angle) - local[1] * np.sin(angle)

        pressed = env.engine.sensor("gel_left")[index, : rows * columns].reshape(rows, columns) > 0

        assert (pressed == (np.abs(across) < 0.005)).mean() > 0.98
        assert 0.2 < pressed.mean() < 0.95
    assert (env.observation["tactile_left"] != env.rest_images()["tactile_left"]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(("aside", "depth"), [(0.0, 3e-4), (0.004, 0.0015), (0.008, 0.0015)])
def test_taxels_read_how_deep_the_object_is(aside: float, depth: float) -> None:
    env = _make(1, "all", shape="bar")
    env.reset([0])
    engine, pad = env.engine, GelPad()
    (rows, columns), model = pad.taxels, engine.model
    for finger in ("left", "right"):
        engine.qpos[0, model.joint(f"finger_{finger}").qposadr[0]] = 0.005 - depth
    address, rotation = model.joint("object").qposadr[0], engine.body_rotation("tool")[0]
    engine.qpos[0, address : address + 3] = engine.body_position("tool")[0] + rotation @ [aside, 0, 0.03]
    mujoco.mju_mat2Quat(engine.qpos[0, address + 3 : address + 7], rotation.ravel())
    engine.forward()
    x = -((np.arange(rows) + 0.5) / rows - 0.5) * pad.window[0]

    measured = engine.sensor("gel_left")[0, : rows * columns].reshape(rows, columns)

    expected = np.clip(0.005 - np.abs(x - aside), 0, depth)
    np.testing.assert_allclose(measured, np.tile(expected[:, None], columns), atol=1e-4)


def test_a_held_object_weighs_on_the_gels() -> None:
    env = _make(4, "all")
    env.reset(range(4))
    _hold(env, steps=20)
    weight = _drawn(env, "object_mass") * _GRAVITY

    shear = np.zeros((4, 3))
    for finger, sign in (("left", 1), ("right", -1)):
        force = env.observation[f"force_{finger}"].sum(axis=(1, 2))
        np.testing.assert_allclose(force[:, 0], 10, rtol=0.05)
        shear += np.stack([-sign * force[:, 2], 0 * force[:, 0], force[:, 1]], axis=1)

    np.testing.assert_allclose(np.linalg.norm(shear, axis=1), weight, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("shape", _SHAPES)
def test_masses_are_those_of_metals(shape: str) -> None:
    env = _make(16, shape=shape)
    env.reset(range(16))
    density = _drawn(env, "object_mass") / (_VOLUME[shape] * 0.14)

    assert (density > 2500).all()  # the rods' ends are round
    assert (density < 7850).all()
    assert np.ptp(density) > 2000


@pytest.mark.parametrize("largest", [0.4, 0.8, 1.2])
def test_start_and_goal_stay_below_the_largest_angle_and_apart(largest: float) -> None:
    env = _make(64, largest_angle=largest)
    env.reset(range(64))
    start, goal = _drawn(env, "angle"), env.observation["goal"][:, 0]

    assert (np.abs(goal) <= largest).all()
    assert (np.abs(start) < largest + 0.1).all()  # the gels give way to the weight
    assert (np.abs(goal - start) > 0.25).all()
    assert (goal > start).any()
    assert (goal < start).any()


def test_the_tolerance_is_what_counts_as_success() -> None:
    env = _make(tolerance=0.2)
    env.reset(range(4))
    _hold(env, steps=10)
    _set_goal(env, 0.18)

    assert _hold(env).success.all()


def test_a_sparse_reward_is_the_success() -> None:
    env = _make(reward_kind="sparse")
    env.reset(range(4))
    assert not _hold(env, steps=10).reward.any()
    _set_goal(env, 0)

    np.testing.assert_array_equal(_hold(env).reward, 1)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"shape": "ball"}, MissingError, "bar, plate, rods"),
        ({"tolerance": 0.0}, ConfigError, "tolerance must be in"),
        ({"largest_angle": 2.0}, ConfigError, "largest_angle must be in"),
        ({"reward_kind": "shaped"}, ConfigError, "reward_kind must be dense or sparse"),
    ],
)
def test_bad_arguments_raise(kwargs: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        InHandPivot(**kwargs)


def test_an_episode_does_not_depend_on_its_batch() -> None:
    records = []
    for seeds in ([3, 4, 5, 6], [5]):
        env = _make(len(seeds))
        env.reset(seeds)
        record = []
        for _ in range(30):
            env.step(env.expert_action())
            record.append(np.concatenate([value[seeds.index(5)] for value in env.observation.values()]))
        records.append(record)

    np.testing.assert_array_equal(*records)
