"""Collect expert episodes into an episode store.

Legend: B environments, T steps of an episode, A action size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vtt.cluster import Cluster, spread
from vtt.errors import ConfigError
from vtt.files import atomic_write_bytes
from vtt.store import EpisodeStore
from vtt.streams import Stream, StreamSpec
from vtt_envs.vector import VectorTaskEnv

__all__ = ["Recorder", "collect", "label_streams"]


def label_streams(env: VectorTaskEnv) -> dict[str, StreamSpec]:
    """Describe what is recorded beside the observations."""
    rate = 1 / env.control_dt
    actions = int(np.prod(env.single_action_space.shape or (0,)))
    touching = (*(f"{finger}_pad" for finger in env.core.task.robot.fingers), "object")
    return {
        "action": StreamSpec("vector", (actions,), "float32", "", rate),
        "expert_action": StreamSpec("vector", (actions,), "float32", "", rate),
        "reward": StreamSpec("scalar", (), "float32", "", rate),
        "success": StreamSpec("scalar", (), "bool", "", rate),
        "contact": StreamSpec("vector", (len(touching),), "bool", "", rate, names=touching),
    }


def collect(
    env_id: str,
    path: Path,
    *,
    episodes: int,
    env_args: Mapping[str, Any],
    observation: str = "all",
    num_envs: int = 64,
    seed: int = 0,
    action_noise: float = 0.0,
    cluster: Cluster | None = None,
) -> EpisodeStore:
    """Let the privileged expert drive, and record until the store holds `episodes` episodes.

    Episode i has environment seed `seed + i` whatever the batch size. An interrupted call goes on where it stopped.

    Args:
        env_id: Gymnasium id with its module, such as `"vtt_envs:vtt/PegInsertion-v0"`.
        path: Folder of the store, made if missing.
        episodes: Episodes that the store shall hold.
        env_args: Further arguments of the environment, JSON-ready: randomisation by its level's name.
        observation: Observation word; what is recorded.
        num_envs: Episodes run side by side.
        seed: Seed of the first episode.
        action_noise: Standard deviation of Gaussian noise on the executed action, in parts of its range;
            `expert_action` stays clean. Data around the expert's path teach more than the path (DART, Laskey et al.
            2017).
        cluster: Ray cluster that records; None records here.

    Returns:
        The store. An episode's attributes are `seed`, `success` and, where there is any, `randomisation`: what was
        drawn, by name.

    Raises:
        ConfigError: If a number is out of range, or the store was recorded with other settings.
    """
    if episodes < 1 or num_envs < 1:
        raise ConfigError(f"episodes and num_envs must be at least 1, got {episodes} and {num_envs}.")
    if not 0 <= action_noise <= 1:
        raise ConfigError(f"action_noise must be in [0, 1], got {action_noise}.")
    settings = {
        "env": env_id,
        "env_args": dict(env_args),
        "observation": observation,
        "seed": seed,
        "action_noise": action_noise,
    }
    size = min(num_envs, episodes)
    making = (env_id, dict(env_args), observation, action_noise)
    # On a cluster, one environment here tells what is recorded.
    here = Recorder(*making, 1 if cluster else size)
    try:
        store = _open(path, here.streams, settings)
        _write_rest_images(path, here.env.rest_images())
        batches = [
            ([seed + index for index in range(first, min(first + size, episodes))],)
            for first in range(len(store), episodes, size)
        ]
        results = (here.run(*batch) for batch in batches)
        if cluster is not None and batches:
            results = spread(Recorder, [*making, size], batches, cluster)
        with (
            contextlib.closing(results),
            tqdm(total=episodes, initial=min(len(store), episodes), unit="episode", disable=None) as bar,
        ):
            for recorded, attributes in results:
                store.extend(recorded, attributes=attributes)
                bar.update(len(recorded))
                bar.set_postfix(success=f"{np.mean([facts['success'] for facts in attributes]):.2f}")
    finally:
        here.close()
    return store


class Recorder:
    """Environments that record their expert; what an episode holds depends on its seed alone.

    Args:
        env_id: Gymnasium id with its module.
        env_args: Further arguments of the environment.
        observation: Observation word; what is recorded.
        action_noise: Standard deviation of noise on the executed action.
        num_envs: Episodes run side by side.

    Attributes:
        env: The environments.
        streams: What is recorded.
    """

    def __init__(
        self, env_id: str, env_args: Mapping[str, Any], observation: str, action_noise: float, num_envs: int
    ) -> None:
        made = gym.make_vec(
            env_id,
            num_envs=num_envs,
            vectorization_mode="vector_entry_point",
            observation=observation,
            **env_args,
        ).unwrapped
        assert isinstance(made, VectorTaskEnv)
        self.env = made
        self.streams = {**made.stream_specs(), **label_streams(made)}
        self._action_noise = action_noise

    def run(self, seeds: Sequence[int]) -> tuple[list[dict[str, Stream]], list[dict[str, Any]]]:
        """Record one episode for each seed, with its attributes."""
        recorded = _record(self.env, seeds, self.streams, action_noise=self._action_noise)
        attributes: list[dict[str, Any]] = [
            {"seed": seed, "success": bool(episode["success"].data.any())}
            for seed, episode in zip(seeds, recorded, strict=True)
        ]
        if drawn := self.env.core.drawn():
            for index, facts in enumerate(attributes):
                facts["randomisation"] = {name: float(values[index]) for name, values in drawn.items()}
        return recorded, attributes

    def close(self) -> None:
        """Close the environments."""
        self.env.close()


def _open(path: Path, streams: Mapping[str, StreamSpec], settings: dict[str, Any]) -> EpisodeStore:
    """Open a store of the same settings, or make one."""
    if not path.exists():
        return EpisodeStore.create(path, streams=streams, attributes=settings)
    store = EpisodeStore.open(path)
    different = [key for key, value in settings.items() if store.attributes.get(key) != value]
    if different:
        raise ConfigError(
            f"{path} was recorded with another {', '.join(different)} "
            f"({', '.join(repr(store.attributes.get(key)) for key in different)}). Choose another --out."
        )
    return store


def _write_rest_images(path: Path, images: Mapping[str, NDArray[np.uint8]]) -> None:
    """Keep the pictures of the untouched gels beside the streams, as `rest_images/<key>.png`."""
    for key, image in images.items():
        target = path / "rest_images" / f"{key}.png"
        target.parent.mkdir(exist_ok=True)
        atomic_write_bytes(target, cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def _record(
    env: VectorTaskEnv, seeds: Sequence[int], streams: Mapping[str, StreamSpec], *, action_noise: float
) -> list[dict[str, Stream]]:
    """Run one episode for each seed; environments beyond them stay idle."""
    count = len(seeds)
    idle = np.arange(env.num_envs) >= count
    generators = [np.random.default_rng([s, 1]) for s in seeds]  # one stream of noise for each episode
    observation, info = env.reset(seed=[*seeds, *[0] * int(idle.sum())], options={"reset_mask": ~idle})
    tape: dict[str, list[NDArray]] = {key: [] for key in streams}
    steps = np.zeros(count, dtype=np.int64)
    running = ~idle
    while running.any():
        expert = info["expert_action"]
        action = expert.copy()
        if action_noise:
            noise = np.stack([g.normal(0, action_noise, expert.shape[1]) for g in generators])
            action[:count] = np.clip(action[:count] + noise, -1, 1)
        now = {**observation, "action": action, "expert_action": expert, "contact": info["contact"]}
        observation, reward, terminated, truncated, info = env.step(action)
        now |= {"reward": reward, "success": info["success"]}
        for key, spec in streams.items():
            tape[key].append(np.asarray(now[key][:count], dtype=spec.dtype))
        steps += running[:count]
        running &= ~(terminated | truncated)
    arrays = {key: np.stack(values, axis=1) for key, values in tape.items()}  # (B, T, ...)
    period = round(env.control_dt * 1e9)
    return [
        {
            key: Stream(values[index, : steps[index]], np.arange(steps[index], dtype=np.int64) * period)
            for key, values in arrays.items()
        }
        for index in range(count)
    ]
