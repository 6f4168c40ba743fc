"""Look streams up by time: what was the latest sample when a decision was taken?

Every stream has its own clock and rate, so a window is a list of times, not of rows. A lookup is causal: it never
returns, as valid, a sample taken after the time asked for.

Axes: T samples of a stream · N query times · K offsets of a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vtt.errors import ConfigError, ShapeError, missing
from vtt.streams import Stream

__all__ = ["Samples", "Window", "look_up"]


class Samples(NamedTuple):
    """What a lookup found.

    Attributes:
        data: The samples. Shape (N, K, ...).
        valid: False where no sample existed yet (`data` repeats the first) or the latest was too old. Shape (N, K).
        age_s: Time asked for less time of capture, in s; inf where no sample existed yet. Shape (N, K).
    """

    data: NDArray[Any]
    valid: NDArray[np.bool_]
    age_s: NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """Which times to look up in which stream.

    Attributes:
        offsets: Times to look up by stream, in s relative to the query time: negative for the past, positive for what
            followed, such as a chunk of actions.
        max_age_s: Age beyond which a sample is no longer valid, in s. One period of the slowest stream marks the end of
            an episode as such; inf takes any.

    Example:
        >>> clock = np.arange(5, dtype=np.int64) * 50_000_000
        >>> window = Window({"wrench": (-0.1, 0.0)})
        >>> found = window.read({"wrench": Stream(np.arange(5.0), clock)}, [50_000_000, 220_000_000])
        >>> found["wrench"].data.tolist(), found["wrench"].valid.tolist()
        ([[0.0, 1.0], [2.0, 4.0]], [[False, True], [True, True]])
    """

    offsets: Mapping[str, tuple[float, ...]]
    max_age_s: float = float("inf")

    def __post_init__(self) -> None:
        if not self.max_age_s >= 0:
            raise ConfigError(f"max_age_s must not be negative, got {self.max_age_s}.")

    def read(self, episode: Mapping[str, Stream], times_ns: ArrayLike) -> dict[str, Samples]:
        """Look every stream up at every query time.

        Args:
            episode: Streams of one episode.
            times_ns: Query times, in ns. Shape (N,).

        Raises:
            MissingError: If the episode lacks a stream.
        """
        times = np.asarray(times_ns, np.int64)
        found = {}
        for key, offsets in self.offsets.items():
            if key not in episode:
                raise missing("stream", key, episode)
            # Rounded once, so that a window asked for at a sample's own stamp finds that sample.
            steps = np.round(np.asarray(offsets, np.float64) * 1e9).astype(np.int64)
            found[key] = look_up(episode[key], times[:, None] + steps, max_age_s=self.max_age_s)
        return found


def look_up(stream: Stream, times_ns: NDArray[np.int64], *, max_age_s: float = float("inf")) -> Samples:
    """Find the latest sample at or before each time.

    Args:
        stream: T samples, stamps strictly increasing.
        times_ns: Times, in ns. Any shape.
        max_age_s: Age beyond which a sample is not valid, in s.

    Returns:
        Samples, with the shape of `times_ns` in place of (N, K).

    Raises:
        ShapeError: If the stream is empty.
    """
    if not len(stream.stamp_ns):
        raise ShapeError("stream must have at least one sample, got none.")
    index = np.searchsorted(stream.stamp_ns, times_ns, side="right") - 1
    exists = index >= 0
    index = np.maximum(index, 0)
    age_s = np.where(exists, (times_ns - stream.stamp_ns[index]) * 1e-9, np.inf)
    return Samples(stream.data[index], exists & (age_s <= max_age_s), age_s)
