"""How the tests build environments: touch and rays need no graphics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from vtt_envs import TASKS
from vtt_envs.core import BatchedEnv

MakeVector = Callable[..., VectorEnv]


@pytest.fixture
def resting() -> Callable[[BatchedEnv], NDArray[np.float32]]:
    """Give the action that keeps things as they are, for every environment. Shape (B, A)."""

    def action(core: BatchedEnv) -> NDArray[np.float32]:
        rest = core.task.rest_action or (0.0,) * core.task.robot.action_size
        return np.tile(np.float32(rest), (core.num_envs, 1))

    return action


@pytest.fixture
def solve() -> Callable[..., NDArray[np.bool_]]:
    """Let the expert act from seed 1000 on; give who succeeded. No reward on the way may be positive. Shape (B,)."""

    def run(core: BatchedEnv) -> NDArray[np.bool_]:
        core.reset(range(1000, 1000 + core.num_envs))
        success = np.zeros(core.num_envs, dtype=bool)
        while not core.done.all():
            step = core.step(core.expert_action())
            success |= step.success
            assert (step.reward <= 0).all()
        return success

    return run


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_vector() -> Iterator[MakeVector]:
    made: list[VectorEnv] = []

    def make(task: str, num_envs: int = 1, **kwargs: Any) -> VectorEnv:
        settings = {"observation": "oracle", "num_threads": 1, "renderer": "rays", **kwargs}
        env = gym.make_vec(
            f"vtt_envs:vtt/{task}-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", **settings
        )
        made.append(env)
        return env

    yield make
    for env in made:
        env.close()
