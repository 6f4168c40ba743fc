"""Throughput of every task: physics alone, with touch, with touch and camera, by number of environments.

The scripted expert acts, ended environments are reset, all cores work. There is no peer: the rows show where time goes.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vtt_envs import TASKS

if TYPE_CHECKING:
    from vtt_envs.core import BatchedEnv  # importing it imports MuJoCo, before OpenGL is chosen

__all__ = ["rows"]

_WORDS = {"physics": "oracle", "touch": "tactile", "touch_camera": "visuotactile"}
# Number of environments, and control steps in one round: the same for all three, which then see the same episodes.
_STEPS = {1: 96, 16: 48, 64: 24, 256: 12}
_ROUNDS = 2


def rows() -> list[dict[str, Any]]:
    """Measure.

    Returns:
        Rows of "name" (`task_<task>_<robot>_<environments>_<what>`), "value", "unit", "peer" and "ratio" (both None):
        control steps per second of all environments together, medians over rounds in which the three take turns.
    """
    measured = []
    for name in TASKS:
        for robot in _make(name, 1, "oracle").task.robots:
            if ":" in robot:
                continue  # of a package that need not be here
            for count in _STEPS:
                envs = {what: _make(name, count, word, robot=robot) for what, word in _WORDS.items()}
                rates = {what: [] for what in envs}
                for _ in range(_ROUNDS):
                    for what, env in envs.items():
                        rates[what].append(_rate(env))
                value = {what: statistics.median(rate) for what, rate in rates.items()}
                share = 1 - value["touch"] / value["physics"]
                label = f"task_{name}_{robot}_{count}"
                print(f"tasks: {label}: touch takes {share:.0%} of a step")
                measured += [
                    {"name": f"{label}_{what}", "value": v, "unit": "control steps/s", "peer": None, "ratio": None}
                    for what, v in value.items()
                ]
                for env in envs.values():
                    env.close()
    return measured


def _make(name: str, count: int, word: str, **kwargs: Any) -> BatchedEnv:
    # By its id, which also finds OpenGL on a machine without a display: rays are several times slower.
    made = gym.make_vec(
        f"vtt_envs:vtt/{name}-v0",
        num_envs=count,
        vectorization_mode="vector_entry_point",
        observation=word,
        renderer="auto",
        **kwargs,
    )
    env: BatchedEnv = made.unwrapped.core  # pyright: ignore[reportAttributeAccessIssue]
    env.reset(range(count))
    env.step(env.expert_action())
    return env


def _rate(env: BatchedEnv) -> float:
    """Control steps per second of all environments together."""
    start = time.perf_counter()
    for step in range(_STEPS[env.num_envs]):
        env.step(env.expert_action())
        if len(ended := np.flatnonzero(env.done)):
            env.reset([1000 * (step + 1) + int(index) for index in ended], ids=ended)
    return _STEPS[env.num_envs] * env.num_envs / (time.perf_counter() - start)


if __name__ == "__main__":
    for row in rows():
        print(row)
