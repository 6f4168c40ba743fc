"""Objects of every shape are picked up, and success means that they are held above the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.tasks.picking import Picking

_GRAVITY = 9.81  # m/s^2
_HEIGHT = 0.08  # m
_SHAPES = ("cube", "cylinder", "sphere", "hexagon")
_VOLUME = {"cube": 1.0, "cylinder": np.pi / 4, "sphere": np.pi / 6, "hexagon": np.sqrt(3) / 2}  # of width^3
_NAMES = {name: index for index, name in enumerate(Picking.privileged_names)}


def _make(num_envs: int = 4, observation: str = "oracle", **kwargs: Any) -> BatchedEnv:
    return BatchedEnv(Picking(**kwargs), num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _drawn(env: BatchedEnv, name: str) -> NDArray[np.float32]:
    return env.observation["privileged"][:, _NAMES[name]]


def _lifted(shape: str = "cube", **kwargs: Any) -> BatchedEnv:
    """Environments whose object the expert has lifted by more than half the height."""
    env = _make(shape=shape, **kwargs)
    env.reset(range(4))
    while _drawn(env, "lift").min() < 0.05:
        env.step(env.expert_action())
    return env


@pytest.mark.parametrize("shape", _SHAPES)
def test_the_expert_picks_up_every_shape(shape: str, solve) -> None:
    assert solve(_make(16, shape=shape)).sum() >= 14


@pytest.mark.parametrize("shape", ["cube", "sphere"])
def test_random_actions_pick_up_nothing(shape: str) -> None:
    env = _make(16, shape=shape)
    env.reset(range(16))
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 16, 7))  # each held for a while, which carries the tool far
    for step in range(120):
        assert not env.step(actions[step // 6]).success.any()
        assert all(np.isfinite(value).all() for value in env.observation.values())


def test_success_comes_half_a_second_after_the_height_is_reached() -> None:
    env = _make()
    env.reset(range(4))
    above = np.zeros(4, dtype=int)
    while not env.done.all():
        running = ~env.done
        success = env.step(env.expert_action()).success
        above += running & (_drawn(env, "lift") > _HEIGHT)
        assert (above[success] >= 10).all()
    assert (above <= 14).all()


@pytest.mark.parametrize(("action", "succeeds"), [(0.0, True), (-1.0, False), (1.0, False)])
def test_a_held_object_must_stay_where_it_is(action: float, succeeds: bool) -> None:
    env = _lifted()
    up = np.zeros((4, 7))
    up[:, 2], up[:, 6] = -1, 1
    while _drawn(env, "lift").min() < 0.1:
        env.step(up)
    env.done[:] = False  # some have been there for long enough
    move = np.zeros((4, 7))
    move[:, 0], move[:, 6] = action, 1  # across the table, firmly held
    env.step(move)
    assert (_drawn(env, "lift") > _HEIGHT).all()

    env.done[:] = False
    success = np.zeros(4, dtype=bool)
    for _ in range(11):
        success |= env.step(move).success

    assert (success == succeeds).all()


def test_a_thrown_object_is_not_picked_up() -> None:
    env = _make()
    env.reset(range(4))
    model = env.engine.model
    env.engine.qpos[:, model.joint("tool_tx").qposadr[0]] += 0.3  # the gripper is elsewhere
    env.engine.qvel[:, model.joint("object").dofadr[0] + 2] = 2.0  # m/s: up by 200 mm, for .4 s
    lift = np.zeros(4)
    for _ in range(10):
        assert not env.step(np.zeros((4, 7))).success.any()
        lift = np.maximum(lift, _drawn(env, "lift"))
    assert (lift > 0.15).all()


def test_what_was_dropped_may_be_picked_up_again() -> None:
    env = _lifted("cylinder")
    release = np.zeros((4, 7))
    release[:, 6] = -1
    for _ in range(8):
        assert not env.step(release).terminated.any()
    np.testing.assert_array_less(_drawn(env, "lift"), 0.005)

    success = np.zeros(4, dtype=bool)
    while not env.done.all():
        success |= env.step(env.expert_action()).success
    assert success.all()


def test_leaving_the_workspace_ends_the_episode_at_a_loss() -> None:
    env = _make(2)
    env.reset([0, 1])
    address = env.engine.model.joint("object").qposadr[0]
    env.engine.qpos[0, address] = 0.25  # m

    step = env.step(np.zeros((2, 7)))

    assert step.terminated.tolist() == [True, False]
    assert not step.success.any()
    assert step.reward[0] == -env.horizon
    assert -1 < step.reward[1] < 0


@pytest.mark.parametrize("shape", _SHAPES)
def test_objects_lie_on_the_table_with_the_weight_of_their_size(shape: str) -> None:
    env = _make(16, shape=shape)
    env.reset(range(16))
    for _ in range(3):
        env.step(np.zeros((16, 7)))

    size, mass = _drawn(env, "object_size"), _drawn(env, "object_mass")
    density = mass / (_VOLUME[shape] * size**3)
    on_table = env.engine.sensor("contact_object")[:, 3]  # world z of what object and table do to each other

    np.testing.assert_allclose(np.abs(on_table), mass * _GRAVITY, rtol=0.02)
    np.testing.assert_allclose(_drawn(env, "lift"), 0, atol=5e-4)  # m
    assert 0.0325 <= size.min() < 0.035 < 0.0375 < size.max() <= 0.04
    assert 700 <= density.min() < 1300 < 2100 < density.max() <= 2700


@pytest.mark.parametrize("shape", ["cube", "sphere"])
def test_a_held_object_weighs_on_gels_and_wrist(shape: str) -> None:
    env = _lifted(shape, observation="all")
    for _ in range(50):
        env.done[:] = False  # past success, until nothing moves
        env.step(env.expert_action())
    weight = env.observation["privileged"][:, _NAMES["object_mass"]] * _GRAVITY

    shear = sum(env.observation[f"force_{finger}"][..., 1].sum(axis=(1, 2)) for finger in ("left", "right"))

    np.testing.assert_allclose(shear, weight, rtol=0.05)
    np.testing.assert_allclose(env.observation["wrench"][:, 2], weight, rtol=0.05)  # z of the tool points down
    np.testing.assert_allclose(_drawn(env, "grip_left"), 10, rtol=0.05)  # N, the robot's grip force


def test_the_bars_of_a_hexagon_press_like_one_prism() -> None:
    env = _make(shape="hexagon", observation="all")
    env.reset(range(4))
    while not env.done.all():
        env.step(env.expert_action())
    pad, turns = env.task.robot.pad, np.arange(6) * np.pi / 3
    (rows, columns), (across, along) = pad.taxels, pad.window
    x = (0.5 - (np.arange(rows) + 0.5) / rows) * across  # of the left finger
    z = ((np.arange(columns) + 0.5) / columns - 0.5) * along - pad.size[1] / 2
    taxels = np.stack(np.broadcast_arrays(x[:, None], 0.0, z), axis=-1)
    normals = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for index, size in enumerate(_drawn(env, "object_size")):
        data = env.engine.data(index)
        finger, prism = data.body("finger_left"), data.body("object")
        local = finger.xpos + taxels @ finger.xmat.reshape(3, 3).T - prism.xpos
        local = local @ prism.xmat.reshape(3, 3)
        depth = size / 2 - (local[..., :2] @ normals.T).max(axis=-1)
        depth = np.minimum(depth, size / 2 - np.abs(local[..., 2]))

        measured = env.engine.sensor("gel_left")[index, : rows * columns].reshape(rows, columns)

        np.testing.assert_allclose(measured, np.maximum(depth, 0), atol=3e-6)  # m
        assert depth.max() > 1e-4


def test_a_loose_grip_slips_where_friction_says() -> None:
    """Two gels carry `2 friction grip`: a grip of half the needed force drops the object, one of twice holds it."""
    for factor, holds in [(0.5, False), (2.0, True)]:
        env = _lifted()
        needed = _drawn(env, "object_mass") * _GRAVITY / (2 * _drawn(env, "gel_friction"))
        action = np.zeros((4, 7))
        action[:, 6] = factor * needed / 10  # of the robot's grip force
        for _ in range(10):
            env.step(action)
        assert ((_drawn(env, "lift") > 0.02) == holds).all()


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_object_noise_is_the_largest_error_of_the_observed_object(noise: float) -> None:
    env = _make(64, object_noise=noise)
    env.reset(range(64))

    error = np.linalg.norm(env.observation["goal"][:, :3] - env.observation["privileged"][:, :3], axis=1)

    assert 0.9 * noise - 1e-6 <= error.max() <= np.sqrt(2) * noise + 1e-6


def test_height_is_what_success_asks_for() -> None:
    steps = []
    for height in (0.03, 0.15):
        env = _make(height=height)
        env.reset(range(4))
        while not env.done.all():
            env.step(env.expert_action())
        assert (_drawn(env, "lift") > height).all()
        steps.append(env.steps.max())
    assert steps[0] + 20 < steps[1]


def test_a_sparse_reward_is_success() -> None:
    env = _make(reward_kind="sparse")
    env.reset(range(4))
    total = np.zeros(4)
    while not env.done.all():
        step = env.step(env.expert_action())
        total += step.reward
        np.testing.assert_array_equal(step.reward, step.success)
    np.testing.assert_array_equal(total, 1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(MissingError, match=r"No shape of Picking 'cone'. Available: cube, cylinder, hexagon, sphere"):
        Picking(shape="cone")
    with pytest.raises(ConfigError, match="object_noise must be"):
        Picking(object_noise=0.1)
    with pytest.raises(ConfigError, match="height must be"):
        Picking(height=0.5)
    with pytest.raises(ConfigError, match="reward_kind must be"):
        Picking(reward_kind="shaped")
