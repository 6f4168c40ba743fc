"""Recorded episodes as frames: all signals at the times of one clock, in memory.

Axes: N frames of all chosen episodes, in order of episode and time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, missing
from vtt.store import EpisodeStore
from vtt.streams import Stream
from vtt.windows import look_up

__all__ = ["Frames", "read_frames", "split_episodes"]


class Frames(NamedTuple):
    """Frames of some episodes.

    Attributes:
        data: Raw samples by key, (N, ...).
        episode: Index in the store of each frame's episode, ascending, shape (N,).
        stamp_ns: Time of each frame, in ns, shape (N,).
    """

    data: dict[str, NDArray[Any]]
    episode: NDArray[np.int64]
    stamp_ns: NDArray[np.int64]

    def take(self, index: NDArray[np.int64], keys: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Some frames of some signals."""
        return {key: self.data[key][index] for key in keys}


def split_episodes(count: int, *, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Split episodes at random into those to train on and those held out, at least one each (two of four or more).

    Raises:
        ConfigError: If there are fewer than two.
    """
    if count < 2:
        raise ConfigError(f"The store must hold at least two episodes, one to be held out, got {count}.")
    order = np.random.default_rng(seed).permutation(count)
    n = min(count - 1, max(2 if count >= 4 else 1, round(count * held_out)))
    return sorted(order[n:].tolist()), sorted(order[:n].tolist())


def read_frames(store: EpisodeStore, keys: Sequence[str], *, episodes: Sequence[int]) -> Frames:
    """Read episodes into memory, at the clock of the slowest of the streams.

    A frame holds of each stream the latest sample at or before its time; frames before some stream's first sample are
    left out. Memory is what the streams take uncompressed: 6,000 frames of two 48x64 tactile images take 110 MB.

    Args:
        store: Where they are.
        keys: Streams to read.
        episodes: Which episodes, in any order.

    Returns:
        The frames.

    Raises:
        MissingError: If a key is no stream.
        ConfigError: If no frame is left.
    """
    for key in keys:
        if key not in store.streams:
            raise missing("stream", key, store.streams)
    clock = min(keys, key=lambda key: len(store.read_all(key).stamp_ns) if len(store) else 0)
    chosen = sorted(episodes)
    times = {index: part.stamp_ns for index, part in _episodes(store, clock, chosen)}
    for key in keys:
        for index, part in _episodes(store, key, chosen):
            times[index] = times[index][times[index] >= part.stamp_ns[0]]
    if not sum(map(len, times.values())):
        raise ConfigError(f"The episodes must have a moment at which all of {', '.join(keys)} exist, got none.")
    data = {
        key: np.concatenate([look_up(part, times[index]).data for index, part in _episodes(store, key, chosen)])
        for key in keys
    }
    episode = np.repeat(np.array(chosen, np.int64), [len(times[index]) for index in chosen])
    return Frames(data, episode, np.concatenate([times[index] for index in chosen]))


def _episodes(store: EpisodeStore, key: str, episodes: Sequence[int]) -> list[tuple[int, Stream]]:
    """One stream of some episodes, read at once: a chunk on disk may span several episodes."""
    data, stamp_ns = store.read_all(key)
    ends = store.episode_ends(key)
    starts = np.append(0, ends[:-1])
    return [(i, Stream(data[starts[i] : ends[i]], stamp_ns[starts[i] : ends[i]])) for i in episodes]
