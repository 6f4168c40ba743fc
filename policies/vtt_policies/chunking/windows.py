"""Training windows of recorded episodes: the latest frames at a moment, and the chunk of actions that followed.

Everything is looked up by time, so streams may differ in rate. A window that reaches over an end of its episode repeats
the first or last sample there, and says which actions are not real.

Axes: M moments of all episodes · B windows of a batch · T frames · K steps of a chunk · A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import StateError
from vtt.streams import Stream
from vtt.windows import look_up

__all__ = ["ChunkBatch", "ChunkWindows"]


class ChunkBatch(NamedTuple):
    """Windows.

    Attributes:
        observation: Raw frames by key, the newest last. Shapes (B, T, ...).
        action: The chunk. Shape (B, K, A).
        valid: Which of its steps are within the episode. Shape (B, K).
    """

    observation: Mapping[str, NDArray]
    action: NDArray[np.float32]
    valid: NDArray[np.bool_]


class ChunkWindows:
    """One window for every recorded action.

    Args:
        episodes: Streams of each episode.
        keys: Observations to show.
        label: Stream of the actions to predict; its stamps are the moments.
        period: Time between control steps, in s.
        obs_horizon: Frames T, one period apart, up to the moment.
        prediction_horizon: Steps K of a chunk.
        first_step: Step at which the chunk begins: 0 is the moment, -1 one period before.

    Example:
        >>> clock = np.arange(3, dtype=np.int64) * 50_000_000
        >>> signal = Stream(np.arange(3.0)[:, None], clock)
        >>> sizes = {"period": 0.05, "obs_horizon": 2, "prediction_horizon": 2}
        >>> windows = ChunkWindows([{"goal": signal, "action": signal}], ["goal"], label="action", **sizes)
        >>> batch = windows.gather(np.array([0, 2]))
        >>> batch.observation["goal"][:, :, 0].tolist(), batch.action[:, :, 0].tolist(), batch.valid.tolist()
        ([[0.0, 0.0], [1.0, 2.0]], [[0.0, 1.0], [2.0, 2.0]], [[True, True], [True, False]])
    """

    def __init__(
        self,
        episodes: Sequence[Mapping[str, Stream]],
        keys: Sequence[str],
        *,
        label: str,
        period: float,
        obs_horizon: int,
        prediction_horizon: int,
        first_step: int = 0,
    ) -> None:
        period_ns = round(period * 1e9)
        past = np.arange(1 - obs_horizon, 1) * period_ns
        # Half a period late, and no older than one: a stamp that jitters still finds its own action.
        ahead = np.arange(first_step, first_step + prediction_horizon) * period_ns + period_ns // 2
        self._streams: dict[str, NDArray] = {}
        self._index: dict[str, NDArray[np.int64]] = {}
        self.valid: NDArray[np.bool_] = np.zeros((0, prediction_horizon), bool)
        flags = []
        for key in (*keys, label):
            offsets, parts, start = ahead if key == label else past, [], 0
            for episode in episodes:
                times = episode[label].stamp_ns[:, None] + offsets
                clock = episode[key].stamp_ns
                found = look_up(Stream(np.arange(len(clock)), clock), times, max_age_s=period)
                parts.append(start + found.data)
                start += len(clock)
                if key == label:
                    flags.append(found.valid)
            self._streams[key] = (
                np.concatenate([episode[key].data for episode in episodes]) if episodes else np.zeros(0)
            )
            self._index[key] = np.concatenate(parts) if parts else np.zeros((0, len(offsets)), np.int64)
        if flags:
            self.valid = np.concatenate(flags)
        self._keys, self._label = tuple(keys), label

    def __len__(self) -> int:
        return len(self.valid)

    def sample(self, count: int, *, rng: np.random.Generator) -> ChunkBatch:
        """Draw windows, each moment equally likely."""
        if not len(self):
            raise StateError("sample needs at least one episode.")
        return self.gather(rng.integers(len(self), size=count))

    def gather(self, moments: NDArray[np.int64]) -> ChunkBatch:
        """Cut out the windows of these moments. Shape (B,)."""
        seen = {key: self._streams[key][self._index[key][moments]] for key in self._keys}
        action = self._streams[self._label][self._index[self._label][moments]]
        return ChunkBatch(seen, np.asarray(action, np.float32), self.valid[moments])
