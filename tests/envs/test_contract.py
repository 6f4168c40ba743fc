"""Every task meets the contracts of Gymnasium, stable-baselines3 and this project, with every observation word."""

from __future__ import annotations

import dataclasses
import inspect
import re
import runpy
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3_env
from stable_baselines3.common.vec_env import SubprocVecEnv

import vtt_envs
from vtt.errors import ConfigError, MissingError, ShapeError, StateError
from vtt_envs import TASKS, tasks
from vtt_envs.core import BatchedEnv
from vtt_envs.observations import PAD, WORDS, keys_of

# Physical quantities have no finite bounds worth stating, and force grids are not images.
_ADVICE = (
    "ignore:.*A Box observation space (minimum|maximum) value is -?infinity",
    "ignore:.*observation.* force_\\w+ is an image",
    "ignore:The minimal resolution for an image",
)
_PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


def _make(task: str, word: str = "oracle", **kwargs: object) -> gym.Env:
    return gym.make(f"vtt_envs:vtt/{task}-v0", observation=word, renderer="rays", num_threads=1, **kwargs)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.filterwarnings(_ADVICE[0])
def test_gymnasium_accepts_the_environment(task: str, word: str) -> None:
    env = _make(task, word, render_mode="rgb_array")

    check_env(env.unwrapped)

    env.close()


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.filterwarnings(*_ADVICE)
def test_stable_baselines_accepts_the_environment(task: str, word: str) -> None:
    env = _make(task, word)

    check_sb3_env(env)

    env.close()


@pytest.mark.parametrize("word", WORDS)
def test_a_word_gives_exactly_its_keys_with_the_shapes_of_space_and_specs(task: str, word: str, make_vector) -> None:
    env = make_vector(task, 2, observation=word)
    observation, _ = env.reset(seed=0)
    specs = env.stream_specs()

    assert tuple(observation) == tuple(specs) == keys_of(word, env.core.task.robot.fingers)
    assert observation in env.observation_space
    for key, spec in specs.items():
        space = env.single_observation_space[key]
        assert space.shape == spec.shape == observation[key].shape[1:]
        assert space.dtype == np.dtype(spec.dtype) == observation[key].dtype
        assert not spec.names or len(spec.names) == spec.shape[0]


@pytest.mark.parametrize("text", [BatchedEnv.__doc__, _PAGE.read_text(encoding="utf-8")], ids=["docstring", "page"])
def test_the_documented_shapes_are_those_of_the_spaces(text: str, task: str, make_vector) -> None:
    space = make_vector(task, observation="all").single_observation_space
    fingers = [key.removeprefix(PAD) for key in space if key.startswith(PAD)]
    documented = {}
    for keys, dtype, shape in re.findall(r"^ *\| (`[^|]+`) \| (\w+) \(([^)]*)\) \|", text, flags=re.MULTILINE):
        for key in re.findall(r"`([\w<>]+)`", keys):
            documented |= {key.replace("<finger>", finger): (dtype, shape) for finger in fingers}

    assert set(documented) == set(space)
    for key, (dtype, shape) in documented.items():
        assert space[key].dtype == np.dtype(dtype)
        if re.fullmatch(r"[\d, ]+", shape):  # others differ between tasks and robots
            assert space[key].shape == tuple(int(side) for side in shape.split(",") if side.strip())


def test_the_page_names_every_task_and_word() -> None:
    text = _PAGE.read_text(encoding="utf-8")

    assert all(f"vtt/{name}-v0" in text for name in TASKS)
    assert all(f"| `{word}` | {', '.join(f'`{key}`' for key in keys_of(word))} |" in text for word in WORDS)


def test_the_page_names_every_argument() -> None:
    text = _PAGE.read_text(encoding="utf-8")
    arguments = set(inspect.signature(BatchedEnv.__init__).parameters) - {"self", "task"}

    assert not {name for name in arguments if f"`{name}`" not in text}


def test_the_page_of_the_tasks_is_what_the_code_says() -> None:
    docs = _PAGE.parent
    maker = runpy.run_path(str(docs / "make_tasks.py"))

    text = (docs / "tasks.md").read_text(encoding="utf-8")

    assert text == maker["page"](), "Run `python docs/make_tasks.py`."
    for name in TASKS:
        assert (docs / "images" / f"{name}.png").exists()
        common = {"robot", "camera", "horizon", "physics_dt", "substeps"}
        own = {field.name for field in dataclasses.fields(getattr(tasks, name))} - common
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert all(f"| `{argument}` |" in section for argument in own)


def test_the_vector_environment_has_the_contract_of_the_project(task: str, make_vector) -> None:
    env = make_vector(task, 3)
    _, info = env.reset(seed=[4, 5, 6])

    assert env.metadata["autoreset_mode"] is gym.vector.AutoresetMode.DISABLED
    assert isinstance(env.horizon, int)
    assert env.control_dt == pytest.approx(0.05)
    for _ in range(2):
        assert info["success"].shape == (3,)
        assert info["success"].dtype == bool
        assert info["contact"].shape == (3, len(env.core.task.robot.fingers) + 1)
        assert info["contact"].dtype == bool
        assert info["expert_action"] in env.action_space
        _, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape, dtype=np.float32))
        assert reward.shape == terminated.shape == truncated.shape == (3,)


def test_the_horizon_truncates(task: str, make_vector, resting) -> None:
    env = make_vector(task, horizon=3)
    env.reset(seed=0)

    ends = [env.step(resting(env.core))[2:4] for _ in range(3)]

    assert [bool(truncated[0]) for _, truncated in ends] == [False, False, True]
    assert not any(terminated[0] for terminated, _ in ends)


@pytest.mark.parametrize("reward_kind", ["dense", "sparse"])
def test_rewards_are_one_number_per_environment(task: str, reward_kind: str, make_vector) -> None:
    env = make_vector(task, 2, reward_kind=reward_kind)
    _, info = env.reset(seed=0)

    _, reward, *_ = env.step(info["expert_action"])

    assert reward.dtype == np.float64
    assert (np.abs(reward) <= 1).all()
    assert reward_kind == "dense" or not reward.any()


def test_unknown_names_say_which_exist(task: str) -> None:
    with pytest.raises(MissingError, match=r"No observation 'touch'\. Available: all, oracle, proprio, tactile"):
        _make(task, "touch")
    with pytest.raises(MissingError, match=rf"No argument of vtt/{task}-v0 'reward_king'\. Available: .*reward_kind"):
        _make(task, reward_king="dense")
    with pytest.raises(MissingError, match=r"'num_envs'\. Available: "):
        _make(task, num_envs=2)
    with pytest.raises(MissingError, match=r"No environment 'vtt/Pull-v0'\. Available: .*vtt/Push-v0"):
        vtt_envs.make_sb3("vtt/Pull-v0")
    with pytest.raises(ConfigError, match="renderer must be gl, rays or auto, got 'opengl'"):
        gym.make(f"vtt_envs:vtt/{task}-v0", observation="visual", renderer="opengl")
    with pytest.raises(ConfigError, match="reward_kind must be dense or sparse, got 'spares'"):
        _make(task, reward_kind="spares")


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("PegInsertion", "socket_noise", -0.001),
        ("PegInsertion", "tilt", 3.0),
        ("PegInsertion", "clearance", 0.0),
        ("Push", "goal_noise", 5.0),
        ("Push", "tolerance", 0.0),
    ],
)
def test_an_argument_out_of_range_is_refused(name: str, argument: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{argument} must be in \[.*\] \w+, got {value}"):
        getattr(tasks, name)(**{argument: value})


def test_wrong_actions_and_calls_are_refused(task: str, make_vector) -> None:
    env = make_vector(task, 2)
    size = env.single_action_space.shape[0]

    with pytest.raises(StateError, match="step needs reset to be called first"):
        env.step(np.zeros((2, size)))
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=rf"action must have shape \(2, {size}\), got \({size},\)"):
        env.step(np.zeros(size))
    with pytest.raises(ShapeError, match=r"action must be a number in \[-1, 1\], got NaN"):
        env.step(np.full((2, size), np.nan))
    with pytest.raises(MissingError, match=r"No method 'explode'\. Available: contact, expert_action"):
        env.call("explode")
    with pytest.raises(ShapeError, match="seed must have one entry for each of 2 environments, got 3"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ShapeError, match=r"reset_mask must have shape \(2,\), got \(3,\)"):
        env.reset(options={"reset_mask": np.ones(3, dtype=bool)})
    with pytest.raises(ConfigError, match="num_envs must be at least 1, got 0"):
        make_vector(task, 0)


def test_a_spawned_process_sees_the_same_episode(task: str) -> None:
    make = partial(gym.make, f"vtt_envs:vtt/{task}-v0", observation="tactile", num_threads=1)
    workers = SubprocVecEnv([make], start_method="spawn")
    workers.seed(7)
    there = workers.reset()
    workers.close()

    here, _ = make().reset(seed=7)

    for key, value in here.items():
        np.testing.assert_array_equal(there[key][0], value)
