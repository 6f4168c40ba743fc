"""Pairs of moments that do not belong together, for the alignment objective.

Axes: N frames of all episodes, in order of episode and time · M drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtt.errors import ConfigError, ShapeError

__all__ = ["NegativeSampler", "Negatives"]


class Negatives(NamedTuple):
    """Partners drawn for M frames.

    Attributes:
        partner: Frame whose touch is taken instead of the own, shape (M,).
        hard: Whether it is of the same episode, at least the gap away in time, shape (M,).
    """

    partner: NDArray[np.int64]
    hard: NDArray[np.bool_]


class NegativeSampler:
    """Draw for each frame one of another episode (easy), or of its own at another time (hard).

    Guaranteed of every pair: the episodes differ, or the times by at least `min_gap_s`. Deviation from VTT, whose
    mismatched windows may come from one episode a single step apart.
    """

    def __init__(
        self,
        episode: NDArray[np.integer],
        stamp_ns: NDArray[np.int64],
        *,
        min_gap_s: float = 0.5,
        hard_fraction: float = 0.5,
    ) -> None:
        """Prepare.

        Args:
            episode: Episode of each frame, ascending, shape (N,).
            stamp_ns: Time of each frame, in ns, ascending within an episode, shape (N,).
            min_gap_s: Least distance in time of a pair from one episode, in s.
            hard_fraction: Share of pairs from one episode, where it is long enough.

        Raises:
            ConfigError: If some frame has no partner: a single episode shorter than twice the gap.
        """
        if episode.shape != stamp_ns.shape or episode.ndim != 1 or not len(episode):
            raise ShapeError(f"episode and stamp_ns must be (N,), got {episode.shape} and {stamp_ns.shape}.")
        self._hard_fraction = hard_fraction
        n = len(episode)
        edges = np.flatnonzero(np.diff(episode)) + 1
        starts, stops = np.append(0, edges), np.append(edges, n)
        self._start, self._stop = np.repeat(starts, stops - starts), np.repeat(stops, stops - starts)  # (N,) both
        gap = round(min_gap_s * 1e9)
        self._before = np.empty(n, np.int64)  # partners of the own episode: [start, before) and [after, stop)
        self._after = np.empty(n, np.int64)
        for start, stop in zip(starts, stops, strict=True):
            times = stamp_ns[start:stop]
            self._before[start:stop] = start + np.searchsorted(times, times - gap, side="right")
            self._after[start:stop] = start + np.searchsorted(times, times + gap, side="left")
        if len(starts) == 1 and not (self._own(np.arange(n)) > 0).all():
            raise ConfigError(
                f"Negatives need a second episode, or one in which every frame has another {min_gap_s} s away."
            )
        self._single = len(starts) == 1

    def draw(self, index: NDArray[np.int64], rng: np.random.Generator) -> Negatives:
        """Draw one partner for each frame of `index` (M,)."""
        own = self._own(index)
        hard = (rng.random(len(index)) < self._hard_fraction) & (own > 0) | self._single
        u = rng.random(len(index))
        start, stop = self._start[index], self._stop[index]
        shifted = start + (u * own).astype(np.int64)
        shifted += np.where(shifted >= self._before[index], self._after[index] - self._before[index], 0)
        other = (u * (len(self._start) - (stop - start))).astype(np.int64)
        other += np.where(other >= start, stop - start, 0)
        return Negatives(np.where(hard, shifted, other), hard)

    def _own(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of partners in the own episode."""
        return self._before[index] - self._start[index] + self._stop[index] - self._after[index]
