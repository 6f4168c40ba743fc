"""The probe moves as told, and its pad sees what is before it the right way round."""

from __future__ import annotations

import numpy as np
import pytest

from vtt_envs.core import BatchedEnv
from vtt_envs.robots import GelPad
from vtt_envs.robots.probe import Probe
from vtt_envs.tasks.surface_following import SurfaceFollowing


def _make(num_envs: int = 4, observation: str = "all", shape: str = "dome") -> BatchedEnv:
    task = SurfaceFollowing(shape=shape)
    env = BatchedEnv(task, num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")
    env.reset(range(num_envs))
    return env


def _pressed(env: BatchedEnv) -> BatchedEnv:
    for _ in range(10):
        action = env.expert_action()
        action[:, :2] = 0
        env.step(action)
    return env


def test_the_observations_are_those_of_one_pad() -> None:
    env = _make(2)
    rows, columns = GelPad().taxels

    assert env.observation["tactile_pad"].shape == (2, rows, columns, 3)
    assert env.observation["force_pad"].shape == (2, rows // 4, columns // 4, 3)
    assert env.observation["proprioception"].shape == (2, 13)
    assert env.contact().shape == (2, 2)
    np.testing.assert_array_equal(env.observation["tactile_pad"], np.stack([env.rest_images()["tactile_pad"]] * 2))


@pytest.mark.parametrize("axis", range(6))
def test_a_twist_moves_the_tool_along_that_axis_of_the_tool(axis: int) -> None:
    env = _make(4, "oracle")
    before = env.observation["proprioception"].copy()
    frame = env.engine.body_rotation("tool").copy()
    robot, steps = Probe(), 4
    away = np.zeros((4, 6))
    away[:, 2] = -1
    action = np.zeros((4, 6))
    action[:, axis] = -0.6
    if axis != 2:
        for _ in range(4):  # off the surface
            env.step(away)
        before, frame = env.observation["proprioception"].copy(), env.engine.body_rotation("tool").copy()

    for _ in range(steps):
        env.step(action)

    moved = np.einsum("bji,bj->bi", frame, (env.observation["proprioception"] - before)[:, :3])
    turned = np.einsum("bji,bjk->bik", frame, env.engine.body_rotation("tool"))
    rotation = np.stack([turned[:, 2, 1], turned[:, 0, 2], turned[:, 1, 0]], axis=1)  # sin(angle) axis, about
    commanded = steps * -0.6 * (robot.translation_step if axis < 3 else robot.rotation_step)
    main, other = (moved, rotation) if axis < 3 else (rotation, moved)
    np.testing.assert_allclose(main[:, axis % 3] / commanded, 0.85 if axis < 3 else 1.0, atol=0.15)
    assert (np.abs(np.delete(main, axis % 3, axis=1)) < 0.1 * np.abs(commanded)).all()
    assert (np.abs(other) < (0.01 if axis < 3 else 0.001)).all()  # rad, m


def test_without_an_action_it_holds_its_place_and_feels_no_force() -> None:
    env = _make()
    before = env.observation["proprioception"].copy()

    for _ in range(20):
        env.step(np.zeros((4, 6)))

    np.testing.assert_allclose(env.observation["proprioception"][:, :7], before[:, :7], atol=1e-3)
    np.testing.assert_allclose(env.observation["wrench"], 0, atol=0.02)
    assert not env.observation["force_pad"].any()


def test_the_pad_feels_the_force_that_the_wrist_feels() -> None:
    env = _pressed(_make())

    normal, columns, rows = env.observation["force_pad"].sum(axis=(1, 2)).T
    on_tool = env.observation["wrench"][:, :3]  # columns run along x of the tool, rows along y, z points out of the gel

    assert (normal > 0.5).all()
    np.testing.assert_allclose(np.stack([columns, rows, -normal], axis=1), on_tool, atol=0.05)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_lies_towards_x_is_on_the_right_of_the_image_and_towards_y_below(axis: int) -> None:
    env = _pressed(_make())
    action = np.zeros((4, 6))
    action[:, 3 + (1 - axis)] = [0.5, -0.5, 0.5, -0.5]  # roll over the dome, whose point of contact moves
    env.step(action)
    env.step(action)
    pad = GelPad()
    rows, columns = pad.taxels
    depth = np.clip(env.engine.sensor("gel_pad")[:, : rows * columns].reshape(-1, rows, columns), 0, None)
    grid = np.meshgrid(np.arange(rows) + 0.5 - rows / 2, np.arange(columns) + 0.5 - columns / 2, indexing="ij")
    felt = [(depth * g).sum(axis=(1, 2)) / depth.sum(axis=(1, 2)) for g in grid[::-1]]  # right, down
    pitch = (pad.window[1] / columns, pad.window[0] / rows)

    # The dome's middle, seen from the tool, stands over the deepest point.
    geom = env.engine.model.body_geomadr[env.engine.model.body("surface").id]
    for index in range(4):
        data = env.engine.data(index)
        middle = data.body("tool").xmat.reshape(3, 3).T @ (data.geom_xpos[geom] - data.body("tool").xpos)
        assert abs(middle[axis]) > 0.001
        assert felt[axis][index] * middle[axis] > 0
        deepest = np.unravel_index(depth[index].argmax(), (rows, columns))[::-1]
        within = abs(middle[axis]) < pad.window[1 - axis] / 2 - 0.001
        if within:
            shown = (deepest[axis] + 0.5 - (columns, rows)[axis] / 2) * pitch[axis]
            assert abs(shown - middle[axis]) < 1.5 * pitch[axis]
