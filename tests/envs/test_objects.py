"""Pegs have the dimensions that their names say, fit their sockets, and touch sees their faces."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from vtt.errors import ConfigError, MissingError
from vtt_envs.core import BatchedEnv
from vtt_envs.task import axis_rotation
from vtt_envs.tasks.held import keypoint_distance
from vtt_envs.tasks.objects import Peg
from vtt_envs.tasks.peg_insertion import PegInsertion

SHAPES = ("round", "square", "hexagonal")
DIAMETERS = (0.008, 0.012, 0.016)


def _make(num_envs: int, **kwargs: Any) -> BatchedEnv:
    return BatchedEnv(PegInsertion(**kwargs), num_envs=num_envs, observation="oracle", num_threads=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("diameter", DIAMETERS)
def test_a_peg_weighs_what_its_volume_of_steel_weighs(shape: str, diameter: float) -> None:
    peg, spec = Peg(shape, diameter), mujoco.MjSpec()
    peg.add_to(spec)
    model = spec.compile()

    area = {"round": np.pi / 4, "square": 1, "hexagonal": np.sqrt(3) / 2}[shape] * (2 * peg.radius) ** 2
    np.testing.assert_allclose(model.body("peg").mass, 8000 * area * 0.05, rtol=1e-6)
    np.testing.assert_allclose(peg.mass, 8000 * area * 0.05)
    assert diameter - 2e-5 < 2 * peg.radius < diameter


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("diameter", DIAMETERS)
def test_the_expert_inserts_every_peg(shape: str, diameter: float, solve) -> None:
    assert solve(_make(16, shape=shape, diameter=diameter)).sum() >= 14


@pytest.mark.parametrize(("shape", "half_side"), [("square", np.pi / 4), ("hexagonal", np.pi / 6)])
def test_misalignment_is_the_angle_to_the_nearest_side(shape: str, half_side: float) -> None:
    angle = np.linspace(-0.95, 0.95, 9) * half_side
    for sides in range(4):
        down = axis_rotation(2, angle + 2 * sides * half_side) @ np.diag([1.0, -1.0, -1.0])

        np.testing.assert_allclose(Peg(shape).misalignment(down), -angle, atol=1e-12)


@pytest.mark.parametrize("shape", ["square", "hexagonal"])
def test_a_turned_peg_does_not_fit(shape: str, monkeypatch: pytest.MonkeyPatch, solve) -> None:
    # An expert that turns the peg 20 degrees off: the corners stand on the rim.
    straight = Peg.misalignment
    monkeypatch.setattr(Peg, "misalignment", lambda peg, rotation: straight(peg, rotation) + np.deg2rad(20))

    assert not solve(_make(8, shape=shape)).any()


def test_a_flat_peg_meets_the_whole_gel_and_a_round_one_a_strip() -> None:
    touched = {}
    for shape in SHAPES:
        env = BatchedEnv(PegInsertion(shape=shape, tilt=0), num_envs=2, observation="tactile", num_threads=1)
        env.reset([0, 1])
        depth = env.engine.sensor("gel_left")[:, : 48 * 64].reshape(2, 48, 64)
        touched[shape] = (depth[:, :, 52] > 0).mean()
        if shape != "round":  # the face is flat
            assert np.ptp(depth[:, 20:28, 48:56], axis=(1, 2)).max() < 2e-5  # m

    pitch = 0.01416 / 48
    assert touched["square"] == 1  # 16 mm across, wider than the window
    width = (0.016 + 2 * 0.00046) / np.sqrt(3)  # m, of a hexagon .46 mm below its face
    np.testing.assert_allclose(touched["hexagonal"] * 48 * pitch, width, atol=pitch)
    assert touched["round"] < touched["hexagonal"]


@pytest.mark.parametrize("shape", SHAPES)
def test_gels_sink_alike_on_light_and_heavy_pegs(shape: str) -> None:
    sinks = []
    for diameter in DIAMETERS:
        env = BatchedEnv(PegInsertion(shape=shape, diameter=diameter), num_envs=1, observation="oracle", num_threads=1)
        env.reset([0])
        env.step(np.zeros((1, 6)))
        model, data = env.engine.model, env.engine.data(0)
        pad = model.geom("pad_left").id
        sinks.append(np.mean([c.dist for c in data.contact if pad in (c.geom1, c.geom2)]))

    np.testing.assert_allclose(sinks, sinks[-1], rtol=0.05)


def test_the_wall_of_a_square_socket_is_observed_in_the_tool_frame() -> None:
    env = BatchedEnv(PegInsertion(shape="square"), num_envs=4, observation="all", num_threads=1, renderer="rays")
    observation = env.reset(range(4))

    wall = np.einsum("bij,bj->bi", env.engine.body_rotation("tool"), observation["goal"][:, 6:])
    np.testing.assert_allclose(wall, np.tile([0, 1, 0], (4, 1)), atol=1e-6)
    assert env.observation_space["goal"].shape == (9,)
    assert observation["privileged"].shape == (4, len(env.task.privileged_names))


def test_key_points_of_a_tilted_peg_are_half_a_turn_apart() -> None:
    tip, axis = np.zeros((1, 3)), np.array([[0.0, 0.0, -1.0]])

    # Upside down, a point at s lies at -s: 2 |s| off, for s = 1/4, 1/12 m twice each.
    np.testing.assert_allclose(keypoint_distance(tip, axis, tip), 2 * (1 / 4 + 1 / 12) / 2)
    np.testing.assert_allclose(keypoint_distance(tip + np.array([0.03, 0, 0.04]), -axis, tip), 0.05)


def test_unknown_pegs_are_refused() -> None:
    with pytest.raises(MissingError, match=r"No peg shape 'oval'\. Available: hexagonal, round, square"):
        PegInsertion(shape="oval")
    with pytest.raises(ConfigError, match="diameter must be"):
        PegInsertion(diameter=0.01)
