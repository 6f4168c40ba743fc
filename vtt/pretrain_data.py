"""What pretraining draws from: training and held-out frames, their normaliser, and mismatched pairs.

Axes: N frames of one part · B batch · M mismatched samples, at the end of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vtt.errors import ConfigError
from vtt.frames import Frames, read_frames, split_episodes
from vtt.negatives import NegativeSampler
from vtt.normalizer import Normalizer
from vtt.objectives import Batch
from vtt.store import EpisodeStore
from vtt.streams import StreamSpec
from vtt.tokens import signal_specs

__all__ = ["Part", "PretrainData"]


class Part(NamedTuple):
    """Frames and the sampler of their mismatched partners; None where there can be none, or none are wanted."""

    frames: Frames
    negatives: NegativeSampler | None


class PretrainData:
    """The frames of a store, split by episode.

    Attributes:
        train: Part to train on.
        held_out: Part to validate on.
        normalizer: Fitted to the training part.
        observation: Spec of each key.
    """

    def __init__(
        self,
        store: EpisodeStore,
        keys: Sequence[str],
        *,
        held_out: float,
        seed: int,
        contact: bool = True,
        align: bool = True,
        min_gap_s: float = 0.5,
        hard_fraction: float = 0.5,
        rest_images: Mapping[str, NDArray[np.uint8]] | None = None,
        device: str = "cpu",
    ) -> None:
        """Read everything into memory.

        Args:
            store: Recorded episodes.
            keys: Signals.
            held_out: Share of episodes to hold out.
            seed: Decides which.
            contact: Read the labels, stream `contact`.
            align: Prepare mismatched pairs.
            min_gap_s: Least time between the moments of a pair of one episode, in s.
            hard_fraction: Share of pairs from one episode.
            rest_images: Pictures of the untouched gels by key; the mean image stands in.
            device: Where batches go.

        Raises:
            MissingError: If a stream is missing.
            ConfigError: If there are too few episodes.
        """
        self.observation: dict[str, StreamSpec] = {key: store.streams[key] for key in keys}
        self._keys = tuple(keys)
        self._touch = tuple(key for key, spec in signal_specs(store.streams, keys).items() if spec.group == "touch")
        self._device = device
        parts: list[Part] = []
        for index, episodes in enumerate(split_episodes(len(store), held_out=held_out, seed=seed)):
            frames = read_frames(store, [*keys, "contact"] if contact else keys, episodes=episodes)
            negatives = None
            if align:
                try:
                    negatives = NegativeSampler(
                        frames.episode, frames.stamp_ns, min_gap_s=min_gap_s, hard_fraction=hard_fraction
                    )
                except ConfigError:  # a single short held-out episode is no reason not to train
                    if index == 0:
                        raise
            parts.append(Part(frames, negatives))
        self.train, self.held_out = parts
        self.normalizer = Normalizer.fit(
            self.observation,
            {key: self.train.frames.data[key] for key in keys},
            rest_images={key: image for key, image in (rest_images or {}).items() if key in keys},
        )

    def batch(self, part: Part, index: NDArray[np.int64], *, partner: NDArray[np.int64] | None = None) -> Batch:
        """Normalise frames.

        Args:
            part: Where they are.
            index: Which, shape (B,).
            partner: Frames whose touch replaces that of the last M, shape (M,).
        """
        data = part.frames.data
        observation = self._prepare(part, index, self._keys)
        contact = torch.zeros(len(index), 0)
        if "contact" in data:
            contact = torch.from_numpy(data["contact"][index].astype(np.float32).reshape(len(index), -1))
        mismatched = {} if partner is None else self._prepare(part, partner, self._touch)
        return Batch(observation, contact.to(self._device), mismatched)

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw a training batch; with negatives, the second half is mismatched."""
        index = rng.integers(len(self.train.frames.episode), size=size)
        if self.train.negatives is None:
            return self.batch(self.train, index)
        return self.batch(self.train, index, partner=self.train.negatives.draw(index[size // 2 :], rng).partner)

    def _prepare(self, part: Part, index: NDArray[np.int64], keys: Sequence[str]) -> dict[str, torch.Tensor]:
        """Normalised samples by key."""
        return self.normalizer.prepare({key: part.frames.data[key][index] for key in keys}, device=self._device)
