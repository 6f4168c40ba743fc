"""The hand follows its joint targets, its pads press and feel, and its kinematics are those of the model."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vtt_envs.engine import Engine
from vtt_envs.robots.hand import Hand
from vtt_sensors.spec import get_spec

_ONE = np.arange(1)


def _make(*, touch: bool = False, num_envs: int = 1) -> tuple[Hand, Engine]:
    """Hands at home."""
    hand, spec = Hand(touch=touch), mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = 0.002
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    hand.add_to(spec)
    engine = Engine(spec.compile(), num_envs=num_envs, num_threads=1)
    hand.bind(engine.model)
    home = np.tile(hand.home, (num_envs, 1))
    hand.set_joints(engine, np.arange(num_envs), home, home)
    engine.forward()
    return hand, engine


def _positions(hand: Hand, engine: Engine) -> np.ndarray:
    return hand.proprioception(engine)[:, :16]


def test_the_hand_has_the_published_mass_and_joints() -> None:
    hand, engine = _make()
    model = engine.model
    # Hora's URDF: palm, three fingers, thumb, four DIGITs.
    assert hand.mass == pytest.approx(0.4154 + 3 * 0.122 + 0.1063 + 4 * 0.0168, abs=1e-6)
    assert model.body_subtreemass[model.body("tool").id] == pytest.approx(hand.mass)
    assert model.joint("thumb_0").range == pytest.approx([0.263, 1.396])
    # Stretched, the joints of a finger stand 16.4, 54 and 38.4 mm apart.
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    heights = [data.body(f"middle_{joint}").xpos[0] for joint in range(4)]
    assert np.diff(heights) == pytest.approx([0.0164, 0.054, 0.0384])


def test_the_pad_has_the_window_and_aspect_of_a_digit() -> None:
    pad, digit = Hand().pad, get_spec("digit")
    assert pad.window == pytest.approx(digit.sensed_size)
    assert pad.size == pytest.approx((*digit.gel_size, digit.gel_thickness))
    assert digit.at(*pad.taxels).image_shape == pad.taxels


def test_joints_follow_their_targets_and_stay_within_their_ranges() -> None:
    hand, engine = _make()
    action = np.zeros((1, 16))
    action[:, [1, 6]] = 1.0
    for _ in range(6):
        engine.ctrl[_ONE] = hand.control(engine, _ONE, action, payload=0.0)
        engine.step(25)
    engine.step(500)
    engine.forward()
    moved = _positions(hand, engine)[0] - hand.home
    assert moved[[1, 6]] == pytest.approx(6 / 24, abs=0.01)
    assert np.abs(np.delete(moved, [1, 6])).max() < 0.01

    for _ in range(60):
        engine.ctrl[_ONE] = hand.control(engine, _ONE, np.ones((1, 16)), payload=0.0)
    upper = np.array([engine.model.joint(name).range[1] for name in hand.joints])
    assert hand.targets(engine)[0] == pytest.approx(upper)


def test_no_joint_pushes_harder_than_its_limit() -> None:
    hand, engine = _make()
    hand.set_joints(engine, _ONE, np.array([hand.home]), np.array([hand.home]) + 1.0)
    data = mujoco.MjData(engine.model)
    data.qpos, data.ctrl = engine.qpos[0], engine.ctrl[0]
    mujoco.mj_forward(engine.model, data)
    assert np.abs(data.actuator_force).max() == pytest.approx(hand.torque_limit)


def test_the_wrist_feels_the_weight_that_is_subtracted() -> None:
    hand, engine = _make()
    engine.step(50)
    engine.forward()
    weight = hand.mass * 9.81
    assert engine.sensor("wrist_force")[0] == pytest.approx([0, 0, weight], abs=1e-6)
    moment = np.cross(hand.centre_of_mass, [0, 0, -weight])
    assert engine.sensor("wrist_torque")[0] == pytest.approx(-moment, abs=1e-3)


@pytest.mark.parametrize("finger", Hand.fingers)
def test_a_pad_looks_at_the_palm_side_and_its_frame_is_right_handed(finger: str) -> None:
    _, engine = _make()
    model, data = engine.model, mujoco.MjData(engine.model)
    data.qpos = engine.qpos[0]
    mujoco.mj_kinematics(model, data)
    digit, link = data.body(f"finger_{finger}"), data.body(f"{finger}_3")
    into_gel = digit.xmat.reshape(3, 3)[:, 1]
    face = data.site(f"pad_{finger}").xpos
    assert -into_gel @ (face - link.xpos) > 0.01  # the face lies outside of the finger
    along = digit.xmat.reshape(3, 3)[:, 0]
    assert along @ (face - link.xpos) > 0.03  # x runs to the tip


@pytest.mark.parametrize("finger", Hand.fingers)
def test_approach_takes_a_pad_where_it_is_told(finger: str) -> None:
    hand, engine = _make()
    joints = _positions(hand, engine)[:, hand.columns(finger)]
    pose = hand.chain(finger).forward(joints)
    there = joints + np.array([[0.1, -0.1, 0.1, 0.1]])
    goal = hand.chain(finger).forward(there).position
    for _ in range(20):
        joints = joints + hand.approach(finger, joints, goal, pose.rotation[0])
    assert hand.chain(finger).forward(joints).position == pytest.approx(goal, abs=2e-4)


def test_approach_keeps_joints_within_their_ranges_and_uses_the_others() -> None:
    hand, engine = _make()
    chain, joints = hand.chain("index"), _positions(hand, engine)[:, :4]
    joints[:, 3] = chain.lower[3]
    pose = chain.forward(joints)
    goal = chain.forward(joints + np.array([[0.05, -0.1, 0.15, 0.0]])).position
    for _ in range(20):
        joints = joints + hand.approach("index", joints, goal, pose.rotation[0])
        assert (joints >= chain.lower - 1e-12).all()
        assert (joints <= chain.upper + 1e-12).all()
    assert chain.forward(joints).position == pytest.approx(goal, abs=3e-4)


def test_press_pushes_with_the_force_it_is_told() -> None:
    hand, engine = _make()
    joints = _positions(hand, engine)[:, :4]
    force = np.array([-0.7, 0.1, 0.2])
    torque = hand.stiffness * hand.press("index", joints, force)
    # Virtual work: the torques do on a small motion of the joints what the force does on that of the pad.
    small = np.array([[1.0, -2.0, 0.5, 1.5]]) * 1e-5
    moved = hand.chain("index").forward(joints + small).position - hand.chain("index").forward(joints).position
    assert (torque * small).sum() == pytest.approx(float(force @ moved[0]), rel=1e-3)
