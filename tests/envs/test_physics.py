"""What the environments measure equals what geometry and statics say."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from vtt_envs.robots import FINGERS, FloatingGripper, GelPad

_GRAVITY = 9.81  # m/s^2
# Body, radius and half length of the cylinder that the gel meets, in m.
_CYLINDERS = {"PegInsertion": ("peg", 0.015983 / 2, 0.025), "Push": ("block", 0.025, 0.015)}
_STILL = np.zeros((4, 6))


def _touching(task: str, make_vector, observation: str = "all") -> VectorEnv:
    """Four environments whose gels touch: the peg is held; the block is pushed by the expert."""
    env = make_vector(task, 4, observation=observation)
    _, info = env.reset(seed=11)
    for _ in range(0 if task == "PegInsertion" else 12):
        *_, info = env.step(info["expert_action"])
    return env


def _taxel_positions(env: VectorEnv, index: int, finger: str, pad: GelPad) -> NDArray[np.float64]:
    """Middle of each taxel in the base frame, from the pad's drawing. Shape (rows, columns, 3)."""
    rows, columns = pad.taxels
    sign = 1 if finger == "left" else -1
    x = -sign * ((np.arange(rows) + 0.5) / rows - 0.5) * pad.window[0]
    z = ((np.arange(columns) + 0.5) / columns - 0.5) * pad.window[1] - pad.size[1] / 2
    local = np.stack(np.broadcast_arrays(x[:, None], 0.0, z[None]), axis=-1)
    data = env.core.engine.data(index)
    return data.body(f"finger_{finger}").xpos + local @ data.body("tool").xmat.reshape(3, 3).T


@pytest.mark.parametrize("task", _CYLINDERS)
def test_penetration_is_the_distance_of_a_plane_and_a_cylinder(task: str, make_vector) -> None:
    env = _touching(task, make_vector)
    name, radius, half_length = _CYLINDERS[task]
    deepest = []
    for index in range(4):
        body = env.core.engine.data(index).body(name)
        axis = body.xmat.reshape(3, 3)[:, 2]
        for finger in FINGERS:
            offset = _taxel_positions(env, index, finger, GelPad()) - body.xpos
            along = offset @ axis
            side = radius - np.linalg.norm(offset - along[..., None] * axis, axis=-1)
            expected = np.maximum(np.minimum(side, half_length - np.abs(along)), 0)

            measured = env.core.engine.sensor(f"gel_{finger}")[index, : expected.size].reshape(expected.shape)

            np.testing.assert_allclose(measured, expected, atol=2e-6)  # m: the sensing plane lies 1 um in the gel
            deepest.append(expected.max())
    assert max(deepest) > 1e-4  # m


def test_a_held_peg_loads_the_gels_with_the_grip_and_its_weight(make_vector) -> None:
    env = make_vector("PegInsertion", 4, observation="all")
    env.reset(seed=2)
    for _ in range(20):
        observation, *_ = env.step(_STILL)
    grip, weight = FloatingGripper().grip_force, env.core.task.payload * _GRAVITY

    total = np.zeros(4)
    for finger in FINGERS:
        force = observation[f"force_{finger}"].sum(axis=(1, 2))  # normal, along columns, along rows
        np.testing.assert_allclose(force[:, 0], grip, rtol=0.02)
        total += np.linalg.norm(force[:, 1:], axis=1)
        np.testing.assert_allclose(np.linalg.norm(force[:, 1:], axis=1), weight / 2, rtol=0.1)
        np.testing.assert_array_less(0.8, force[:, 1] / (weight / 2))  # downwards is towards the fingertips: columns
    np.testing.assert_allclose(total, weight, rtol=0.03)
    np.testing.assert_allclose(observation["wrench"], 0, atol=0.03)  # N, N m: its weight is compensated


@pytest.mark.parametrize("task", _CYLINDERS)
def test_a_force_field_lies_where_the_gel_is_indented(task: str, make_vector) -> None:
    env = _touching(task, make_vector)
    observation = env.core.observation

    for finger in FINGERS:
        taxels = env.core.engine.sensor(f"gel_{finger}")[:, : 48 * 64].reshape(4, 12, 4, 16, 4).max(axis=(2, 4))
        assert (observation[f"force_{finger}"][taxels <= 0] == 0).all()
        pressed = observation[f"force_{finger}"][..., 0] > 0
        assert (taxels[pressed] > 0).all()
        np.testing.assert_array_equal(pressed.any(axis=(1, 2)), env.core.contact()[:, FINGERS.index(finger)])


def test_an_open_gripper_shows_the_rest_image(make_vector) -> None:
    env = make_vector("Push", 4, observation="all")
    observation, info = env.reset(seed=0)

    assert not info["contact"][:, :2].any()
    for key, rest in env.rest_images().items():
        np.testing.assert_array_equal(observation[key], np.broadcast_to(rest, observation[key].shape))
    assert not observation["force_left"].any()
    np.testing.assert_allclose(observation["wrench"], 0, atol=0.02)


def test_touch_changes_the_image_and_leaves_the_untouched_pad_alone(make_vector) -> None:
    env = _touching("Push", make_vector)
    observation, rest = env.core.observation, env.rest_images()

    changed = {key: (observation[key] != rest[key]).any(axis=(1, 2, 3)) for key in rest}

    assert env.core.contact()[:, 1].all()
    assert changed["tactile_right"].all()
    assert not changed["tactile_left"].any()


def test_the_row_of_the_line_of_contact_is_the_blocks_offset_from_the_pad(make_vector) -> None:
    env = _touching("Push", make_vector)
    pitch = GelPad().window[0] / GelPad().taxels[0]

    taxels = env.core.engine.sensor("gel_right")[:, : 48 * 64].reshape(4, 48, 64)
    row = taxels.max(axis=2).argmax(axis=1)
    offset = (row + 0.5 - 24) * pitch  # on the right pad rows run along +x of the tool

    np.testing.assert_allclose(offset, env.core.observation["privileged"][:, 0], atol=1.5 * pitch)


@pytest.mark.parametrize("task", _CYLINDERS)
@pytest.mark.parametrize("axis", range(6))
def test_a_twist_moves_the_tool_along_that_axis_of_the_tool(axis: int, task: str, make_vector) -> None:
    env = make_vector(task, 4)
    before, _ = env.reset(seed=3)
    frame = env.core.engine.body_rotation("tool").copy()
    steps, robot = 4, FloatingGripper()
    action = np.zeros((4, 6))
    action[:, axis] = -0.6 if axis == 2 else 0.6  # z points down, where the table is

    for _ in range(steps):
        after, *_ = env.step(action)

    moved = np.einsum("bji,bj->bi", frame, (after["proprioception"] - before["proprioception"])[:, :3])
    turned = np.einsum("bji,bjk->bik", frame, env.core.engine.body_rotation("tool"))
    rotation = np.stack([turned[:, 2, 1], turned[:, 0, 2], turned[:, 1, 0]], axis=1)  # sin(angle) axis, about
    commanded = steps * action[:, axis] * (robot.translation_step if axis < 3 else robot.rotation_step)
    main, other = (moved, rotation) if axis < 3 else (rotation, moved)
    # The translation's spring is slower than a control step and leaves a quarter: see docs/environments.md.
    np.testing.assert_allclose(main[:, axis % 3] / commanded, 0.73 if axis < 3 else 1.0, rtol=0.1)
    assert (np.abs(np.delete(main, axis % 3, axis=1)) < 0.05 * np.abs(commanded[:, None])).all()
    assert (np.abs(other) < (0.01 if axis < 3 else 0.001)).all()  # rad, m


@pytest.mark.parametrize("task", _CYLINDERS)
def test_without_an_action_the_tool_holds_its_place(task: str, make_vector) -> None:
    env = make_vector(task, 4)
    before, _ = env.reset(seed=3)

    for _ in range(20):
        after, *_ = env.step(_STILL)

    # m, and quaternion: the torque of a peg held off its middle turns the tool by a tenth of a degree in this second.
    np.testing.assert_allclose(after["proprioception"][:, :7], before["proprioception"][:, :7], atol=2e-3)
    np.testing.assert_allclose(after["proprioception"][:, 7:13], 0, atol=5e-3)


def test_a_sliding_block_stops_after_the_distance_that_its_friction_sets(make_vector) -> None:
    env = make_vector("Push", 4)
    observation, _ = env.reset(seed=6)
    friction = observation["privileged"][:, -1]
    engine, speed = env.core.engine, 0.1  # m/s, along the gap between the fingers
    before = engine.body_position("block").copy()
    dof = engine.model.joint("block").dofadr[0]

    engine.qvel[:, dof : dof + 2] = speed * engine.body_rotation("tool")[:, :2, 0]
    for _ in range(3):
        env.step(_STILL)

    slid = np.linalg.norm((engine.body_position("block") - before)[:, :2], axis=1)
    np.testing.assert_allclose(slid, speed**2 / (2 * friction * _GRAVITY), rtol=0.06)
    assert np.ptp(friction) > 0.05


def test_blocks_differ_in_mass_and_the_physics_knows(make_vector) -> None:
    env = make_vector("Push", 4)
    observation, _ = env.reset(seed=6)
    mass = observation["privileged"][:, -2]

    normal = env.core.engine.sensor("contact_object")[:, 3]  # world z of what block and table do to each other

    np.testing.assert_allclose(np.abs(normal), mass * _GRAVITY, rtol=0.02)
    assert np.ptp(mass) > 0.05


def test_contact_names_pads_and_surroundings(make_vector) -> None:
    peg, push = make_vector("PegInsertion", 4), make_vector("Push", 4)

    assert peg.reset(seed=0)[1]["contact"].tolist() == [[True, True, False]] * 4
    assert push.reset(seed=0)[1]["contact"].tolist() == [[False, False, True]] * 4
