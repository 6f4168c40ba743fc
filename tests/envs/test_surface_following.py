"""Surfaces and edges are followed, and success means that the pad kept its indentation on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.robots import FloatingGripper, GelPad
from vtt_envs.tasks.surface_following import SurfaceFollowing

_SHAPES = ("dome", "cylinder", "plane", "wave", "edge")
_NAMES = {name: index for index, name in enumerate(SurfaceFollowing.privileged_names)}


def _make(num_envs: int = 4, observation: str = "oracle", **kwargs: Any) -> BatchedEnv:
    task = SurfaceFollowing(**kwargs)
    return BatchedEnv(task, num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _drawn(env: BatchedEnv, name: str) -> NDArray[np.float32]:
    return env.observation["privileged"][:, _NAMES[name]]


def _pressed(env: BatchedEnv, steps: int = 12) -> BatchedEnv:
    """Let the expert come down, but not move on."""
    for _ in range(steps):
        action = env.expert_action()
        action[:, :2] = 0
        env.step(action)
    return env


@pytest.mark.parametrize("shape", _SHAPES)
def test_the_expert_follows_every_shape(shape: str) -> None:
    env = _make(16, shape=shape)
    env.reset(range(1000, 1016))
    success = np.zeros(16, dtype=bool)
    while not env.done.all():
        step = env.step(env.expert_action())
        assert (step.reward <= 0).all()
        assert (_drawn(env, "share_in_band") >= 0.89)[step.success].all()
        assert (env.observation["goal"][:, 3] <= 0)[step.success].all()
        success |= step.success

    assert success.sum() >= 14


@pytest.mark.parametrize("shape", ["dome", "edge"])
def test_random_actions_follow_nothing_and_stay_finite(shape: str) -> None:
    env = _make(16, "all", shape=shape)
    env.reset(range(16))
    actions = np.random.default_rng(0).uniform(-1, 1, (27, 16, 6))

    for step in range(80):
        assert not env.step(actions[step // 3]).success.any()
        assert all(np.isfinite(value).all() for value in env.observation.values())


def test_extreme_actions_stay_finite() -> None:
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 6)).reshape(6, -1).T[::3]
    env = _make(len(corners))
    env.reset(range(len(corners)))
    for _ in range(40):
        env.step(corners * np.inf)

    assert all(np.isfinite(value).all() for value in env.observation.values())
    assert np.abs(env.observation["proprioception"][:, :3]).max() < 2  # m


@pytest.mark.parametrize("shape", ["dome", "edge"])
def test_a_pad_that_moves_over_the_surface_without_touching_does_not_succeed(shape: str) -> None:
    env = _make(shape=shape)
    env.reset(range(4))
    for _ in range(40):
        action = np.zeros((4, 6))
        action[:, :3] = 0.9 * env.observation["goal"][:, :3]
        action[:, 2] -= 0.2
        assert not env.step(action).success.any()

    assert (env.observation["goal"][:, 3] < 0).all()  # it got there
    assert not _drawn(env, "share_in_band").any()


def test_what_was_skipped_cannot_be_made_up_for() -> None:
    env = _make(shape="dome")
    env.reset(range(4))
    for step in range(80):
        action = env.expert_action()
        if (env.observation["goal"][:, 3] > 0.045).all() or step < 12:  # the first quarter is done in the air
            action = np.zeros((4, 6))
            action[:, :3] = 0.8 * env.observation["goal"][:, :3]
            action[:, 2] -= 0.1
        assert not env.step(action.astype(np.float32)).success.any()

    assert (_drawn(env, "share_in_band") < 0.9).all()


def test_the_pad_is_pressed_to_the_asked_indentation() -> None:
    for indentation in (0.0004, 0.0008):
        env = _make(8, "all", shape="dome", indentation=indentation, tolerance=0.0002)
        env.reset(range(8))
        _pressed(env)
        taxels = env.engine.sensor("gel_pad")[:, : 48 * 64]

        np.testing.assert_allclose(taxels.max(axis=1), indentation, atol=5e-5)
        np.testing.assert_allclose(_drawn(env, "indentation_error"), 0, atol=5e-5)


def test_penetration_is_the_distance_of_a_plane_and_the_drawn_sphere() -> None:
    env = _make(4, "all", shape="dome")
    env.reset(range(4))
    _pressed(env)
    pad = GelPad()
    rows, columns = pad.taxels
    x = ((np.arange(columns) + 0.5) / columns - 0.5) * pad.window[1]
    y = ((np.arange(rows) + 0.5) / rows - 0.5) * pad.window[0]
    points = np.stack(np.broadcast_arrays(x[None], y[:, None], 0.0), axis=-1)
    rotation, tool = env.engine.body_rotation("tool"), env.engine.body_position("tool")
    surface = env.engine.body_rotation("surface"), env.engine.body_position("surface")
    for index in range(4):
        radius = _drawn(env, "radius")[index]
        middle = surface[1][index] - radius * surface[0][index][:, 2]
        at = tool[index] + points @ rotation[index].T
        expected = np.maximum(radius - np.linalg.norm(at - middle, axis=-1), 0)

        measured = env.engine.sensor("gel_pad")[index, : rows * columns].reshape(rows, columns)

        np.testing.assert_allclose(measured, expected, atol=3e-6)
        assert expected.max() > 4e-4
    assert np.ptp(_drawn(env, "radius")) > 0.01


def test_friction_drags_on_a_sliding_pad() -> None:
    env = _make(8, shape="dome")
    env.reset(range(8))
    for _ in range(18):
        env.step(env.expert_action())
    force = np.stack([_drawn(env, f"force_{a}") for a in "xyz"], axis=1)

    np.testing.assert_allclose(np.linalg.norm(force[:, :2], axis=1) / -force[:, 2], _drawn(env, "friction"), rtol=0.2)
    assert np.ptp(_drawn(env, "friction")) > 0.1


@pytest.mark.parametrize("shape", _SHAPES)
def test_the_pad_starts_over_the_surface_and_touches_nothing(shape: str) -> None:
    env = _make(32, shape=shape)
    env.reset(range(32))
    gap = -(_drawn(env, "indentation_error") + 0.0006)

    assert not env.contact().any()
    assert (gap > 0.003).all()
    assert (gap < 0.008).all()
    assert (np.abs(_drawn(env, "side")) < 0.002).all()
    assert (_drawn(env, "normal_z") < -0.95).all()  # the surface faces the pad
    np.testing.assert_allclose(env.observation["goal"][:, 3], 0.06, atol=0.004)


def test_the_tolerance_is_the_band() -> None:
    shares = []
    for tolerance in (5e-5, 3e-4):
        env = _make(8, shape="wave", tolerance=tolerance)
        env.reset(range(8))
        offset = np.zeros((8, 6))
        offset[:, 2] = 0.02
        for _ in range(40):
            env.step(env.expert_action() + offset)
        shares.append(_drawn(env, "share_in_band").mean())

    assert shares[0] < shares[1]


def test_the_distance_is_the_length_of_the_path() -> None:
    env = _make(shape="plane", distance=0.03)
    env.reset(range(4))
    np.testing.assert_allclose(env.observation["goal"][:, 3], 0.03, atol=0.002)
    while not env.done.all():
        env.step(env.expert_action())

    assert (env.steps < 30).all()


def test_a_sparse_reward_is_the_success() -> None:
    env = _make(shape="dome", reward_kind="sparse")
    env.reset(range(4))
    while not env.done.all():
        step = env.step(env.expert_action())
        np.testing.assert_array_equal(step.reward, step.success)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"shape": "cube"}, MissingError, "cylinder, dome, edge, plane, wave"),
        ({"indentation": 0.01}, ConfigError, "indentation must be in"),
        ({"tolerance": 0.001}, ConfigError, "tolerance must be in"),
        ({"distance": 0.5}, ConfigError, "distance must be in"),
        ({"reward_kind": "shaped"}, ConfigError, "reward_kind must be dense or sparse"),
        ({"robot": FloatingGripper()}, ConfigError, "robot must be a Probe"),
    ],
)
def test_bad_arguments_raise(kwargs: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        SurfaceFollowing(**kwargs)


def test_an_episode_does_not_depend_on_its_batch() -> None:
    records = []
    for seeds in ([3, 4, 5, 6], [5]):
        env = _make(len(seeds), shape="edge")
        env.reset(seeds)
        record = []
        for _ in range(20):
            env.step(env.expert_action())
            record.append(np.concatenate([value[seeds.index(5)] for value in env.observation.values()]))
        records.append(record)

    np.testing.assert_array_equal(*records)
