"""Pegs are placed upright on the mark, and success means that they stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.tasks.peg_placement import PegPlacement


def _make(num_envs: int, **kwargs: Any) -> BatchedEnv:
    return BatchedEnv(PegPlacement(**kwargs), num_envs=num_envs, observation="oracle", num_threads=1)


def _stand(env: BatchedEnv, *, offset: float = 0.0, height: float = 0.0, tilt: float = 0.0) -> np.bool_:
    """Put the peg by hand, its lower face `height` above the mark and `offset` beside it; return success."""
    engine = env.engine
    address, dof = engine.model.joint("peg").qposadr[0], engine.model.joint("peg").dofadr[0]
    tool = engine.model.joint("tool_tz").qposadr[0]
    mark = engine.body_position("plate")[0] + [0, 0, 0.025]
    axis = np.array([np.sin(tilt), 0, np.cos(tilt)])
    engine.qpos[0, tool] = 1.0  # the gripper is elsewhere
    engine.qpos[0, address : address + 3] = mark + [offset, 0, height] + 0.025 * axis
    engine.qpos[0, address + 3 : address + 7] = [0, np.cos(tilt / 2), 0, -np.sin(tilt / 2)]
    engine.qvel[0, dof : dof + 6] = 0
    engine.forward()
    return env.task.success(engine)[0]


@pytest.mark.parametrize("shape", ["round", "square", "hexagonal"])
@pytest.mark.parametrize("diameter", [0.008, 0.012, 0.016])
def test_the_expert_places_every_peg(shape: str, diameter: float, solve) -> None:
    assert solve(_make(16, shape=shape, diameter=diameter)).sum() >= 14


@pytest.mark.parametrize(("shape", "diameter"), [("round", 0.016), ("square", 0.008), ("hexagonal", 0.012)])
def test_a_placed_peg_stands_when_it_is_let_go(shape: str, diameter: float, solve) -> None:
    env = _make(16, shape=shape, diameter=diameter)
    placed = solve(env)
    assert placed.any()
    env.engine.ctrl[:, 6:] = -5.0  # N: both fingers open
    env.engine.step(500)
    env.engine.forward()

    assert not env.contact()[:, :2].any()
    np.testing.assert_array_equal(env.task.success(env.engine)[placed], True)


def test_success_needs_the_whole_face_on_the_mark() -> None:
    env = _make(1)
    env.reset([0])

    assert _stand(env)
    assert _stand(env, offset=0.009)
    assert not _stand(env, offset=0.011)  # m: off the mark
    assert not _stand(env, height=0.0006)  # m: in the air
    assert not _stand(env, tilt=0.04)  # rad: 2.3 degrees
    assert not _stand(env, tilt=np.pi)  # on its head, under the plate
    assert _stand(env)
    env.engine.qvel[0, env.engine.model.joint("peg").dofadr[0]] = 0.03  # m/s: sliding past
    assert not env.task.success(env.engine)[0]


def test_pressing_down_without_uprighting_fails() -> None:
    env = _make(16, tilt=0.63)
    env.reset(range(16))
    success = np.zeros(16, dtype=bool)
    action = np.zeros((16, 6))
    action[:, 2] = 0.4
    while not env.done.all():
        success |= env.step(action).success

    assert success.mean() < 0.4


def test_reward_is_never_positive_before_success_and_sparse_pays_once() -> None:
    dense, sparse = _make(4), _make(4, reward_kind="sparse")
    for env in (dense, sparse):
        env.reset(range(4))
    total = np.zeros(4)
    while not sparse.done.all():
        assert (dense.step(dense.expert_action()).reward <= 0).all()
        step = sparse.step(sparse.expert_action())
        np.testing.assert_array_equal(step.reward, step.success)
        total += step.reward
    np.testing.assert_array_equal(total, 1)


def test_knobs_change_what_they_say() -> None:
    upright, tilted = _make(8, tilt=0.0, plate_noise=0.0), _make(8)
    for env in (upright, tilted):
        env.reset(range(8))

    def tilt(env: BatchedEnv) -> np.ndarray:
        return np.arccos(env.observation["privileged"][:, 8].clip(-1, 1))  # the axis in the tool frame points out

    names = upright.task.privileged_names
    assert names[8] == "peg_axis_z"
    assert (np.pi - tilt(upright) < 0.02).all()  # rad
    assert (np.pi - tilt(tilted)).max() > 0.3
    for env, low, high in ((upright, 0, 1e-6), (tilted, 1e-3, 0.005 * np.sqrt(3))):
        error = np.linalg.norm(env.task.goal(env.engine)[:, :3] - env.observation["privileged"][:, 9:12], axis=1)
        assert low <= error.max() <= high  # m
    assert _stand_at(0.005)
    assert not _stand_at(0.003)


def _stand_at(tolerance: float) -> np.bool_:
    env = _make(1, tolerance=tolerance)
    env.reset([0])
    return _stand(env, offset=0.004)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("plate_noise", -0.001), ("tilt", 1.0), ("tolerance", 0.0), ("reward_kind", "none"), ("diameter", 0.02)],
)
def test_bad_arguments_are_refused(argument: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{argument} must be"):
        PegPlacement(**{argument: value})
    with pytest.raises(MissingError, match="No peg shape"):
        PegPlacement(shape="flat")
