"""Speed of 64 peg insertions with touch, beside the same environments in stable-baselines3's `SubprocVecEnv`.

Both step the expert's actions through SB3's interface, resets included, on all cores of the machine.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

import vtt_envs

__all__ = ["rows"]

_ID = "vtt_envs:vtt/PegInsertion-v0"
_OBSERVATION = "tactile"  # proprioception, goal and both tactile images of 48 x 64
_ENVS = 64
_ROUNDS = 7
_STEPS = 15  # control steps of all environments in one round


def rows() -> list[dict[str, Any]]:
    """Measure.

    Returns:
        One row of "name", "value", "unit", "peer" (the value of SubprocVecEnv) and "ratio": control steps per second,
        medians over rounds in which the two take turns.
    """
    # One worker per environment, each with one thread. The fork server imports once what the workers share.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.set_forkserver_preload(["vtt_envs.single", "vtt_envs.tasks"])
    make = partial(gym.make, _ID, observation=_OBSERVATION, num_threads=1)
    peer = SubprocVecEnv([make] * _ENVS, start_method="forkserver")
    ours = vtt_envs.make_sb3(_ID, num_envs=_ENVS, observation=_OBSERVATION)
    rates: tuple[list[float], list[float]] = ([], [])
    for env in (ours, peer):
        env.seed(0)
        env.reset()
        _rate(env)  # warm-up
    for _ in range(_ROUNDS):
        for env, rate in zip((ours, peer), rates, strict=True):
            rate.append(_rate(env))
    ours.close()
    peer.close()
    value, other = (statistics.median(rate) for rate in rates)
    unit = "control steps/s"
    name = "env_peg_insertion_64_vs_subproc"
    return [{"name": name, "value": value, "unit": unit, "peer": other, "ratio": value / other}]


def _rate(env: VecEnv) -> float:
    """Control steps per second of all environments together."""
    action = np.zeros((_ENVS, 6), dtype=np.float32)
    start = time.perf_counter()
    for _ in range(_STEPS):
        _, _, _, infos = env.step(action)
        action = np.stack([info["expert_action"] for info in infos])
    return _STEPS * _ENVS / (time.perf_counter() - start)


if __name__ == "__main__":
    for row in rows():
        print(row)
