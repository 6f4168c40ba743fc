"""Aggregated episodes in memory, and batches of whole sequences drawn from them.

B episodes, N steps of all of them in a row, A action dimensions. Images stay uint8 until a batch is normalised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError, StateError
from vtt_policies.rollout import Episode

__all__ = ["Batch", "EpisodeBuffer", "previous_actions"]


class Batch(NamedTuple):
    """Whole episodes, one after the other, without padding.

    Attributes:
        observation: Arrays of shape (N, ...).
        previous_action: The action executed one step earlier; zero at the first. Shape (N, A).
        expert_action: The label of each step. Shape (N, A).
        lengths: Steps of each episode. Shape (B,).
    """

    observation: Mapping[str, NDArray]
    previous_action: NDArray[np.float32]
    expert_action: NDArray[np.float32]
    lengths: NDArray[np.int64]


class EpisodeBuffer:
    """The latest episodes, as many as fit in a number of bytes.

    Args:
        keys: Streams to keep besides actions and labels.
        capacity: Size at which the oldest episodes are forgotten, in bytes.
    """

    def __init__(self, keys: Sequence[str], *, capacity: int) -> None:
        if capacity <= 0:
            raise ConfigError(f"capacity must be positive, got {capacity}.")
        self._keys = tuple(keys)
        self._capacity = capacity
        self._episodes: deque[Episode] = deque()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def steps(self) -> int:
        """Control steps held."""
        return sum(len(episode["expert_action"]) for episode in self._episodes)

    def add(self, episode: Mapping[str, NDArray]) -> None:
        """Append one episode and forget the oldest ones that no longer fit."""
        kept = {key: episode[key] for key in self._keys}
        kept["previous_action"] = previous_actions(episode["action"])
        kept["expert_action"] = np.asarray(episode["expert_action"], np.float32)
        lengths = {key: len(value) for key, value in kept.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ShapeError(f"episode must hold equally many steps of each stream, got {lengths}.")
        self._episodes.append(kept)
        self.nbytes += _nbytes(kept)
        while self.nbytes > self._capacity and len(self._episodes) > 1:
            self.nbytes -= _nbytes(self._episodes.popleft())

    def reduce(self, keys: Sequence[str], encode: Callable[[Episode], NDArray[np.float32]]) -> None:
        """Keep only `keys` of every episode, and as `latent` what `encode` says of it; also of those added later.

        Args:
            keys: Streams to keep.
            encode: Turns an episode's streams into an array of shape (T, D).
        """
        for episode in self._episodes:
            episode["latent"] = encode(episode)
            for key in set(self._keys) - set(keys):
                del episode[key]
        self._keys = (*keys, "latent")
        self.nbytes = sum(_nbytes(episode) for episode in self._episodes)

    def sample(self, count: int, *, rng: np.random.Generator) -> Batch:
        """Draw episodes without replacement; all of them if there are fewer than `count`."""
        if not self._episodes:
            raise StateError("sample needs add to be called first.")
        return self.gather(rng.permutation(len(self._episodes))[:count].tolist())

    def gather(self, indices: Sequence[int]) -> Batch:
        """Lay the episodes with these indices one after the other."""
        episodes = [self._episodes[index] for index in indices]
        streams = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
        previous, label = streams.pop("previous_action"), streams.pop("expert_action")
        return Batch(streams, previous, label, np.array([len(episode["expert_action"]) for episode in episodes]))


def previous_actions(action: NDArray) -> NDArray[np.float32]:
    """Shift executed actions by one step, beginning with zero. Shape (T, A).

    Example:
        >>> previous_actions(np.array([[1.0], [2.0], [3.0]])).ravel().tolist()
        [0.0, 1.0, 2.0]
    """
    shifted = np.zeros(action.shape, np.float32)
    shifted[1:] = action[:-1]
    return shifted


def _nbytes(episode: Mapping[str, NDArray]) -> int:
    """Count the bytes of an episode."""
    return sum(array.nbytes for array in episode.values())
