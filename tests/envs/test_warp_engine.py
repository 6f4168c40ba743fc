"""The mujoco-warp engine does what MuJoCo does, within tolerances that were measured; see docs/backends.md."""

from __future__ import annotations

import logging
import sys

import gymnasium as gym
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from vtt.errors import ConfigError, DependencyError
from vtt_envs.core import BatchedEnv
from vtt_envs.engine import Engine
from vtt_envs.tasks import PegInsertion, Push
from vtt_envs.warp_engine import WarpEngine

_TASKS = {"PegInsertion": PegInsertion, "Push": Push}
_ENVS = 6
_STATE = ("qpos", "qvel", "_xpos", "_xquat", "_xmat", "_sensordata")
_DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

Pair = tuple[BatchedEnv, BatchedEnv]


@pytest.fixture(scope="module", params=_DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    pytest.importorskip("mujoco_warp")
    return request.param


def _env(task: str, *, num_envs: int = _ENVS, device: str | None = None) -> BatchedEnv:
    """A task on MuJoCo, or on mujoco-warp where a device is named."""
    backend, device = ("mjwarp", device) if device else ("mujoco", "cpu")
    return BatchedEnv(
        _TASKS[task](),
        num_envs=num_envs,
        observation="tactile",
        num_threads=1,
        device=device,
        backend=backend,
        renderer="rays",
    )


@pytest.fixture(scope="module")
def pairs(device: str) -> dict[str, Pair]:
    """Each task on MuJoCo and on mujoco-warp."""
    return {task: (_env(task), _env(task, device=device)) for task in _TASKS}


def _warp(env: BatchedEnv) -> WarpEngine:
    assert isinstance(env.engine, WarpEngine)
    return env.engine


def _run(env: BatchedEnv, actions: NDArray) -> list[NDArray]:
    """Step; return what the engine holds."""
    for action in actions:
        env.step(action)
    return _held(_warp(env), range(env.num_envs))


def _held(engine: WarpEngine, ids: range | list[int]) -> list[NDArray]:
    """Everything that a task may read of some simulations."""
    touch = [engine.sensor(name) for name in ("gel_left", "gel_right")]
    return [values[list(ids)].copy() for values in (*(getattr(engine, name) for name in _STATE), *touch)]


def _touch(env: BatchedEnv) -> NDArray:
    """Penetration at all taxels, in m. Shape (B, 2, taxels)."""
    return np.stack([env.engine.sensor(f"gel_{finger}")[:, : 48 * 64] for finger in ("left", "right")], axis=1)


def _differences(pair: Pair) -> tuple[float, float, float]:
    """Largest difference of tool position, object position and deepest penetration, in mm."""
    reference, env = pair
    tool, thing = (
        np.linalg.norm(reference.engine.body_position(name) - env.engine.body_position(name), axis=1).max()
        for name in ("tool", env.task.objects[0])
    )
    depth = np.abs(_touch(reference).max(axis=2) - _touch(env).max(axis=2)).max()
    return 1e3 * tool, 1e3 * thing, 1e3 * depth


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_touch_and_forces_at_the_same_state_are_mujocos(task: str, pairs: dict[str, Pair]) -> None:
    reference, env = pairs[task]
    for each in (reference, env):
        each.reset(range(_ENVS))
    for _ in range(5):
        reference.step(reference.expert_action())
    for name in ("qpos", "qvel", "ctrl", "mocap_pos"):
        getattr(reference.engine, name)[:] = getattr(reference.engine, name).astype(np.float32)
        getattr(env.engine, name)[:] = getattr(reference.engine, name)

    reference.engine.forward()
    env.engine.forward()

    assert _touch(reference).max() > 1e-4  # m
    np.testing.assert_allclose(_touch(env), _touch(reference), atol=1e-7)  # m; measured 2e-8
    for name in ("tool_velocity", "tool_angular_velocity"):
        np.testing.assert_allclose(env.engine.sensor(name), reference.engine.sensor(name), atol=1e-6)
    for name in ("wrist_force", "wrist_torque", "contact_left", "contact_right"):
        np.testing.assert_allclose(env.engine.sensor(name), reference.engine.sensor(name), atol=2e-3)  # N, N m
    for name in ("tool", env.task.objects[0]):
        np.testing.assert_allclose(env.engine.body_rotation(name), reference.engine.body_rotation(name), atol=1e-6)
        np.testing.assert_allclose(env.engine.body_quat(name), reference.engine.body_quat(name), atol=1e-6)


@pytest.mark.slow
def test_a_held_peg_follows_mujoco(pairs: dict[str, Pair]) -> None:
    reference, _ = pair = pairs["PegInsertion"]
    for each in pair:
        each.reset(range(_ENVS))
    largest = np.zeros(3)
    for _ in range(12):  # reorients the peg in the grip and reaches the rim
        action = reference.expert_action()
        for each in pair:
            each.step(action)
        largest = np.maximum(largest, _differences(pair))

    np.testing.assert_array_less(largest, [0.005, 0.005, 0.01])  # mm; measured .0001, .0003, .0014


@pytest.mark.slow
def test_a_pushed_block_follows_mujoco_as_closely_as_its_rattling_lets_it(pairs: dict[str, Pair]) -> None:
    reference, env = pair = pairs["Push"]
    for each in pair:
        each.reset(range(_ENVS))
    largest = np.zeros(3)
    for _ in range(16):
        action = reference.expert_action()
        for each in pair:
            each.step(action)
        largest = np.maximum(largest, _differences(pair))

    assert _touch(env).max() > 2e-4  # m
    # mm; measured in 16 episodes: .12, .72, .11. MuJoCo with its state rounded to float32: .05, .23, .11.
    np.testing.assert_array_less(largest, [0.4, 1.5, 0.25])


@pytest.mark.slow
def test_a_resting_block_weighs_what_was_drawn_for_it(pairs: dict[str, Pair]) -> None:
    reference, env = pairs["Push"]
    for each in (reference, env):
        each.reset(range(40, 40 + _ENVS))
    mass = env.task.privileged(env.engine)[:, 8]

    assert np.ptp(mass) > 0.05  # kg
    np.testing.assert_array_equal(mass, reference.task.privileged(reference.engine)[:, 8])
    np.testing.assert_allclose(env.engine.sensor("contact_object")[:, 3], -mass * 9.81, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_equal_seeds_give_equal_episodes_at_any_batch_size(task: str, pairs: dict[str, Pair], device: str) -> None:
    env, small = pairs[task][1], _env(task, num_envs=2, device=device)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, _ENVS, 6))
    runs = []
    for _ in range(2):
        env.reset(range(_ENVS))
        runs.append(_run(env, actions))
    small.reset([2, 3])
    alone = _run(small, actions[:, 2:4])

    for first, second, other in zip(*runs, alone, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first[2:4], other)


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_simulations_left_out_stand_still_and_go_on_as_if_nothing_had_been(task: str, pairs: dict[str, Pair]) -> None:
    env = pairs[task][1]
    engine, rest, others = _warp(env), [1, 4], np.array([0, 2, 3, 5])
    action = np.random.default_rng(1).uniform(-1, 1, (4, _ENVS, 6))
    env.reset(range(_ENVS))
    straight = _run(env, action)
    env.reset(range(_ENVS))
    _run(env, action[:2])
    before = _held(engine, rest)

    for ids in (others, others[:1]):
        engine.step(40, ids=ids)
        engine.forward(ids=ids)

    for now, then in zip(_held(engine, rest), before, strict=True):
        np.testing.assert_array_equal(now, then)
    after = _run(env, action[2:])
    for now, then in zip(after, straight, strict=True):
        np.testing.assert_array_equal(now[rest], then[rest])
    assert (after[0][others] != straight[0][others]).any(axis=1).all()


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_resetting_some_leaves_the_others_alone(task: str, pairs: dict[str, Pair]) -> None:
    env = pairs[task][1]
    action = np.random.default_rng(2).uniform(-1, 1, (4, _ENVS, 6))
    env.reset(range(_ENVS))
    straight = _run(env, action)
    env.reset(range(_ENVS))
    fresh = _held(_warp(env), [3])
    _run(env, action[:2])

    env.reset([3, 7], ids=np.array([3, 0]))

    for now, then in zip(_held(_warp(env), [3]), fresh, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(_run(env, action[2:]), straight, strict=True):
        np.testing.assert_array_equal(now[[1, 2, 4, 5]], then[[1, 2, 4, 5]])


@pytest.mark.slow
def test_touch_stays_on_the_device(pairs: dict[str, Pair], device: str) -> None:
    engine = _warp(pairs["PegInsertion"][1])
    pairs["PegInsertion"][1].reset(range(_ENVS))

    touch = engine.sensor_tensor("gel_left")

    assert touch.dtype == torch.float32
    assert touch.device.type == device
    assert touch.data_ptr() == engine.sensor_tensor("gel_left").data_ptr()  # no copy
    np.testing.assert_array_equal(touch.cpu().numpy(), engine.sensor("gel_left"))
    some = engine.sensor_tensor("gel_left", np.array([4, 1]), size=48 * 64)
    np.testing.assert_array_equal(some.cpu().numpy(), engine.sensor("gel_left")[[4, 1], : 48 * 64])


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["one camera", "a camera each"])
def test_rays_hit_what_mujocos_hit(own: bool, pairs: dict[str, Pair]) -> None:
    origin = np.array([0.3, 0.1, 0.2])
    directions = np.random.default_rng(3).normal([-0.3, -0.1, -0.17], 0.1, (400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    if own:
        origin = np.stack([origin, origin + 0.02])[:, None]
        directions = np.stack([directions, directions[::-1]])
    answers = []
    for env in pairs["Push"]:
        env.reset(range(_ENVS))
        answers.append(
            env.engine.ray(origin, directions, ids=np.array([1, 4]), geomgroup=np.array([1, 1, 1, 1, 0, 0], np.uint8))
        )

    (distance, geom, normal), (expected_distance, expected_geom, expected_normal) = answers[1], answers[0]
    assert len(np.unique(geom)) > 3
    same = geom == expected_geom
    assert same.mean() > 0.995  # a ray along an edge may go either way
    np.testing.assert_allclose(distance[same], expected_distance[same], atol=1e-5)
    np.testing.assert_allclose(normal[same], expected_normal[same], atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is -?infinity")
@pytest.mark.parametrize("task", _TASKS)
def test_gymnasium_accepts_the_environment(task: str, device: str) -> None:
    env = gym.make(
        f"vtt_envs:vtt/{task}-v0",
        backend="mjwarp",
        device=device,
        observation="all",
        renderer="rays",
        render_mode="rgb_array",
    )

    check_env(env.unwrapped)

    env.close()


@pytest.mark.slow
def test_a_simulation_that_blows_up_is_lost_alone(pairs: dict[str, Pair]) -> None:
    env = pairs["PegInsertion"][1]
    env.reset(range(_ENVS))
    env.engine.qvel[2] = np.nan
    env.engine.qvel[4] = 1e30

    step = env.step(np.zeros((_ENVS, 6)))

    np.testing.assert_array_equal(step.truncated, [False, False, True, False, True, False])
    assert all(np.isfinite(values).all() for values in _held(_warp(env), range(_ENVS)))
    env.reset([2], ids=np.array([2]))
    np.testing.assert_array_equal(env.engine.lost(env.steps), [False, False, False, False, True, False])


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_the_hardest_actions_blow_nothing_up(task: str, pairs: dict[str, Pair]) -> None:
    env = pairs[task][1]
    env.reset(range(_ENVS))
    for action in (
        np.random.default_rng(4).choice([-1.0, 1.0], (env.horizon, _ENVS, 6)).repeat(3, axis=0)[: env.horizon]
    ):
        env.step(action)

    assert not env.engine.lost(env.steps).any()
    for values in (*_held(_warp(env), range(_ENVS)), *env.observation.values()):
        assert np.isfinite(values).all()


@pytest.mark.slow
def test_a_simulation_that_outgrows_its_memory_is_lost_and_the_cure_logged(
    pairs: dict[str, Pair], device: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = pairs["PegInsertion"][1].engine.model
    engine = WarpEngine(model, num_envs=2, device=device, max_constraints=2)  # the peg of qpos0 lies in both pads

    with caplog.at_level(logging.WARNING):
        engine.step(1)

    assert engine.lost(np.ones(2, dtype=int)).all()
    assert "Raise max_contacts or max_constraints" in caplog.text


@pytest.mark.slow
def test_each_simulation_may_have_its_own_gravity(pairs: dict[str, Pair], device: str) -> None:
    model, steps = pairs["PegInsertion"][1].engine.model, 50
    engine = WarpEngine(model, num_envs=3, device=device)
    engine.expand("opt.gravity")[:] = np.array([[0, 0, -9.81], [0, 0, 0], [1.0, 2.0, -3.0]])
    address = model.joint("peg").qposadr[0]
    engine.qpos[:, address : address + 3] = start = np.array([0.5, 0.5, 1.0])

    engine.step(steps)

    # The integrator moves by the new velocity: n (n + 1) / 2 steps of g dt^2.
    fallen = engine.expand("opt.gravity") * model.opt.timestep**2 * steps * (steps + 1) / 2
    np.testing.assert_allclose(engine.qpos[:, address : address + 3] - start, fallen, atol=2e-6)


@pytest.mark.slow
def test_each_simulation_may_have_its_own_floor(pairs: dict[str, Pair], device: str) -> None:
    model, height = pairs["Push"][1].engine.model, np.array([0.0, -0.02, 0.03])
    engine = WarpEngine(model, num_envs=3, device=device)
    engine.expand("geom_pos")[:, model.geom("floor").id, 2] = height
    engine.set_const(np.arange(3))
    block = model.joint("block").qposadr[0]
    engine.qpos[:, block : block + 3] = np.column_stack([np.full((3, 2), 0.5), height + 0.015])  # m: half its height

    engine.qpos[:, block + 2] -= 1e-5
    engine.forward()
    assert (engine.sensor("contact_object")[:, 0] > 0).all()

    engine.qpos[:, block + 2] += 2e-5
    engine.forward()
    assert (engine.sensor("contact_object")[:, 0] == 0).all()


@pytest.mark.slow
def test_what_mujoco_warp_lacks_is_named(device: str) -> None:
    spec = mujoco.MjSpec()
    spec.worldbody.add_body(name="ball").add_freejoint()
    spec.body("ball").add_geom(size=[0.1, 0, 0])
    engine = WarpEngine(spec.compile(), num_envs=2, device=device)
    with pytest.raises(ConfigError, match="'nbody' must be a field that mujoco-warp keeps per simulation"):
        engine.expand("nbody")
    with pytest.raises(ConfigError, match="'body_weight' must be a field"):
        engine.expand("body_weight")

    spec.option.solver = mujoco.mjtSolver.mjSOL_PGS
    with pytest.raises(ConfigError, match="cannot run this model: mjSOL_PGS is unsupported"):
        WarpEngine(spec.compile(), num_envs=2, device=device)


def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(DependencyError, match="no device 'cuda:99'"):
        WarpEngine(mujoco.MjSpec().compile(), num_envs=1, device="cuda:99")


def test_without_mujoco_warp_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "warp", None)
    with pytest.raises(DependencyError, match=r"pip install 'vtt-stack\[mjwarp\]'"):
        WarpEngine(mujoco.MjSpec().compile(), num_envs=1)


def test_it_answers_everything_that_tasks_ask_of_an_engine() -> None:
    public = [name for name in vars(Engine) if not name.startswith("_")]

    assert {"step", "forward", "reset", "lost", "sensor", "expand", "set_const", "ray"} <= set(public)
    for name in public:
        assert callable(getattr(WarpEngine, name))
