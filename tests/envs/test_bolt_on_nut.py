"""Bolts are screwed into their nuts, and success means that the thread has caught."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.robots import FloatingGripper
from vtt_envs.task import rotate, rotate_back
from vtt_envs.tasks.bolt_on_nut import BoltOnNut
from vtt_envs.tasks.objects import BOLTS, Bolt

SIZES = tuple(BOLTS)


def _make(num_envs: int, **kwargs: Any) -> BatchedEnv:
    return BatchedEnv(BoltOnNut(**kwargs), num_envs=num_envs, observation="oracle", num_threads=1)


def _screw(env: BatchedEnv, *, clockwise: float = 1.0, press: float | None = None) -> np.ndarray:
    """Let the expert act, with its turning in the nut scaled and its pressing replaced; return success."""
    env.reset(range(1000, 1000 + env.num_envs))
    success = np.zeros(env.num_envs, dtype=bool)
    while not env.done.all():
        action, rotation = env.expert_action(), env.engine.body_rotation("tool")
        inside = env.observation["privileged"][:, 2] < 0
        spin, move = rotate(rotation, action[:, 3:]), rotate(rotation, action[:, :3])
        spin[inside, 2] *= clockwise
        if press is not None:
            move[inside, 2] = -press
        action[:, 3:], action[:, :3] = rotate_back(rotation, spin), rotate_back(rotation, move)
        success |= env.step(action).success
    return success


def _bolt(env: BatchedEnv) -> Bolt:
    assert isinstance(env.task, BoltOnNut)
    return BOLTS[env.task.size]


def _depth(env: BatchedEnv) -> NDArray[np.float64]:
    """Depth of the bolt's lower end below the nut's top, in [m]. Shape (B,)."""
    return env.engine.body_position("nut")[:, 2] + _bolt(env).nut_height - env.engine.body_position("bolt")[:, 2]


@pytest.mark.parametrize("size", SIZES)
def test_the_expert_screws_every_bolt_in(size: str) -> None:
    assert _screw(_make(16, size=size)).sum() >= 14


@pytest.mark.parametrize("size", SIZES)
def test_bolt_and_nut_have_metric_dimensions(size: str) -> None:
    bolt, spec = BOLTS[size], mujoco.MjSpec()
    bolt.add_to(spec)
    model = spec.compile()

    assert bolt.diameter == float(size[1:]) / 1000
    np.testing.assert_allclose(model.body("bolt").mass, bolt.mass, rtol=1e-6)
    # A steel screw of ISO 4762, M16 x 25, weighs some 80 g with its socket, of which this one has none.
    assert size != "M16" or 0.08 < bolt.mass < 0.1
    balls = [geom for geom in range(model.ngeom) if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE]
    reach = np.linalg.norm(model.geom_pos[balls, :2], axis=1) + model.geom_size[balls, 0]
    assert (reach < bolt.diameter / 2).all()
    np.testing.assert_allclose(reach, bolt.diameter / 2, atol=0.12 * bolt.pitch)  # nearly as far out as a ridge
    rise = np.diff(-model.geom_pos[balls, 2])
    np.testing.assert_allclose(rise, bolt.pitch / len(balls))


@pytest.mark.parametrize("size", ["M8", "M16"])
def test_the_depth_follows_the_pitch(size: str) -> None:
    env = _make(8, size=size, turn=3.0)
    env.reset(range(1000, 1008))
    angles, depths = [], []
    while not env.done.all():
        env.step(env.expert_action())
        direction = env.engine.body_rotation("bolt")[:, :2, 0]
        angles.append(np.arctan2(direction[:, 1], direction[:, 0]))
        depths.append(_depth(env))
    turned = -np.unwrap(np.array(angles), axis=0).astype(np.float64)
    depth = np.array(depths)
    bolt = _bolt(env)
    for index in range(8):
        caught = (turned[:, index] > 0.3) & (turned[:, index] < 2.8)
        slope, start = np.polyfit(turned[caught, index], depth[caught, index], 1)
        np.testing.assert_allclose(slope, bolt.pitch / (2 * np.pi), rtol=0.15)
        np.testing.assert_allclose(start, bolt.catch_depth, atol=0.1 * bolt.pitch)


def test_a_bolt_that_is_pressed_or_turned_the_wrong_way_does_not_go_in() -> None:
    for kwargs in ({"clockwise": 0.0, "press": 1.0}, {"clockwise": -1.0}):
        env = _make(8, horizon=50)
        assert not _screw(env, **kwargs).any()
        assert (_depth(env) < _bolt(env).catch_depth + 2e-4).all()


def _pull(env: BatchedEnv, force: float) -> None:
    """Pull up by the tool with a force in [N], for two seconds."""
    robot, ids = env.task.robot, np.arange(env.num_envs)
    assert isinstance(robot, FloatingGripper)
    scale = force / (robot.stiffness[0] * robot.translation_step)
    for _ in range(40):
        up = rotate_back(env.engine.body_rotation("tool"), np.tile([0.0, 0.0, scale], (len(ids), 1)))
        action = np.concatenate([up, np.zeros_like(up)], axis=1)
        env.engine.ctrl[:] = robot.control(env.engine, ids, action, payload=env.task.payload)
        env.engine.step(25)
        env.engine.forward()


@pytest.mark.parametrize("size", ["M8", "M16"])
@pytest.mark.parametrize(("turn", "force"), [(1.0, 2.0), (2.0, 10.0)])
def test_a_caught_bolt_does_not_pull_out(size: str, turn: float, force: float) -> None:
    env = _make(8, size=size, turn=turn)
    caught = _screw(env)
    assert caught.any()
    before = _depth(env)[caught]

    _pull(env, force)

    # It gives: so short a thread holds on one side only.
    assert (before - _depth(env)[caught] < 0.5 * _bolt(env).pitch).all()


def test_a_bolt_that_was_only_set_down_pulls_out() -> None:
    env = _make(4, horizon=25)
    assert not _screw(env, clockwise=0.0).any()
    assert (_depth(env) > 0).all()

    _pull(env, 2.0)

    assert (_depth(env) < 0).all()


@pytest.mark.parametrize("size", ["M8", "M16"])
def test_a_caught_bolt_stands_when_it_is_let_go(size: str) -> None:
    env = _make(8, size=size)
    caught = _screw(env)
    before = _depth(env)
    env.engine.ctrl[:, 6:] = -5.0  # N: both fingers open
    env.engine.step(500)
    env.engine.forward()

    assert not env.contact()[:, :2].any()
    assert (env.engine.body_rotation("bolt")[caught, 2, 2] < -np.cos(0.03)).all()
    assert (np.abs(_depth(env) - before)[caught] < 0.1 * _bolt(env).pitch).all()


def test_success_is_depth_in_the_axis_of_the_nut() -> None:
    env = _make(1)
    env.reset([0])
    engine, bolt = env.engine, _bolt(env)
    address = engine.model.joint("bolt").qposadr[0]

    def at(depth: float, offset: float = 0.0, tilt: float = 0.0) -> np.bool_:
        top = engine.body_position("nut")[0] + [0, 0, bolt.nut_height]
        engine.qpos[0, address : address + 3] = top + np.array([offset, 0, -depth])
        engine.qpos[0, address + 3 : address + 7] = [0, np.cos(tilt / 2), 0, -np.sin(tilt / 2)]
        engine.forward()
        return env.task.success(engine)[0]

    needed = bolt.catch_depth + bolt.pitch / (2 * np.pi)
    assert at(needed + 1e-5)
    assert not at(needed - 1e-5)
    assert not at(needed + 1e-5, offset=6e-4)
    assert not at(needed + 1e-5, tilt=0.06)


def test_reward_is_never_positive_and_turning_pays() -> None:
    dense, sparse = _make(4), _make(4, reward_kind="sparse")
    for env in (dense, sparse):
        env.reset(range(4))
    rewards, total, inside = [], np.zeros(4), []
    while not sparse.done.all():
        inside.append(sparse.observation["privileged"][:, 2] < -_bolt(sparse).catch_depth)
        running = ~sparse.done
        rewards.append(np.where(running, dense.step(dense.expert_action()).reward, np.nan))
        step = sparse.step(sparse.expert_action())
        np.testing.assert_array_equal(step.reward, step.success)
        total += step.reward
    reward = np.array(rewards)

    assert (reward[~np.isnan(reward)] <= 0).all()
    gained = np.diff(reward, axis=0)[np.array(inside)[1:]]
    assert np.nanmean(gained) > 0.01
    np.testing.assert_array_equal(total, 1)


def test_knobs_change_what_they_say() -> None:
    easy, hard = _make(8, tilt=0.0, nut_noise=0.0, thread_start=0.2), _make(8, thread_start=3.0)
    measured = []
    for env in (easy, hard):
        privileged = env.reset(range(8))["privileged"]
        names = env.task.privileged_names
        tilt = np.pi - np.arccos(privileged[:, names.index("bolt_axis_z")].clip(-1, 1))
        start = names.index("thread_start_x")
        angle = np.arctan2(privileged[:, start + 1], privileged[:, start])
        nut = names.index("tool_from_nut_x")
        error = np.linalg.norm(env.task.goal(env.engine)[:, :3] - privileged[:, nut : nut + 3], axis=1)
        measured.append((tilt.max(), angle.max(), error.max()))

    assert measured[0][0] < 0.03 < 0.3 < measured[1][0]  # rad
    assert measured[0][1] < 0.25 < 1.2 < measured[1][1]  # rad
    assert measured[0][2] < 1e-6 < 1e-3 < measured[1][2]  # m


@pytest.mark.parametrize(
    ("argument", "value"),
    [("nut_noise", -0.001), ("tilt", 1.0), ("thread_start", 0.1), ("turn", 0.0), ("reward_kind", "none")],
)
def test_bad_arguments_are_refused(argument: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{argument} must be"):
        BoltOnNut(**{argument: value})
    with pytest.raises(MissingError, match="No bolt 'M9'"):
        BoltOnNut(size="M9")
