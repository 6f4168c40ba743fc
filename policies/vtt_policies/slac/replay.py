"""Episodes in memory, and windows of consecutive frames drawn from them.

B windows · S transitions of a window, T = S + 1 frames · A action dimensions · C contacts. Every image is held once, as
uint8. A window lies inside one episode; one that would begin before it is padded in front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError, StateError

__all__ = ["SequenceReplay", "Transitions", "Windows"]

Transitions = dict[str, NDArray]
"""One episode of L transitions: observations, `contact` (L + 1, ...), `action` (L, A), `reward`, `terminated` (L,)."""

_LABELS = ("action", "reward", "terminated", "contact")


class Windows(NamedTuple):
    """Windows that end at drawn transitions.

    Attributes:
        observation: By key, (B, T, ...). Padding repeats the first frame; nothing may depend on it.
        action: What was done between the frames; zero at padding. Shape (B, S, A).
        reward: Of each transition. Shape (B, S).
        terminated: Whether the episode ended for good with it. Shape (B, S).
        contact: Which contacts there are in each frame; of zero length if nobody told. Shape (B, T, C).
        first: Index of the first frame that is not padding. Shape (B,).
        episode: Which episode each window is of, counted from the first ever added. Shape (B,).
        start: Step of the episode that index 0 stands for; negative where there is padding. Shape (B,).
    """

    observation: dict[str, NDArray]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    contact: NDArray[np.bool_]
    first: NDArray[np.int64]
    episode: NDArray[np.int64]
    start: NDArray[np.int64]


class SequenceReplay:
    """The latest episodes.

    Args:
        keys: Observations to keep.
        capacity: Transitions beyond which the oldest episodes are forgotten.
        sequence: Transitions of a window.
    """

    def __init__(self, keys: Sequence[str], *, capacity: int, sequence: int) -> None:
        if capacity < 1 or sequence < 1:
            raise ConfigError(f"capacity and sequence must be positive, got {capacity} and {sequence}.")
        self._keys = tuple(keys)
        self._capacity = capacity
        self._sequence = sequence
        self._episodes: deque[Transitions] = deque()
        self._forgotten = 0
        self._ends = np.zeros(0, np.int64)
        self.steps = 0
        self.largest_reward = 0.0

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def forgotten(self) -> int:
        """Episodes forgotten so far."""
        return self._forgotten

    def add(self, episode: Mapping[str, NDArray]) -> None:
        """Append one episode, see `Transitions`, and forget the oldest ones that no longer fit."""
        kept = {key: episode[key] for key in (*self._keys, *_LABELS)}
        length = len(kept["action"])
        wrong = {
            key: len(array)
            for key, array in kept.items()
            if len(array) != length + (key in self._keys or key == "contact")
        }
        if not length or wrong:
            raise ShapeError(
                f"An episode of {length} transitions must have one frame more than those, got lengths {wrong}."
            )
        self._episodes.append(kept)
        self.steps += length
        self.largest_reward = max(self.largest_reward, float(np.abs(kept["reward"]).max()))
        while self.steps > self._capacity and len(self._episodes) > 1:
            self.steps -= len(self._episodes.popleft()["action"])
            self._forgotten += 1
        self._ends = np.cumsum([len(held["action"]) for held in self._episodes])

    def frames(self, key: str) -> list[NDArray]:
        """All frames of one observation, episode by episode, each (L + 1, ...)."""
        return [episode[key] for episode in self._episodes]

    def sample(self, count: int, *, rng: np.random.Generator) -> Windows:
        """Draw windows whose last transition is uniform among all that are held, with replacement."""
        if not self._episodes:
            raise StateError("sample needs add to be called first.")
        drawn = rng.integers(self.steps, size=count)
        index = np.searchsorted(self._ends, drawn, side="right")
        before = np.concatenate(([0], self._ends[:-1]))
        return self._gather(index, drawn - before[index])

    def _gather(self, index: NDArray[np.int64], last: NDArray[np.int64]) -> Windows:
        """Cut out the windows of episodes `index` (B,) that end with transitions `last` (B,)."""
        start = last + 1 - self._sequence
        transition = start[:, None] + np.arange(self._sequence)  # (B, S)
        frame = start[:, None] + np.arange(self._sequence + 1)  # (B, T)
        episodes = [self._episodes[i] for i in index.tolist()]

        def cut(key: str, rows: NDArray[np.int64]) -> NDArray:
            return np.stack([episode[key][np.maximum(row, 0)] for episode, row in zip(episodes, rows, strict=True)])

        exists = transition >= 0
        return Windows(
            {key: cut(key, frame) for key in self._keys},
            cut("action", transition) * exists[..., None].astype(np.float32),
            cut("reward", transition) * exists.astype(np.float32),
            cut("terminated", transition) & exists,
            cut("contact", frame),
            np.maximum(-start, 0),
            index + self._forgotten,
            start,
        )
