"""Environment ids, and how keyword arguments find the task or the batched environment."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from vtt.errors import DependencyError, missing

if TYPE_CHECKING:
    from vtt_envs.sb3 import Sb3VecEnv
    from vtt_envs.task import Task

__all__ = ["TASKS", "make_sb3", "register_all"]

TASKS = (
    "PegInsertion",
    "PegPlacement",
    "BoltOnNut",
    "Push",
    "Picking",
    "DoorOpening",
    "InHandPivot",
    "InHandRotation",
    "SurfaceFollowing",
)


def _make_task(name: str, kwargs: dict[str, Any], *, batched: bool) -> tuple[Task, dict[str, Any]]:
    """Build a task from the arguments that it knows; return the rest."""
    _check_mujoco()
    from vtt_envs import tasks
    from vtt_envs.core import BatchedEnv

    task_class = getattr(tasks, name)
    known = {field.name for field in fields(task_class)}
    others = set(inspect.signature(BatchedEnv.__init__).parameters) - {"self", "task"} | {"render_mode"}
    if not batched:
        others -= {"num_envs"}
    for key in kwargs:
        if key not in known | others:
            raise missing(f"argument of vtt/{name}-v0", key, known | others)
    of_task = {key: value for key, value in kwargs.items() if key in known}
    if isinstance(robot := of_task.get("robot"), str):
        if robot not in task_class.robots:
            raise missing(f"robot of vtt/{name}-v0", robot, task_class.robots)
        of_task["robot"] = task_class.robots[robot]()
    return task_class(**of_task), {key: value for key, value in kwargs.items() if key not in known}


def _check_mujoco() -> None:
    """Import MuJoCo; say clearly if MUJOCO_GL keeps it from being imported."""
    headless = sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if headless and "mujoco" not in sys.modules and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = "egl"  # MuJoCo's default needs a display
        try:
            import mujoco
        except Exception:  # no EGL here: cameras will say so, touch needs none
            del os.environ["MUJOCO_GL"]
    try:
        import mujoco  # noqa: F401
    except ImportError:
        raise
    except Exception as error:  # whatever the GL library raises that the variable names
        raise DependencyError(
            f"MuJoCo cannot be imported with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({error}). "
            "Unset it, or set it to egl: touch and renderer='rays' need no OpenGL."
        ) from error


def _single(name: str) -> Callable[..., gym.Env]:
    def make(**kwargs: Any) -> gym.Env:
        task, rest = _make_task(name, kwargs, batched=False)
        from vtt_envs.single import TaskEnv

        return TaskEnv(task, **rest)

    return make


def _vector(name: str) -> Callable[..., gym.vector.VectorEnv]:
    def make(**kwargs: Any) -> gym.vector.VectorEnv:
        kwargs.pop("max_episode_steps", None)  # the task's own horizon ends an episode
        task, rest = _make_task(name, kwargs, batched=True)
        from vtt_envs.vector import VectorTaskEnv

        return VectorTaskEnv(task, **rest)

    return make


def make_sb3(env_id: str, **kwargs: Any) -> Sb3VecEnv:
    """Build the stable-baselines3 vector environment of an id such as `"vtt/PegInsertion-v0"`.

    Raises:
        MissingError: If there is no such id or argument.
        DependencyError: If MuJoCo cannot be imported, or OpenGL is asked for and there is none.
    """
    names = {f"vtt/{name}-v0": name for name in TASKS}
    bare = env_id.removeprefix("vtt_envs:")
    if bare not in names:
        raise missing("environment", env_id, names)
    task, rest = _make_task(names[bare], kwargs, batched=True)
    from vtt_envs.sb3 import Sb3VecEnv

    return Sb3VecEnv(task, **rest)


def register_all() -> None:
    """Register every task with Gymnasium."""
    for name in TASKS:
        gym.register(
            id=f"vtt/{name}-v0",
            entry_point=_single(name),
            vector_entry_point=_vector(name),
            disable_env_checker=True,
        )
