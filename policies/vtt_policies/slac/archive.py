"""The replay on disk: one file per round, written once, removed when all its episodes are forgotten."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vtt.errors import StoreError
from vtt_policies.slac.replay import SequenceReplay, Transitions

__all__ = ["ReplayArchive"]


class _Part(NamedTuple):
    """A file, and how many episodes there were when it was written, those of it included."""

    path: Path
    episodes: int


class ReplayArchive:
    """Writes what goes into a replay, and reads it back.

    Args:
        folder: Where the files are.
        replay: Gets every episode that is added or read.
    """

    def __init__(self, folder: Path, replay: SequenceReplay) -> None:
        self._folder = folder
        self._replay = replay
        self._fresh: list[Transitions] = []
        self._parts: deque[_Part] = deque()
        self._episodes = 0

    def add(self, episode: Transitions) -> None:
        """Give the replay an episode, to be written with the round."""
        self._replay.add(episode)
        self._fresh.append(episode)
        self._episodes += 1

    def commit(self, number: int) -> None:
        """Write the episodes of round `number`; no file if it has none. It counts once a later checkpoint is there."""
        if not self._fresh:
            return
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{number:08d}.safetensors"
        arrays = {key: np.concatenate([episode[key] for episode in self._fresh]) for key in self._fresh[0]}
        arrays["length"] = np.array([len(episode["action"]) for episode in self._fresh])
        partial = path.with_suffix(".partial")
        save_file(arrays, partial)
        os.replace(partial, path)
        self._parts.append(_Part(path, self._episodes))
        self._fresh = []

    def load(self, *, before: int) -> None:
        """Fill the replay with the rounds before `before`.

        Raises:
            StoreError: If a file is damaged.
        """
        for path in sorted(self._folder.glob("*.safetensors")):
            if int(path.stem) >= before:
                continue
            try:
                arrays = load_file(path)
            except (SafetensorError, OSError) as error:
                raise StoreError(f"{path} is missing or damaged ({error}).") from error
            length = arrays.pop("length")
            # An episode has one frame more than transitions.
            cuts = {True: np.cumsum(length + 1)[:-1], False: np.cumsum(length)[:-1]}
            parts = {key: np.split(array, cuts[len(array) > length.sum()]) for key, array in arrays.items()}
            for episode in zip(*parts.values(), strict=True):
                self._replay.add(dict(zip(parts, episode, strict=True)))
            self._episodes += len(length)
            self._parts.append(_Part(path, self._episodes))

    def clean(self) -> None:
        """Remove files that hold nothing that the replay still has."""
        while self._parts and self._parts[0].episodes <= self._replay.forgotten:
            self._parts.popleft().path.unlink(missing_ok=True)
