"""The back end Isaac Gym: worker, protocol and files run for real, on stand-ins for its physics; see docs/backends.md.

Isaac Gym itself cannot be installed where these tests run.
"""

from __future__ import annotations

import ast
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray
from stable_baselines3.common.env_checker import check_env as check_sb3_env

from vtt.errors import ConfigError, DependencyError, StateError
from vtt_envs import make_sb3
from vtt_envs.core import BatchedEnv
from vtt_envs.engine import Engine
from vtt_envs.isaacgym import process
from vtt_envs.isaacgym.engine import IsaacGymEngine
from vtt_envs.isaacgym.process import PYTHON_VARIABLE
from vtt_envs.isaacgym.scene_files import Export, export_scene
from vtt_envs.randomisation import LogUniform, Randomisation, Uniform
from vtt_envs.robots import FrankaArm
from vtt_envs.tasks import BoltOnNut, PegInsertion, PegPlacement, Push

_TASKS = {"PegInsertion": PegInsertion, "PegPlacement": PegPlacement, "Push": Push}
_ONE_FAST = [pytest.param(task, marks=pytest.mark.slow if task != "Push" else ()) for task in _TASKS]
_ENVS = 3
_SEED = 1000
_STANDIN = Path(__file__).with_name("isaacgym_standin.py")
_WORKER = Path(process.__file__).with_name("worker")

Make = Callable[..., BatchedEnv]


def _python38() -> str:
    """A Python 3.8 with numpy, or the present one."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob("3.8.*/bin/python"))
    for python in (os.environ.get("VTT_PYTHON38"), shutil.which("python3.8"), *map(str, pyenv)):
        check = "import sys, numpy; sys.exit(sys.version_info[:2] != (3, 8))"
        if python and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python
    return sys.executable


def _pretend(folder: Path, kind: str, python: str = sys.executable) -> str:
    """Write an "interpreter" that runs a stand-in whatever it is asked to run."""
    script = folder / kind
    script.write_text(f'#!/bin/sh\nexec "{python}" "{_STANDIN}" {kind} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Let the back end find a stand-in."""

    def use_kind(kind: str, python: str = sys.executable) -> None:
        monkeypatch.setenv(PYTHON_VARIABLE, _pretend(tmp_path, kind, python))

    return use_kind


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[BatchedEnv] = []

    def make_env(task: str = "PegInsertion", *, num_envs: int = 1, observation: str = "oracle", **kwargs) -> BatchedEnv:
        env = BatchedEnv(
            _TASKS[task](**kwargs), num_envs=num_envs, observation=observation, num_threads=1, backend="isaacgym"
        )
        made.append(env)
        return env

    yield make_env
    for env in made:
        env.close()


@pytest.fixture(scope="module")
def envs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, BatchedEnv]]:
    """Each task on the stand-in that is MuJoCo."""
    before = os.environ.get(PYTHON_VARIABLE)
    os.environ[PYTHON_VARIABLE] = _pretend(tmp_path_factory.mktemp("python"), "mujoco")
    made = {
        name: BatchedEnv(task(), num_envs=_ENVS, observation="tactile", num_threads=1, backend="isaacgym")
        for name, task in _TASKS.items()
    }
    if before is None:
        del os.environ[PYTHON_VARIABLE]
    else:
        os.environ[PYTHON_VARIABLE] = before
    yield made
    for env in made.values():
        env.close()


def _isaac(env: BatchedEnv) -> IsaacGymEngine:
    assert isinstance(env.engine, IsaacGymEngine)
    return env.engine


def _touch(env: BatchedEnv) -> NDArray:
    """Deepest penetration of each pad, in m. Shape (B, 2)."""
    return np.stack([env.engine.sensor(f"gel_{f}")[:, : 48 * 64].max(axis=1) for f in ("left", "right")], axis=1)


def _run(env: BatchedEnv, actions: NDArray) -> list[NDArray]:
    """Step; return state, poses, touch and observation."""
    for action in actions:
        env.step(action)
    poses = [env.engine.body_position(name) for name in ("tool", env.task.objects[0])]
    return [x.copy() for x in (env.engine.qpos, env.engine.qvel, *poses, _touch(env), *env.observation.values())]


# What it simulates


@pytest.mark.parametrize("task", _TASKS)
def test_the_expert_solves_on_the_files_what_it_solves_on_the_model(task: str, envs: dict[str, BatchedEnv]) -> None:
    reference = BatchedEnv(_TASKS[task](), num_envs=_ENVS, observation="tactile", num_threads=1)
    solved = []
    for env in (reference, envs[task]):
        env.reset(range(_SEED, _SEED + _ENVS))
        success = np.zeros(_ENVS, dtype=bool)
        while not env.done.all():
            success |= env.step(env.expert_action()).success
        assert success.all()
        solved.append(env.steps.copy())

    np.testing.assert_allclose(solved[1], solved[0], atol=3)  # control steps; measured at most 2 in 300 episodes


def test_a_gel_yields_to_a_held_peg_as_mujocos_does(envs: dict[str, BatchedEnv]) -> None:
    env = envs["PegInsertion"]
    reference = BatchedEnv(PegInsertion(), num_envs=_ENVS, observation="tactile", num_threads=1)
    for each in (env, reference):
        each.reset(range(_ENVS))
        for _ in range(3):
            each.step(np.zeros((_ENVS, 6)))

    assert _touch(reference).min() > 9e-4  # m
    np.testing.assert_allclose(_touch(env), _touch(reference), atol=2e-5)  # m
    np.testing.assert_array_equal(env.contact(), [[True, True, False]] * _ENVS)


def test_each_block_has_the_friction_and_the_mass_drawn_for_it(envs: dict[str, BatchedEnv]) -> None:
    env, steps = envs["Push"], 50
    env.reset(range(_ENVS))
    mass, friction = env.task.privileged(env.engine)[:, 8:10].T
    engine = _isaac(env)
    address = engine.model.joint("block").qposadr[0], engine.model.joint("block").dofadr[0]
    engine.qpos[:, address[0] : address[0] + 2] += 0.5  # m, out of the gripper's reach
    engine.qvel[:, address[1]] = speed = 0.8  # m/s

    engine.step(steps)

    lost = speed - engine.qvel[:, address[1]]
    np.testing.assert_allclose(lost, friction * 9.81 * steps * engine.model.opt.timestep, rtol=0.05)
    assert np.ptp(friction) > 0.05
    np.testing.assert_allclose(engine._worker.shared.mass[:, 0], mass, rtol=1e-6)


def test_randomised_physics_reaches_the_worker(use: Callable[..., None]) -> None:
    use("springs")
    ranges = Randomisation(
        friction=LogUniform(0.5, 2),
        mass=LogUniform(0.5, 2),
        damping=LogUniform(0.5, 2),
        actuator_gain=Uniform(0.7, 1.3),
        gel_stiffness=LogUniform(0.5, 1.5),
        gel_damping=LogUniform(0.5, 1.25),
    )
    nominal = BatchedEnv(PegInsertion(), num_envs=3, observation="oracle", num_threads=1, backend="isaacgym")
    env = BatchedEnv(
        PegInsertion(), num_envs=3, observation="oracle", num_threads=1, backend="isaacgym", randomisation=ranges
    )
    for each in (nominal, env):
        each.reset(range(3))
    plain, shared, drawn = _isaac(nominal)._worker.shared, _isaac(env)._worker.shared, env.drawn()
    names = _isaac(env)._export.scene.joints

    def ratio(field: str, columns: list[int]) -> NDArray:
        return getattr(shared, field)[:, columns] / getattr(plain, field)[:, columns]

    def columns(*beginnings: str) -> list[int]:
        return [index for index, name in enumerate(names) if name.startswith(beginnings)]

    # Peg on socket; between pad and peg the mean is what counts.
    np.testing.assert_allclose(ratio("friction", [2])[:, 0], drawn["friction"], atol=0.01)  # hundredths
    pair, plain_pair = (each.friction[:, 0] + each.friction[:, 2] for each in (shared, plain))
    np.testing.assert_allclose(pair / plain_pair, drawn["friction"], atol=0.01)
    np.testing.assert_allclose(ratio("mass", [0])[:, 0], drawn["mass"], rtol=1e-5)
    for field, beginnings, knob in [
        ("stiffness", ("tool",), "actuator_gain"),
        ("damping", ("tool", "finger"), "damping"),
        ("stiffness", ("gel",), "gel_stiffness"),
        ("damping", ("gel",), "gel_damping"),
    ]:
        ratios = ratio(field, columns(*beginnings))
        np.testing.assert_allclose(ratios, np.broadcast_to(drawn[knob][:, None], ratios.shape), rtol=1e-5)
    for each in (nominal, env):
        each.close()


@pytest.mark.parametrize("task", _ONE_FAST)
def test_the_calls_to_isaac_gym_carry_the_same_states(
    task: str, envs: dict[str, BatchedEnv], use: Callable[..., None], make: Make
) -> None:
    use("preview4")
    direct, called = envs[task], make(task, num_envs=_ENVS, observation="tactile")
    actions = np.random.default_rng(5).uniform(-1, 1, (3, _ENVS, 6))
    runs = []
    for env in (direct, called):
        env.reset(range(_ENVS))
        _run(env, actions[:2])
        env.reset([9], ids=np.array([1]))
        runs.append(_run(env, actions[2:]))

    assert np.ptp(runs[0][0][:, 0]) > 0.01  # m
    for first, second in zip(runs[0][:5], runs[1][:5], strict=True):
        # Isaac Gym's positions count from the origin of all simulations, 1 m away: rounded to 1e-7 m.
        np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(PYTHON_VARIABLE not in os.environ, reason=f"{PYTHON_VARIABLE} names no Isaac Gym")
@pytest.mark.parametrize("task", _TASKS)
def test_the_expert_solves_most_in_isaac_gym_itself(task: str, make: Make) -> None:
    env = make(task, num_envs=16, observation="tactile")
    env.reset(range(_SEED, _SEED + 16))
    if task != "Push":
        np.testing.assert_allclose(_touch(env), 0.00094, atol=2e-4)  # m, MuJoCo's
    success = np.zeros(16, dtype=bool)
    while not env.done.all():
        success |= env.step(env.expert_action()).success

    assert not env.engine.lost(env.steps).any()
    assert success.mean() > 0.8


# Batches


@pytest.mark.parametrize("task", ["PegInsertion", "Push"])
def test_equal_seeds_give_equal_episodes_at_any_batch_size(
    task: str, envs: dict[str, BatchedEnv], use: Callable[..., None], make: Make
) -> None:
    use("mujoco")
    env, small = envs[task], make(task, observation="tactile")
    actions = np.random.default_rng(0).uniform(-1, 1, (3, _ENVS, 6))
    runs = []
    for _ in range(2):
        env.reset(range(_ENVS))
        runs.append(_run(env, actions))
    small.reset([1])
    alone = _run(small, actions[:, 1:2])

    for first, second, other in zip(*runs, alone, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first[1:2], other)


def test_simulations_left_out_stand_still_and_go_on_as_if_nothing_had_been(envs: dict[str, BatchedEnv]) -> None:
    env = envs["PegInsertion"]
    action = np.random.default_rng(1).uniform(-1, 1, (4, _ENVS, 6))
    env.reset(range(_ENVS))
    _run(env, action[:2])
    straight = _run(env, action[2:])
    env.reset(range(_ENVS))
    before = _run(env, action[:2])

    for ids in (np.array([0, 2]), np.array([0])):
        env.engine.step(20, ids=ids)
        env.engine.forward(ids=ids)

    np.testing.assert_array_equal(env.engine.qpos[1], before[0][1])
    after = _run(env, action[2:])
    for now, then in zip(after, straight, strict=True):
        np.testing.assert_allclose(now[1], then[1], atol=1e-4)  # MuJoCo starts its solver anew
    assert (after[0][[0, 2]] != straight[0][[0, 2]]).any(axis=1).all()


def test_resetting_some_leaves_the_others_alone(envs: dict[str, BatchedEnv]) -> None:
    env = envs["Push"]
    action = np.random.default_rng(2).uniform(-1, 1, (2, _ENVS, 6))
    env.reset(range(_ENVS))
    fresh = _run(env, action[:0])
    before = _run(env, action)

    env.reset([7, 2], ids=np.array([0, 2]))

    after = _run(env, action[:0])
    for now, then, first in zip(after, before, fresh, strict=True):
        np.testing.assert_array_equal(now[1], then[1])
        np.testing.assert_array_equal(now[2], first[2])


def test_a_simulation_that_blows_up_is_lost_alone(envs: dict[str, BatchedEnv]) -> None:
    env = envs["PegInsertion"]
    env.reset(range(_ENVS))
    env.engine.qvel[0] = np.nan
    env.engine.qvel[1] = 1e30

    step = env.step(np.zeros((_ENVS, 6)))

    np.testing.assert_array_equal(step.truncated, [True, True, False])
    assert all(np.isfinite(values).all() for values in _run(env, np.zeros((1, _ENVS, 6))))
    env.reset([2], ids=np.array([0]))
    np.testing.assert_array_equal(env.engine.lost(env.steps), [False, True, False])


@pytest.mark.slow
@pytest.mark.parametrize("task", _TASKS)
def test_the_hardest_actions_blow_nothing_up(task: str, envs: dict[str, BatchedEnv]) -> None:
    env = envs[task]
    env.reset(range(_ENVS))
    for action in np.random.default_rng(4).choice([-1.0, 1.0], (17, _ENVS, 6)).repeat(3, axis=0)[:50]:
        env.step(action)

    assert not env.engine.lost(env.steps).any()
    assert all(np.isfinite(values).all() for values in _run(env, np.zeros((0, _ENVS, 6))))


# Contracts


@pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is -?infinity")
@pytest.mark.filterwarnings("ignore:The minimal resolution for an image")
@pytest.mark.parametrize("task", _ONE_FAST)
def test_gymnasium_and_stable_baselines_accept_the_environment(task: str, use: Callable[..., None]) -> None:
    use("springs")
    settings = {"backend": "isaacgym", "observation": "visuotactile", "renderer": "rays", "num_threads": 1}
    env = gym.make(f"vtt_envs:vtt/{task}-v0", render_mode="rgb_array", **settings)

    check_env(env.unwrapped)
    check_sb3_env(env)

    env.close()


def test_every_skin_keeps_shapes_masks_and_close(use: Callable[..., None]) -> None:
    use("springs")
    env = gym.make_vec(
        "vtt_envs:vtt/Push-v0", num_envs=3, vectorization_mode="vector_entry_point", backend="isaacgym", horizon=2
    )
    env.reset(seed=0)
    for _ in range(2):
        observation, reward, terminated, truncated, info = env.step(np.zeros((3, 6)))
    assert observation in env.observation_space
    assert truncated.all()
    assert reward.shape == terminated.shape == info["success"].shape == (3,)

    env.reset(options={"reset_mask": np.array([True, False, True])})
    *_, truncated, _ = env.step(np.ones((3, 6)))
    assert not truncated.any()
    np.testing.assert_array_equal(env.unwrapped.core.done, [False, True, False])

    env.close()
    with pytest.raises(StateError, match="step needs an environment that is open"):
        env.unwrapped.core.engine.step(1)
    skin = make_sb3("vtt/Push-v0", num_envs=2, backend="isaacgym", observation="proprio")
    skin.reset()
    skin.step(np.zeros((2, 6)))
    skin.close()


def test_what_isaac_gym_cannot_give_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"task must be PegInsertion, PegPlacement, Push .* got BoltOnNut"):
        BatchedEnv(BoltOnNut(), backend="isaacgym")
    with pytest.raises(ConfigError, match=r"robot must be floating .* got FrankaArm"):
        BatchedEnv(Push(robot=FrankaArm()), backend="isaacgym")
    with pytest.raises(ConfigError, match=r"observation must not hold force_left, force_right, wrench"):
        BatchedEnv(Push(), backend="isaacgym", observation="all")


def test_forces_are_refused_or_not_a_number_and_shapes_cannot_differ(envs: dict[str, BatchedEnv]) -> None:
    engine = envs["PegInsertion"].engine
    envs["PegInsertion"].reset(range(_ENVS))

    with pytest.raises(ConfigError, match="'wrist_force' must be a reading that backend='isaacgym' has"):
        engine.sensor("wrist_force")
    with pytest.raises(ConfigError, match=r"'geom_size' must be one of .*body_mass"):
        engine.expand("geom_size")
    assert (engine.sensor("contact_left")[:, 0] > 0).all()
    assert np.isnan(engine.sensor("contact_left")[:, 1:]).all()


def test_it_answers_everything_that_tasks_ask_of_an_engine() -> None:
    public = [name for name in vars(Engine) if not name.startswith("_")]

    assert {"step", "forward", "reset", "lost", "sensor", "expand", "set_const", "ray", "close"} <= set(public)
    for name in public:
        assert callable(getattr(IsaacGymEngine, name))


# The worker


def test_the_worker_is_python_3_8(use: Callable[..., None], make: Make) -> None:
    for file in (*_WORKER.glob("*.py"), _STANDIN):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))
    python = _python38()
    use("springs", python)
    env = make(num_envs=2)
    version = subprocess.run([python, "-c", "import platform; print(platform.python_version())"], capture_output=True)
    assert _isaac(env)._worker.python == version.stdout.decode().strip()

    env.reset([0, 1])
    start = env.engine.body_position("tool").copy()
    for _ in range(10):
        env.step(np.tile(np.eye(6)[2], (2, 1)))  # down, at up to 5 mm a step

    fallen = start[:, 2] - env.engine.body_position("tool")[:, 2]
    assert ((fallen > 0.03) & (fallen < 0.05)).all()  # m


def test_without_an_interpreter_the_error_names_the_cure(monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    with pytest.raises(DependencyError, match=rf"Set {PYTHON_VARIABLE} to its interpreter; docs/backends.md"):
        make()
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(DependencyError, match=r"must be a Python interpreter, got '/nowhere/python' .No such file"):
        make()
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)  # has numpy, but no Isaac Gym
    with pytest.raises(DependencyError, match=r"(?s)failed while it built the scene.*No module named 'isaacgym'"):
        make()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("mute", r"failed while it started \(exit status 1\).*\nNo module named 'isaacgym'"),
        ("babbles", r"failed while it started .*It said \"Importing module 'gym_38'"),
        ("outdated", r"must speak version 1 of the protocol, got 0\. Let VTT_ISAACGYM_PYTHON run the worker of this"),
        ("unbuildable", r"failed while it built the scene \(exit status 0\).*libpython3.8.so.1.0: cannot open"),
    ],
)
def test_a_worker_that_does_not_start_says_why(kind: str, said: str, use: Callable[..., None], make: Make) -> None:
    use(kind)
    with pytest.raises(DependencyError, match=f"(?s){said}"):
        make()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("dies", r"failed during a step \(exit status -9\).*PhysX error: invalid transform"),
        ("fails", r"failed during a step \(exit status 0\).*PhysX error.*FloatingPointError: the solver diverged"),
    ],
)
def test_a_worker_that_ends_in_a_step_says_why(kind: str, said: str, use: Callable[..., None], make: Make) -> None:
    use(kind)
    env = make()
    env.reset([0])

    with pytest.raises(DependencyError, match=f"(?s){said}"):
        env.step(np.zeros((1, 6)))

    with pytest.raises(StateError, match=r"whose worker has not failed. Make a new one"):
        env.step(np.zeros((1, 6)))


def test_an_interrupt_ends_the_worker(use: Callable[..., None], make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_PATIENCE", 0.1)
    use("dawdles")
    env = make()
    env.reset([0])
    pid = _isaac(env)._worker._process.pid
    # Whoever starts the tests in the background may have them ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            env.step(np.zeros((1, 6)))
    finally:
        signal.signal(signal.SIGINT, before)

    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(StateError, match="Make a new one"):
        env.step(np.zeros((1, 6)))


def test_nothing_is_left_behind(use: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("springs")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    gc.collect()
    descriptors = os.listdir("/proc/self/fd")
    env = BatchedEnv(Push(), observation="oracle", num_threads=1, backend="isaacgym")
    pid = _isaac(env)._worker._process.pid
    env.reset([0])
    assert Path(f"/proc/{pid}").exists()

    del env
    gc.collect()

    assert not Path(f"/proc/{pid}").exists()
    assert not [name for name in os.listdir("/dev/shm") if "vtt" in name]
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    assert not list((tmp_path / "scratch").iterdir())


def test_a_worker_ends_with_an_environment_that_was_killed(use: Callable[..., None]) -> None:
    use("springs")
    code = """
import os, pathlib, signal
from vtt_envs.isaacgym.process import Worker
from vtt_envs.isaacgym.worker.protocol import Scene
scene = Scene(1, 0.002, -9.81, "cpu", False, "robot.urdf", ("joint",), (0.0,), (), (), ())
scene.write("scene.json")
worker = Worker(scene, pathlib.Path("scene.json"), prepare=lambda shared: None)
print(worker._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=os.path.dirname(os.environ[PYTHON_VARIABLE]), check=False
    )
    pid = int(killed.stdout)

    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("The worker outlived the environment.")


# The files


def _export(task: str, folder: Path) -> tuple[mujoco.MjModel, Export]:
    model = BatchedEnv._build(_TASKS[task]()).compile()
    return model, export_scene(model, folder, num_envs=1, device="cpu")


@pytest.mark.parametrize("task", _TASKS)
def test_the_robots_file_has_the_models_poses_and_masses(task: str, tmp_path: Path) -> None:
    model, export = _export(task, tmp_path)
    spec = mujoco.MjSpec.from_file(str(tmp_path / export.scene.robot))
    spec.compiler.fusestatic = False
    written = spec.compile()
    data, copy = mujoco.MjData(model), mujoco.MjData(written)
    for movable in export.movables:
        if movable.joint >= 0:
            place = np.random.default_rng(movable.joint).uniform(0, 0.03)
            data.joint(movable.name).qpos[0] = copy.joint(movable.name).qpos[0] = place
    mujoco.mj_kinematics(model, data)
    mujoco.mj_kinematics(written, copy)

    bodies = [model.body(b).name for b in range(1, model.nbody) if model.body(model.body_rootid[b]).name == "tool_base"]
    light = sum(written.body(b).name not in (*bodies, "base", "world") for b in range(written.nbody))
    for name in bodies:
        # A link's frame lies at the anchor of its last joint, with the body's axes.
        anchor = model.jnt_pos[model.body(name).jntadr[0]] if model.body(name).jntnum[0] else np.zeros(3)
        there = data.body(name).xpos + data.body(name).xmat.reshape(3, 3) @ anchor
        np.testing.assert_allclose(copy.body(name).xpos, there, atol=1e-8)  # m
        np.testing.assert_allclose(copy.body(name).xmat, data.body(name).xmat, atol=1e-7)
        np.testing.assert_allclose(copy.body(name).xipos, data.body(name).xipos, atol=1e-8)
        np.testing.assert_allclose(written.body(name).mass, model.body(name).mass)
    assert light == export.scene.joints.__len__() - sum(model.body(name).jntnum[0] > 0 for name in bodies)


@pytest.mark.parametrize("task", _TASKS)
def test_links_collide_as_the_bodies_do(task: str, tmp_path: Path) -> None:
    model, export = _export(task, tmp_path)
    colliders, seen = export.scene.colliders, set()
    for first in colliders:
        for second in colliders:
            if first is second:
                continue
            bits = [
                [model.geom_contype[g] for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name == c.link]
                for c in (first, second)
            ]
            meet = bool(np.bitwise_or.reduce(bits[0]) & np.bitwise_or.reduce(bits[1]))
            within = first.actor == second.actor == 0  # the pads of a gripper never meet
            assert (not first.filter & second.filter) == (meet and not within)
            seen.add(not first.filter & second.filter)

    assert seen == {True, False}
    assert export.scene.ground == (task == "Push")


def test_what_the_files_cannot_say_is_refused(tmp_path: Path) -> None:
    spec = mujoco.MjSpec()
    ball = spec.worldbody.add_body(name="ball")
    ball.add_geom(size=[0.1, 0, 0])
    ball.add_joint(name="slide", type=mujoco.mjtJoint.mjJNT_SLIDE)
    spec.add_actuator(name="motor", target="slide", trntype=mujoco.mjtTrn.mjTRN_JOINT)

    with pytest.raises(ConfigError, match=r"has no actuators other than springs .*, no shapes other than boxes"):
        export_scene(spec.compile(), tmp_path, num_envs=1, device="cpu")
