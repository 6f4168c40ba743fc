"""Episodes to and from an episode store: what rollouts recorded is never lost, and trains other policies too.

T steps, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vtt.errors import MissingError, StoreError, missing
from vtt.store import EpisodeStore
from vtt.streams import Stream, StreamSpec
from vtt_policies.rollout import Episode

__all__ = ["LABELS", "RolloutStore", "read_episodes", "read_rest_images"]

LABELS = ("action", "expert_action", "reward", "success", "contact")
"""Streams of a recorded episode that are no observations."""


class RolloutStore:
    """Episodes of rollouts, each with the seed it came from and the iteration that it belongs to.

    Args:
        path: Folder of the store; made with the first episodes.
        observations: What is recorded besides actions and labels.
        facts: JSON-ready facts about all episodes.
    """

    def __init__(self, path: Path, *, observations: Mapping[str, StreamSpec], facts: Mapping[str, Any]) -> None:
        self._path = path
        self._observations = dict(observations)
        self._facts = dict(facts)
        self._store = EpisodeStore.open(path) if path.exists() else None

    def iteration(self, iteration: int) -> list[Episode]:
        """Read the episodes of one iteration; empty if it has none."""
        if self._store is None:
            return []
        count = range(len(self._store))
        chosen = [index for index in count if self._store.episode_attributes(index)["iteration"] == iteration]
        return [{key: stream.data for key, stream in self._store.read(index).items()} for index in chosen]

    def add(self, episodes: Sequence[Episode], *, iteration: int = 0, seeds: Sequence[int]) -> None:
        """Append the episodes of one iteration: all of them, or none."""
        rate = next(iter(self._observations.values())).rate_hz
        if self._store is None:
            streams = {**self._observations, **_label_streams(episodes[0], rate=rate)}
            self._store = EpisodeStore.create(self._path, streams=streams, attributes=self._facts)
        period = round(1e9 / rate)
        attributes = [
            {"iteration": iteration, "seed": int(seed), "success": bool(episode["success"].any())}
            for episode, seed in zip(episodes, seeds, strict=True)
        ]
        stamped = [
            {key: Stream(array, np.arange(len(array), dtype=np.int64) * period) for key, array in episode.items()}
            for episode in episodes
        ]
        self._store.extend(stamped, attributes=attributes)


def read_episodes(store: EpisodeStore, keys: Sequence[str]) -> list[Episode]:
    """Read recorded episodes as training data.

    Args:
        store: Episodes whose streams share one clock.
        keys: Observations to read; labels come besides: `expert_action`, or `action` where no expert was asked.

    Returns:
        Episodes with `action`, `expert_action` and, where recorded, `success`.

    Raises:
        MissingError: If a stream, or every episode, is missing.
    """
    if not len(store):
        raise MissingError("No episode in the store. Collect some first.")
    label = "expert_action" if "expert_action" in store.streams else "action"
    for key in (*keys, label):
        if key not in store.streams:
            raise missing("stream", key, store.streams)
    # Whole streams at once: a store opens chunks, and one episode is far smaller than a chunk.
    parts = {
        key: np.split(store.read_all(key).data, store.episode_ends(key)[:-1])
        for key in sorted({*keys, label, *({"action", "success"} & set(store.streams))})
    }
    parts["expert_action"] = parts[label]
    parts.setdefault("action", parts[label])
    return [dict(zip(parts, episode, strict=True)) for episode in zip(*parts.values(), strict=True)]


def read_rest_images(store: EpisodeStore) -> dict[str, NDArray[np.uint8]]:
    """Read the pictures of the untouched gels that lie beside a store, by key, (H, W, 3); empty without any."""
    found = {}
    for file in sorted((store.path / "rest_images").glob("*.png")):
        image = cv2.imread(str(file))
        if image is None:
            raise StoreError(f"{file} must be a picture of an untouched gel, got something else.")
        found[file.stem] = np.ascontiguousarray(image[:, :, ::-1], np.uint8)  # OpenCV reads blue first
    return found


def _label_streams(episode: Episode, *, rate: float) -> dict[str, StreamSpec]:
    """Describe what a rollout records besides observations."""
    kinds: dict[str, Literal["scalar"]] = {"reward": "scalar", "success": "scalar"}
    return {
        name: StreamSpec(kinds.get(name, "vector"), episode[name].shape[1:], str(episode[name].dtype), "", rate)
        for name in LABELS
        if name in episode
    }
