"""Two toys: one with touch and memory, one without.

Corners: one of four corners is right; touch says which, but only in the first two steps. Reach: go to a mark.
"""

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

    def __init__(self, num_envs=1, *, observation: str = "all", noise: float = 0.02, render_mode=None) -> None:
        self.num_envs = num_envs
        self._keys = resolve_keys(observation, _SPACES)
        self._noise = noise
        self.render_mode = render_mode
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

    def render(self):
        """Draw how far each environment is as grey."""
        return tuple(np.full((16, 16, 3), 20 * time, np.uint8) for time in self._time)

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


class ReachEnv(VectorEnv):
    """Go to a mark in the plane: the camera and the privileged offset show it, the goal where `blind` is False."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    horizon = 12
    control_dt = 0.05

    def __init__(
        self,
        num_envs: int = 1,
        *,
        observation: str = "all",
        blind: bool = False,
        fail_at: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.num_envs, self.render_mode = num_envs, render_mode
        self._keys = resolve_keys(observation, _REACH)
        self._blind, self._fail_at = blind, fail_at
        self.single_observation_space = spaces.Dict({key: _REACH[key] for key in self._keys})
        self.single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._position, self._mark = np.zeros((2, num_envs, 2), np.float32)
        self._time = np.zeros(num_envs, np.int64)
        self._done = np.ones(num_envs, bool)
        self._steps = 0

    def stream_specs(self) -> dict[str, StreamSpec]:
        """Describe the observations."""
        kinds = {"camera_front": ("image", "1")}
        return {
            key: StreamSpec(kind, space.shape, str(space.dtype), unit, 20.0)
            for key, space in self.single_observation_space.spaces.items()
            for kind, unit in [kinds.get(key, ("vector", "m"))]
        }

    def reset(self, *, seed=None, options=None):
        """Begin an episode where the mask says so."""
        mask = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        for index in np.flatnonzero(mask):
            rng = np.random.default_rng(None if seed is None else seed[index])
            self._position[index], self._mark[index] = rng.uniform(-0.8, 0.8, (2, 2))
        self._time[mask], self._done[mask] = 0, False
        return self._observe(), self._info()

    def step(self, actions):
        """Move; a done environment stays."""
        moving = ~self._done
        self._position[moving] += 0.3 * np.clip(actions[moving], -1.0, 1.0)
        self._time += moving
        self._steps += 1
        distance = np.linalg.norm(self._mark - self._position, axis=1)
        terminated = moving & (distance < 0.15)
        truncated = moving & (self._time >= self.horizon) & ~terminated
        reward = np.where(moving, np.where(terminated, 1.0, -0.3 * distance), 0.0)
        if self._fail_at is not None and self._steps >= self._fail_at:
            reward[0] = np.nan
        self._done |= terminated | truncated
        return self._observe(), reward, terminated, truncated, self._info(terminated)

    def render(self):
        """Draw every environment."""
        return tuple(self._images())

    def _info(self, success=None):
        offset = self._mark - self._position
        return {
            "success": np.zeros(self.num_envs, bool) if success is None else success,
            "expert_action": np.clip(offset / 0.3, -1.0, 1.0).astype(np.float32),
            "contact": np.zeros((self.num_envs, 3), bool),
        }

    def _images(self):
        images = np.full((self.num_envs, 16, 16, 3), 60, np.uint8)
        for channel, place in ((0, self._mark), (1, self._position)):
            row, column = np.clip(np.round(place * 7 + 7), 0, 14).astype(int).T
            for index in range(self.num_envs):
                images[index, row[index] : row[index] + 2, column[index] : column[index] + 2, channel] = 255
        return images

    def _observe(self):
        make = {
            "camera_front": self._images,
            "goal": lambda: self._mark * (not self._blind),
            "privileged": lambda: self._mark - self._position,
            "proprioception": self._position.copy,
        }
        return {key: make[key]() for key in self._keys}


_REACH = {
    "camera_front": spaces.Box(0, 255, (16, 16, 3), np.uint8),
    "goal": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "privileged": spaces.Box(-6.0, 6.0, (2,), np.float32),
    "proprioception": spaces.Box(-5.0, 5.0, (2,), np.float32),
}
REACH_ID = "vtt_toy/Reach-v0"

for toy_id, toy in ((TOY_ID, CornersEnv), (REACH_ID, ReachEnv)):
    if toy_id not in gym.registry:
        gym.register(toy_id, vector_entry_point=toy)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices on a shared machine: threads only cost."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def corners():
    """Build the toy."""

    def build(num_envs: int = 32, **options) -> VectorEnv:
        return gym.make_vec(TOY_ID, num_envs=num_envs, vectorization_mode="vector_entry_point", **options)

    return build


@pytest.fixture
def reach():
    """Build the toy without touch or memory."""

    def build(num_envs: int = 8, **options) -> VectorEnv:
        return gym.make_vec(REACH_ID, num_envs=num_envs, vectorization_mode="vector_entry_point", **options)

    return build


@pytest.fixture(scope="session")
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
