"""The Franka arm moves as its data sheet says, carries itself, and obeys statics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt_envs.core import BatchedEnv
from vtt_envs.engine import Engine
from vtt_envs.robots.base import Robot
from vtt_envs.robots.franka import FrankaArm
from vtt_envs.robots.kinematics import Chain, null_projection, rotation_vector
from vtt_envs.task import Task, axis_rotation
from vtt_envs.tasks import PegInsertion, Push

_HOME = np.diag([1.0, -1.0, -1.0])  # axes of the tool at home
_GRAVITY = 9.81  # m/s^2
_TASKS: dict[str, Callable[[], Task]] = {
    "PegInsertion": lambda: PegInsertion(robot=FrankaArm()),
    "Push": lambda: Push(robot=FrankaArm(grip_force=-15.0)),
}


class _Blocked(Push):
    """The tool is pinned to where its episode begins."""

    def build(self, spec: mujoco.MjSpec) -> None:
        super().build(spec)
        spec.worldbody.add_body(name="pin", mocap=True).add_site(name="pin")
        pin = spec.add_equality(type=mujoco.mjtEq.mjEQ_CONNECT, solref=[0.004, 1])
        pin.objtype, pin.name1, pin.name2 = mujoco.mjtObj.mjOBJ_SITE, "pin", "tool"

    def reset(self, engine: Engine, ids: NDArray[np.intp], generators: Sequence[np.random.Generator]) -> None:
        super().reset(engine, ids, generators)
        engine.forward(ids=ids)
        engine.mocap_pos[ids, 1] = engine.body_position("tool")[ids]


def _make(task: Task, num_envs: int, observation: str = "oracle") -> BatchedEnv:
    return BatchedEnv(task, num_envs=num_envs, observation=observation, num_threads=1, renderer="rays")


def _model(robot: Robot) -> mujoco.MjModel:
    """The robot alone."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    robot.add_to(spec)
    model = spec.compile()
    robot.bind(model)
    return model


@pytest.fixture(scope="module")
def arm() -> tuple[FrankaArm, mujoco.MjModel, Chain]:
    robot = FrankaArm(touch=False)
    model = _model(robot)
    return robot, model, Chain.of(model, robot.joints, "tool")


def _postures(chain: Chain, count: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(chain.lower, chain.upper, (count, 7))


def _flange(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flange (4, 4) in the arm's base by modified Denavit-Hartenberg transforms, from the manufacturer's table."""
    frame = np.eye(4)
    table = [
        (0, 0.333, 0, angles[0]),
        (0, 0, -90, angles[1]),
        (0, 0.316, 90, angles[2]),
        (0.0825, 0, 90, angles[3]),
        (-0.0825, 0.384, -90, angles[4]),
        (0, 0, 90, angles[5]),
        (0.088, 0, 90, angles[6]),
        (0, 0.107, 0, 0),
    ]
    for a, d, alpha, theta in table:
        ca, sa, ct, st = np.cos(np.radians(alpha)), np.sin(np.radians(alpha)), np.cos(theta), np.sin(theta)
        frame = frame @ [
            [ct, -st, 0, a],
            [st * ca, ct * ca, -sa, -d * sa],
            [st * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    return frame


def test_the_flange_is_where_the_published_table_has_it(arm) -> None:
    robot, model, chain = arm
    data = mujoco.MjData(model)

    for angles in _postures(chain, 20):
        data.qpos[robot._arm] = angles
        mujoco.mj_kinematics(model, data)
        flange = _flange(angles)

        base = data.body("link_0").xpos
        np.testing.assert_allclose(data.body("flange").xpos - base, flange[:3, 3], atol=1e-12)
        turned = flange[:3, :3] @ axis_rotation(2, np.array([-np.pi / 4]))[0]  # the hand's mounting
        np.testing.assert_allclose(data.body("flange").xmat.reshape(3, 3), turned, atol=1e-12)


def test_kinematics_agree_with_the_simulator(arm) -> None:
    robot, model, chain = arm
    data, angles = mujoco.MjData(model), _postures(chain, 5)

    pose = chain.forward(angles)

    for row in range(5):
        data.qpos[robot._arm] = angles[row]
        mujoco.mj_forward(model, data)
        jacobian = np.zeros((6, model.nv))
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], model.site("tool").id)
        np.testing.assert_allclose(pose.position[row], data.site("tool").xpos, atol=1e-12)
        np.testing.assert_allclose(pose.rotation[row].ravel(), data.site("tool").xmat, atol=1e-12)
        np.testing.assert_allclose(pose.jacobian[row], jacobian[:, robot._arm_dofs], atol=1e-12)


def test_at_home_the_tool_points_down_above_the_origin(arm) -> None:
    robot, _, chain = arm

    pose = chain.forward(np.array([robot.home]))

    np.testing.assert_allclose(pose.position[0], [0, 0, 0.1], atol=1e-5)
    np.testing.assert_allclose(pose.rotation[0], _HOME, atol=1e-5)


def test_inverse_kinematics_reach_every_pose_where_tasks_begin(arm) -> None:
    robot, model, chain = arm
    generator = np.random.default_rng(1)
    position = generator.uniform([-0.13, -0.13, 0.005], [0.13, 0.13, 0.12], (500, 3))
    angles = generator.uniform([-np.pi, -0.1, -0.1], [np.pi, 0.1, 0.1], (500, 3))
    qpos = np.zeros((500, model.nq))

    robot.place(qpos, position, angles, opening=np.full(500, 0.02))

    yaw, pitch, roll = angles.T
    rotation = axis_rotation(2, yaw) @ axis_rotation(1, pitch) @ axis_rotation(0, roll) @ _HOME
    pose = chain.forward(qpos[:, robot._arm])
    np.testing.assert_allclose(pose.position, position, atol=1e-6)
    error = rotation_vector(rotation @ pose.rotation.transpose(0, 2, 1))
    np.testing.assert_allclose(error, 0, atol=1e-6)
    margin = np.minimum(qpos[:, robot._arm] - chain.lower, chain.upper - qpos[:, robot._arm])
    assert margin.min() > 0.1  # rad: room for the task
    alone = np.zeros((1, model.nq))
    robot.place(alone, position[7:8], angles[7:8], opening=np.full(1, 0.02))
    np.testing.assert_array_equal(alone[0], qpos[7])


def test_a_pose_out_of_reach_is_an_error(arm) -> None:
    robot, model, _ = arm
    qpos, still = np.zeros((2, model.nq)), np.zeros((2, 3))

    with pytest.raises(ConfigError, match=r"must be within the arm's reach, got position \[0.4, 0.0, 0.1\]"):
        robot.place(qpos, np.array([[0, 0, 0.1], [0.4, 0, 0.1]]), still, opening=np.zeros(2))


@pytest.mark.parametrize("axis", range(6))
def test_joint_torques_equal_the_transposed_jacobian_times_the_wrench_of_the_springs(axis: int) -> None:
    env = _make(PegInsertion(robot=FrankaArm(posture_stiffness=0.0)), 4)
    env.reset(range(4))
    robot, engine = env.task.robot, env.engine
    assert isinstance(robot, FrankaArm)
    action = np.zeros((4, 6))
    action[:, axis] = 0.5
    pose = Chain.of(engine.model, robot.joints, "tool").forward(engine.qpos[:, robot._arm])
    wrench = np.zeros((4, 6))
    step, stiffness = (
        (robot.translation_step, robot.stiffness[0]) if axis < 3 else (robot.rotation_step, robot.stiffness[1])
    )
    part = slice(0, 3) if axis < 3 else slice(3, 6)
    turned = 0.5 * step if axis < 3 else np.sin(0.5 * step)  # the springs' torque is the sine's
    wrench[:, part] = stiffness * turned * pose.rotation[:, :, axis % 3]

    for row in range(4):
        data = engine.data(row)
        data.qvel[:] = 0
        data.ctrl[:] = robot.control(engine, np.array([row]), action[[row]], payload=0.0)[0]
        data.ctrl[12:19] = 0  # damping of the posture, by the speeds that the engine has
        mujoco.mj_forward(engine.model, data)
        torque = (data.qfrc_actuator - data.qfrc_gravcomp)[robot._arm_dofs]
        np.testing.assert_allclose(torque, pose.jacobian[row].T @ wrench[row], rtol=1e-6, atol=1e-4)


def test_a_blocked_tool_pushes_with_stiffness_times_step() -> None:
    env = _make(_Blocked(robot=FrankaArm(grip_force=-15.0)), 3)
    env.reset([4, 5, 6])
    action = np.zeros((3, 6))
    action[[0, 1, 2], [0, 1, 2]] = 0.5, -0.7, 0.3
    robot, engine = env.task.robot, env.engine
    assert isinstance(robot, FrankaArm)

    for _ in range(20):
        env.step(action)

    pushed = -engine.sensor("wrist_force")  # of the block on the tool; gravity is along z
    weight = engine.body_rotation("tool").transpose(0, 2, 1) @ [0, 0, -robot.mass * _GRAVITY]
    expected = -action[:, :3] * robot.translation_step * robot.stiffness[0]
    np.testing.assert_allclose(pushed - weight, expected, atol=0.05)  # N


def test_the_wrist_camera_looks_at_the_fingertips_from_the_front_of_the_hand(arm) -> None:
    _, model, _ = arm
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    camera, tool = data.site("camera_wrist"), data.site("tool")
    axes = camera.xmat.reshape(3, 3)
    np.testing.assert_allclose(np.linalg.det(axes), 1)

    tip = axes.T @ (tool.xpos - camera.xpos)

    np.testing.assert_allclose(tool.xmat.reshape(3, 3).T @ (camera.xpos - tool.xpos), [0.06, 0, -0.11], atol=1e-12)
    assert abs(np.arctan2(tip[1], -tip[2])) < 0.1  # rad off the middle of the picture
    np.testing.assert_allclose(axes[:, 0], tool.xmat.reshape(3, 3)[:, 1], atol=1e-12)


def test_the_posture_pulls_without_the_tool(arm) -> None:
    robot, _, chain = arm
    angles = _postures(chain, 50)
    pose = chain.forward(angles)
    torque, _ = chain.towards(np.array(robot.home), angles)

    still = (null_projection(pose.jacobian) @ torque[..., None])[..., 0]

    moved = np.einsum("nij,nj->ni", pose.jacobian, still)
    well = np.linalg.svd(pose.jacobian, compute_uv=False)[:, -1] > 0.05
    assert well.sum() > 20
    np.testing.assert_allclose(moved[well], 0, atol=2e-3 * np.abs(torque).max())
    assert np.abs(still).max() > 0.1


def test_gravity_is_compensated() -> None:
    env = _make(PegInsertion(robot=FrankaArm()), 4)
    env.reset(range(4))
    robot, engine = env.task.robot, env.engine
    assert isinstance(robot, FrankaArm)
    before, tool = engine.qpos[:, robot._arm].copy(), engine.body_position("tool").copy()

    for _ in range(20):  # 1 s
        env.step(np.zeros((4, 6)))

    np.testing.assert_allclose(engine.qpos[:, robot._arm], before, atol=5e-3)  # rad
    np.testing.assert_allclose(engine.body_position("tool"), tool, atol=2e-4)  # m
    np.testing.assert_allclose(engine.qvel[:, robot._arm_dofs], 0, atol=5e-3)


def test_a_held_peg_loads_the_gels_with_the_grip_and_its_weight() -> None:
    env = _make(PegInsertion(robot=FrankaArm()), 4, "all")
    env.reset(range(4))
    for _ in range(20):
        env.step(np.zeros((4, 6)))

    weight = env.task.payload * _GRAVITY
    for finger in env.task.robot.fingers:
        force = env.observation[f"force_{finger}"].sum(axis=(1, 2))  # normal, along columns, along rows
        np.testing.assert_allclose(force[:, 0], FrankaArm().grip_force, rtol=0.02)
        np.testing.assert_allclose(np.linalg.norm(force[:, 1:], axis=1), weight / 2, rtol=0.1)
    np.testing.assert_allclose(env.observation["wrench"], 0, atol=0.03)  # N, N m: weights are compensated


@pytest.mark.parametrize("axis", range(6))
def test_a_twist_moves_the_tool_along_that_axis_of_the_tool(axis: int) -> None:
    env = _make(_TASKS["Push"](), 4)
    env.reset([3, 4, 5, 6])
    engine, robot = env.engine, env.task.robot
    position, frame = engine.body_position("tool").copy(), engine.body_rotation("tool").copy()
    action = np.zeros((4, 6))
    action[:, axis] = -0.6 if axis == 2 else 0.6  # z points down, where the table is

    for _ in range(6):
        env.step(action)

    moved = np.einsum("bji,bj->bi", frame, engine.body_position("tool") - position)
    turned = rotation_vector(frame.transpose(0, 2, 1) @ engine.body_rotation("tool"))
    commanded = 6 * action[:, axis] * (robot.translation_step if axis < 3 else robot.rotation_step)
    main, other = (moved, turned) if axis < 3 else (turned, moved)
    # The arm's inertia, three to six kilograms at the tool, takes a few steps to follow.
    share = main[:, axis % 3] / commanded
    assert (share > 0.4).all()
    assert (share < 1).all()
    assert (np.abs(np.delete(main, axis % 3, axis=1)) < 0.15 * np.abs(commanded[:, None])).all()
    assert (np.abs(other) < (0.05 if axis < 3 else 0.015)).all()  # rad, m: the links swing along


def test_torques_and_angles_stay_within_limits_and_the_physics_whole_under_extreme_actions() -> None:
    env = _make(PegInsertion(robot=FrankaArm(), horizon=10_000), 12)
    env.reset(range(12))
    robot, engine = env.task.robot, env.engine
    assert isinstance(robot, FrankaArm)
    chain = Chain.of(engine.model, robot.joints, "tool")
    limit = np.array([87.0, 87, 87, 87, 12, 12, 12])
    action = np.concatenate([np.eye(6), -np.eye(6)])

    for _ in range(60):
        env.done[:] = False
        env.step(action)
        for row in range(12):
            torque = engine.data(row).qfrc_actuator[robot._arm_dofs]
            assert (np.abs(torque) <= limit + 1e-9).all()

    angles = engine.qpos[:, robot._arm]
    assert not engine.lost(50 + env.steps * env.task.substeps).any()
    assert (angles > chain.lower - 0.05).all()
    assert (angles < chain.upper + 0.05).all()
    assert np.abs(angles - np.array(robot.home)).max() > 1  # it went somewhere


def test_a_gripper_action_opens_and_closes() -> None:
    env = _make(Push(robot=FrankaArm(grip_force=5.0, gripper_action=True)), 2)
    env.reset([0, 1])
    action = np.zeros((2, 7))
    action[0, 6], action[1, 6] = -1, 0.4
    action[:, 2] = -1  # up, off the block

    for _ in range(30):
        env.step(action)

    opening = env.task.robot.proprioception(env.engine)[:, -1]
    np.testing.assert_allclose(opening, [0.08, 0], atol=2e-3)


def test_the_same_seed_gives_the_same_episode_at_any_batch_size() -> None:
    many, one = _make(_TASKS["PegInsertion"](), 5), _make(_TASKS["PegInsertion"](), 1)
    many.reset(range(5))
    one.reset([3])

    for _ in range(10):
        many.step(many.expert_action())
        one.step(one.expert_action())

    np.testing.assert_array_equal(many.engine.qpos[3], one.engine.qpos[0])


@pytest.mark.parametrize("task", _TASKS)
def test_the_experts_of_the_floating_gripper_succeed(task: str) -> None:
    env = _make(_TASKS[task](), 16)
    env.reset(range(1000, 1016))
    success, fastest = np.zeros(16, dtype=bool), np.zeros(7)
    robot = env.task.robot
    assert isinstance(robot, FrankaArm)

    while not env.done.all():
        success |= env.step(env.expert_action()).success
        fastest = np.maximum(fastest, np.abs(env.engine.qvel[:, robot._arm_dofs]).max(axis=0))

    assert success.sum() >= 15
    assert (fastest < [2.175] * 4 + [2.61] * 3).all()  # rad/s: the arm's limits, which the physics does not enforce
