"""Speed of the mujoco-warp back end beside MuJoCo's: peg insertions with touch, on a CPU and, if present, a GPU.

MuJoCo takes all cores; mujoco-warp takes one core, or the GPU. Both compute the tactile images, on their own device.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from typing import Any

import torch

from vtt_envs.core import BatchedEnv
from vtt_envs.engine import Backend
from vtt_envs.tasks import PegInsertion

__all__ = ["rows"]

_ENVS = {"cpu": 64, "cuda": 4096}
_ROUNDS = 5
_STEPS = 10  # control steps of all environments in one round; no peg is in its socket by then


def rows() -> list[dict[str, Any]]:
    """Measure.

    Returns:
        One row for each device, of "name", "value", "unit", "peer" (the value of MuJoCo) and "ratio": control steps per
        second, medians over rounds in which the two take turns. None without mujoco-warp.
    """
    if importlib.util.find_spec("mujoco_warp") is None:
        return []
    result = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        envs = [_env(device, backend) for backend in ("mjwarp", "mujoco")]
        for env in envs:
            _rate(env)  # compiles
        rates = [[_rate(env) for env in envs] for _ in range(_ROUNDS)]
        value, peer = (statistics.median(rate) for rate in zip(*rates, strict=True))
        name = f"mjwarp_{device}_{_ENVS[device]}_vs_mujoco"
        result.append({"name": name, "value": value, "unit": "control steps/s", "peer": peer, "ratio": value / peer})
    return result


def _env(device: str, backend: Backend) -> BatchedEnv:
    return BatchedEnv(PegInsertion(), num_envs=_ENVS[device], observation="tactile", device=device, backend=backend)


def _rate(env: BatchedEnv) -> float:
    """Control steps of all environments per second."""
    env.reset(range(env.num_envs))
    start = time.perf_counter()
    for _ in range(_STEPS):
        env.step(env.expert_action())
    return env.num_envs * _STEPS / (time.perf_counter() - start)
