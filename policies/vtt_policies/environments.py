"""Environments by Gymnasium id: the only way this package meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from vtt.cli import parse_key_values
from vtt.errors import ConfigError, MissingError
from vtt.store import StreamSpec

__all__ = ["make_environments", "rest_images", "stream_specs"]


def make_environments(env_id: str, *, num_envs: int, observation: str, env_args: Sequence[str] = ()) -> VectorEnv:
    """Make a batch of environments.

    Args:
        env_id: Gymnasium id with its module, such as `"vtt_envs:vtt/PegInsertion-v0"`.
        num_envs: How many run side by side.
        observation: Observation word.
        env_args: Further options, each `key=value`.

    Raises:
        MissingError: If there is no such environment.
        ConfigError: If it does not take the options.
    """
    if num_envs < 1:
        raise ConfigError(f"num_envs must be at least 1, got {num_envs}.")
    options = parse_key_values(env_args)
    try:
        return gym.make_vec(
            env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", observation=observation, **options
        )
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise MissingError(f"No environment '{env_id}': {error}") from error
    except TypeError as error:
        raise ConfigError(
            f"{env_id} must accept the options {', '.join(options) or 'observation'}: {error}."
        ) from error


def stream_specs(env: VectorEnv) -> Mapping[str, StreamSpec]:
    """Read what each observation is; spaces know neither units nor sensors."""
    specs = getattr(env, "stream_specs", None) or getattr(env.unwrapped, "stream_specs", None)
    if specs is None:
        raise ConfigError(f"The environment must describe its observations by stream_specs, got {type(env).__name__}.")
    return specs()


def rest_images(env: VectorEnv) -> dict[str, NDArray[np.uint8]]:
    """Read the images of the untouched gel, by observation key; empty if the environment does not know them."""
    read = getattr(env, "rest_images", None) or getattr(env.unwrapped, "rest_images", None)
    return dict(read()) if read else {}
