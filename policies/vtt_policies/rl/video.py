"""An episode of the actor as it would be deployed, filmed."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from vtt.errors import DependencyError
from vtt.images import resize
from vtt.video import write_video
from vtt_policies.environments import make_environments
from vtt_policies.policy import Deployable
from vtt_policies.rl.config import RlConfig
from vtt_policies.rl.groups import word_for

__all__ = ["Film"]

_log = logging.getLogger(__name__)
_HEIGHT = 256  # px: a 64 px camera is too small to watch


class Film:
    """Films episodes in an environment of its own, made when the first is wanted.

    Where nothing can be drawn, it says so once and films nothing: a video is no reason to stop training.

    Args:
        config: Names the environment.
        wanted: Film at all.
    """

    def __init__(self, config: RlConfig, *, wanted: bool) -> None:
        self._config = config
        self._wanted = wanted
        self._env: VectorEnv | None = None

    def record(self, policy: Deployable, path: Path) -> Path | None:
        """Film one episode, whose seed is that of the run; return the file, if any."""
        if not self._wanted:
            return None
        try:
            frames = self._frames(policy)
        except DependencyError as error:
            _log.warning("No videos: %s", error)
            self._wanted = False
            return None
        path.parent.mkdir(exist_ok=True)
        assert self._env is not None
        return write_video(path, np.stack(frames), fps=self._env.metadata.get("render_fps", 20))

    def close(self) -> None:
        """Release the environment."""
        if self._env is not None:
            self._env.close()

    def _frames(self, policy: Deployable) -> list[NDArray[np.uint8]]:
        config = self._config
        if self._env is None:
            self._env = make_environments(
                config.env,
                num_envs=1,
                observation=word_for(config),
                env_args=(*config.env_args, 'render_mode="rgb_array"'),
            )
        env = self._env
        observation, _ = env.reset(seed=[config.seed])  # pyright: ignore[reportArgumentType]
        policy.reset(1)
        frames: list[NDArray[np.uint8]] = []
        done = False
        while not done:
            frames.append(self._draw(env, policy, observation))
            observation, _, terminated, truncated, _ = env.step(policy.act(observation))
            done = bool(terminated[0] or truncated[0])
        return [*frames, self._draw(env, policy, observation)]

    @staticmethod
    def _draw(env: VectorEnv, policy: Deployable, observation: dict[str, NDArray]) -> NDArray[np.uint8]:
        """Put what the environment draws beside the images that the actor sees, all at one height."""
        drawn = env.render()
        images = [np.asarray(drawn[0])] if drawn else []
        images += [observation[key][0] for key in policy.keys if observation[key].dtype == np.uint8]
        scaled = [
            resize(image[None], height=_HEIGHT, width=round(image.shape[1] * _HEIGHT / image.shape[0]))[0]
            for image in images
        ]
        return np.concatenate(scaled, axis=1)
