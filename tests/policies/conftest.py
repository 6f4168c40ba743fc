"""A toy with touch and memory: one of four corners is right; touch says which, but only in the first two steps."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from vtt.store import StreamSpec
from vtt_policies.config import StudentConfig
from vtt_policies.construction import build_student
from vtt_policies.observations import resolve_keys
from vtt_policies.policy import ExpertPolicy
from vtt_policies.rollout import rollout

TOY_ID = "vtt_toy/Corners-v0"
CHANCE = 0.25
_STRIDE = 0.25
_CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], np.float32)
_SPACES = {
    "goal": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "privileged": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "proprioception": spaces.Box(-2.0, 2.0, (2,), np.float32),
    "tactile_left": spaces.Box(0, 255, (16, 16, 3), np.uint8),
}
_KINDS = {"tactile_left": ("tactile_image", "1"), "goal": ("vector", "m")}


class CornersEnv(VectorEnv):
    """Go to the right one of four corners; arriving at a wrong one ends the episode without success."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 (Gymnasium's own form)
    horizon = 12
    control_dt = 0.05

    def __init__(self, num_envs: int = 1, *, observation: str = "all", noise: float = 0.02) -> None:
        self.num_envs = num_envs
        self._keys = resolve_keys(observation, _SPACES)
        self._noise = noise
        self.single_observation_space = spaces.Dict({key: _SPACES[key] for key in self._keys})
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rngs = [np.random.default_rng(index) for index in range(num_envs)]
        self._position = np.zeros((num_envs, 2), np.float32)
        self._corner = np.zeros(num_envs, np.int64)
        self._time = np.zeros(num_envs, np.int64)
        self._done = np.ones(num_envs, bool)

    def stream_specs(self) -> dict[str, StreamSpec]:
        """Describe the observations."""
        specs = {}
        for key in self._keys:
            kind, unit = _KINDS.get(key, ("vector", "m"))
            space = _SPACES[key]
            specs[key] = StreamSpec(kind, space.shape, str(space.dtype), unit, 1.0 / self.control_dt)
        return specs

    def reset(self, *, seed=None, options=None):
        """Begin an episode in every environment."""
        for index, value in enumerate(seed if seed is not None else [None] * self.num_envs):
            if value is not None:
                self._rngs[index] = np.random.default_rng(value)
            self._corner[index] = self._rngs[index].integers(4)
            self._position[index] = self._rngs[index].uniform(-0.2, 0.2, 2)
        self._time[:] = 0
        self._done[:] = False
        return self._observe(), self._info()

    def step(self, actions):
        """Move; a done environment stays."""
        moving = ~self._done
        self._position[moving] += _STRIDE * np.clip(actions[moving], -1.0, 1.0)
        self._time += moving
        terminated = (self._distance() < 0.2).any(1)
        truncated = (self._time >= self.horizon) & ~terminated
        self._done |= terminated | truncated
        return self._observe(), np.zeros(self.num_envs), terminated, truncated, self._info()

    def _distance(self):
        return np.linalg.norm(self._position[:, None] - _CORNERS, axis=-1)

    def _info(self):
        target = _CORNERS[self._corner]
        arrived = self._distance()[np.arange(self.num_envs), self._corner] < 0.2
        return {
            "success": arrived,
            "expert_action": np.clip((target - self._position) / _STRIDE, -1.0, 1.0).astype(np.float32),
            "contact": np.zeros((self.num_envs, 3), bool),
        }

    def _observe(self):
        touch = np.full((self.num_envs, 16, 16, 3), 100, np.uint8)
        felt = np.flatnonzero(self._time < 2)
        row, column = self._corner // 2 * 8, self._corner % 2 * 8
        for index in felt:
            touch[index, row[index] : row[index] + 8, column[index] : column[index] + 8] = 200
        jitter = np.stack([np.random.default_rng(int(time)).normal(0.0, self._noise, 3) for time in self._time])
        values = {
            "goal": jitter.astype(np.float32),
            "privileged": _CORNERS[self._corner],
            "proprioception": self._position.copy(),
            "tactile_left": touch,
        }
        return {key: values[key] for key in self._keys}


if TOY_ID not in gym.registry:
    gym.register(TOY_ID, vector_entry_point=CornersEnv)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices on a shared machine: threads only cost."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def corners():
    """Build the toy."""

    def build(num_envs: int = 32, **options) -> VectorEnv:
        return gym.make_vec(TOY_ID, num_envs=num_envs, vectorization_mode="vector_entry_point", **options)

    return build


@pytest.fixture
def fresh_student(corners):
    """Build an unfitted student of the toy, and expert episodes that hold all of the toy's observations."""

    def build(*, keys: str = "tactile", seed: int = 0, **network):
        env = corners(8)
        episodes = rollout(env, ExpertPolicy(), range(8), record=tuple(_SPACES)).episodes
        specs = {key: env.stream_specs()[key] for key in resolve_keys(keys, _SPACES)}
        policy = build_student(
            specs,
            {key: [episode[key] for episode in episodes] for key in specs},
            action_dim=2,
            network=StudentConfig(hidden_dim=32, **network),
            seed=seed,
        )
        return policy, episodes

    return build
