"""Action chunks and observation windows between a policy and its environments; NumPy only, for the robot too.

B environments, K steps of a chunk, A action dimensions, T observation frames. All environments are at the same step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError, StateError

__all__ = ["ActionQueue", "ChunkExecutor", "ObservationHistory", "TemporalEnsemble", "chunk_executor"]


class ActionQueue:
    """Executes the first steps of a chunk, then asks for the next.

    Args:
        action_horizon: Steps executed of each chunk.

    Example:
        >>> queue = ActionQueue(2)
        >>> queue.add(np.arange(3.0)[None, :, None])
        >>> [queue.next().item(), queue.due, queue.next().item(), queue.due]
        [0.0, False, 1.0, True]
    """

    def __init__(self, action_horizon: int) -> None:
        if action_horizon < 1:
            raise ConfigError(f"action_horizon must be at least 1, got {action_horizon}.")
        self._action_horizon = action_horizon
        self.reset()

    def reset(self) -> None:
        """Forget the chunk."""
        self._chunk: NDArray[np.float32] | None = None
        self._done = 0

    @property
    def due(self) -> bool:
        """Whether `next` needs `add` before it."""
        return self._chunk is None or self._done == self._action_horizon

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Take a chunk whose first step is now. Shape (B, K, A), K at least `action_horizon`."""
        _check_chunk(chunk, at_least=self._action_horizon)
        self._chunk, self._done = chunk, 0

    def next(self) -> NDArray[np.float32]:
        """Return the action of this step. Shape (B, A)."""
        if self._chunk is None or self.due:
            raise StateError("next needs add to be called first.")
        self._done += 1
        return self._chunk[:, self._done - 1]

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        self._chunk = None if self._chunk is None else self._chunk[rows]


class TemporalEnsemble:
    """Averages what all chunks so far say about this step, with weights exp(-decay i), i = 0 for the oldest.

    Args:
        decay: m; positive trusts the oldest most, 0 all alike, negative the newest most.

    Example:
        >>> ensemble = TemporalEnsemble(0.0)
        >>> for chunk in ([0.0, 4.0], [2.0, 6.0]):
        ...     ensemble.add(np.array(chunk)[None, :, None])
        ...     ensemble.next().item()
        0.0
        3.0

    Source: Zhao et al. 2023 (ACT), algorithm 2; their m is 0.01.
    """

    def __init__(self, decay: float) -> None:
        if not np.isfinite(decay):
            raise ConfigError(f"decay must be finite, got {decay}.")
        self._decay = decay
        self.reset()

    def reset(self) -> None:
        """Forget all chunks."""
        # The step a chunk is from, counted backwards from now: 0 for the newest.
        self._chunks: deque[NDArray[np.float32]] = deque()
        self._added = False

    @property
    def due(self) -> bool:
        """Whether `next` needs `add` before it: at every step."""
        return not self._added

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Take a chunk whose first step is now. Shape (B, K, A)."""
        _check_chunk(chunk, at_least=1)
        self._chunks.append(chunk)
        if len(self._chunks) > chunk.shape[1]:
            self._chunks.popleft()  # its last step is over
        self._added = True

    def next(self) -> NDArray[np.float32]:
        """Return the action of this step. Shape (B, A)."""
        if self.due:
            raise StateError("next needs add to be called first.")
        self._added = False
        count = len(self._chunks)
        said = np.stack([chunk[:, count - 1 - i] for i, chunk in enumerate(self._chunks)])  # (count, B, A)
        weight = np.exp(-self._decay * np.arange(count))
        return np.tensordot(weight / weight.sum(), said, axes=1).astype(np.float32)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        self._chunks = deque(chunk[rows] for chunk in self._chunks)


ChunkExecutor = ActionQueue | TemporalEnsemble


def chunk_executor(action_horizon: int, *, ensemble: float | None = None) -> ChunkExecutor:
    """Choose how chunks are executed.

    Args:
        action_horizon: Steps executed of each chunk; must be 1 with `ensemble`, which needs a chunk at every step.
        ensemble: Decay of a temporal ensemble; None executes chunks one after the other.
    """
    if ensemble is None:
        return ActionQueue(action_horizon)
    if action_horizon != 1:
        raise ConfigError(f"action_horizon must be 1 for a temporal ensemble, got {action_horizon}.")
    return TemporalEnsemble(ensemble)


class ObservationHistory:
    """The latest frames, the first one repeated until there are enough.

    Args:
        obs_horizon: Number of frames T.

    Example:
        >>> history = ObservationHistory(2)
        >>> [history.add({"goal": np.array([[step]])})["goal"][0, :, 0].tolist() for step in (1, 2, 3)]
        [[1, 1], [1, 2], [2, 3]]
    """

    def __init__(self, obs_horizon: int) -> None:
        if obs_horizon < 1:
            raise ConfigError(f"obs_horizon must be at least 1, got {obs_horizon}.")
        self._frames: deque[dict[str, NDArray]] = deque(maxlen=obs_horizon)
        self._obs_horizon = obs_horizon

    def reset(self) -> None:
        """Forget all frames."""
        self._frames.clear()

    def add(self, observation: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Take the newest frame and return the latest ones, the newest last.

        Args:
            observation: Arrays of shape (B, ...); copied, since environments may reuse theirs.

        Returns:
            Arrays of shape (B, T, ...).
        """
        frame = {key: np.array(value) for key, value in observation.items()}
        self._frames.append(frame)
        while len(self._frames) < self._obs_horizon:
            self._frames.append(frame)
        return {key: np.stack([frame[key] for frame in self._frames], axis=1) for key in observation}

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these environments only."""
        kept = [{key: value[rows] for key, value in frame.items()} for frame in self._frames]
        self._frames.clear()
        self._frames.extend(kept)


def _check_chunk(chunk: NDArray[np.float32], *, at_least: int) -> None:
    """Refuse a chunk that ends before it can be executed."""
    if chunk.ndim != 3 or chunk.shape[1] < at_least:
        raise ShapeError(f"chunk must be (B, K, A) with K at least {at_least}, got {chunk.shape}.")
